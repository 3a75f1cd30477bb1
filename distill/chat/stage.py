"""A chat stage as a person asks for it: its folder, its process, and the bundle at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.chat.format import ChatFormat, check_prompts
from distill.chat.prompts import Prompt, languages, read_prompts, sources
from distill.chat.recipe import ChatRecipe
from distill.chat.saved import origin, saved_step
from distill.errors import DistillError, DistillUsageError
from distill.teacher_check import check_teacher
from edge.attended import DiedError, attend
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.manifest import Manifest, Provenance, least_known
from edge.progress import Progress
from edge.workshop import check_free, software
from pretrain.errors import PretrainError, PretrainUsageError
from pretrain.origin import ORIGIN, Origin
from pretrain.result import lay_beside, lay_licence, manifest_of, parents, provenance
from pretrain.run import Run, Stage, Told, kind
from pretrain.sources import each_once
from quantize.checkpoint.complete import complete

__all__ = ["teach"]

_STEP = "distill.chat"
_ERRORS = kind(
    _STEP, "distill.chat", DistillError, DistillUsageError, PretrainError, PretrainUsageError
).errors
_PACKAGES = ("torch", "transformers", "trl", "accelerate", "tokenizers", "safetensors", "numpy")


def teach(
    recipe: ChatRecipe,
    out: Path,
    run: Run,
    stage: Stage,
    *,
    told: Told = lambda *_: None,
    stopping: Callable[[], object] = lambda: None,
) -> Bundle:
    """Let a student answer and learn, and make the bundle `out`.

    What was interrupted goes on when the same is asked for again, to the same weights.

    Args:
        recipe: what to train.
        out: the folder to make.
        run: the folder of the training.
        stage: told what is being done.
        told: called after each step with its number, its loss and tokens a second.
        stopping: called when it has been asked to stop, and may take a while to.

    Raises:
        LucieError: something of it fails; what is trained so far is kept.
    """
    check_free(out)
    prompts = _checked(recipe)
    with run.at_work(out, recipe) as draft:
        if not run.result.exists():
            _train(recipe, run, stage("train"), told, stopping)
        made_of = origin(recipe, prompts)
        weights, metrics = run.take_result(draft, made_of)
        lay_beside(Path(recipe.student), weights)
        lay_licence(Path(recipe.student), weights)
        manifest = _manifest(recipe, out.name, prompts, metrics, made_of)
        files = {file.name: file for file in weights.iterdir()}
        return Bundle.write(out, manifest, files, move=True, progress=stage("hash"))


def _checked(recipe: ChatRecipe) -> list[Prompt]:
    """The prompts; what cannot be is said before a process begins."""
    student = Checkpoint.open(Path(recipe.student))
    complete(student)
    asked = student.path, student.config.vocab_size, recipe.answer
    teacher = check_teacher(Path(recipe.teacher), *asked)
    chat = ChatFormat.of(student)
    prompts = read_prompts([Path(path) for path in recipe.prompts])
    windows = (model.config.max_position_embeddings for model in (student, teacher))
    check_prompts(prompts, chat, recipe.answer, min(windows))
    return prompts


def _train(
    recipe: ChatRecipe, run: Run, progress: Progress, told: Told, stopping: Callable[[], object]
) -> None:
    progress(saved_step(run.checkpoints), recipe.steps)

    def heard(_: str, step: int, loss: float, speed: float) -> None:
        progress(step, recipe.steps)
        told(step, loss, speed)

    program = ["-m", "distill.chat", str(run.folder.absolute())]
    threads = {"OMP_NUM_THREADS": str(recipe.threads)} if recipe.threads else None
    try:
        attend(program, run.log, heard, stopping=stopping, errors=_ERRORS, environment=threads)
    except DiedError as error:
        if error.killed:
            raise DistillError("chat.killed") from error
        raise DistillError("chat.died", log=str(run.log), **error.facts) from error


def _manifest(
    recipe: ChatRecipe,
    name: str,
    prompts: list[Prompt],
    metrics: dict[str, float],
    made_of: Origin,
) -> Manifest:
    known = manifest_of(Path(recipe.student))
    return Manifest(
        kind="model",
        name=name,
        parents=parents([Path(recipe.student), Path(recipe.teacher)]),
        recipe={"step": _STEP, **_json(recipe), ORIGIN: made_of.model_dump()},
        software=software(*_PACKAGES),
        licence=known.licence if known else None,
        languages=(known.languages if known else ()) or languages(prompts),
        provenance=_provenance(recipe, prompts),
        data=each_once((*(known.data if known else ()), *sources(prompts)), max),
        metrics=metrics,
    )


def _provenance(recipe: ChatRecipe, prompts: list[Prompt]) -> Provenance:
    """Declared at best, as prompts themselves say where they are from."""
    said = all(prompt.source and prompt.licence for prompt in prompts)
    models = provenance([Path(recipe.student), Path(recipe.teacher)])
    return least_known(["declared" if said else None, models])


def _json(recipe: ChatRecipe) -> dict[str, Any]:
    """The recipe, without the folders of this computer."""
    fields: dict[str, Any] = recipe.model_dump(mode="json")
    for field in ("student", "teacher"):
        fields[field] = Path(fields[field]).resolve().name
    fields["prompts"] = [Path(path).name for path in fields["prompts"]]
    return fields
