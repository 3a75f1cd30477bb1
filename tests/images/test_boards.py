"""`lucie image boards`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.catalog import catalog
from images.boards import boards
from images.commands import image


def test_a_board_runs_what_it_has_room_for() -> None:
    """By hand: 7B takes 4.6 GB and a reserve, so it wants a board of 8; 1.3 GB want one of 2."""
    pi5 = boards()["pi5"]
    names = {memory: [entry.name for entry in pi5.models(memory)] for memory in pi5.memory}
    small, one, seven = sorted(catalog(), key=lambda name: catalog()[name].memory)
    assert names[1] == [small]
    assert names[2] == names[4] == [small, one]
    assert names[8] == names[16] == [small, one, seven]
    assert boards()["zero2w"].models(0.5), "every board has a model"


def test_a_person_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(image, ["boards"])
    assert shown.exit_code == 0
    for board in boards().values():
        assert board.title in shown.stdout
    assert "SmolLM2 135M Instruct" in shown.stdout
    monkeypatch.setenv("LUCIE_LANG", "fr")
    assert "plus grand modèle" in CliRunner().invoke(image, ["boards"]).stdout


def test_what_a_board_has_no_room_for_need_not_be_fetched(home: Path) -> None:
    """Nothing is on this device; which of both reasons is told depends on the board."""

    def refused(board: str) -> str:
        ended = CliRunner().invoke(
            image, ["build", "--board", board, "--model", "lucie-7b-instruct-v1.1"]
        )
        return str(ended.exception)

    assert "and Raspberry Pi Zero 2 W with 0.5 GB has 301 MB for it" in refused("zero2w")
    assert "lucie models add lucie-7b-instruct-v1.1" in refused("pi5")
    assert list(Path.cwd().glob("lucie-*")) == []


def test_a_program_gets_json() -> None:
    told = json.loads(CliRunner().invoke(image, ["boards", "--json"]).stdout)
    assert [each["name"] for each in told] == list(boards())
    assert told[0]["models"]["8"][-1] == "lucie-7b-instruct-v1.1"
    assert all(each["imager"] for each in told if each["name"] != "generic-arm64")
