"""What the bars of the commands that train count."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distill.commands.words import WORDS as DISTILLING
from edge.bundle import Bundle
from edge.commands.words import CommandWords
from edge.manifest import Manifest
from pretrain.commands.training import _metrics
from pretrain.commands.words import WORDS


@pytest.mark.parametrize(
    ("words", "stage", "en", "fr"),
    [
        (WORDS, "train", "20,000 steps", "20 000 étapes"),
        (WORDS, "packages", "20,000 packages", "20 000 paquets"),
        (WORDS, "texts", "20,000 packages", "20 000 paquets"),
        (WORDS, "tokens", "20 kB", "20 ko"),
        (DISTILLING, "train", "20,000 steps", "20 000 étapes"),
        (DISTILLING, "train-distilled", "20,000 steps", "20 000 étapes"),
        (DISTILLING, "train-scratch", "20,000 steps", "20 000 étapes"),
        (DISTILLING, "cache", "20,000 tokens", "20 000 jetons"),
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


def test_what_was_measured_is_told_in_the_readers_language(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the names that manifests have for it."""

    def told(words: CommandWords, name: str, value: float) -> str:
        manifest = Manifest(kind="model", name="m", provenance="unknown", metrics={name: value})
        return _metrics(Bundle(tmp_path, manifest, ""), words)

    for words in (WORDS, DISTILLING):
        monkeypatch.setenv("LUCIE_LANG", "en")
        assert told(words, "bits per byte, fr, text", 1.5) == "  bits per byte, fr, text: 1.5000"
        monkeypatch.setenv("LUCIE_LANG", "fr")
        assert told(words, "bits per byte, fr", 1.5) == "  bits par octet, fr : 1,5000"
    first, last = "divergence in the first tenth", "divergence in the last tenth"
    assert told(DISTILLING, first, 0.25) == "  divergence dans le premier dixième : 0,2500"
    assert told(DISTILLING, last, 0.25) == "  divergence dans le dernier dixième : 0,2500"
