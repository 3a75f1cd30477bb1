"""A model that is chosen is taken: copied, checked on the way, used; or removed from the card.

chat ──▶ lucie-take  ──▶ `take` ──▶ news
start ─▶ lucie-card  ──▶ `card`: other models of the card ──▶ offers
cut off ▶ lucie-take fails ──▶ `ended`
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.bundle import Bundle
from edge.errors import LucieError
from images.onboard import offers, removal
from images.onboard.bundles import no_room, shelved
from images.onboard.mounting import RUN, is_pulled, mounted, reason_of
from images.onboard.news import say, tell
from images.onboard.programs import run
from images.onboard.store import Shelf, choice, in_use, shelf, use
from images.onboard.writing import replace

__all__ = ["TAKING", "alone", "card", "ended", "take"]

TAKING = "stick"
"""News of what is being taken; those of a stick end with the name of its device."""
_SERVER = "lucie-serve.service"
_START = 600
"""Seconds that a server may take to start with a model that is new to it."""


def take() -> None:
    """Copy the model that has been chosen onto the card, and have it used; or remove it there."""
    offer = offers.chosen()
    if offer is None:  # the list was open while that was withdrawn
        tell(TAKING, say("stick.gone"))
        return
    try:
        with alone(wait=True), shelf() as ours:
            ours.clear()
            said = removal.remove(offer, ours) if _is_removal(offer) else _take(offer, ours)
            _offer_card(ours)
    except OSError as error:
        of_card = offer.device in (offers.CARD, offers.TRASH)
        pulled = not of_card and is_pulled(offer.device)
        said = _failed(offer, reason_of(error), pulled=pulled)
    except LucieError as error:
        said = _failed(offer, str(error), pulled=False)
    tell(TAKING, said)


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
    tell(TAKING, say("stick.take-stopped"))


def card() -> None:
    """Offer the models of the card that are not in use; where the one in use is gone, use another.

    A plug that was pulled while a damaged one made room for its copy leaves nothing of it.
    """
    with alone(wait=True), shelf() as ours:
        ours.clear()
        others = _offer_card(ours)
        if (name := in_use()) and not os.path.lexists(ours.root / name):
            tell(TAKING, _stand_in(name, others))
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
    tell(TAKING, say("stick.starting", title=offer.title))
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
        tell(TAKING, say("stick.checking", title=offer.title))
    if ours.has(offer.name):
        return None
    # One that is there has lost its content: a card that wears out.
    if offer.device == offers.CARD:
        return say("stick.lost", title=offer.title)
    tell(TAKING, say("stick.copying", title=offer.title))
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
    return RUN / "trying"


@contextmanager
def alone(*, wait: bool = False) -> Iterator[bool]:
    """Whether nobody else changes the models meanwhile."""
    with (RUN / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
