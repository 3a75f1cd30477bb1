"""`lucie image build`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.catalog import catalog
from edge.commands.paths import AnyPath
from edge.errors import UnknownModelError
from edge.messages import LANGUAGES, language
from edge.paths import cache_dir
from edge.plan import budget
from edge.quantity import decimal_text
from images.boards import Board, boards
from images.commands.chosen import model_for_a_card
from images.commands.made import tell_made
from images.commands.parts import Parts
from images.commands.signing import public_half
from images.commands.words import PACKAGES, say, words
from images.errors import ImageError

if TYPE_CHECKING:
    from edge.store import Model

__all__ = ["build"]

_CARD = 1_000_000_000
"""Bytes of a card but for its model, 0.3 GB, as it is and packed twice."""
_KEPT = 2_500_000_000
"""What a first build makes and keeps for the next ones: 1.8 GB, and what it takes meanwhile."""


@click.command("build", **words("build", packages=PACKAGES))
@click.option("--board", type=click.Choice(list(boards())), default="pi5", show_default=True,
              help=say("build-board"))  # fmt: skip
@click.option("--model", metavar="NAME", help=say("build-model"))
@click.option("--lang", type=click.Choice(LANGUAGES), help=say("build-lang"))
@click.option("--update-key", type=AnyPath(), metavar="FILE", help=say("build-update-key"))
@click.option("--output", type=AnyPath(), metavar="DIR", help=say("build-output"))
def build(
    board: str, model: str | None, lang: str | None, update_key: Path | None, output: Path | None
) -> None:
    """Build an image."""
    from edge.workshop import check_free
    from images.building.build import Order
    from images.building.build import build as make
    from images.commands.place import place

    trusted = None if update_key is None else public_half(update_key)
    order = Order(boards()[board], _found(model, boards()[board]), lang or language(), trusted)
    out = output or Path(f"lucie-{board}")
    check_free(out)
    _require_space(out, order.model)
    log = cache_dir() / "images" / "build.log"
    began = time.monotonic()
    with Parts("build", "build-interrupted") as parts, place(out):
        parts("checking")
        made = make(order, out, log, parts, parts.title)
    tell_made(made, log, began)


def _require_space(out: Path, model: Model) -> None:
    """Where the card is made, and where steps work before and what they make is kept."""
    from images.building.space import require_space

    card = _CARD + 3 * model.path.stat().st_size
    require_space(out.parent, card)
    first = not any((cache_dir() / "images").glob("root-*"))
    require_space(cache_dir(), card + first * _KEPT)


def _found(name: str | None, board: Board) -> Model:
    """The model; one that is not here, and has no room on such a board, need not be fetched."""
    try:
        return model_for_a_card(name)
    except UnknownModelError as error:
        entry, memory = catalog().get(name or ""), board.memory[-1]
        available = budget(board.device(memory))
        if entry is None or entry.memory <= available:
            raise
        raise ImageError(
            "build.no-room", board=board.title, memory=decimal_text(memory, int(memory % 1 > 0)),
            model=entry.title, least=entry.memory // 1_000_000, available=available // 1_000_000,
        ) from error  # fmt: skip
