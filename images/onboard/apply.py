"""What the files of settings come to on this board, written for `lucie-settings` to lay it out.

    lucie.toml, rpi-preseed.toml ──▶ settings ──▶ files of the root file system, units, a notice
             └── passwords ──▶ a file that root alone reads

The boot waits for this, and the chat for the boot: what a board need not do is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from edge.messages import LANGUAGES, text
from images.onboard import account
from images.onboard.boot_partition import BOOT, writable
from images.onboard.network import joining, radio
from images.onboard.news import NEWS
from images.onboard.programs import output
from images.onboard.secrets import kept_in, settle, without_passwords
from images.onboard.settings import LASTING, Locale, Settings
from images.onboard.settings_file import Complaint, Places, read
from images.onboard.tree import File, Link, Tree
from images.onboard.update_file import NAMESPACE, SIGNER, SIGNERS
from images.onboard.writing import replace
from images.words import FOLDER

__all__ = ["FILES", "KEYMAPS", "main", "notice", "told_tree", "tree", "unheeded"]

FILES = ("rpi-preseed.toml", "lucie.toml")
"""On the boot partition: that of Raspberry Pi Imager first, so that ours wins."""
KEYMAPS = dict(zip(LANGUAGES, ("us", "fr"), strict=True))
"""The keyboard of those who name a language only."""
_NEARLY = re.compile(r"lucie.*\.toml.*", re.IGNORECASE)
"""Names of files that somebody may have meant to be read."""
_LASTING = "run/lucie-settings/lasting.json"


def tree(settings: Settings, root: Path) -> Tree:
    """What is laid over the root file system.

    Args:
        settings: with the passwords that hold.
        root: of this board.
    """
    name = settings.system.hostname
    lasting = settings.model_dump_json(include=set(LASTING), exclude_unset=True)
    system = {
        "etc/hostname": File(f"{name}\n"),
        "etc/hosts": File(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n"),
        _LASTING: File(f"{lasting}\n"),
    }
    return (
        Tree(system)
        | _locale(settings.locale, root)
        | account.account(settings, root)
        | radio(settings)
        | _signers(settings)
    )


def _locale(locale: Locale, root: Path) -> Tree:
    files: dict[str, File | Link] = {
        "run/lucie-settings/environment": File(f"LUCIE_LANG={locale.language}\n")
    }
    zone = f"/usr/share/zoneinfo/{locale.timezone}"
    if (root / zone[1:]).is_file():
        files["etc/localtime"] = Link(zone)
    for name in (KEYMAPS[locale.language], locale.keymap):
        keymap = f"/usr/share/keymaps/{name}.map.gz"
        if (root / keymap[1:]).is_file():
            # By its name: loadkeys goes by the ending of it.
            files["run/lucie-settings/keymap"] = File(f"{keymap}\n")
    return Tree(files)


def _signers(settings: Settings) -> Tree:
    """Whose updates are taken."""
    lines = [f'{SIGNER} namespaces="{NAMESPACE}" {key}\n' for key in settings.update.keys]
    return Tree({SIGNERS.relative_to("/").as_posix(): File("".join(lines))} if lines else {})


def unheeded(settings: Settings, places: Places, root: Path) -> Iterator[Complaint]:
    """What is well written, and changes nothing on this board."""
    locale, wlan = settings.locale, settings.wlan
    if (
        "locale.timezone" in places
        and not (root / "usr/share/zoneinfo" / locale.timezone).is_file()
    ):
        yield Complaint("no-timezone", *places["locale.timezone"], "locale.timezone")
    files = (root / "usr/share/keymaps").glob("*.map.gz")
    keymaps = sorted(file.name.removesuffix(".map.gz") for file in files)
    if "locale.keymap" in places and locale.keymap not in keymaps:
        known = ", ".join(keymaps)
        yield Complaint("no-keymap", *places["locale.keymap"], "locale.keymap", known)
    yield from account.unheeded(settings, places, root)
    if settings.class_.enabled and (wlan.ssid or wlan.ssid_hex):
        field = "wlan.ssid" if wlan.ssid else "wlan.ssid_hex"
        yield Complaint("one-radio", *places[field], field)


def notice(settings: Settings, complaints: Iterable[Complaint]) -> str:
    """What the chat tells those who stand before it, in lines."""
    language = settings.locale.language
    lines = [complaint.say(language) for complaint in complaints]
    if settings.class_.enabled:
        facts = joining(settings.class_)
        lines.append(text("settings.class-here", lang=language, folder=FOLDER, **facts))
    return "".join(f"{line}\n" for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Read the settings of this board.

    Args:
        arguments: a folder, which is made, and the file of passwords.
    """
    draft, secrets = map(Path, arguments)
    root = Path("/")
    files = [BOOT / name for name in FILES if (BOOT / name).is_file()]
    written, complaints, places = read(files, _before(secrets.parent))
    complaints += [Complaint("aside", name) for name in _aside()]
    known = kept_in(secrets)
    settings, kept = settle(written, known, _hashed)
    holding = [file for file in files if _has_password(read([file])[0])]
    try:
        if kept != known:
            replace(secrets, kept.model_dump_json().encode(), 0o600)
    except OSError as error:
        left = [Complaint("stays", file.name, reason=_reason(error)) for file in holding]
        # In none of them is one that was made up here.
        complaints += left or [Complaint("unkept", FILES[-1], reason=_reason(error))]
    else:
        complaints += [each for file in holding if (each := _take_passwords_out(file, complaints))]
    told_tree(settings, complaints, places, root).write(draft)
    return 0


def told_tree(
    settings: Settings, complaints: Sequence[Complaint], places: Places, root: Path
) -> Tree:
    """What is laid over the root file system, and what the chat tells of it.

    Args:
        settings: with the passwords that hold.
        complaints: of reading them.
        places: where they are written.
        root: of this board.
    """
    told = File(notice(settings, [*complaints, *unheeded(settings, places, root)]))
    return tree(settings, root) | Tree({f"{NEWS.relative_to('/')}/settings": told})


def _before(folder: Path) -> Settings:
    """What lasts of the settings that were laid out; nothing, if that is missing or damaged."""
    for file in folder.glob(f"tree-*/{_LASTING}"):
        with suppress(OSError, ValidationError):
            return Settings.model_validate_json(file.read_bytes())
    return Settings()


def _aside() -> list[str]:
    """Files beside ours: Windows hides the end of a name, and gives a copy another."""
    names = [file.name for file in BOOT.glob("*")]
    return sorted(each for each in names if _NEARLY.fullmatch(each) and each.lower() not in FILES)


def _has_password(written: Settings) -> bool:
    return bool(written.user.password or written.wlan.password or written.class_.password)


def _take_passwords_out(file: Path, complaints: Sequence[Complaint]) -> Complaint | None:
    """What is told where they stay in it."""
    try:
        with writable(BOOT):
            if (content := without_passwords(file, complaints)) is not None:
                replace(file, content, wipe=True)
    except (OSError, ValueError) as error:
        return Complaint("stays", file.name, reason=_reason(error))
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _hashed(password: str) -> str:
    """What crypt(5) writes; the password is on no command line."""
    return output("busybox", "mkpasswd", "-m", "sha512", "-P", "0", given=f"{password}\n")
