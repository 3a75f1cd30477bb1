"""From a board and a model to an image: the steps, one after the other.

packages ─┐
engine ───┼─▶ root file system ──┐
program ──┘                      ├──▶ disk ──▶ what is handed on
model, lucie.toml ───────────────┘
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle import Bundle
from edge.errors import MemoryRefusedError
from edge.header import read_model
from edge.manifest import Manifest, Parent
from edge.plan import plan
from edge.quantity import decimal_text
from edge.workshop import software, workshop
from images.boards import Board, boards
from images.building import debian, program
from images.building.kept import digest, kept
from images.building.papers import papers
from images.building.room import EPOCH, STEPS, Room
from images.errors import ImageError
from images.onboard.apply import told_tree
from images.onboard.settings_file import read
from images.publishing.catalog import catalog, write_catalog
from images.publishing.imager import MANIFEST

if TYPE_CHECKING:
    from edge.store import Model

__all__ = ["Bench", "Order", "build", "checked", "imager_manifest", "tags"]

Say = Callable[[str], object]
_SYSTEM, _SITE = "system", "program"
"""Where the system is put together, and where in it what it has of Python."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    board: Board
    model: Model
    """A bundle of this computer."""
    language: str
    """Of the chat, until `lucie.toml` says otherwise."""
    update_key: str | None = None
    """Public SSH key of who may sign updates."""


def build(order: Order, out: Path, log: Path, say: Say, title: Callable[[str], str]) -> Bundle:
    """Make the image bundle `out`, and beside it what Raspberry Pi Imager is started with.

    Args:
        log: where the work is told.
        say: called with a word for each part of the work, as it begins.
        title: gives what is said of such a part.

    Raises:
        LucieError: the model is no bundle, or has no room on the board; a step failed.
    """
    model = checked(order.model, order.board)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with workshop(out) as folder:
        say("tools")
        bench = Bench(debian.tools(log), folder, log, say)
        say("packages")
        packages = debian.packages(log)
        engine = program.engine(bench.room, log, title("engine"))
        say("wheels")
        wheels = program.wheels(log)
        root = _root(bench, packages, engine, wheels)
        card = _card(bench, root, model, order)
        say("papers")
        parts = debian.components(packages, bench.room)
        papers(card, parts, folder / _SYSTEM / _SITE, model, tags(order.model), order.language)
        say("hash")
        files = {file.name: file for file in sorted(card.iterdir()) if file.suffix != ".img"}
        made = Bundle.write(out, _manifest(order, model, out.name), files, move=True)
    write_catalog(catalog([made]), imager_manifest(out))
    return made


def imager_manifest(out: Path) -> Path:
    """The file beside the bundle `out` that Raspberry Pi Imager is started with."""
    return out.with_name(f"{out.name}{MANIFEST}")


@dataclass(frozen=True, slots=True)
class Bench:
    """Where steps are run."""

    room: Room
    folder: Path
    log: Path
    say: Say

    def run(self, step: str, *arguments: str, binds: Mapping[str, Path]) -> None:
        """Run one; the lines of it that begin with `::` name the parts of its work."""

        def heard(line: str) -> None:
            if line.startswith(":: "):
                self.say(line.removeprefix(":: "))

        self.room.run(step, *arguments, binds=binds, log=self.log, heard=heard)


def checked(model: Model, board: Board) -> Bundle:
    """The bundle of a model, which is whole, and which the board has room for.

    Raises:
        LucieError: it is none, or damaged, or too large.
    """
    if model.folder is None:
        raise ImageError("build.no-bundle", path=str(model.path))
    most = board.memory[-1]
    try:
        plan(read_model(model.weights), board.device(most))
    except MemoryRefusedError as error:
        facts = error.facts
        raise ImageError(
            "build.no-room", board=board.title, memory=decimal_text(most, most % 1 > 0),
            model=model.name, least=facts.get("least", facts["total"]),
            available=facts["available"],
        ) from error  # fmt: skip
    return Bundle.open(model.folder, verify=True)


def _root(bench: Bench, packages: Path, engine: Path, wheels: Path) -> Path:
    """The root file system and what the firmware starts."""
    given = bench.folder / _SYSTEM
    shutil.copytree(debian.BOARD, given)
    program.lay_out(given / _SITE, engine, wheels)
    made_from = [EPOCH, bench.room.root.parent.name, packages.parent.name, engine.name]
    made_of = [*made_from, digest(given), digest(STEPS / "root.sh")]

    def make(folder: Path) -> None:
        binds = {"/given": given, "/packages": packages.parent, "/out": folder}
        bench.run("root", "/given", f"/packages/{packages.name}", "/out", binds=binds)

    return kept("root", made_of, make)


def _card(bench: Bench, root: Path, model: Bundle, order: Order) -> Path:
    """The folder of what is handed on: the card, packed, its block map and its hashes."""
    given, card = bench.folder / "given", bench.folder / "card"
    shutil.copytree(debian.BOARD / "boot", given / "boot")
    _choose(given / "boot" / "lucie.toml", order)
    # As a board does when the file has changed: its first start need not read it.
    settings, complaints, places = read([given / "boot" / "lucie.toml"])
    told_tree(settings, complaints, places, root / "seen").write(given / "tree")
    chosen = given / "data/server/model"
    chosen.parent.mkdir(parents=True)
    chosen.write_text(f"LUCIE_MODEL={model.manifest.name}\n", encoding="utf-8")
    models = "/given/data/lucie/data/models"
    card.mkdir()
    binds = {"/given": given, f"{models}/{model.manifest.name}": model.path,
             "/system": root, "/out": card}  # fmt: skip
    bench.run("disk", "/given", "/system", "/out", binds=binds)
    name = f"lucie-{order.board.name}-{model.manifest.name}"
    bench.run("publish", "/out", name, binds=binds)
    return card


def _choose(settings: Path, order: Order) -> None:
    """Have `lucie.toml` say what was chosen."""
    chosen = {'# language = "fr"': f'language = "{order.language}"'}
    if order.update_key is not None:
        key = json.dumps(order.update_key, ensure_ascii=False)
        chosen['# keys = ["ssh-ed25519 AAAA… name"]'] = f"keys = [{key}]"
    text = settings.read_text(encoding="utf-8")
    for line, choice in chosen.items():
        text = text.replace(line, choice)
    settings.write_text(text, encoding="utf-8")


def tags(model: Model) -> list[str]:
    """Imager's of the boards that have room for it: the card is the same for all of them."""
    header, found = read_model(model.weights), dict[str, None]()
    for board in boards().values():
        with suppress(MemoryRefusedError):
            plan(header, board.device(board.memory[-1]))
            found |= dict.fromkeys(board.imager)
    return list(found)


def _manifest(order: Order, model: Bundle, name: str) -> Manifest:
    of_model = model.manifest
    return Manifest(
        kind="image",
        name=name,
        parents=(Parent(name=of_model.name, sha256=model.sha256),),
        recipe={"step": "image.build", "board": order.board.name, "language": order.language},
        software=software("llama-cpp-python", "textual", "numpy"),
        languages=of_model.languages,
        provenance=of_model.provenance,
        data=of_model.data,
    )
