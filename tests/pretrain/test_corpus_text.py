"""How documents are got out of files, and made fit to learn from."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from pretrain.corpus.catalog import Bucket, Part, TextSource, buckets, catalog
from pretrain.corpus.cleaning import clean
from pretrain.corpus.extract import extract
from pretrain.corpus.html_text import page_text
from pretrain.errors import PretrainError, PretrainUsageError

PAGE = """<?xml version="1.0"?><!DOCTYPE html><html><head><title>6.2 Componenti</title>
<style>p { color: red }</style></head><body>
<div class="navheader"><table><tr><td><a>Indietro</a></td></tr></table></div>
<div class="sect1"><h2 class="title"><a name="x"></a>6.2. Componenti<a class="headerlink">¶</a></h2>
<div class="toc"><dl><dt>6.2.1</dt><dd><div>un indice</div>di tutto</dd></dl></div>
<p>Il file <code>/etc/fstab</code> elenca
i   dischi&nbsp;&amp; le partizioni.<br/>Una riga.</p>
<ul><li><p>primo</p></li><li>secondo <b>punto</b><li>terzo</ul>
<pre>
if x:
    y = 1
</pre><script>var p = "<p>no</p>";</script>
<table><tr><td>cella</td></tr></table><p>Fine.</p></div>
<footer><p>This page is: x.xhp</p></footer></body></html>"""
TEXT = """6.2. Componenti

Il file /etc/fstab elenca i dischi & le partizioni.

Una riga.

- primo
- secondo punto
- terzo

if x:
    y = 1

Fine."""


def test_a_page_keeps_its_text_and_loses_its_navigation() -> None:
    assert page_text(PAGE) == TEXT


def test_a_page_of_mallard_is_read_likewise() -> None:
    page = """<page xmlns="http://projectmallard.org/1.0/" id="x"><info><desc>Not this.</desc>
    <credit><name>Nobody</name></credit></info><title>Drucker <gui>einrichten</gui></title>
    <p>Ein <link xref="y">Drucker</link> mit <media src="z.png"/>Kabel.</p>
    <steps><item><p>Öffnen Sie.</p></item><item><p>Klicken Sie.</p></item></steps></page>"""
    assert page_text(page) == (
        "Drucker einrichten\n\nEin Drucker mit Kabel.\n\n- Öffnen Sie.\n- Klicken Sie."
    )


def test_what_is_never_closed_does_not_hide_the_rest() -> None:
    page = '<div class="toc"><p>one<p>two<div>three</div></div><p>four'
    assert page_text(page) == "four"


ENGLISH = "This is the paragraph of which nobody has made a translation, and it is long."
FRENCH = "Le paquet contient la documentation du logiciel, qui est dans le dossier des pages."


def test_paragraphs_of_another_language_are_left_out() -> None:
    assert clean(f"{FRENCH}\n\n{ENGLISH}\n\n{FRENCH}", "documentation", "fr") == (
        f"{FRENCH}\n\n{FRENCH}"
    )
    assert clean(f"{ENGLISH}\n\n{FRENCH}\n\n{ENGLISH}", "documentation", "en") == (
        f"{ENGLISH}\n\n{ENGLISH}"
    )


def test_an_english_name_in_a_french_article_stays() -> None:
    text = f"The Lord of the Rings\n\n{FRENCH}"
    assert clean(text, "prose", "fr") == text


@pytest.mark.parametrize(
    ("found", "kind", "wanted"),
    [
        ("a\r\nb" * 40, "dictionary", "a\nb" * 40),
        ("e\u0301" * 40, "dictionary", "é" * 40),  # one character for two, as Unicode's NFC
        ("x\u00ad\u200b\x07y" * 40, "dictionary", "xy" * 40),
        ("one\t two   three" * 10, "dictionary", "one two three" * 10),
        ("n’a\u00a0: pas" * 10, "dictionary", "n’a\u00a0: pas" * 10),
        ("good \ufffd bad" * 20, "documentation", ""),
        ("short", "dictionary", ""),
        ("def f():\n\treturn 1   \n" * 20, "code", "def f():\n\treturn 1\n" * 20),
    ],
)
def test_characters_and_white_space(found: str, kind: str, wanted: str) -> None:
    assert clean(found, kind, "code" if kind == "code" else "fr") == wanted


def bucket(extractor: str, language: str, path: str = "*", **source: str) -> Bucket:
    part = {"language": language, "deb": "xx", "path": path, "mb": 1}
    table = {
        "title": "T", "kind": "prose", "licence": "MIT", "url": "https://example.org",
        "extractor": extractor, "parts": [part], **source,
    }  # fmt: skip
    made = TextSource.model_validate(table)
    return Bucket(name="s", source=made, part=made.parts[0])


def package(folder: Path, members: dict[str, bytes]) -> Path:
    file = folder / "p.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def test_wiktionary(tmp_path: Path) -> None:
    lines = (
        "lire\tInterpréter des signes. | Monnaie de l’Italie\n"
        "Apache\tHabitante de Paris.\n"
        "ubiquitiner\tVariante de .\n"
        "ailé\tQui possède des ailes\n"
    )
    made = package(tmp_path, {"g.txt.gz": gzip.compress(lines.encode())})
    assert list(extract(bucket("glosses", "fr", "*.gz"), made)) == [
        ("lire", "lire :\n1. Interpréter des signes.\n2. Monnaie de l’Italie."),
        ("ailé", "ailé : Qui possède des ailes."),
    ]


def test_wikipedia(tmp_path: Path) -> None:
    article = {"title": "Fobia", "extract": "Un miedo.[cita\u00a0requerida]", "topic": "x"}
    made = package(tmp_path, {"s.json": json.dumps({"Fobia": article}).encode()})
    assert list(extract(bucket("summaries", "es"), made)) == [("Fobia", "Fobia\n\nUn miedo.")]


def test_wordnet(tmp_path: Path) -> None:
    """A line of WordNet 3.0's own data.noun, and the first of its licence."""
    line = (
        "00059989 04 n 06 break 4 breakout 0 jailbreak 0 gaolbreak 0 prisonbreak 0 "
        "prison-breaking 0 003 @ 00058743 n 0000 + 02073251 v 0202 + 02073251 v 0101 | "
        'an escape from jail; "the breakout was carefully planned"  \n'
    )
    made = package(tmp_path, {"data.noun": b"  1 This software and database\n" + line.encode()})
    (found,) = extract(bucket("synsets", "en"), made)
    assert found == (
        "noun/00059989",
        "break, breakout, jailbreak, gaolbreak, prisonbreak, prison-breaking (noun): "
        'an escape from jail; "the breakout was carefully planned"',
    )


