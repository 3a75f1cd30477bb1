"""Measuring what in a model matters, on text, as a bundle; `forward_pass` computes it."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.errors import DistillError, DistillUsageError
from distill.pruning.forward_pass import run_through
from distill.pruning.scores import FACTS, FIGURES, PICTURE, Facts, Importance
from distill.pruning.work import Recipe, Work, taken
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.manifest import Manifest
from edge.progress import Progress
from edge.tokenizer_file import open_tokenizer
from edge.torch_start import start
from edge.workshop import software, workshop
from pretrain.identity import fingerprint
from quantize.checkpoint.complete import complete
from quantize.checkpoint.source import Source
from quantize.measuring.built_in_texts import CALIBRATION
from quantize.measuring.calibration import LabelledText, balanced, digest

if TYPE_CHECKING:
    from quantize.measuring.calibration import Chunk

__all__ = ["Calibration", "Stage", "check", "measure"]

Stage = Callable[[str], Progress]
_LENGTH = 512
"""Tokens of a piece, where nobody says."""
_LAYER_LOSS = 8192
"""Tokens on which the loss without each layer is measured: L layers compute it L / 2 times."""
_SAMPLED_EACH = 4
"""Of how many tokens of a piece hidden states are kept."""
_LONGEST = 64
"""Characters of a token on average, at most."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """On what importance is measured, and how."""

    texts: Sequence[LabelledText] = CALIBRATION
    tokens: int | None = 65_536
    """Most in all, equally many of each text; None: as many as the shortest gives of each."""
    length: int | None = None
    """Tokens of a piece; None: 512, or as many as the model reads."""
    layer_loss: bool = False
    """Whether to measure the loss without each layer."""
    dtype: str = "float32"
    """What is computed with: float32 or bfloat16."""
    threads: int = 0
    """Threads to compute with; 0: one for each core."""


def check(checkpoint: Checkpoint, calibration: Calibration) -> str:
    """Refuse at once what `measure` would refuse.

    Returns:
        SHA-256 of the tokens that it would read.

    Raises:
        LucieError: the model lacks something, a text cannot be read or is too short, a piece is
            longer than the model's window.
    """
    complete(checkpoint)
    return digest(_pieces(checkpoint, calibration))


def measure(source: Source, out: Path, calibration: Calibration, stage: Stage) -> Bundle:
    """Make the bundle `out` of kind `importance`; goes on where it was stopped.

    Args:
        source: the model.
        out: the folder to make; what is under way stands beside it, as `OUT.measuring`.
        calibration: on what.
        stage: told what is being done.

    Raises:
        DistillError: the model computes no numbers; another measurement is in the way.
        LucieError: something of it fails; what was measured is kept.
    """
    import torch

    complete(source.checkpoint)
    pieces = _pieces(source.checkpoint, calibration)
    length = len(pieces[0].ids)
    each = min(len(pieces), max(1, _LAYER_LOSS // length))
    recipe = Recipe(
        teacher=fingerprint(source.checkpoint),
        texts=digest(pieces),
        pieces=len(pieces),
        length=length,
        dtype=calibration.dtype,
        layer_loss=each if calibration.layer_loss else 0,
        sampled=min(_SAMPLED_EACH, length),
    )
    work = Work(out.absolute().parent / f"{out.name}.measuring")
    with workshop(out) as folder, taken(work, recipe):
        start(torch, calibration.threads)
        ids = torch.from_numpy(np.array([piece.ids for piece in pieces], np.int64))
        found, loss = run_through(source.checkpoint, recipe, work, ids, stage("measure"))
        bundle = _write(source, out, folder, found, loss, recipe, calibration, stage)
        shutil.rmtree(work.folder, ignore_errors=True)
    return bundle


def _pieces(checkpoint: Checkpoint, calibration: Calibration) -> list[Chunk]:
    """Texts as tokens; control tokens are not read from text, BOS begins a piece if wanted."""
    longest = checkpoint.config.max_position_embeddings
    length = calibration.length or min(_LENGTH, longest)
    if length > longest:
        raise DistillUsageError("prune.length", length=length, most=longest)
    tokenizer = open_tokenizer(checkpoint.path)
    tokenizer.encode_special_tokens = True
    first = tokenizer.encode("").ids[:1]

    # Of a large file, no more than what is wanted is encoded; no text has such long tokens.
    room = None if calibration.tokens is None else _LONGEST * max(calibration.tokens, length)

    def tokens(text: str) -> array[int]:
        return array("i", tokenizer.encode(text[:room], add_special_tokens=False).ids)

    most = None if calibration.tokens is None else max(1, calibration.tokens // length)
    pieces = balanced(calibration.texts, tokens, length, most)
    for piece in pieces:
        piece.ids[: len(first)] = array("i", first)
        if max(piece.ids) >= checkpoint.config.vocab_size:
            raise DistillError("prune.vocabulary", path=str(checkpoint.path / "tokenizer.json"))
    return pieces


def _write(
    source: Source, out: Path, folder: Path, found: Importance, loss: float, recipe: Recipe,
    calibration: Calibration, stage: Stage,
) -> Bundle:  # fmt: skip
    from distill.pruning.picture import draw

    tokens = recipe.pieces * recipe.length
    facts = Facts(
        teacher=recipe.teacher,
        tokens=tokens,
        length=recipe.length,
        dtype=recipe.dtype,
        texts=tuple(f"{text.label}={text.path.name}" for text in calibration.texts),
        loss_tokens=recipe.layer_loss * recipe.length,
        sha256=recipe.texts,
    )
    (folder / FACTS).write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")
    found.write(folder / FIGURES)
    draw(found, folder / PICTURE)
    manifest = Manifest(
        kind="importance",
        name=out.name,
        recipe={"step": "distill.importance"} | facts.model_dump(mode="json"),
        software=software("torch", "transformers", "tokenizers", "safetensors"),
        provenance="unknown",
        metrics={"loss, nats a token": loss, "tokens": float(tokens)},
    )
    files = {name: folder / name for name in (FACTS, FIGURES, PICTURE)}
    return Bundle.write(out, source.inherit(manifest), files, move=True, progress=stage("hash"))
