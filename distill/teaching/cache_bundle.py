"""A cache as a bundle of kind `logits`: shards, and a manifest that says whose and of what.

    sequences, teacher ──▶ work folder with shards ──▶ bundle
                           kept until that stands

Students of one teacher on one text share it: it is opened with the order in which training
reads, and refused if the teacher read another one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill.errors import DistillError, DistillUsageError
from distill.teaching.cache_format import Identity
from distill.teaching.difference import difference
from distill.teaching.reading import Cached
from distill.teaching.writing import DenseTeacher, Plan, Sequences, write_cache
from edge.bundle import Bundle
from edge.errors import DamagedModelError, StoreError
from edge.manifest import MANIFEST, Manifest, Parent, least_known
from edge.progress import Progress
from edge.workshop import check_free, held, software, workshop

if TYPE_CHECKING:
    import torch

__all__ = ["CacheRecipe", "cache_sha256", "check_place", "make_cache", "open_cache"]

_WORK = ".caching"


class CacheRecipe(BaseModel):
    """What the manifest of a cache says of how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Literal["distill.cache"] = "distill.cache"
    """What made it."""
    identity: Identity
    """What must agree for it to be of use."""
    sequences: Annotated[int, Field(ge=1)]
    """How many it covers, from the first of the order."""
    per_shard: Annotated[int, Field(ge=1)]
    """How many a shard has; the last may have fewer."""

    @property
    def plan(self) -> Plan:
        """How it is cut."""
        return Plan(self.identity, self.sequences, self.per_shard)


