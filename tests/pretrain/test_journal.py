"""The journal of a training: what it holds, and what is read of it again."""

from __future__ import annotations

from pathlib import Path

from pretrain.journal import Journal, read_journal, read_measurements


def write(folder: Path) -> None:
    journal = Journal(folder, 0)
    journal.write(1, {"loss": 3.0, "mfu": None})
    journal.write_measurement(1, {"fr": 2.5, "en": 2.0}, "these texts")
    journal.write(2, {"loss": 2.0})
    journal.write_measurement(2, {"fr": 1.5}, "others")
    journal.close()


def test_what_was_measured_on_something_else_is_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    assert read_measurements(tmp_path, "these texts") == [(1, {"fr": 2.5, "en": 2.0})]
    assert read_measurements(tmp_path, "others") == [(2, {"fr": 1.5})]
    assert read_measurements(tmp_path / "none", "others") == []


def test_a_line_that_does_not_say_on_what_it_was_measured_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 3, "bits_per_byte/fr": 1.25}\n')
    assert read_measurements(tmp_path, "others") == [(2, {"fr": 1.5}), (3, {"fr": 1.25})]


def test_figures_are_numbers_and_lines_that_are_damaged_none(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": "x", "loss": 1}\n{"step": 3, "loss": "x"}\n{"loss": 1}\n{"step": 4, "l')
    assert read_journal(tmp_path) == [
        {"step": 1, "loss": 3.0},
        {"step": 1, "bits_per_byte/fr": 2.5, "bits_per_byte/en": 2.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "bits_per_byte/fr": 1.5},
    ]


def test_who_takes_it_up_forgets_what_was_behind(tmp_path: Path) -> None:
    write(tmp_path)
    Journal(tmp_path, 1).close()
    assert read_journal(tmp_path) == [{"step": 1, "loss": 3.0}]
