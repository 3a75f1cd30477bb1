"""The first starts of an update: it stays when the chat has answered, and goes when it has not.

A reboot is what ends a trial that fails: init counts them (`board/init`), and a timer that depends
on nothing else brings one about.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial

from edge import streams
from images.onboard.boot_partition import writable
from images.onboard.news import say, tell
from images.onboard.screen import has_screen
from images.onboard.slots import Card, Trial
from images.onboard.update_record import Record, Records, day

__all__ = ["judge", "main"]

_EVERY_S = 5
_ASKED = ("/usr/bin/lucie", "run", "--server", "unix:/run/lucie/serve.sock", "--max-tokens", "1")
_STANDS_S = 20
_NO_MORE_LIMIT = ("systemctl", "stop", "lucie-trial.timer")
_SHOWN = ("systemctl", "show", "-p", "Id,ActiveState,NRestarts")
_ON_SCREEN, _ON_SERIAL = "getty@tty1.service", "serial-getty@*.service"


def main(_arguments: Sequence[str]) -> int:
    """Judge what was started; the exit code is not zero where a system on trial is to go."""
    card, records = Card.here(), Records.here()
    if (trial := card.trial) is None:
        return 0
    try:
        laid = records.last_laid
        wait = partial(_wait, screen=laid is not None and laid.screen)
        outcome, record = judge(card, trial, records, wait)
    except OSError as error:
        streams.tell(str(error))
        return 0 if trial.before == card.running else 1
    if outcome == "stays":
        subprocess.run(_NO_MORE_LIMIT, check=False)
    if record is not None:
        facts = {"version": record.version, "day": day(record)}
        tell("update", say(f"update.{outcome}", **facts))
    return 0


def judge(
    card: Card, trial: Trial, records: Records, wait: Callable[[], object]
) -> tuple[str, Record | None]:
    """End a trial.

    Args:
        trial: of the card.
        wait: returns when the chat has answered.

    Returns:
        What has come of it, and of which update; "replaced" and of none, where another update has
        been laid meanwhile, which is not judged by this start.

    Raises:
        OSError: the card fails.
    """
    if trial.before != card.running:
        wait()
        with records.held(), writable(card.boot):
            card.end_trial()
            return "stays", records.reached_the_chat()
    with records.held(), writable(card.boot):
        if card.trial != trial:  # none is laid while another runs on trial, but here it may be
            return "replaced", None
        card.withdraw()
        if trial.begun:
            return "returned", records.returned()
        return "unfinished", records.last_laid


def _wait(*, screen: bool) -> None:
    while not (_chat_stands(screen=screen) and _server_answers()):
        time.sleep(_EVERY_S)


def _chat_stands(*, screen: bool) -> bool:
    """Whether it is where people read it, and is not started again and again.

    Args:
        screen: whether the board had one when the update was laid: it may lack the driver.
    """
    before = _chat(screen)
    time.sleep(_STANDS_S)
    # A board of a class may have neither screen nor serial line.
    return before == _chat(screen) and ("ActiveState=active" in before or before == [_ON_SERIAL])


def _chat(screen: bool) -> list[str]:
    unit = _ON_SCREEN if has_screen(before=screen) else _ON_SERIAL
    asked = subprocess.run([*_SHOWN, unit], capture_output=True, text=True, check=False)
    # Who does not answer has no chat that stands.
    return [unit, *(asked.stdout.split() if asked.returncode == 0 else ["unknown"])]


def _server_answers() -> bool:
    return subprocess.run([*_ASKED, "Bonjour"], capture_output=True, check=False).returncode == 0