def test_descriptions(tmp_path: Path) -> None:
    file = tmp_path / "Translation-it"
    file.write_text(
        "Package: 0ad\nDescription-md5: d943033bedada21853d2ae54a2578a7b\n"
        "Description-it: gioco di strategia\n"
        " Un gioco che permette\n di rivivere la storia:\n  - i romani;\n  - i celti.\n"
        " Il progetto è libero.\n .\n Nuovo paragrafo.\n\n"
        "Package: b\nDescription-md5: 00000000\nDescription-it: ultimo\n * a\n   b\n",
        encoding="utf-8",
    )
    found = list(extract(bucket("descriptions", "it"), file))
    assert found[0] == (
        "0ad/d943033b",
        "gioco di strategia\n\nUn gioco che permette di rivivere la storia:\n- i romani;\n"
        "- i celti.\nIl progetto è libero.\n\nNuovo paragrafo.",
    )
    assert found[1] == ("b/00000000", "ultimo\n\n* a\nb")


@pytest.mark.parametrize(
    ("extractor", "members"),
    [
        ("summaries", {"s.json": b'{"a": {"title": 1}}'}),
        ("summaries", {"s.json": b"not json"}),
        ("glosses", {"g.gz": b"not gzip"}),
        ("modules", {"m.py": b"\xff\xfe"}),
        ("synsets", {"data.noun": b"1 2 3\n"}),
        ("pages", {"p.html": b"<p>one</p><![foo bar"}),  # of which html.parser asserts
    ],
)
def test_a_package_that_is_not_as_expected(
    tmp_path: Path, extractor: str, members: dict[str, bytes]
) -> None:
    made = package(tmp_path, members)
    with pytest.raises(PretrainError, match=r"p\.whl: the package is damaged"):
        list(extract(bucket(extractor, "code" if extractor == "modules" else "en"), made))


def test_a_wheel_with_a_damaged_file(tmp_path: Path) -> None:
    made = package(tmp_path, {"m.py": bytes(range(256))})
    content = bytearray(made.read_bytes())
    content[100] ^= 1
    made.write_bytes(content)
    with pytest.raises(PretrainError, match=r"p\.whl: the package is damaged"):
        list(extract(bucket("modules", "code"), made))


def test_a_bomb_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    bomb = package(tmp_path, {"m.py": b"0" * 10_000_000})
    with pytest.raises(PretrainError, match=r"m\.py is larger, or more densely packed"):
        list(extract(bucket("modules", "code"), bomb))
    with pytest.raises(PretrainError, match="holds no file"):
        list(extract(bucket("modules", "code", "other/*"), bomb))


def test_the_catalogue_is_whole() -> None:
    for name, source in catalog().items():
        languages = [part.language for part in source.parts]
        assert len(set(languages)) == len(languages), name
        assert (source.kind == "code") == ("code" in languages), name
        # A wheel does not tell when its text was written.
        assert source.date or not any(part.wheel for part in source.parts), name
    assert {language for s in catalog().values() for language in s.languages} == {
        "en", "fr", "de", "es", "it", "code",
    }  # fmt: skip


def test_choosing_sources() -> None:
    found = buckets(["it", "fr"], ["debian-faq", "wiktionary"])
    assert [b.label for b in found] == ["wiktionary-fr", "debian-faq-fr", "debian-faq-it"]
    with pytest.raises(PretrainUsageError, match="tlh: no language"):
        buckets(["tlh"], [])
    with pytest.raises(PretrainUsageError, match="nowhere: no source"):
        buckets(["fr"], ["nowhere"])
    with pytest.raises(PretrainUsageError, match="wiktionary has no text in it, but in fr, de"):
        buckets(["it"], ["debian-faq", "wiktionary"])


@pytest.mark.parametrize(
    "part",
    [
        {"language": "fr", "mb": 1},
        {"language": "fr", "mb": 1, "deb": "a", "translation": "fr"},
        {"language": "fr", "mb": 1, "wheel": "a==1"},
        {"language": "fr", "mb": 1, "deb": "a; rm"},
        {"language": "fr", "mb": 1, "wheel": "a>=1", "sha256": "0" * 64},
    ],
)
def test_a_wrong_part_of_the_catalogue_is_refused(part: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Part.model_validate(part)
