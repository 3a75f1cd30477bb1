"""The bundle of a run: its last model, with the report of how it came about.

MY-MODEL/
├── manifest.json, config.json, model.safetensors, …
├── pruning-1.json    what the first cut kept of the model before it; and so on
├── report.json       all figures
├── report.md         the table
└── report.svg        the picture
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.pruning.prune import KEPT
from distill.recipe import ShrinkRecipe
from distill.report.entries import FILE, PICTURE, Entry, Report
from distill.report.picture import draw
from distill.report.table import table
from edge.bundle import Bundle
from edge.workshop import link_or_copy, workshop
from pretrain.origin import ORIGIN
from pretrain.result import recorded
from pretrain.run import Stage

__all__ = ["publish"]


def publish(
    out: Path,
    model: Path,
    pruned: Sequence[Path],
    recipe: ShrinkRecipe,
    report: Report,
    stage: Stage,
) -> Bundle:
    """Make the bundle `out`.

    Args:
        out: the folder to make.
        model: a bundle, which stays.
        pruned: what was left by each cut.
        recipe: of the run.
        report: of the run that it came from.
        stage: told what is being done.

    Raises:
        StoreError: `out` cannot be made.
    """
    made = Bundle.open(model, verify=False)
    with workshop(out) as draft:
        files = {}
        for name in made.manifest.files:
            files[name] = draft / name
            files[name].parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(model / name, files[name])
        for n, cut in enumerate(pruned, 1):
            name = f"pruning-{n}.json"
            files[name] = draft / name
            link_or_copy(cut / KEPT, files[name])
        (draft / FILE).write_text(report.model_dump_json(indent=1), encoding="utf-8")
        (draft / "report.md").write_text(table(report) + "\n", encoding="utf-8")
        files |= {name: draft / name for name in (FILE, "report.md")}
        if report.teacher.bits_per_byte:
            files[PICTURE] = draft / PICTURE
            draw(report, files[PICTURE])
        metrics = made.manifest.metrics | _metrics(report)
        told = {
            "step": "distill.run",
            **recorded(recipe),
            ORIGIN: made.manifest.recipe.get(ORIGIN),
        }
        manifest = made.manifest.model_copy(
            update={"name": out.name, "metrics": metrics, "recipe": told}
        )
        return Bundle.write(out, manifest, files, move=True, progress=stage("hash"))


def _metrics(report: Report) -> dict[str, float]:
    """Of the teacher and of each distilled model."""
    found: dict[str, float] = {}
    for entry in report.entries:
        if entry.role in ("teacher", "distilled"):
            found |= _figures(entry)
    return found


def _figures(entry: Entry) -> dict[str, float]:
    who = entry.role if entry.step == 0 else f"step {entry.step}"
    found = {f"{who}: bits per byte, {name}": bits for name, bits in entry.bits_per_byte.items()}
    for name, accuracy in entry.accuracy.items():
        found[f"{who}: accuracy, {name}"] = accuracy.value
        found[f"{who}: accuracy, {name}, standard error"] = accuracy.error
    return found
