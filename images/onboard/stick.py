"""A stick: what is plugged in is looked through, and what is chosen of it is taken.

    udev ──▶ lucie-stick@sdb1 ──▶ `look`: mounted for this process alone ──▶ news, offers
    chat ──▶ lucie-take       ──▶ `take`: copied, checked on the way, used ──▶ news
                                          or removed from the card
    start ─▶ lucie-card       ──▶ `card`: other models of the card ──▶ offers
    pulled ─▶ lucie-stick@sdb1 stops ──▶ `gone`
    cut off ▶ lucie-take fails ──▶ `ended`

What is looked for on a stick stands in `SEARCHES`.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.bundle import Bundle
from edge.errors import LucieError
from images.onboard import offers, removal
from images.onboard.bundles import candidates, judge, names, no_room, plain_files, shelved
from images.onboard.news import forget, say, tell
from images.onboard.programs import output, run
from images.onboard.store import Shelf, choice, in_use, shelf, use
from images.onboard.update_file import is_update
from images.onboard.writing import replace

__all__ = [
    "SEARCHES",
    "card",
    "ended",
    "gone",
    "look",
    "main",
    "models",
    "mounted",
    "take",
    "updates",
]

_RUN = Path("/run/lucie-stick")
_BLOCK = Path("/sys/class/block")
_MOUNTS = Path("/proc/self/mounts")
_DEVICE = re.compile(r"[a-z]+[0-9]*")
# An ext4 may ask the kernel to panic, and may have a journal that wants to be written.
_OPTIONS = {"vfat": "", "exfat": "", "ext4": ",noload,errors=continue"}
_AMBIVALENT = 8
"""What blkid(8) ends with where there are traces of two."""
_SAFE = "ro,nosuid,nodev,noexec,nosymfollow"
_SERVER = "lucie-serve.service"
_START = 600
"""Seconds that a server may take to start with a model that is new to it."""
_TOLD = "told"
_TRIES = 15
"""A fifth of a second each: all fails a moment before Linux knows that a stick is gone."""
_TAKING = "stick"
"""News of what is being taken; those of a stick end with the name of its device."""


def models(device: str, stick: Path) -> Iterator[str]:
    """Offer the models of a stick.

    Returns:
        What a person is told of each.
    """
    with shelf() as ours:
        # All are read now, which takes minutes; `take` waits for this lock, and need not for that.
        with _alone() as alone:
            if alone:  # else a copy is being made, and what looks cut off is not
                ours.clear()
        seen = set[str]()
        for folder in candidates(stick):
            found = judge(folder, ours)
            if found.bundle is not None and found.bundle.manifest.name not in seen:
                name = found.bundle.manifest.name
                seen.add(name)
                place = str(folder.relative_to(stick))
                offers.make(
                    offers.Offer(text=found.text, title=found.title, name=name, device=device,
                                 folder=place, sha256=found.bundle.sha256)
                )  # fmt: skip
                yield f"{found.text} {say('stick.how')}"
            else:
                yield found.text
    yield from (say("stick.plain-file", file=name) for name in plain_files(stick)[:1])


def updates(device: str, stick: Path) -> Iterator[str]:
    """Have updates looked at by who may write to the card; it tells what comes of them itself."""
    if names(stick, is_update):
        output("systemctl", "start", "--no-block", f"lucie-update@{device}.service")
        yield say("update.seen")


SEARCHES: tuple[Callable[[str, Path], Iterator[str]], ...] = (updates, models)
"""Each is given a device and where it is mounted, and says in lines what it has found there."""


def look(device: str) -> None:
    """Look through a stick that has been plugged in, and tell what is on it."""
    if _disk(device) == _disk(_data()):  # the board itself has started from it
        return
    name, mark = f"stick-{device}", _mark(device)
    offers.withdraw(device)
    forget(_TAKING)
    tell(name, say("stick.reading"))
    mark.touch()
    try:
        with mounted(device) as stick:
            lines = [line for search in SEARCHES for line in search(device, stick)]
    except OSError as error:
        offers.withdraw(device)
        if _pulled(device):
            tell(name, say("stick.pulled"))
            mark.write_text(_TOLD)  # `gone`, which comes now, leaves that on the screen
            return
        lines = [say("stick.unreadable", reason=_reason(error))]
    mark.unlink()
    tell(name, "\n".join(lines) or say("stick.nothing"))


def gone(device: str) -> None:
    """A stick has been pulled out, or `look` has come to an early end: offer nothing of it.

    When this is done, the next stick may be there already under the same name: systemd says what
    became of `look`.
    """
    offers.withdraw(device)
    mark, failed = _mark(device), not _ended_well()
    if not mark.exists():
        forget(f"stick-{device}")
    elif mark.read_text() != _TOLD:
        tell(f"stick-{device}", say("stick.stopped" if failed else "stick.pulled"))
    mark.unlink(missing_ok=True)
    if _is_there(device) and not failed:
        # systemd does not start what it is still stopping.
        run("systemctl", "--no-block", "start", f"lucie-stick@{device}.service")


def _ended_well() -> bool:
    """Whether systemd or who is before it has ended the service, or it itself: systemd.exec(5)."""
    result = os.environ.get("SERVICE_RESULT", "success")
    stopped = result == "signal" and os.environ.get("EXIT_STATUS") == "TERM"
    return stopped or result == "success"


def take() -> None:
    """Copy the model that has been chosen onto the card, and have it used; or remove it there."""
    offer = offers.chosen()
    if offer is None:  # the list was open while that was withdrawn
        tell(_TAKING, say("stick.gone"))
        return
    try:
        with _alone(wait=True), shelf() as ours:
            ours.clear()
            said = removal.remove(offer, ours) if _is_removal(offer) else _take(offer, ours)
            _offer_card(ours)
    except OSError as error:
        of_card = offer.device in (offers.CARD, offers.TRASH)
        pulled = not of_card and _pulled(offer.device)
        said = _failed(offer, _reason(error), pulled=pulled)
    except LucieError as error:
        said = _failed(offer, str(error), pulled=False)
    tell(_TAKING, said)


def _is_removal(offer: offers.Offer) -> bool:
    return offer.device == offers.TRASH


def _failed(offer: offers.Offer, reason: str, *, pulled: bool) -> str:
    """What is told of a model that was not taken, or not removed."""
    title, none = offer.title, _is_missing(offer.name)
    if _is_removal(offer):
        said = say("stick.not-removed", title=title, reason=reason)
    elif not pulled:
        said = say("stick.not-taken", title=title, reason=reason)
    elif none:
        said = say("stick.pulled-none", title=title)
    else:
        said = say("stick.pulled-copy", title=title)
    return f"{said}\n{say('stick.none', title=title)}" if none else said


def _is_missing(name: str) -> bool:
    """Whether the model in use is this one, and was damaged, and has made room for the copy."""
    with suppress(OSError), shelf() as ours:  # where that fails, it has been told just now
        return in_use() == name and not os.path.lexists(ours.root / name)
    return False


def ended() -> None:
    """`take` has come to an end: where that was an early one, nothing goes on by half."""
    if os.environ.get("SERVICE_RESULT", "success") == "success":
        return
    if _trying().exists():
        _trying().unlink()
        run("systemctl", "--no-block", "restart", _SERVER)
    tell(_TAKING, say("stick.take-stopped"))


def card() -> None:
    """Offer the models of the card that are not in use; where the one in use is gone, use another.

    A plug that was pulled while a damaged one made room for its copy leaves nothing of it.
    """
    with _alone(wait=True), shelf() as ours:
        ours.clear()
        others = _offer_card(ours)
        if (name := in_use()) and not os.path.lexists(ours.root / name):
            tell(_TAKING, _stand_in(name, others))
            _offer_card(ours)


def _offer_card(ours: Shelf) -> list[offers.Offer]:
    removal.offer_removals(ours)
    offers.withdraw(offers.CARD)
    found = [(name, shelved(name, ours)) for name in ours.names() if name != in_use()]
    made = [
        offers.Offer(text=each.text, title=each.title, name=name, device=offers.CARD, folder=name,
                     sha256=each.bundle.sha256)
        for name, each in found
        if each is not None and each.bundle is not None
    ]  # fmt: skip
    for offer in made:
        offers.make(offer)
    return made


def _stand_in(name: str, others: Sequence[offers.Offer]) -> str:
    """What is told of a model that is gone, in whose place another one starts if any does."""
    for other in others:
        if _use(other.name):
            return say("stick.stand-in", name=name, title=other.title)
    return say("stick.none", title=name)


def _take(offer: offers.Offer, ours: Shelf) -> str:
    """What is told in the end."""
    if (reason := _bring(offer, ours)) is not None:
        return reason
    tell(_TAKING, say("stick.starting", title=offer.title))
    if not _use(offer.name):
        return say("stick.useless", title=offer.title)
    return say("stick.chosen" if offer.device == offers.CARD else "stick.used", title=offer.title)


def _bring(offer: offers.Offer, ours: Shelf) -> str | None:
    """What is told where the card does not have it in the end; None: it does, whole."""
    there = ours.manifest(offer.name)
    if there is not None:
        if offer.device != offers.CARD:
            with _offered(offer) as bundle:
                # Of another stick, taken since it was offered.
                if there.files != bundle.manifest.files:
                    return say("stick.other", name=offer.name)
        tell(_TAKING, say("stick.checking", title=offer.title))
    if ours.has(offer.name):
        return None
    # One that is there has lost its content: a card that wears out.
    if offer.device == offers.CARD:
        return say("stick.lost", title=offer.title)
    tell(_TAKING, say("stick.copying", title=offer.title))
    return _copy(offer, ours, lost=there is not None)


def _copy(offer: offers.Offer, ours: Shelf, *, lost: bool) -> str | None:
    """What is told where the card has no room for it any more; None: it is copied.

    Until the stick has proved to be there, and the card to have room, a damaged one stays.
    """
    with _offered(offer) as bundle:
        if (reason := no_room(bundle, ours, offer.title, lost=lost)) is None:
            ours.take(bundle, lost=lost)
        return reason


@contextmanager
def _offered(offer: offers.Offer) -> Iterator[Bundle]:
    """What was offered, on its stick.

    Raises:
        LucieError: it is damaged.
        OSError: it cannot be read, or is another one now.
    """
    with mounted(offer.device) as stick:
        try:
            bundle = Bundle.open(stick / offer.folder, verify=False)
        except LucieError as error:
            raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None
        if bundle.sha256 != offer.sha256:
            raise OSError(0, say("stick.another"))
        yield bundle


def _use(name: str) -> bool:
    """Whether the server has started with it: a board whose plug is pulled meanwhile forgets it."""
    replace(_trying(), choice(name))
    used = False
    try:
        if _starts():
            use(name)
            used = True
    finally:
        _trying().unlink()
        if not used:
            run("systemctl", "--no-block", "restart", _SERVER)
    return used


def _starts() -> bool:
    try:
        return run("systemctl", "restart", _SERVER, seconds=_START).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _trying() -> Path:
    """What the server loads before all else, until it is known whether it starts with that."""
    return _RUN / "trying"


def _pulled(device: str) -> bool:
    """Whether an error is of a stick that is not there any more."""
    for _ in range(_TRIES):
        if not _is_there(device):
            return True
        time.sleep(0.2)
    return False


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _mark(device: str) -> Path:
    """There while a stick is being looked through."""
    return _RUN / f"reading-{device}"


@contextmanager
def mounted(device: str) -> Iterator[Path]:
    """Where a stick can be read: nobody else sees it there, and it ends with this process.

    Raises:
        OSError: it has no file system that is known, or fails.
    """
    kind = _kind(device)
    # Of each process its own: what is mounted on a folder goes, for all, when that is removed.
    folder = Path(tempfile.mkdtemp(dir=_RUN, prefix=f"{device}-"))
    try:
        _mount(device, kind, folder)
        yield folder
    finally:
        run("umount", "--lazy", str(folder))
        with suppress(OSError):  # nothing is left in it, and it is in memory
            folder.rmdir()


def _kind(device: str) -> str:
    """Of the file system of a stick: one of those that are read."""
    found = run("blkid", "-p", "-o", "value", "-s", "TYPE", f"/dev/{device}")
    kind = found.stdout.strip()
    if found.returncode == _AMBIVALENT:
        raise OSError(0, say("stick.two-kinds"))
    if not kind:
        raise OSError(0, say("stick.no-kind"))
    if kind not in _OPTIONS:
        raise OSError(0, say("stick.no-system", kind=ascii(kind)[1:-1]))
    return kind


def _mount(device: str, kind: str, folder: Path) -> None:
    try:
        output("mount", "-t", kind, "-o", _SAFE + _OPTIONS[kind], f"/dev/{device}", str(folder))
    except OSError as error:
        if "wrong fs type" in str(error):  # and what else it thinks of: Linux tells it no more
            raise OSError(0, say("stick.damaged-system", kind=kind)) from error
        raise


@contextmanager
def _alone(*, wait: bool = False) -> Iterator[bool]:
    """Whether nobody else changes the models meanwhile."""
    with (_RUN / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def _is_there(device: str) -> bool:
    return (_BLOCK / device).exists()


def _disk(device: str) -> str:
    """The disk that it is a part of, or itself."""
    place = (_BLOCK / device).resolve()
    return place.parent.name if (place / "partition").exists() else device


def _data() -> str:
    """The device of the board's own models."""
    lines = (line.split() for line in _MOUNTS.read_text(encoding="utf-8").splitlines())
    return next((Path(line[0]).name for line in lines if line[1:2] == ["/data"]), "")


def main(arguments: Sequence[str]) -> int:
    """Do what a unit of systemd asks for: `look DEVICE`, `gone DEVICE`, `card`, `take`, `ended`."""
    what, *devices = arguments
    if any(_DEVICE.fullmatch(device) is None for device in devices):
        raise ValueError(devices)
    jobs: dict[str, Callable[..., None]] = {
        "look": look, "gone": gone, "card": card, "take": take, "ended": ended,
    }  # fmt: skip
    jobs[what](*devices)
    return 0
