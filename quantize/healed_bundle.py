"""A healed export: from a model folder to a bundle whose weights were trained for its format.

    model ──▶ pieces of text ──▶ preparation ──▶ training ──▶ export with its gates
              tokens as the       what the        the rounded   plain and healed are both
              file will have      floats say      model         compared with the floats

Training is kept in a folder beside the result until that stands; called again, it goes on.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from edge.text import one_line
from edge.workshop import held, workshop
from quantize.checkpoint.complete import check_numbers, complete
from quantize.checkpoint.source import Source, open_source
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.gates.tokens import vocabulary
from quantize.ggml.export import export_vocabulary
from quantize.ggml.quantizer import QuantizeOptions
from quantize.gguf_bundle import Stage, check_tokens, export_gguf
from quantize.graph.types import Q4
from quantize.grid import BLOCK
from quantize.healing import process
from quantize.healing.recipe import Recipe
from quantize.healing.result import Healed
from quantize.healing.work import Work
from quantize.measuring.built_in_texts import MEASURE
from quantize.measuring.calibration import LabelledText, balanced, digest
from quantize.measuring.candidates import CHUNK
from quantize.onnx_bundle import export_onnx

if TYPE_CHECKING:
    from pydantic import JsonValue

    from quantize.measuring.calibration import Chunk

__all__ = ["LEARNING_RATES", "ONNX_Q4", "TARGETS", "Training", "heal"]

ONNX_Q4 = "ONNX-Q4"
TARGETS = {"Q4_0": 4, "Q8_0": 8, ONNX_Q4: 4}
"""What is healed, and the bits of its levels."""
LEARNING_RATES = {"Q4_0": 2e-4, "Q8_0": 1e-5, ONNX_Q4: 2e-4}
"""Which have proved good: with eight bits, levels are sixteen times as close together."""
_NEEDED = ("torch", "transformers", "accelerate")


@dataclass(frozen=True, slots=True)
class Training:
    """How it is trained."""

    texts: Sequence[LabelledText]
    steps: int
    batch: int
    learning_rate: float
    seed: int
    threads: int = 0
    launch: tuple[str, ...] | None = None
    """Arguments of `accelerate launch`; None: one process on this computer."""
    folder: Path | None = None
    """Where it is kept, also when it is done; None: beside the result, until that stands."""


def heal(
    source: Path,
    out: Path,
    target: str,
    training: Training,
    stage: Stage,
    *,
    note: process.Note = lambda *_, **__: None,
    most_kld: float | None = None,
    measured_on: Sequence[LabelledText] = MEASURE,
) -> Bundle:
    """Make the bundle `out`.

    Args:
        source: a model folder of Hugging Face's layout, plain or a bundle.
        out: the folder to make.
        target: one of `TARGETS`.
        training: how.
        stage: told what is being done.
        note: told what a person may want to know meanwhile.
        most_kld: mean KL divergence, in nats, above which nothing is published; None: by size.
        measured_on: texts for the gate, other than those of `training`.

    Raises:
        QuantizeError: it is no better than the plain file; another training is in the way.
        LucieError: something of it fails; training is kept as far as it got.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise QuantizeError("heal.needs-train", missing=", ".join(missing))
    _check_launch(training.launch)
    opened = open_source(source, stage("verify"))
    work = _place(out, training.folder)
    recipe, pieces = _plan(opened, out, target, training, measured_on, stage)
    with _taken(work, recipe, pieces):
        _train(work, opened, recipe, training, stage, note)
        healed = Healed(work.healed, recipe.bits)
        by = _found_by(recipe, training)
        if target == ONNX_Q4:
            bundle = export_onnx(
                source, out, Q4, stage, texts=measured_on, most_kld=most_kld,
                threads=training.threads, found_by=by, healed=healed,
            )  # fmt: skip
        else:
            options = QuantizeOptions(target, threads=training.threads)
            bundle = export_gguf(
                source, out, options, stage, texts=measured_on, most_kld=most_kld,
                found_by=by, healed=healed,
            )  # fmt: skip
        if training.folder is None:
            shutil.rmtree(work.folder, ignore_errors=True)
        return bundle


