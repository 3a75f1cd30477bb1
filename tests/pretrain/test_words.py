"""What the bars of the commands that train count."""

from __future__ import annotations

import sys

import pytest

from distill.commands.words import WORDS as DISTILLING
from edge.commands.words import CommandWords
from pretrain.commands.words import WORDS


@pytest.mark.parametrize(
    ("words", "stage", "en", "fr"),
    [
        (WORDS, "train", "20,000 steps", "20\u202f000 étapes"),
        (WORDS, "packages", "20,000 packages", "20\u202f000 paquets"),
        (WORDS, "texts", "20,000 packages", "20\u202f000 paquets"),
        (WORDS, "tokens", "20 kB", "20 ko"),
        (DISTILLING, "train", "20,000 steps", "20\u202f000 étapes"),
        (DISTILLING, "train-distilled", "20,000 steps", "20\u202f000 étapes"),
        (DISTILLING, "train-scratch", "20,000 steps", "20\u202f000 étapes"),
        (DISTILLING, "cache", "20,000 tokens", "20\u202f000 jetons"),
        (DISTILLING, "tokens", "20 kB", "20 ko"),
    ],
)
def test_what_is_counted_has_its_unit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: CommandWords, stage: str, en: str, fr: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    for language, said in (("en", f"of {en}"), ("fr", f"de {fr}")):
        monkeypatch.setenv("LUCIE_LANG", language)
        with words.stages() as stages:
            stages(stage)(20_000, 20_000)
        assert f" 100 % {said}\x1b" in capsys.readouterr().err.replace("\xa0", " ")
