"""A stick: what is plugged in is looked through, and what there is to take of it is offered.

    udev ──▶ lucie-stick@sdb1 ──▶ `look`: mounted for this process alone ──▶ news, offers
    pulled ─▶ lucie-stick@sdb1 stops ──▶ `gone`

What is looked for on a stick stands in `SEARCHES`; what is chosen is taken by `taking`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from images.onboard import offers
from images.onboard.bundles import candidates, judge, names, plain_files
from images.onboard.mounting import RUN, is_board, is_pulled, is_there, mounted, reason_of
from images.onboard.news import forget, say, tell
from images.onboard.programs import output, run
from images.onboard.store import shelf
from images.onboard.taking import TAKING, alone, card, ended, take
from images.onboard.update_file import is_update

__all__ = ["SEARCHES", "gone", "look", "main", "models", "updates"]

_DEVICE = re.compile(r"[a-z]+[0-9]*")
_TOLD = "told"


def models(device: str, stick: Path) -> Iterator[str]:
    """Offer the models of a stick.

    Returns:
        What a person is told of each.
    """
    with shelf() as ours:
        # All are read now, which takes minutes; `take` waits for this lock, and need not for that.
        with alone() as nobody_else:
            if nobody_else:  # else a copy is being made, and what looks cut off is not
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
    if is_board(device):
        return
    name, mark = f"stick-{device}", _mark(device)
    offers.withdraw(device)
    forget(TAKING)
    tell(name, say("stick.reading"))
    mark.touch()
    try:
        with mounted(device) as stick:
            lines = [line for search in SEARCHES for line in search(device, stick)]
    except OSError as error:
        offers.withdraw(device)
        if is_pulled(device):
            tell(name, say("stick.pulled"))
            mark.write_text(_TOLD)  # `gone`, which comes now, leaves that on the screen
            return
        lines = [say("stick.unreadable", reason=reason_of(error))]
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
    if is_there(device) and not failed:
        # systemd does not start what it is still stopping.
        run("systemctl", "--no-block", "start", f"lucie-stick@{device}.service")


def _ended_well() -> bool:
    """Whether systemd or who is before it has ended the service, or it itself: systemd.exec(5)."""
    result = os.environ.get("SERVICE_RESULT", "success")
    stopped = result == "signal" and os.environ.get("EXIT_STATUS") == "TERM"
    return stopped or result == "success"


def _mark(device: str) -> Path:
    """There while a stick is being looked through."""
    return RUN / f"reading-{device}"


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
