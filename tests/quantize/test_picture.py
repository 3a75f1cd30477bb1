"""Pictures of a comparison, and the front that they show."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations
from math import inf
from pathlib import Path

import numpy as np
import pytest

from edge.gguf_header import read_header
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.measuring.divergence import Estimate, Figures
from quantize.measuring.speed import Speed
from quantize.report.pareto import front
from quantize.report.picture import draw, draw_in_terminal
from quantize.report.table import Compared, as_data, table

pytestmark = pytest.mark.model


@pytest.fixture
def rows(tiny_gguf: Path) -> list[Compared]:
    header = read_header(tiny_gguf)

    def row(name: str, kld: float, decode: float) -> Compared:
        one = Estimate(1.0, 0.01)
        figures = Figures(100, one, one, one, Estimate(kld, kld / 20), 1.0, one, one)
        return Compared(
            name, header, {"all": figures},
            Speed(200.0, 4.0, decode, 0.5, 300_000_000, 3, 512, 128, 2, 4),
        )  # fmt: skip

    speed = Speed(100.0, 2.0, 30.0, 0.5, 500_000_000, 3, 512, 128, 2, 4)
    reference = Compared("f16", header, None, speed)
    return [reference, row("q4", 0.2, 90.0), row("q8", 0.002, 60.0), row("q5", 0.3, 40.0)]


@pytest.mark.parametrize("seed", range(5))
def test_no_point_of_the_front_is_beaten(seed: int) -> None:
    points = [tuple(p) for p in np.random.default_rng(seed).integers(0, 8, (20, 2)).tolist()]

    def beaten(p: tuple[int, int]) -> bool:
        return any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)

    found = [points[n] for n in front(points)]
    assert set(found) == {p for p in points if not beaten(p)}
    assert found == sorted(set(found))


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_figures_give_the_same_picture(
    rows: list[Compared], tmp_path: Path, suffix: str
) -> None:
    for name in ("a", "b"):
        draw(rows, tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert first.startswith({".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


def test_names_of_models_that_are_alike_can_be_read(rows: list[Compared], tmp_path: Path) -> None:
    draw(
        [*rows, *(replace(rows[1], name=name) for name in ("q4-again", "q4-too"))],
        tmp_path / "p.svg",
    )
    svg = (tmp_path / "p.svg").read_text(encoding="utf-8")
    found = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>(q4[^<]*)<', svg)
    assert len(found) == 6
    for (x, y, _), (other_x, other_y, _) in combinations(found, 2):
        apart = abs(float(x) - float(other_x)), abs(float(y) - float(other_y))
        assert apart[0] > 30 or apart[1] > 7, "letters are 8 points high"


def test_models_are_called_by_their_folder_where_that_tells_them_apart(
    rows: list[Compared],
) -> None:
    far = [replace(row, name=f"/srv/models/{row.name}") for row in rows]
    assert "A q4  B q8  C q5" in draw_in_terminal(far, 60)
    alike = [*rows[:2], replace(rows[2], name="other/q4")]
    assert "A q4  B other/q4" in draw_in_terminal(alike, 60)


def test_every_candidate_is_named_in_both_languages(
    rows: list[Compared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lang, axis in (("en", "less is better"), ("fr", "moins, c’est mieux")):
        monkeypatch.setenv("LUCIE_LANG", lang)
        draw(rows, tmp_path / "picture.svg")
        svg = (tmp_path / "picture.svg").read_text(encoding="utf-8")
        assert svg.count(">q4<") == svg.count(">q8<") == svg.count(">q5<") == 2
        assert ">f16<" not in svg
        assert axis in svg
        shown = draw_in_terminal(rows, 60)
        assert axis in shown
        assert "A q4  B q8  C q5" in shown
        assert max(map(len, shown.splitlines())) <= 60
        assert "\x1b" not in shown


def test_what_cannot_be_drawn_is_refused(rows: list[Compared], tmp_path: Path) -> None:
    with pytest.raises(QuantizeUsageError, match=r"\.svg, \.png, \.pdf"):
        draw(rows, tmp_path / "picture.jpeg")
    with pytest.raises(QuantizeError, match="cannot be written"):
        draw(rows, tmp_path / "none" / "picture.svg")
    with pytest.raises(QuantizeError, match="nothing to draw"):
        draw(rows[:1], tmp_path / "picture.svg")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "plain").touch()
    with pytest.raises(QuantizeError, match="cannot be written"):
        draw(rows, tmp_path / "plain" / "picture.svg")


def test_the_reference_stands_in_the_table_with_its_speed(rows: list[Compared]) -> None:
    lines = table(rows).splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[0] == "f16"
    assert cells[4:] == ["—", "—", "—", "—", "100.0 ± 2.0", "30.0 ± 0.5", "500"]


def test_a_narrow_terminal_has_fewer_columns(rows: list[Compared]) -> None:
    whole = table(rows).splitlines()
    narrow = table(rows, 80).splitlines()
    assert len(narrow) == len(whole)
    assert max(map(len, narrow)) <= 80 < max(map(len, whole))
    for heading in ("model", "type", "MB", "mean KLD", "decode"):
        assert heading in narrow[0]
    assert table(rows, 400).splitlines() == whole


def test_odd_names_and_figures_do_not_stop_it(rows: list[Compared], tmp_path: Path) -> None:
    name = "a$\\frac$|[b]\x1b[31m"
    odd = replace(rows[1], name=name)
    endless = [replace(rows[2], name=f"m{n}") for n in range(100)]
    broken = replace(rows[3], figures={"all": replace(figures(rows[3]), kld=Estimate(inf, 0.0))})
    draw([rows[0], odd, broken], tmp_path / "odd.svg")
    assert "\x1b" not in (tmp_path / "odd.svg").read_text()
    shown = draw_in_terminal([odd, broken, *endless], 80)
    assert "m60" in shown
    assert "m61" not in shown
    lines = table([rows[0], odd, broken]).splitlines()
    assert "\x1b" not in "".join(lines)
    assert "a$\\frac$\\|[b]" in lines[3]
    json.dumps(as_data([broken]), allow_nan=False)


def figures(row: Compared) -> Figures:
    assert row.figures is not None
    return row.figures["all"]
