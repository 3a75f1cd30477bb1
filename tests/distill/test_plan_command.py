"""`lucie distill plan`: tables, JSON, pictures, and one line for each mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from distill.commands import distill
from distill.errors import DistillError, DistillUsageError
from distill.planning.boards import Board
from distill.planning.plan import make_plan
from distill.planning.tables import show
from distill.planning.target import parse
from edge.bundle import Bundle
from edge.commands.bar import Bar
from edge.errors import CheckpointError, LucieError
from edge.manifest import Manifest
from tests.distill.models import LUCIE, SMOLLM_135M


@pytest.fixture
def lucie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `plan` in an empty folder; errors are raised."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        given = ["plan", *map(str, args)]
        result = CliRunner().invoke(distill, given, standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result

    return run


def write_config(folder: Path, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(LUCIE.as_json() if config is None else config))
    return path


def test_a_person_gets_tables(lucie: Callable[..., Result]) -> None:
    said = lucie("lucie-7b", "1b").stdout
    assert "6,706,958,336 parameters" in said
    assert "| 20 × 2048, 6144, 16/4 × 128 | 1,097,943,040 |           40 |" in said
    assert "E is not a slice of the teacher: its heads have 64 numbers" in said
    assert "Raspberry Pi 5: 11.82 GB/s; Arm Learning Paths" in said
    assert "the common table is made of both" in said  # as `slices.tying` does
    assert "30.0 TB" in said  # 100 B tokens at 300 bytes


@pytest.mark.parametrize(
    ("sizes", "row"),
    [
        (("--layers", 23, "--ffn", 1280), "23 × 576, 1280, 9/3 × 64"),
        (("--width", 384, "--heads", "6/2"), "30 × 384, 1536, 6/2 × 64"),
    ],
)
def test_somebodys_own_shape_is_shown_beside(
    sizes: tuple[object, ...], row: str, lucie: Callable[..., Result], tmp_path: Path
) -> None:
    folder = write_config(tmp_path / "teacher", SMOLLM_135M.as_json())
    plain, said = (lucie(folder, "100m", *own).stdout for own in ((), sizes))
    [line] = [line for line in said.splitlines() if "as you asked" in line]
    assert row in line
    assert "as you asked" not in plain
    shown = [line.split("|")[2:] for line in said.splitlines()]
    assert all(
        line.split("|")[2:] in shown for line in plain.splitlines() if line.startswith("| A |")
    )


def test_a_shape_that_is_in_the_plan_is_not_shown_twice(lucie: Callable[..., Result]) -> None:
    said = lucie("lucie-7b", "1b", "--layers", 20, "--width", 2048, "--ffn", 6144,
                 "--heads", "16/4").stdout  # fmt: skip
    assert "nearest to the target, as you asked" in said


def test_a_shape_of_ones_own_must_be_a_slice(lucie: Callable[..., Result]) -> None:
    with pytest.raises(DistillUsageError, match="33"):
        lucie("lucie-7b", "1b", "--layers", 33)


@pytest.mark.parametrize(
    ("target", "lack"), [("10m", "has so many parameters"), ("zero2w@1000", "is so fast")]
)
def test_a_shape_of_ones_own_is_shown_where_nothing_is_as_asked(
    target: str, lack: str, lucie: Callable[..., Result]
) -> None:
    said = lucie("lucie-7b", target, "--layers", 31, "--picture", "x.svg").stdout
    assert f"No slice of the teacher {lack}" in said
    assert set(re.findall(r"^\| ([A-Z]) ", said, re.MULTILINE)) == {"A"}
    [line] = [line for line in said.splitlines() if "as you asked" in line]
    assert "31 × 4096" in line
    with pytest.raises(DistillError, match=lack):
        lucie("lucie-7b", target)


def test_a_machine_is_told_as_data_why_a_shape_is_no_slice(
    lucie: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lucie("lucie-7b", "1b", "--json").stdout
    faults = [each["not_a_slice"] for each in json.loads(said)["students"]]
    (fault,) = filter(None, faults)  # Luciole-1B, with heads of its own
    assert fault["code"] == "head-size"
    assert fault["facts"] == {"field": "head_dim", "teacher": 128, "student": 64}
    monkeypatch.setenv("LUCIE_LANG", "fr")
    assert lucie("lucie-7b", "1b", "--json").stdout == said


def test_a_machine_gets_figures_with_units(lucie: Callable[..., Result]) -> None:
    result = lucie("lucie-7b", "pi5 at 12 tokens/s with 2k context in 2 GB", "--json")
    assert not result.stderr
    data = json.loads(result.stdout)
    assert data["teacher"]["parameters"] == 6_706_958_336
    assert data["target"] == {"board": "pi5", "least_tokens_per_s": 12.0, "memory_gb": 2.0}
    assert data["context_tokens"] == 2048
    first = data["students"][0]
    q4 = first["quantizations"]["Q4_K_M"]
    speed = q4["boards"]["pi5"]["decode_tokens_per_s"]
    read = q4["weights_read_bytes_per_token"] + 2048 * first["kv_cache_bytes_per_token"]
    assert speed == pytest.approx(11.82e9 / read)
    assert speed >= 12
    assert q4["boards"]["pi5"]["memory_bytes"] > q4["file_bytes"]
    assert first["removed"]["parameters_fraction"] == pytest.approx(
        1 - first["parameters"] / 6_706_958_336
    )
    assert first["h100_hours"] == pytest.approx(sum(s["h100_hours"] for s in first["steps"]))
    assert data["logit_cache"]["distillkit_top_128_bytes_per_token"] == 300
    for board in data["boards"]:
        assert board["bandwidth_source"]


def test_teachers_are_read_from_wherever_they_are(
    lucie: Callable[..., Result], tmp_path: Path
) -> None:
    config = write_config(tmp_path / "seven")
    manifest = Manifest(kind="model", name="a-bundle", provenance="unknown")
    Bundle.write(tmp_path / "bundle", manifest, {"config.json": config})
    wanted = json.loads(lucie("lucie-7b", "1b", "--json").stdout)
    for teacher, name in (("seven", "seven"), (config, "seven"), ("bundle", "a-bundle")):
        data = json.loads(lucie(teacher, "1b", "--json").stdout)
        assert data["teacher"].pop("name") == name
        assert data["students"] == wanted["students"]


@pytest.mark.model
def test_a_gguf_file_says_its_shape(lucie: Callable[..., Result], model_path: Path) -> None:
    data = json.loads(lucie(model_path, "60m", "--json").stdout)
    assert data["teacher"]["parameters"] == SMOLLM_135M.parameters
    assert data["teacher"]["tie_word_embeddings"] is True


def test_a_picture(lucie: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        assert f"Drawn: {name}" in lucie("lucie-7b", "pi5@12", "--picture", name).stderr
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "Predicted decode on Raspberry Pi 5" in drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.svg", "two.svg"]


def test_a_picture_in_the_terminal() -> None:
    from distill.planning.picture import draw_in_terminal
    from distill.planning.plan import make_plan
    from distill.planning.target import parse

    plan = make_plan("lucie-7b", LUCIE, parse("1b"), context=2048, quantization="Q4_K_M")
    lines = draw_in_terminal(plan, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert lines[-1] == "E  16 × 2048, 8192, 32/8 × 64"


def test_a_narrow_terminal_has_fewer_boards() -> None:
    from distill.planning.plan import make_plan
    from distill.planning.tables import show
    from distill.planning.target import parse

    plan = make_plan("lucie-7b", LUCIE, parse("pi4@3"), context=2048, quantization="Q4_K_M")
    whole, narrow = show(plan), show(plan, 60)
    heading = next(line for line in narrow.splitlines() if "| type" in line)
    assert "Raspberry Pi 4" in heading
    assert "Raspberry Pi 5" not in heading
    assert any("Raspberry Pi 5" in line for line in whole.splitlines() if "| type" in line)
    said = " ".join(narrow.split())
    assert re.search(r"no room here for: .*Raspberry Pi 5", said)
    assert "no room" not in whole


def test_this_machine_is_predicted_for_too(
    lucie: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(
        name="here",
        title="Some\x1b[31m machine",
        arch="x86_64",
        memory_gb=(8,),
        bandwidth_gb_per_s=10,
        gops={"Q4_K_M": 40},
        gops_source="measured",
    )

    def measured(progress: Bar) -> Board:
        progress(1, 1)
        return board

    monkeypatch.setattr("distill.planning.here.measure", measured)
    for given in (("1b", "--here"), ("here@8",)):
        data = json.loads(lucie("lucie-7b", *given, "--json").stdout)
        assert data["boards"][-1]["bandwidth_gb_per_s"] == 10
        assert data["boards"][-1]["bandwidth_source"] == "measured here, now"
    whole = lucie("lucie-7b", "1b", "--here").stdout
    [headings] = [line for line in whole.splitlines() if "| type" in line]
    assert headings.index("machine") < headings.index("Zero"), "the last that would be left out"
    said = lucie("lucie-7b", "here@8").stdout
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("nothing", "1b"), DistillUsageError),
        (("lucie-7b", "big"), DistillUsageError),
        (("lucie-7b", "20b"), DistillError),
        (("lucie-7b", "pi5@12 with 2k context", "--context", "4096"), DistillUsageError),
        (("lucie-7b", "1b", "--picture", "x.txt"), DistillUsageError),
        (("lucie-7b", "1b", "--picture", "nowhere/x.svg"), DistillUsageError),
        (("broken", "1b"), CheckpointError),
        (("other", "1b"), CheckpointError),
        (("list", "1b"), CheckpointError),
        (("negative", "1b"), CheckpointError),
        (("empty", "1b"), LucieError),
        (("broken/config.json", "1b"), CheckpointError),
    ],
)
def test_each_mistake_is_one_line(
    lucie: Callable[..., Result],
    tmp_path: Path,
    arguments: tuple[str, ...],
    kind: type[LucieError],
) -> None:
    write_config(tmp_path / "broken").write_text("{")
    write_config(tmp_path / "other", {"architectures": ["\x1b[31mGPT"]})
    write_config(tmp_path / "list").write_text("[" * 100_000)
    write_config(tmp_path / "negative", LUCIE.as_json() | {"hidden_size": -1})
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind) as caught:
        lucie(*arguments)
    assert str(caught.value).isprintable()
    assert not list(tmp_path.glob("*.svg")) + list(tmp_path.glob("*.txt"))


def test_a_folder_without_a_model_is_told_what_it_lacks(
    lucie: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty/config\.json is missing"):
        lucie("empty", "1b")


def test_a_picture_that_cannot_be_written_leaves_nothing(
    lucie: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DistillError, match="No space left on device"):
        lucie("lucie-7b", "1b", "--picture", "x.svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lang", ["en", "fr"])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_in_a_narrow_terminal_no_line_is_too_long_and_no_word_broken(
    monkeypatch: pytest.MonkeyPatch, lang: str, width: int
) -> None:
    monkeypatch.setenv("LUCIE_LANG", lang)
    plan = make_plan("lucie-7b", LUCIE, parse("1b"), context=2048, quantization="Q4_K_M")
    whole, shown = show(plan), show(plan, width)
    assert max(map(len, shown.splitlines())) <= width
    assert shown.count("\n| ") == whole.count("\n| "), "all rows are there"
    words = " ".join(line for line in whole.splitlines() if not line.startswith("|")).split()
    told = " ".join(line for line in shown.splitlines() if not line.startswith("|"))
    left_out = r"(There is no room|La place manque).*?(shows them|les montre)\."
    if width <= 60:
        assert "Raspberry\u00a0Pi\u00a04" in told, "a title is not torn apart"
    told, notes = re.subn(left_out, "", told)
    assert notes == 1
    told = told.split()
    assert told == words


def test_it_speaks_french(lucie: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    said = lucie("lucie-7b", "pi5 à 12 jetons/s dans 2 Go").stdout
    assert "n’est pas une tranche du professeur" in said
    assert "Raspberry Pi 5 : 11,82 Go/s" in said
    assert "Go/s ; TinyLlama-1.1B Q8_0 à 3 jetons/s" in said


def test_a_teacher_of_a_short_window_is_planned_for_at_all_of_it(
    lucie: Callable[..., Result], tmp_path: Path
) -> None:
    write_config(tmp_path / "short", LUCIE.as_json() | {"max_position_embeddings": 512})
    assert "with 512 tokens in the cache" in lucie("short", "1b").stdout
    assert "with 256 tokens" in lucie("short", "1b", "--context", 256).stdout
    assert "with 128 tokens" in lucie("short", "pi5@5 with 128 context").stdout
    assert "with 2,048 tokens" in lucie("lucie-7b", "1b").stdout
    assert json.loads(lucie("short", "1b", "--json").stdout)["context_tokens"] == 512
    with pytest.raises(DistillUsageError, match="reads 512 tokens at most, not 1,024"):
        lucie("short", "1b", "--context", 1024)


def test_what_a_number_of_parameters_means_is_told(lucie: Callable[..., Result]) -> None:
    said = lucie("lucie-7b", "1b").stdout
    assert "Sought: 900,000,000 to 1,350,000,000 parameters, as models of that name have" in said
    assert "the target is 1,102,270,384, the geometric mean." in said
    assert "Sought" not in lucie("lucie-7b", "pi5@12").stdout


def test_french_has_no_decimal_point_and_no_program_s_powers(
    lucie: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    tables = [line for line in lucie("lucie-7b", "1b").stdout.splitlines() if line[:1] == "|"]
    assert any("| 4,5·10²⁰ |" in " ".join(line.split()) for line in tables)
    assert not [line for line in tables if re.search(r"[|/~] *\d+\.\d|e\+", line)]
    with pytest.raises(DistillError, match=r"écrirait \d+,\d jetons par seconde"):
        lucie("lucie-7b", "zero2w@1000")


def test_no_letter_lies_upon_another_in_the_picture(
    lucie: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    lucie("lucie-7b", "1b", "--picture", "x.svg")
    written = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "x.svg").read_text())
    assert "en grand : Q4_K_M" in written
    assert [text[:3] for text in written if re.match("[A-Z]  ", text)] == [
        "A  ", "B  ", "C  ", "D  ", "E  ",
    ]  # fmt: skip
    assert not {"A", "B", "C", "D", "E"} & set(written)
    assert "1\u00a0000" in written


def test_in_a_narrow_terminal_the_picture_has_its_title(monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.planning.picture import draw_in_terminal

    monkeypatch.setenv("LUCIE_LANG", "fr")
    plan = make_plan("lucie-7b", LUCIE, parse("1b"), context=2048, quantization="Q4_K_M")
    lines = draw_in_terminal(plan, 40).splitlines()
    assert max(map(len, lines)) <= 40
    title = " ".join(lines[: next(n for n, line in enumerate(lines) if "┌" in line)])
    assert title.startswith("Écriture prévue sur Raspberry Pi 5, jetons/s")
    assert any(line.startswith("19,4┤") for line in lines)
