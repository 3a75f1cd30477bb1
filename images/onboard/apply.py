"""What a board does with its settings at each start; the root file system forgets them again.

The boot waits for this, and the chat for the boot: what a board need not do is not imported.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from edge import streams
from edge.messages import LANGUAGES
from images.onboard.settings import Complaint, Locale, Settings, read

__all__ = ["FILES", "KEYMAPS", "apply", "main", "unheeded"]

FILES = ("rpi-preseed.toml", "lucie.toml")
"""On the boot partition: that of Raspberry Pi Imager first, so that ours wins."""
KEYMAPS = dict(zip(LANGUAGES, ("us", "fr"), strict=True))
"""The keyboard of those who name a language only."""

Run = Callable[[Sequence[str]], object]


def apply(settings: Settings, root: Path, run: Run) -> None:
    """Make a board what `settings` say.

    Args:
        settings: as read.
        root: the file system that is changed.
        run: starts a program and waits for its end.
    """
    _write(root / "etc/hostname", settings.system.hostname + "\n")
    _write(root / "proc/sys/kernel/hostname", settings.system.hostname)
    _locale(settings.locale, root, run)


def _locale(locale: Locale, root: Path, run: Run) -> None:
    _write(root / "run/lucie-settings/environment", f"LUCIE_LANG={locale.language}\n")
    zone = root / "usr/share/zoneinfo" / locale.timezone
    if zone.is_file():
        link = root / "etc/localtime"
        link.unlink(missing_ok=True)
        link.symlink_to(f"/usr/share/zoneinfo/{locale.timezone}")
    keymap = root / f"usr/share/keymaps/{locale.keymap or KEYMAPS[locale.language]}.map.gz"
    if keymap.is_file():
        run(["loadkeys", "-q", str(keymap)])


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def unheeded(settings: Settings, root: Path) -> list[Complaint]:
    """What is well written, and changes nothing on this board."""
    locale = settings.locale
    zone = root / "usr/share/zoneinfo" / locale.timezone
    keymap = root / f"usr/share/keymaps/{locale.keymap}.map.gz"
    here = {"locale.timezone": zone.is_file(), "locale.keymap": keymap.is_file()}
    if locale.keymap is None:
        del here["locale.keymap"]
    asked = {
        "wlan.ssid": settings.wlan.ssid or settings.wlan.ssid_hex,
        "class.enabled": settings.class_.enabled,
        "user.password": settings.user.password,
        "ssh.enabled": settings.ssh.enabled,
    }
    return [
        *(
            Complaint("absent", FILES[-1], field=field)
            for field, found in here.items()
            if not found
        ),
        *(Complaint("not-yet", FILES[-1], field=field) for field, value in asked.items() if value),
    ]


def main() -> int:
    """At the start of a board; what is wrong is said, and stops nothing."""
    root = Path("/")
    settings, complaints = read([root / "boot/firmware" / name for name in FILES])
    for complaint in [*complaints, *unheeded(settings, root)]:
        streams.tell(complaint.say(settings.locale.language))
    apply(settings, root, lambda command: subprocess.run(command, check=False))
    return 0
