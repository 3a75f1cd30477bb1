"""What shrinking has cost, measured for real and told to people and programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from distill.commands import distill
from distill.errors import DistillError
from distill.recipe import ShrinkRecipe
from distill.report.accuracy import TASKS, measure_accuracy
from distill.report.bundle import publish
from distill.report.entries import FILE, Accuracy, Entry, Here, Rates, Report, read_report
from distill.report.make import Subject, make_report
from distill.report.picture import draw
from distill.report.speed import Measured, Speeds, measure_here, predicted
from distill.report.table import table
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.manifest import Manifest
from edge.text import in_lines
from pretrain.journal import read_journal
from pretrain.origin import Origin, origin_of
from pretrain.recipe_file import read_recipe
from quantize.ggml.quantizer import QuantizeOptions
from quantize.measuring.speed import Conditions, Speed

Command = Callable[..., Result]

HERE = Here(
    machine="Cortex-A76, aarch64", engine="llama.cpp 1", threads=2, threads_batch=4,
    n_prompt=256, n_gen=128,
)  # fmt: skip

RECIPE = """
evaluate_every = 6
evaluation_tokens = 512
cuts = [{{ ffn = 64 }}]
importance = {{ tokens = 512, length = 64 }}
baselines = {{ cross_entropy = true, scratch = true, scratch_rate = 1e-2 }}
report = {{ items = 12, quantization = "Q8_0", context = 64 }}

[model]
from = "{teacher}"

[teacher]
model = "{teacher}"

[data]
length = 32
separator = "<|im_end|>"
evaluation = ["{held_out}"]
mixture = [{{ path = "{text}" }}]

[batch]
sequences = 4

[schedule]
steps = 12
rate = 3e-3

[parallel]
threads = 1
"""


@pytest.fixture(scope="module")
def shrunk(teacher: Path, prose: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lucie distill run` makes of one cut and both baselines."""
    folder = tmp_path_factory.mktemp("shrunk")
    text = [each for each in prose.read_text(encoding="utf-8").splitlines() if each.isprintable()]
    held_out, read = folder / "fr.txt", folder / "text.txt"
    held_out.write_text("\n".join(text[:40]), encoding="utf-8")
    read.write_text("\n".join(text[40:]), encoding="utf-8")
    recipe = RECIPE.format(teacher=teacher, text=read, held_out=held_out)
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    run(folder)
    return folder


