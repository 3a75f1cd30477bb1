"""A training as a person asks for it: its folder, its processes, and the bundle at the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from edge.attended import DiedError, attend
from edge.bundle import Bundle
from edge.durable import replace_file, sync_folder, sync_tree
from edge.errors import CheckpointError, DamagedModelError, LucieError, ModelError, StoreError
from edge.progress import Progress
from edge.workshop import held, link_or_copy, workshop
from pretrain.difference import difference
from pretrain.disk import unwritten, written
from pretrain.errors import PretrainError, PretrainUsageError
from pretrain.origin import ORIGIN, Origin
from pretrain.recipe import BaseRecipe, Recipe
from pretrain.saved_steps import saved_steps
from pretrain.shape import shape

__all__ = ["PLAIN", "Kind", "Run", "Stage", "Told", "kind", "train"]

R = TypeVar("R", bound=BaseRecipe)
Stage = Callable[[str], Progress]
Told = Callable[[int, float, float], object]

_METRICS = "metrics.json"
_Metrics = TypeAdapter(dict[str, float])


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of training: of text, of a teacher."""

    step: str
    """How manifests call it."""
    program: str
    """The module that does it in each process."""
    errors: Mapping[str, type[LucieError]]
    """What it may raise, by name."""


def kind(step: str, program: str, *errors: type[LucieError]) -> Kind:
    """A kind of training, which may raise these errors beside those of files and bundles."""
    known = (*errors, CheckpointError, DamagedModelError, ModelError, StoreError)
    return Kind(step, program, {each.__name__: each for each in known})


