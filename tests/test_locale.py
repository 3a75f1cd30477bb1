"""Everything that a person may read is there in every language, with the same facts in it."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import string
import tomllib
from pathlib import Path

import pytest

import distill
import edge
import images
import pretrain
import quantize
import tui
from edge.messages import FOLDER, LANGUAGES, translate
from quantize.words import FOLDER as QUANTIZE

STAGES = (distill, edge, images, pretrain, quantize, tui)
FOLDERS = [Path(str(package.__file__)).parent / "locale" for package in STAGES]
FILES = [
    pytest.param(file, id=f"{folder.parent.name}/{file.stem}")
    for folder in FOLDERS
    for file in sorted(folder.glob("*.toml"))
]
TUI = FOLDERS[-1].parent
CODE = re.compile(r"`[^`]*`")


def entries(file: Path) -> dict[str, dict[str, str]]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def placeholders(text: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("file", FILES)
def test_each_text_is_there_in_each_language(file: Path) -> None:
    assert entries(file)
    for name, texts in entries(file).items():
        assert set(texts) == set(LANGUAGES), name
        assert all(text.strip() for text in texts.values()), name


@pytest.mark.parametrize("file", FILES)
def test_the_languages_hold_the_same_facts(file: Path) -> None:
    for name, texts in entries(file).items():
        facts = {placeholders(text) for text in texts.values()}
        assert len(facts) == 1, name
        assert all(fact.isidentifier() for fact in facts.pop()), name


@pytest.mark.parametrize("file", FILES)
def test_apostrophes_are_typographic(file: Path) -> None:
    for name, texts in entries(file).items():
        for text in texts.values():
            assert not re.search(r"\w'\w", CODE.sub("", text)), name


@pytest.mark.parametrize("file", FILES)
def test_french_leaves_space_before_its_punctuation(file: Path) -> None:
    for name, texts in entries(file).items():
        prose = re.sub(r"https?://\S+|\{[^}]*\}", "x", CODE.sub("x", texts["fr"]))
        assert not re.search(r"\w[;!?](\s|$)|«\S|\S»", prose), name


@pytest.mark.parametrize("file", FILES)
def test_french_numbers_are_not_torn_apart(file: Path) -> None:
    for name, texts in entries(file).items():
        assert not re.search(r"\d \d{3}\b", CODE.sub("x", texts["fr"])), name


def test_the_systems_reasons_are_those_that_it_gives() -> None:
    of_name = ctypes.CDLL(None).gai_strerror
    of_name.restype = ctypes.c_char_p
    for name, texts in entries(FOLDER / "system.toml").items():
        if name.startswith("EAI_"):
            assert texts["en"] == of_name(getattr(socket, name)).decode()
        else:
            assert texts["en"] == os.strerror(getattr(errno, name))


def test_the_systems_reasons_are_told_in_the_readers_language() -> None:
    full = os.strerror(errno.ENOSPC)

    def said(reason: object, lang: str) -> str:
        return translate("cli.not-written", {"reason": reason}, lang=lang)

    assert said(full, "fr").endswith(": il n’y a plus de place sur le disque.")
    assert said("Name or service not known", "fr").endswith(": aucune machine ne porte ce nom.")
    assert said(full, "en").endswith(f": {full}.")
    for other in ("Bad HTTP", None, ["ENOSPC"]):  # what nobody has foreseen stays as it is
        assert said(other, "fr").endswith(f": {other}.")
    assert full in translate("store.no-file", {"path": full}, lang="fr"), "a file may be called so"


def test_decimals_are_set_apart_as_the_language_does() -> None:
    def said(kld: float, lang: str) -> str:
        facts = {"path": "a.gguf", "kld": kld, "plain": 2.0}
        return translate("heal.worse", facts, lang=lang, folder=QUANTIZE)

    assert "diverges from its source by 0.0123 nats" in said(0.01234, "en")
    assert "diverge de sa source de 0,0123 nats, tel quel de 2." in said(0.01234, "fr")
    assert said(0.01234, "fr").startswith("a.gguf n’a")


def test_every_text_of_the_chat_is_said_somewhere() -> None:
    source = "\n".join(file.read_text(encoding="utf-8") for file in TUI.glob("*.py"))
    # Codes that are put together: a server's stage, a key and what it does.
    built = {
        "chat.loading", "chat.starting", "status.loading", "status.starting",
        "status.key-enter", "status.key-esc", "status.key-delete",
        "status.open", "status.rename", "status.delete", "status.back",
        "offered.use", "offered.choose", "offered.yes",
    }  # fmt: skip
    codes = {f"{file.stem}.{name}" for file in TUI.glob("locale/*.toml") for name in entries(file)}
    assert built <= codes
    assert {c for c in codes - built if not re.search(f"[\"']{re.escape(c)}[\"']", source)} == set()