def run(folder: Path) -> str:
    """What it says meanwhile."""
    words = ["run", str(folder / "recipe.toml"), str(folder / "small")]
    done = CliRunner().invoke(distill, words, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stderr


@pytest.fixture(scope="module")
def report(shrunk: Path) -> Report:
    return read_report(shrunk / "small")


@pytest.mark.long("pretrain", "distill", "edge/attended.py")
class TestOfARun:
    def test_all_models_are_in_it(self, shrunk: Path, report: Report) -> None:
        roles = [(entry.step, entry.role) for entry in report.entries]
        after = ["pruned", "distilled", "cross-entropy", "scratch"]
        assert roles == [(0, "teacher"), *((1, role) for role in after)]
        for entry in report.entries[1:]:
            model = LlamaForCausalLM.from_pretrained(shrunk / "small")
            assert entry.parameters == sum(each.numel() for each in model.parameters())
            assert entry.tokens == (0 if entry.role == "pruned" else 12 * 4 * 32)
        assert all(entry.here and entry.here.decode > 0 for entry in report.entries)
        assert all(entry.boards["pi5"].decode > 0 for entry in report.entries)
        assert (report.here.n_prompt, report.here.n_gen) == (128, 128), "its window"
        assert len({(entry.shape, entry.file_bytes, entry.here) for entry in report.entries}) == 2

    def test_bits_are_those_that_the_training_measured(self, shrunk: Path, report: Report) -> None:
        for role in ("distilled", "cross-entropy", "scratch"):
            journal = read_journal(shrunk / "small-training" / f"1-{role}-training")
            measured = [line["bits_per_byte/fr"] for line in journal if "bits_per_byte/fr" in line]
            (entry,) = (entry for entry in report.entries if entry.role == role)
            assert entry.bits_per_byte["fr"] == pytest.approx(measured[-1], abs=1e-5)
            (curve,) = (curve for curve in report.curves if curve.role == role)
            assert [point.bits_per_byte["fr"] for point in curve.points] == measured
            assert [point.tokens for point in curve.points] == [6 * 128, 12 * 128]

    def test_baselines_are_what_they_are_called(self, shrunk: Path) -> None:
        first = {}
        for role in ("cross-entropy", "scratch"):
            recipe = Bundle.open(shrunk / "small-training" / f"1-{role}", verify=False).manifest
            assert recipe.recipe["step"] == "pretrain.train"
            journal = read_journal(shrunk / "small-training" / f"1-{role}-training")
            first[role] = journal[0]["rate"], journal[0]["loss"]
        assert first["scratch"][0] == pytest.approx(first["cross-entropy"][0] * 1e-2 / 3e-3)
        vocabulary = LlamaForCausalLM.from_pretrained(shrunk / "small").config.vocab_size
        uniform = torch.tensor(float(vocabulary)).log()
        assert first["scratch"][1] == pytest.approx(float(uniform), rel=0.05)

    def test_the_bundle_tells_it(self, shrunk: Path, report: Report) -> None:
        bundle = Bundle.open(shrunk / "small", verify=True)
        metrics = bundle.manifest.metrics
        assert metrics["teacher: bits per byte, fr"] == report.teacher.bits_per_byte["fr"]
        assert metrics["step 1: accuracy, agreement-en"] in [n / 12 for n in range(13)]
        assert (shrunk / "small" / "report.svg").read_text(encoding="utf-8").startswith("<?xml")
        assert table(report) in (shrunk / "small" / "report.md").read_text(encoding="utf-8")
        trained = Bundle.open(shrunk / "small-training" / "1-distilled", verify=True)
        assert trained.manifest.parents == bundle.manifest.parents
        assert origin_of(bundle.path) == origin_of(trained.path)

    def test_what_was_measured_is_not_measured_again(self, shrunk: Path) -> None:
        work = shrunk / "small-training"
        (kept,), (speed,) = work.glob("report-*"), work.glob("speed-*")
        (scratch,) = kept.glob("1-scratch-*.json")
        scratch.write_text('{"step":', encoding="utf-8")
        speed.write_text('[{"file', encoding="utf-8")
        (work / "speed-interrupted").mkdir()  # of another type, which nobody wants any more
        measured = [*kept.iterdir(), speed]
        before = {path: path.stat().st_mtime_ns for path in measured}
        (shrunk / "small").rename(shrunk / "first")
        said = run(shrunk)
        assert "Cut 1 of 1: to 4 × 48, 64, 8/4 × 8\n" in said
        assert "Report, model 3 of 5: 1 distilled\n" in said
        assert {*kept.iterdir(), *work.glob("speed-*")} == {*measured}, "nothing is left over"
        again = {path.name for path in measured if path.stat().st_mtime_ns != before[path]}
        assert again == {scratch.name, speed.name}, "damaged by a pulled plug"

    def test_a_baseline_of_another_recipe_is_trained_and_measured_anew(self, shrunk: Path) -> None:
        work = shrunk / "small-training"
        (kept,) = work.glob("report-*")
        before = set(kept.iterdir())
        (shrunk / "small").rename(shrunk / "second")
        recipe = (shrunk / "recipe.toml").read_text(encoding="utf-8")
        (shrunk / "recipe.toml").write_text(recipe.replace("1e-2", "1e-5"), encoding="utf-8")
        with pytest.raises(DistillError) as refused:
            run(shrunk)
        assert refused.value.code == "shrink.other-baseline"
        shutil.rmtree(work / "1-scratch")
        shutil.rmtree(work / "1-scratch-training")
        run(shrunk)
        (new,) = set(kept.iterdir()) - before
        assert new.name.startswith("1-scratch-")
        told = read_report(shrunk / "small")
        (curve,) = (curve for curve in told.curves if curve.role == "scratch")
        (entry,) = (entry for entry in told.entries if entry.role == "scratch")
        assert entry.bits_per_byte["fr"] == pytest.approx(curve.points[-1].bits_per_byte["fr"])

    def test_the_command_shows_and_draws_it(self, shrunk: Path, tmp_path: Path) -> None:
        shown = invoke("report", shrunk / "small", "--picture", tmp_path / "p.png")
        assert "from scratch" in shown.stdout
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
        data = json.loads(invoke("report", shrunk / "small", "--json").stdout)
        assert len(data["entries"]) == 5

    def test_what_is_held_out_has_changed(self, shrunk: Path, tmp_path: Path) -> None:
        """Figures of two texts would stand in one table."""
        before = read_report(shrunk / "small")
        (shrunk / "fr.txt").write_text("Il pleut sur la ville. " * 400, encoding="utf-8")
        (shrunk / "small").rename(tmp_path / "small")
        (speed,) = (shrunk / "small-training").glob("speed-*")
        measured = speed.stat().st_mtime_ns
        run(shrunk)
        assert speed.stat().st_mtime_ns == measured, "speed has nothing to do with it"
        after = read_report(shrunk / "small")
        for old, new in zip(before.entries, after.entries, strict=True):
            assert old.bits_per_byte["fr"] != new.bits_per_byte["fr"]
        ends = {entry.role: entry.bits_per_byte for entry in after.entries}
        for curve in after.curves:
            (point,) = curve.points
            assert (point.tokens, point.bits_per_byte) == (12 * 4 * 32, ends[curve.role])

    def test_of_an_older_journal_what_is_held_out_now_is_read(
        self, shrunk: Path, tmp_path: Path
    ) -> None:
        """It does not say on what it measured; a language that is missing could not be drawn."""
        log = shrunk / "small-training" / "1-scratch-training" / "log.jsonl"
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            if line.pop("measured_on", None):
                line["bits_per_byte/en"] = line.pop("bits_per_byte/fr")
        log.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        (shrunk / "small").rename(tmp_path / "small")
        run(shrunk)
        told = read_report(shrunk / "small")
        (curve,) = (curve for curve in told.curves if curve.role == "scratch")
        assert [list(point.bits_per_byte) for point in curve.points] == [["fr"]]


def invoke(*words: object) -> Result:
    done = CliRunner().invoke(distill, [str(word) for word in words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done


@pytest.mark.long("distill", "quantize/own_process.py")
def test_answers_are_those_that_are_likeliest(
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """lm-evaluation-harness against a sum of log-probabilities by hand."""
    monkeypatch.chdir(tmp_path)  # no repository of git, which the harness would look for
    told: list[tuple[int, int | None]] = []
    found = measure_accuracy(teacher, 20, 1, lambda *at: told.append(at))
    assert capfd.readouterr() == ("", "")
    assert told[-1] == (120, 120)
    tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(teacher, dtype=torch.float32).eval()
    folder = Path(__file__).parents[2] / "distill" / "report" / "tasks"
    for name in TASKS:
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:20]
        right = 0
        for item in map(json.loads, lines):
            said = [likelihood(model, tokenizer, item["context"], c) for c in item["choices"]]
            right += said.index(max(said)) == item["label"]
        assert found[name].value == pytest.approx(right / 20)
        assert found[name].items == 20
        p = right / 20
        assert found[name].error == pytest.approx((p * (1 - p) / 19) ** 0.5), "of a mean"


def likelihood(model: LlamaForCausalLM, tokenizer: Tokenizer, context: str, answer: str) -> float:
    whole = tokenizer.encode(context + answer, add_special_tokens=False).ids
    known = len(tokenizer.encode(context, add_special_tokens=False).ids) if context else 0
    ends = model.config.eos_token_id or 0
    ids = whole if known else [ends, *whole]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    first = known or 1
    return float(sum(logits[n - 1, ids[n]] for n in range(first, len(ids))))


def test_speed_is_measured_again_where_something_else_measures_it(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    engines = {"now": "llama.cpp 1"}

    def exported(_: object, quantization: str, file: Path, threads: int) -> Path:
        file.write_bytes(b"GGUF")
        return file

    def speeds(files: list[Path], threads: int, **_: object) -> list[Speed]:
        measured.append(threads)
        return [Speed(1, 0, 1, 0, 1, 3, 256, 128, 2, 4) for _ in files]

    def conditions() -> Conditions:
        return Conditions("Cortex-A76, aarch64", 4, 4, engines["now"])

    def here(threads: int) -> Speeds:
        return measure_here([teacher], "Q8_0", tmp_path, threads, lambda _: lambda *_: None)

    monkeypatch.setattr("distill.report.speed._export", exported)
    monkeypatch.setattr("distill.report.speed.measure_speed", speeds)
    monkeypatch.setattr("distill.report.speed.conditions", conditions)
    assert here(1) == here(1)
    assert here(1).here == HERE
    assert measured == [1]
    here(2)
    engines["now"] = "llama.cpp 2"
    here(1)
    assert measured == [1, 2, 1]


def test_an_interrupted_export_is_made_again(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Path, draft: Path, __: QuantizeOptions) -> None:
        draft.write_bytes(b"GG")
        raise KeyboardInterrupt

    def speeds(files: list[Path], *_: object, **__: object) -> list[Speed]:
        return [Speed(1, 0, 1, 0, 1, 3, 256, 128, 2, 4) for _ in files]

    def here() -> Speeds:
        return measure_here([teacher], "Q8_0", tmp_path, 1, lambda _: lambda *_: None)

    monkeypatch.setattr("distill.report.speed.measure_speed", speeds)
    with monkeypatch.context() as patch:
        patch.setattr("distill.report.speed.quantize", interrupted)
        with pytest.raises(KeyboardInterrupt):
            here()
    (exports,) = tmp_path.iterdir()
    assert {path.name for path in exports.iterdir()} == {"0.whole", "0.part"}
    (made,) = here().models
    assert made.file_bytes > 10_000
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.fixture
def reported(
    teacher: Path, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Report]:
    """Report of the teacher alone, in a folder, with settings; speed is not measured for it."""

    def speeds(models: list[Path], *_: object) -> Speeds:
        one = Measured(file_bytes=9, here=Rates(prefill=1, decode=1))
        return Speeds(here=HERE, models=(one,) * len(models))

    def make(folder: str, *settings: str) -> Report:
        path, text, held_out = (tmp_path / each for each in ("recipe.toml", "text.txt", "fr.txt"))
        lines = filter(str.isprintable, prose.read_text(encoding="utf-8").splitlines())
        text.write_text("\n".join(lines), encoding="utf-8")
        shutil.copy(text, held_out)
        recipe = RECIPE.format(teacher=teacher, text=text, held_out=held_out)
        path.write_text(recipe, encoding="utf-8")
        return make_report(
            read_recipe(ShrinkRecipe, path, ("report.items=0", *settings)),
            [Subject(0, "teacher", teacher)],
            tmp_path / folder,
            lambda _: lambda *_: None,
            lambda *_, **__: None,
        )

    monkeypatch.setattr("distill.report.make.measure_here", speeds)
    return make


@pytest.mark.parametrize("changed", ["data.length=16", 'precision="bfloat16"'])
def test_what_was_measured_otherwise_is_measured_again(
    reported: Callable[..., Report], changed: str
) -> None:
    """Figures of two lengths would stand in one table."""
    before, after = reported("run"), reported("run", changed)
    assert after == reported("other", changed)
    assert before.teacher.bits_per_byte != after.teacher.bits_per_byte


def test_a_cache_has_no_more_tokens_than_the_window(
    reported: Callable[..., Report], teacher: Path
) -> None:
    found = reported("run", "report.context=4096")
    assert found.context == 128
    config = Checkpoint.open(teacher).config
    assert found.teacher.boards == predicted(config, "Q8_0", 128) != predicted(config, "Q8_0", 64)
    assert "with 128 tokens in the KV cache" in table(found)


@pytest.mark.parametrize(("quantization", "told"), [("Q8_0", "80"), ("Q4_K_M", "~80")])
def test_a_prefill_that_no_figure_of_its_type_stands_behind_is_marked(
    teacher: Path, quantization: str, told: str
) -> None:
    speed = predicted(Checkpoint.open(teacher).config, quantization, 64)["pi5"]
    speed = speed.model_copy(update={"prefill": 80.0, "decode": 40.0})
    entry = Entry(step=0, role="teacher", shape="2 × 8", parameters=9, file_bytes=9,
                  boards={"pi5": speed})  # fmt: skip
    shown = table(Report(quantization=quantization, context=64, here=HERE, entries=(entry,)))
    assert f" 40.0 / {told} |" in shown
    assert ("~: by the board’s least figure" in shown) == told.startswith("~")


def test_a_report_says_where_and_how_speed_was_measured(tmp_path: Path) -> None:
    entry = Entry(step=0, role="teacher", shape="2 × 8", parameters=9, file_bytes=9,
                  bits_per_byte={"en": 1.2}, here=Rates(prefill=9, decode=9))  # fmt: skip
    report = Report(quantization="Q8_0", context=64, here=HERE, entries=(entry,))
    how = "as tg128 and pp256 (threads: 2 and 4) on Cortex-A76, aarch64 (llama.cpp 1)"
    assert how in table(report)
    draw(report, tmp_path / "report.svg")
    assert "Cortex-A76" in (tmp_path / "report.svg").read_text(encoding="utf-8")


def test_the_bundle_says_of_what_its_training_was_made(tmp_path: Path, teacher: Path) -> None:
    origin = Origin(data="of text", taught_by="teacher", begun_with="pruned")
    known = Manifest(
        kind="model", name="x", provenance="unknown", recipe={"origin": origin.model_dump()}
    )
    trained = Bundle.write(tmp_path / "x", known, {"config.json": teacher / "config.json"})
    (tmp_path / "recipe.toml").write_text(
        RECIPE.format(teacher=teacher, text="text", held_out="text"), encoding="utf-8"
    )
    recipe = read_recipe(ShrinkRecipe, tmp_path / "recipe.toml", ())
    entry = Entry(step=0, role="teacher", shape="2 × 8", parameters=9, file_bytes=9)
    report = Report(quantization="Q8_0", context=64, here=HERE, entries=(entry,))
    made = publish(tmp_path / "small", trained.path, [], recipe, report, lambda _: lambda *_: None)
    assert made.manifest.recipe["step"] == "distill.run"
    assert origin_of(made.path) == origin


def test_tasks_are_balanced() -> None:
    folder = Path(__file__).parents[2] / "distill" / "report" / "tasks"
    for name in TASKS:
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        items = [json.loads(line) for line in lines]
        assert len(items) == 500
        assert {len(item["choices"]) for item in items} == {2}
        first = sum(item["label"] == 0 for item in items)
        assert 200 < first < 300, "who always says the first reaches no more than by guessing"


def test_a_folder_without_a_report_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DistillError) as raised:
        invoke("report", tmp_path)
    assert raised.value.code == "report.unreadable"
    (tmp_path / "report.json").write_text('{"entries": []}', encoding="utf-8")
    with pytest.raises(DistillError) as raised:
        invoke("report", tmp_path)
    assert raised.value.code == "report.damaged"


def test_a_report_that_was_changed_is_not_shown(tmp_path: Path) -> None:
    entry = Entry(step=0, role="teacher", shape="2 × 8", parameters=4_000_000, file_bytes=1)
    report = Report(quantization="Q8_0", context=64, here=HERE, entries=(entry,))
    (tmp_path / FILE).write_text(report.model_dump_json(), encoding="utf-8")
    known = Manifest(kind="model", name="x", provenance="unknown")
    bundle = Bundle.write(tmp_path / "small", known, {FILE: tmp_path / FILE})
    assert "2 × 8" in invoke("report", bundle.path).stdout
    file = bundle.path / FILE
    file.write_text(file.read_text(encoding="utf-8").replace("2 × 8", "9 × 8"), encoding="utf-8")
    with pytest.raises(DistillError) as raised:
        invoke("report", bundle.path)
    assert raised.value.code == "report.damaged"


TEACHER = {"step": 0, "role": "teacher", "shape": "2 × 8", "parameters": 9, "file_bytes": 9}
BITS = {"bits_per_byte": {"en": 1.2}}
CHESS = {"accuracy": {"chess": {"value": 1, "error": 0, "chance": 0, "items": 1}}}
CURVE = {"step": 1, "role": "distilled", "points": [{"tokens": 9, **BITS}]}


@pytest.mark.parametrize(
    ("entries", "curves"),
    [
        ([], []),
        ([TEACHER | {"shape": "\x1b[2J"}], []),
        ([TEACHER | CHESS], []),
        ([TEACHER | BITS, TEACHER | {"step": 1, "role": "pruned"}], []),
        ([TEACHER | BITS], [CURVE]),
        (
            [TEACHER | BITS, TEACHER | BITS | {"step": 1, "role": "pruned"}],
            [CURVE | {"role": "pruned"}],
        ),
        (
            [TEACHER | BITS, TEACHER | BITS | {"step": 1, "role": "pruned"}],
            [CURVE | {"points": [{"tokens": 9, "bits_per_byte": {"fr": 1}}]}],
        ),
    ],
)
def test_a_report_that_somebody_has_edited_is_one_line(
    tmp_path: Path, entries: list[object], curves: list[object]
) -> None:
    report = {"quantization": "Q8_0", "context": 64, "here": HERE.model_dump()}
    given = report | {"entries": entries, "curves": curves}
    (tmp_path / FILE).write_text(json.dumps(given), encoding="utf-8")
    with pytest.raises(DistillError) as raised:
        invoke("report", tmp_path, "--picture", tmp_path / "x.svg")
    assert raised.value.code == "report.damaged"


def test_of_a_tiny_model_the_size_is_told() -> None:
    tiny = Entry(step=0, role="teacher", shape="2 × 8", parameters=40_000, file_bytes=36_288)
    told = table(Report(quantization="Q8_0", context=64, here=HERE, entries=(tiny,)))
    assert "| 0.04 |" in told
    assert "no text was held out" in told


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_in_a_narrow_terminal_no_line_is_too_long_and_no_word_broken(
    monkeypatch: pytest.MonkeyPatch, lang: str
) -> None:
    monkeypatch.setenv("LUCIE_LANG", lang)
    entries = [
        Entry(
            step=step, role=role, shape="23 × 576, 1280, 9/3 × 64", parameters=99_600_000,
            bits_per_byte={"en": bits, "fr": bits}, file_bytes=81_000_000,
            accuracy={"agreement-en": Accuracy(value=0.5, error=0.01, chance=0.5, items=9)},
            here=Rates(prefill=306, decode=92.9), boards={"pi5": Rates(prefill=80, decode=40)},
        )
        for step, role, bits in ((0, "teacher", 1.2), (1, "pruned", 2.5))
    ]  # fmt: skip
    found = Report(quantization="Q4_K_M", context=2048, here=HERE, entries=tuple(entries))
    whole = table(found)
    notes = whole.partition("\n\n")[2]
    assert "report.md" not in notes
    for width in (60, 80, 120):
        shown = table(found, width)
        assert max(map(len, shown.splitlines())) <= width
        assert "report.md" in shown
        assert "Q4_K_M" in shown
        assert "23 ×" not in shown
        assert in_lines(notes, width).replace("\n", " ") == notes
    assert "KV" in notes
    assert "KV" not in shown, "what is not shown needs no explanation"
