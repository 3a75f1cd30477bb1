"""Models of the card that are not in use may be removed: others have their room then."""

from __future__ import annotations

from edge.errors import ModelError
from edge.quantity import size_text
from images.onboard import offers
from images.onboard.bundles import title_of
from images.onboard.news import say
from images.onboard.store import Shelf, in_use

__all__ = ["offer_removals", "remove"]


def offer_removals(ours: Shelf) -> None:
    """Offer to remove each of them, those too that no system of a board can use.

    Raises:
        OSError: the card cannot be read, or an offer not be written.
    """
    offers.withdraw(offers.TRASH)
    for name in ours.names():
        if name == in_use():
            continue
        title = _title(name, ours)
        size = size_text(ours.size(name))
        offers.make(
            offers.Offer(text=say("stick.removal", title=title, size=size),
                         ask=say("stick.removal-ask", title=title), title=title, name=name,
                         device=offers.TRASH, folder=name, sha256="")
        )  # fmt: skip


def _title(name: str, ours: Shelf) -> str:
    try:
        return title_of(ours.bundle(name))
    except ModelError:
        return name


def remove(offer: offers.Offer, ours: Shelf) -> str:
    """Remove what was chosen, unless it has been taken into use meanwhile; what is told then.

    Raises:
        OSError: it cannot be removed.
    """
    if offer.name == in_use():
        return say("stick.removal-in-use", title=offer.title)
    ours.remove(offer.name)
    return say("stick.removed", title=offer.title, free=size_text(ours.room(offer.name)))