def _check_launch(launch: tuple[str, ...] | None) -> None:
    """What `accelerate launch` would say of its configuration after the preparation."""
    if not launch:
        return
    import yaml

    path = launch[-1]
    try:
        known = isinstance(yaml.safe_load(Path(path).read_bytes()), dict)
        reason = "-"
    except (OSError, yaml.YAMLError) as error:
        known, reason = False, one_line(error)
    if not known:
        raise QuantizeUsageError("heal.accelerate", path=path, reason=reason)


def _place(out: Path, folder: Path | None) -> Work:
    """Where the training is kept; not in what is to be made."""
    if folder is None:
        return Work(out.absolute().parent / f"{out.name}.healing")
    place, made = folder.resolve(), out.resolve()
    if made == place or made in place.parents:
        raise QuantizeUsageError("heal.work-is-out", path=str(folder))
    return Work(folder.absolute())


def _plan(
    source: Source,
    out: Path,
    target: str,
    training: Training,
    measured_on: Sequence[LabelledText],
    stage: Stage,
) -> tuple[Recipe, list[Chunk]]:
    """What is to be done; whatever forbids an export is found here, before hours of training."""
    checkpoint = source.checkpoint
    for tensor in complete(checkpoint):
        if len(tensor.shape) > 1 and tensor.shape[1] % BLOCK:
            raise CheckpointError("checkpoint.no-blocks", path=str(checkpoint.path), block=BLOCK)
    check_numbers(checkpoint, stage("verify"))
    with workshop(out) as folder:
        place = checkpoint.path
        if target != ONNX_Q4:
            place = folder / "vocabulary.gguf"
            export_vocabulary(checkpoint, place)
        check_tokens(checkpoint, place, out, stage)
        length = Recipe.model_fields["length"].default
        wanted = training.steps * training.batch
        with vocabulary(place) as vocab:

            def tokens(text: str) -> array[int]:
                return array("i", vocab.encode(text, special=False, bos=True))

            balanced(measured_on, tokens, CHUNK)
            pieces = balanced(training.texts, tokens, length, max(wanted, len(training.texts)))
            for piece in pieces:
                if vocab.add_bos:
                    piece.ids[0] = vocab.bos
    recipe = Recipe(
        source=_identity(source),
        texts=digest(pieces),
        bits=TARGETS[target],
        steps=training.steps,
        batch=training.batch,
        learning_rate=training.learning_rate,
        seed=training.seed,
    )
    return recipe, pieces


def _identity(source: Source) -> str:
    if source.bundle is not None:
        return source.bundle.sha256
    return _files_of(source.checkpoint)


def _files_of(checkpoint: Checkpoint) -> str:
    """Of a plain folder: its config, and names, sizes and times of its weights."""
    sha256 = hashlib.sha256()
    sha256.update((checkpoint.path / "config.json").read_bytes())
    for file in sorted({place.file for place in checkpoint.tensors.values()}):
        status = file.stat()
        sha256.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return sha256.hexdigest()


@contextmanager
def _taken(work: Work, recipe: Recipe, pieces: Sequence[Chunk]) -> Iterator[None]:
    """The folder of the training, for ourselves."""
    with ExitStack() as stack:
        try:
            work.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(work.folder))
            work.begin(recipe, [piece.ids for piece in pieces])
        except BlockingIOError as error:
            raise QuantizeError("heal.busy", path=str(work.folder)) from error
        except OSError as error:
            code = "heal.full" if error.errno == errno.ENOSPC else "heal.unwritable"
            raise QuantizeError(code, path=str(work.folder), reason=error.strerror) from error
        yield


def _train(
    work: Work,
    source: Source,
    recipe: Recipe,
    training: Training,
    stage: Stage,
    note: process.Note,
) -> None:
    if work.healed.exists():
        note("finished", path=work.folder)
        return
    path, layers = source.checkpoint.path, source.checkpoint.config.num_hidden_layers
    run = partial(process.run, work, path, threads=training.threads, note=note)
    if not work.prepared(layers):
        run("prepare", stage("prepare"))
    progress = stage("train")
    progress(0, recipe.steps)
    run("train", lambda step, of, _: progress(step, of), launch=training.launch)


def _found_by(recipe: Recipe, training: Training) -> dict[str, JsonValue]:
    return {
        "healing": recipe.model_dump(mode="json", exclude={"source"})
        | {"trained on": [f"{text.label}={text.path.name}" for text in training.texts]}
    }