def make_cache(
    sequences: Sequences,
    plan: Plan,
    teacher: DenseTeacher,
    out: Path,
    stage: Callable[[str], Progress],
    *,
    parents: tuple[Bundle | None, ...] = (),
    device: torch.device | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Bundle | None:
    """Make the bundle `out`, or what is missing of it.

    Args:
        sequences: the order in which training reads.
        plan: what is made of it.
        teacher: who says what.
        out: the folder to make. If it is this very cache, only shards that were removed from
            it are made again.
        stage: told what is being done: `cache`, then `hash`.
        parents: the teacher's bundle first, then those of the texts; None for what is none.
        device: where words are drawn.
        stopped: asked every few sequences.

    Returns:
        The bundle; None if it was stopped. The same command goes on then.

    Raises:
        LucieError: something of it fails, or somebody else is still at work on a shard; those
            that are complete are kept.
    """
    _check_order(sequences, plan)
    check_place(out, stage)
    if (out / MANIFEST).exists():
        return _repair(sequences, plan, teacher, out, stage, device, stopped)
    with workshop(out):  # for its checks, before hours of work
        pass
    work = out.absolute().parent / f"{out.name}{_WORK}"
    done = write_cache(
        sequences, plan, teacher, work, device=device, progress=stage("cache"), stopped=stopped
    )
    if stopped():
        return None
    if not done:  # others have the shards that are not there yet
        raise DistillError("cache.busy", path=str(out))
    try:
        with held(work):
            return _publish(plan, work, out, parents, stage("hash"))
    except (BlockingIOError, FileNotFoundError) as error:  # it is being finished, or was just now
        raise DistillError("cache.busy", path=str(out)) from error


def check_place(out: Path, stage: Callable[[str], Progress]) -> None:
    """Refuse what is there already, but for a cache of which shards were removed.

    Raises:
        LucieError: there is something; a cache that is whole has been verified.
    """
    if not (out / MANIFEST).exists():
        check_free(out)
    elif not _left(out)[1]:
        _opened(out, stage("hash"))
        raise StoreError("bundle.exists", path=str(out))


def _left(out: Path) -> tuple[Manifest, list[str]]:
    """The manifest of a cache that was made, and the files that were removed since."""
    try:
        manifest = Manifest.model_validate_json((out / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise DistillError("cache.no-cache", path=str(out)) from error
    return manifest, [name for name in sorted(manifest.files) if not (out / name).exists()]


def _publish(
    plan: Plan, work: Path, out: Path, parents: tuple[Bundle | None, ...], progress: Progress
) -> Bundle:
    files = {plan.name(shard): work / plan.name(shard) for shard in range(plan.shards)}
    tokens = plan.sequences * plan.identity.length
    size = sum(file.stat().st_size for file in files.values())
    recipe = CacheRecipe(
        identity=plan.identity, sequences=plan.sequences, per_shard=plan.per_shard
    ).model_dump(mode="json")
    manifest = _inherit(
        Manifest(
            kind="logits",
            name=out.name,
            recipe=recipe,
            software=software("torch", "transformers", "numpy", "pyarrow"),
            provenance="unknown",
            metrics={"tokens": tokens, "bytes a token": size / tokens},
        ),
        parents,
    )
    bundle = Bundle.write(out, manifest, files, move=True, progress=progress)
    shutil.rmtree(work, ignore_errors=True)
    return bundle


def open_cache(
    path: Path,
    sequences: Sequences,
    *,
    tokenizer: str | None = None,
    teacher: str | None = None,
) -> Cached:
    """The teacher that has spoken in bundle `path` about these sequences.

    Args:
        path: its folder.
        sequences: the order in which training reads.
        tokenizer: SHA-256 of the student's `tokenizer.json`, to be the teacher's; None: not
            compared.
        teacher: `model_sha256` of whom it is to be; None: anybody.

    Raises:
        DistillError: it is of another text, order, tokenizer or teacher; it is no cache; a
            shard is missing or damaged.
        ModelError: so is the bundle otherwise.
    """
    bundle = _opened(path)
    recipe = _recipe(path, bundle.manifest)
    identity = recipe.identity
    given = (
        ("text", identity.data, sequences.identity),
        ("length", identity.length, sequences.length),
        ("tokenizer", identity.tokenizer, tokenizer),
        ("teacher", identity.teacher, teacher),
    )
    for what, has, wanted in given:
        if wanted is not None and has != wanted:
            raise _foreign(what, path, has, wanted)
    plan = recipe.plan
    if plan.shards != len(bundle.manifest.files):  # before a list is as long as a lie
        raise DistillError("cache.no-cache", path=str(path))
    shards = [path / plan.name(shard) for shard in range(plan.shards)]
    if {shard.name for shard in shards} != bundle.manifest.files.keys():
        raise DistillError("cache.no-cache", path=str(path))
    cached = Cached(shards, identity, plan.per_shard, plan.sequences)
    cached.read(0, [sequences[0][:-1]])
    return cached


def cache_sha256(path: Path) -> str:
    """Identity of what is in the cache `path`: of its words, whoever put them in how many files.

    Raises:
        LucieError: it is no cache.
    """
    identity = _recipe(path, _opened(path).manifest).identity
    return hashlib.sha256(identity.model_dump_json().encode()).hexdigest()


def _opened(path: Path, verifying: Progress | None = None) -> Bundle:
    """The bundle; of a shard that is not whole it is said how to make that alone anew."""
    try:
        return Bundle.open(path, verify=verifying is not None, progress=verifying)
    except DamagedModelError as error:
        facts = error.facts
        file = str(path / str(facts.get("file")))
        if error.code == "bundle.missing-file":
            raise DistillError("cache.missing", path=file) from error
        if error.code == "bundle.wrong-size":
            reason = f"{facts['size']} ≠ {facts['expected']} B"
            raise DistillError("cache.damaged", path=file, reason=reason) from error
        if error.code == "bundle.wrong-hash":
            raise DistillError("cache.damaged", path=file, reason="SHA-256") from error
        raise


def _check_order(sequences: Sequences, plan: Plan) -> None:
    identity = plan.identity
    if (identity.data, identity.length) != (sequences.identity, sequences.length):
        raise ValueError("the plan is of another order")
    if identity.words > identity.vocabulary and not identity.drawn:
        raise DistillUsageError(
            "cache.too-many", words=identity.words, vocabulary=identity.vocabulary
        )


def _foreign(what: str, path: Path, has: object, wanted: object) -> DistillError:
    facts = {"path": str(path), "has": str(has)[:16], "wanted": str(wanted)[:16]}
    match what:
        case "text":
            return DistillError("cache.foreign-text", **facts)
        case "length":
            return DistillError("cache.foreign-length", **facts)
        case "tokenizer":
            return DistillError("cache.foreign-tokenizer", **facts)
        case _:
            return DistillError("cache.foreign-teacher", **facts)


def _recipe(path: Path, manifest: Manifest) -> CacheRecipe:
    try:
        if manifest.kind == "logits":
            return CacheRecipe.model_validate(manifest.recipe)
    except ValidationError as error:
        raise DistillError("cache.no-cache", path=str(path)) from error
    raise DistillError("cache.no-cache", path=str(path))


def _repair(
    sequences: Sequences,
    plan: Plan,
    teacher: DenseTeacher,
    out: Path,
    stage: Callable[[str], Progress],
    device: torch.device | None,
    stopped: Callable[[], bool],
) -> Bundle | None:
    """Put back what was removed of a finished cache; it must come out as it was."""
    manifest, missing = _left(out)
    known = _recipe(out, manifest).plan
    if known != plan:
        told = difference(known.identity, plan.identity)
        raise DistillError("cache.other", path=str(out), difference=told)
    work = out.absolute().parent / f"{out.name}{_WORK}"
    done = write_cache(
        sequences, plan, teacher, work, device=device, progress=stage("cache"), stopped=stopped,
        only=[n for n in range(plan.shards) if plan.name(n) in missing],
    )  # fmt: skip
    if stopped():
        return None
    if not done:
        raise DistillError("cache.busy", path=str(out))
    for name in missing:
        with (work / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest.files[name].sha256:
                raise DistillError("cache.differs", path=str(out), work=str(work))
    for name in missing:
        (work / name).replace(out / name)
    shutil.rmtree(work, ignore_errors=True)
    return _opened(out, stage("hash"))


def _inherit(manifest: Manifest, parents: tuple[Bundle | None, ...]) -> Manifest:
    """`manifest` with what is known of the teacher, and of its text."""
    bundles = [parent for parent in parents if parent is not None]
    if not bundles:
        return manifest
    known = [bundle.manifest for bundle in bundles]
    return manifest.model_copy(
        update={
            "parents": tuple(Parent(name=p.manifest.name, sha256=p.sha256) for p in bundles),
            "licence": parents[0].manifest.licence if parents[0] else None,
            "languages": tuple(dict.fromkeys(code for each in known for code in each.languages)),
            "provenance": least_known(p.manifest.provenance if p else None for p in parents),
            "data": tuple(dict.fromkeys(source for each in known for source in each.data)),
        }
    )