PLAIN = kind("pretrain.train", "pretrain", PretrainError, PretrainUsageError)


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of a training.

    RUN/
    ├── recipe.json
    ├── checkpoints/, log.jsonl, tensorboard/
    ├── result/          weights, metrics and what it was made of, when it is finished
    └── train.log        what libraries said
    """

    folder: Path

    @property
    def recipe(self) -> Path:
        """What is trained."""
        return self.folder / "recipe.json"

    @property
    def checkpoints(self) -> Path:
        """What it can be taken up from."""
        return self.folder / "checkpoints"

    @property
    def saved(self) -> int:
        """Steps that are done when it is taken up."""
        return max((step for step, _ in saved_steps(self.checkpoints)), default=0)

    @property
    def result(self) -> Path:
        """There when the training is finished."""
        return self.folder / "result"

    @property
    def log(self) -> Path:
        """What libraries said."""
        return self.folder / "train.log"

    def make(self, out: Path) -> None:
        """Make the folder, if it is not there, of a training that becomes the bundle `out`.

        Raises:
            PretrainUsageError: it is in the bundle, which would be in its own way.
            PretrainError: it is a file, or cannot be made.
        """
        if self.folder.resolve().is_relative_to(out.resolve()):
            raise PretrainUsageError("train.work-in-out", path=str(self.folder), out=str(out))
        if self.folder.exists() and not self.folder.is_dir():
            raise PretrainError("train.not-ours", path=str(self.folder))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritten(self.folder, error) from error

    @contextmanager
    def held(self, out: Path, busy: LucieError) -> Iterator[None]:
        """`make`, and be the only one in it; what is refused before it begins leaves no folder.

        Args:
            out: the bundle.
            busy: raised where somebody else is at work in it.
        """
        new = not self.folder.exists()
        self.make(out)
        with ExitStack() as stack:
            try:
                # Before it is written to: somebody else may be training in it.
                stack.enter_context(held(self.folder))
            except BlockingIOError as error:
                raise busy from error
            try:
                yield
            except LucieError:
                if new and self._untouched:
                    shutil.rmtree(self.folder, ignore_errors=True)
                raise

    @property
    def _untouched(self) -> bool:
        """Whether nothing was done in it, and no library has said anything."""
        said = self.log.exists() and self.log.stat().st_size > 0
        return not said and {*self.folder.iterdir()} <= {self.recipe, self.log}

    @contextmanager
    def at_work(self, out: Path, recipe: BaseRecipe) -> Iterator[Path]:
        """Be the only one who trains this recipe here, with a draft of the bundle `out`.

        Raises:
            PretrainUsageError: it is in the bundle.
            PretrainError: somebody else is at work in it, or it holds something else.
        """
        busy = PretrainError("train.busy", path=str(self.folder))
        with workshop(out) as draft, self.held(out, busy):
            self.begin(recipe)
            yield draft

    def take_result(self, draft: Path, origin: Origin) -> tuple[Path, dict[str, float]]:
        """What was trained, in the draft of a bundle: its weights, and its metrics.

        The weights are those of the result, under a second name where the disk can.

        Args:
            draft: the draft.
            origin: what it would be made of now, as the bundle will say.

        Raises:
            PretrainError: the result is damaged, or made of something else.
            OSError: the disk is full, or takes nothing.
        """
        metrics, noted = self.result / _METRICS, self.result / f"{ORIGIN}.json"
        try:
            known = _Metrics.validate_json(metrics.read_bytes())
            # Before there were such notes, there are none.
            was = Origin.model_validate_json(noted.read_bytes()) if noted.exists() else origin
        except (FileNotFoundError, ValidationError) as error:
            raise PretrainError("train.damaged-result", path=str(self.result)) from error
        if other := was.other(origin):
            raise PretrainError(f"train.{other}", path=str(self.folder))
        weights = draft / "model"
        weights.mkdir()
        for file in self.result.iterdir():
            if file not in (metrics, noted):
                link_or_copy(file, weights / file.name)
        return weights, known

    def leave_result(self, draft: Path, metrics: Mapping[str, float], origin: Origin) -> None:
        """Make a folder of weights the result, and remove the checkpoints: it is finished.

        Args:
            draft: the folder.
            metrics: what was measured.
            origin: what it was made of.

        Raises:
            OSError: the disk is full, or takes nothing; the checkpoints are there.
        """
        (draft / _METRICS).write_text(json.dumps(metrics), encoding="utf-8")
        (draft / f"{ORIGIN}.json").write_text(origin.model_dump_json(), encoding="utf-8")
        sync_tree(draft)
        draft.rename(self.result)
        sync_folder(self.folder)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def begin(self, recipe: BaseRecipe) -> None:
        """Note the recipe in the folder, or find it with the same training in it.

        Raises:
            PretrainError: it holds something else.
        """
        if self.recipe.exists():
            known = self.read(type(recipe))
            # Where nothing has been trained yet, nothing is lost by another recipe.
            begun = self.checkpoints.exists() or self.result.exists()
            if begun and known.sha256() != recipe.sha256():
                raise PretrainError(
                    "train.other-recipe",
                    path=str(self.folder),
                    difference=difference(known, recipe),
                )
        elif not self.fresh:
            raise PretrainError("train.not-ours", path=str(self.folder))
        self.note(recipe)

    @property
    def fresh(self) -> bool:
        """Whether nothing is in it, but what a start leaves that was cut off."""
        draft = self.recipe.with_suffix(".part")
        return all(file == draft for file in self.folder.iterdir())

    def note(self, recipe: BaseRecipe) -> None:
        """Write down what is done here.

        Raises:
            PretrainError: the folder takes nothing.
        """
        with written(self.folder):
            replace_file(self.recipe, recipe.model_dump_json(by_alias=True, indent=1).encode())

    def read(self, kind: type[R]) -> R:
        """The recipe that it holds, of this kind.

        Raises:
            PretrainError: it is damaged, or another command or version wrote it.
        """
        try:
            return kind.model_validate_json(self.recipe.read_bytes())
        except (OSError, ValidationError) as error:
            raise PretrainError("train.unread-recipe", path=str(self.folder)) from error


def train(
    recipe: Recipe,
    out: Path,
    run: Run,
    stage: Stage,
    *,
    told: Told = lambda *_: None,
    stopping: Callable[[], object] = lambda: None,
    of: Kind = PLAIN,
    more_parents: Sequence[Path] = (),
    taught_by: str = "",
) -> Bundle:
    """Train, and make the bundle `out`.

    What was interrupted goes on when the same is asked for again.

    Args:
        recipe: what to train.
        out: the folder to make.
        run: the folder of the training.
        stage: told what is being done.
        told: called after each step with its number, its loss and tokens a second.
        stopping: called when it has been asked to stop, and may take a while to.
        of: what kind of training it is.
        more_parents: folders that it is made of beside its texts and the model it begins with.
        taught_by: identity of who teaches; empty: nobody.

    Raises:
        LucieError: something of it fails, or what is finished was made of something else than lies
            there now; what is trained so far is kept.
    """
    from pretrain.result import manifest_of, publish
    from pretrain.texts import read_texts

    with run.at_work(out, recipe) as draft:
        texts = read_texts(recipe, stage("tokens"))
        config = shape(recipe, texts)  # what cannot be is said before a process begins
        if not run.result.exists():
            _train(recipe, run, stage("train"), told, stopping, of)
        order = texts.order(recipe)
        origin = Origin.of(recipe, order, config, taught_by)
        weights, metrics = run.take_result(draft, origin)
        begun_with = [Path(recipe.model.start)] if recipe.model.start else []
        read = [Path(part.path) for part in recipe.data.mixture]
        sequences = recipe.schedule.steps * recipe.batch.sequences
        return publish(
            out,
            weights,
            recipe,
            step=of.step,
            origin=origin,
            data=texts.sources(order, sequences),
            languages=texts.languages(),
            made_of=[*begun_with, *more_parents, *read],
            known=manifest_of(begun_with[0]) if begun_with else None,
            metrics=metrics,
            progress=stage("hash"),
        )


def _train(
    recipe: Recipe,
    run: Run,
    progress: Progress,
    told: Told,
    stopping: Callable[[], object],
    of: Kind,
) -> None:
    steps, processes = recipe.schedule.steps, recipe.parallel.processes
    progress(run.saved, steps)

    def heard(_: str, step: int, loss: float, speed: float) -> None:
        progress(step, steps)
        told(step, loss, speed)

    program = ["-m", of.program, str(run.folder.absolute())]
    if processes > 1:
        alone = ["--standalone", "--nproc-per-node", str(processes)]
        program = ["-m", "torch.distributed.run", *alone, *program]
    try:
        attend(program, run.log, heard, stopping=stopping, errors=of.errors)
    except DiedError as error:
        # Of its processes, torchrun says so.
        if error.killed or "(SIGKILL)" in error.reason:
            raise PretrainError("train.killed") from error
        raise PretrainError("train.died", log=str(run.log), **error.facts) from error
