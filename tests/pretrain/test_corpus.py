"""The corpus builder, from registries that are folders to the bundle, by its command."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from edge.bundle import Bundle
from edge.cli import main
from edge.manifest import Manifest
from edge.messages import translate
from pretrain.corpus import catalog as catalogue
from pretrain.corpus import debian
from pretrain.corpus.build import _sample
from pretrain.corpus.catalog import TextSource
from pretrain.documents import read_documents
from pretrain.errors import PretrainUsageError
from pretrain.recipe import Recipe
from pretrain.recipe_file import read_recipe
from pretrain.run import Run, train
from pretrain.split import held_out, sampling_rank, text_key
from pretrain.texts import read_texts
from pretrain.words import FOLDER
from tests.pretrain.registries import deb, use_debian, use_index, wheel

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="Debian's packages are made and read by dpkg-deb"
)

TITLES = 200
DAY = 1_663_804_800  # 2022-09-22, by `date -u -d 2022-09-22 +%s`
PREFIX = "mirror.example_debian_dists_stable"
SAME = "Une histoire qui est dans les deux langues, et qui ne compte qu’une fois pour le corpus."


def article(n: int) -> str:
    """Some 150 characters that differ."""
    words = hashlib.sha256(str(n).encode()).hexdigest()
    return f"L’article {n} parle de la ville de {words}, qui est une des villes du pays. " * 2


def summaries() -> bytes:
    told = {f"T{n}": {"title": f"T{n}", "extract": article(n)} for n in range(TITLES)}
    told["copy"] = {"title": "T7", "extract": article(7).replace(" ", "\n ")}
    return json.dumps(told).encode()


def release(day: str) -> str:
    return f"Origin: Debian\nSuite: stable\nDate: {day}\n"


def translation(language: str, numbers: range = range(50)) -> str:
    return "".join(
        f"Package: p{n}\nDescription-md5: {n:032}\nDescription-{language}: pacchetto {n}\n"
        f" Questo pacchetto contiene il programma numero {n}, che fa una cosa\n utile per gli"
        " utenti del sistema e non si trova in un altro pacchetto.\n\n"
        for n in numbers
    )


def pages() -> dict[str, str]:
    return {
        f"usr/share/doc/toy-doc/{language}/{n}.html": f"<body><h1>{n}</h1><p>{text}</p></body>"
        for language in ("fr", "en")
        for n, text in enumerate([SAME * 2, f"The {language} page of a book on dogs. " * 4])
    }


def sources(sha256: str) -> dict[str, TextSource]:
    tables = {
        "intros": {
            "title": "Introductions", "kind": "prose", "licence": "CC-BY-SA-4.0",
            "date": "2026-08", "url": "https://example.org/intros", "extractor": "summaries",
            "parts": [{"language": "fr", "wheel": "toy-text==1.0", "sha256": sha256,
                       "path": "toy/fr.json", "mb": 1}],
        },
        "handbook": {
            "title": "Handbook", "kind": "documentation",
            "licence": "GPL-2.0-or-later OR CC-BY-SA-3.0",
            "url": "https://example.org/handbook", "extractor": "pages",
            "parts": [{"language": language, "deb": "toy-doc",
                       "path": f"usr/share/doc/toy-doc/{language}/*.html", "mb": 1}
                      for language in ("fr", "en")],
        },
        "descriptions": {
            "title": "Descriptions", "kind": "documentation", "licence": "LicenseRef-Debian-main",
            "url": "https://example.org/ddtp", "extractor": "descriptions",
            "parts": [{"language": "it", "translation": "it", "mb": 1}],
        },
    }  # fmt: skip
    return {name: TextSource.model_validate(table) for name, table in tables.items()}


@pytest.fixture
def mirror(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, which are the only ones that there are.

    The wheel has been fetched already, as pip takes a second: `forget` makes it be fetched.
    """
    folder, programs = tmp_path / "mirror", tmp_path / "bin"
    (folder / "lists").mkdir(parents=True)
    programs.mkdir()
    sha256 = wheel(folder, "toy-text", "1.0", {"toy/fr.json": summaries()})
    deb(folder, "toy-doc", "2.0-1", pages(), DAY)
    for name, content in {
        f"{PREFIX}_InRelease": release("Sat, 11 Jul 2026 10:16:37 UTC"),
        f"{PREFIX}_main_i18n_Translation-en": translation("en"),
        f"{PREFIX}_main_i18n_Translation-it": translation("it"),
        f"{PREFIX}_non-free_i18n_Translation-it": "not free",
        "vendor.example_dists_x_InRelease": "Origin: Vendor\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n",
        "vendor.example_dists_x_main_i18n_Translation-it": "not Debian's",
    }.items():
        (folder / "lists" / name).write_text(content, encoding="utf-8")
    cache = home / "cache/corpus/wheels" / sha256
    cache.mkdir(parents=True)
    shutil.copy(folder / "toy_text-1.0-py3-none-any.whl", cache)
    use_index(folder, monkeypatch)
    use_debian(folder, programs, monkeypatch)
    known = sources(sha256)
    monkeypatch.setattr(catalogue, "catalog", lambda: known)
    return folder


def forget(home: Path) -> None:
    """Empty the cache."""
    shutil.rmtree(home / "cache")


def lucie(*words: str | Path) -> int:
    return main(["pretrain", "corpus", *map(str, words)])


def built(out: Path) -> Manifest:
    return Bundle.open(out, verify=True).manifest


def test_a_corpus(mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c1"
    assert lucie(out, "--heldout", "10%") == 0
    manifest = built(out)
    # 200 articles, one of them twice; two pages in each language, one of them English and one
    # in both; 50 descriptions.
    assert manifest.metrics["documents"] == 200 + 1 + 1 + 50
    assert manifest.metrics["duplicates dropped"] == 1
    assert manifest.languages[0] == "fr"
    assert set(manifest.languages) == {"fr", "en", "it"}
    assert [(d.name, d.licence, d.first_date, d.last_date, d.url) for d in manifest.data] == [
        ("Introductions", "CC-BY-SA-4.0", "2026-08", "2026-08", "https://example.org/intros"),
        ("Handbook", "GPL-2.0-or-later OR CC-BY-SA-3.0", "2022-09-22", "2022-09-22",
         "https://example.org/handbook"),
        ("Descriptions", "LicenseRef-Debian-main", "2026-07-11", "2026-07-11",
         "https://example.org/ddtp"),
    ]  # fmt: skip
    documents = list(read_documents(out))
    assert sum(d.size or 0 for d in manifest.data) == sum(len(d.text.encode()) for d in documents)
    assert manifest.licence == (
        "CC-BY-SA-4.0 AND (GPL-2.0-or-later OR CC-BY-SA-3.0) AND LicenseRef-Debian-main"
    )
    assert manifest.recipe["packages"] == {
        "toy-text": {"version": "1.0", "sha256": hashlib.sha256(
            (mirror / "toy_text-1.0-py3-none-any.whl").read_bytes()).hexdigest()},
        "toy-doc": {"version": "2.0-1", "sha256": hashlib.sha256(
            (mirror / "toy-doc_2.0-1_all.deb").read_bytes()).hexdigest()},
        "Translation-it": {"version": "2026-07-11", "sha256": hashlib.sha256(hashlib.sha256(
            translation("it").encode()).hexdigest().encode()).hexdigest()},
    }  # fmt: skip
    by_id = {d.id: d for d in documents}
    assert len(by_id) == len(documents)
    told = by_id["handbook/en/usr/share/doc/toy-doc/en/1.html"]
    assert (told.source, told.language, told.date) == ("handbook", "en", "2022-09-22")
    assert told.licence == "GPL-2.0-or-later OR CC-BY-SA-3.0"
    assert told.text.startswith("1\n\nThe en page of a book")
    assert "handbook/fr/usr/share/doc/toy-doc/fr/1.html" not in by_id  # it is English
    assert by_id["intros/fr/T3"].text == f"T3\n\n{article(3).strip()}"
    shown = capsys.readouterr()
    assert not shown.out
    assert "252 documents" in shown.err


def test_a_model_names_its_sources_as_they_were_published(
    mirror: Path, kitchen: Path, tmp_path: Path
) -> None:
    """Once, however often it was trained on them."""
    corpus = tmp_path / "corpus"
    assert lucie(corpus, "--heldout", "10%") == 0
    parts = f'data.mixture=[{{path="{corpus}", sources=["intros", "descriptions"]}}]'
    settings = [parts, "schedule.steps=2", "parallel.threads=1"]

    def trained(recipe: Path, name: str, *more: str) -> Manifest:
        asked = read_recipe(Recipe, recipe, [*settings, *more])
        run = Run(tmp_path / f"{name}-run")
        return train(asked, tmp_path / name, run, lambda _: lambda *_: None).manifest

    first = trained(kitchen / "recipe.toml", "first")
    text = (kitchen / "recipe.toml").read_text(encoding="utf-8")
    above, below = text.partition("[model]")[0], text[text.index("[data]") :]
    (tmp_path / "on.toml").write_text(f"{above}[model]\n{below}", encoding="utf-8")
    second = trained(tmp_path / "on.toml", "second", 'model.from="first"')
    read = list(read_documents(corpus, split="train"))
    sizes = {
        name: sum(len(d.text.encode()) for d in read if d.source == name)
        for name in ("intros", "descriptions")
    }
    for manifest in (first, second):
        assert [(d.name, d.url, d.licence, d.size) for d in manifest.data] == [
            ("Descriptions", "https://example.org/ddtp", "LicenseRef-Debian-main",
             sizes["descriptions"]),
            ("Introductions", "https://example.org/intros", "CC-BY-SA-4.0", sizes["intros"]),
        ]  # fmt: skip
    learned = [sum(d.tokens or 0 for d in manifest.data) for manifest in (first, second)]
    assert learned == [pytest.approx(2 * 8 * 32, rel=0.05), pytest.approx(4 * 8 * 32, rel=0.05)]


def test_the_split_follows_the_text_alone(mirror: Path, tmp_path: Path) -> None:
    """A smaller corpus holds out no document that a larger one trains on."""
    lucie(tmp_path / "all", "--heldout", "10%")
    lucie(tmp_path / "few", "--heldout", "10%", "--sources", "intros", "--limit-mb", "0.02")
    sides = {
        name: {split: {d.text for d in read_documents(tmp_path / name, split=split)}
               for split in ("train", "heldout")}
        for name in ("all", "few")
    }  # fmt: skip
    assert sides["few"]["train"] < sides["all"]["train"]
    assert sides["few"]["heldout"] < sides["all"]["heldout"]
    assert not sides["all"]["train"] & sides["all"]["heldout"]
    # 252 documents at 10 %: binomial, four standard deviations to each side.
    assert 25 - 19 <= len(sides["all"]["heldout"]) <= 25 + 19
    size = sum(len(text.encode()) for side in sides["few"].values() for text in side)
    assert 19_600 < size <= 20_000  # no document is longer than 400 bytes


def test_the_same_inputs_make_the_same_bytes(mirror: Path, tmp_path: Path) -> None:
    lucie(tmp_path / "one")
    lucie(tmp_path / "two")
    one, two = built(tmp_path / "one"), built(tmp_path / "two")
    assert len(one.files) >= 4
    assert one.files == two.files


def test_a_second_run_asks_no_registry(
    mirror: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(home)
    lucie(tmp_path / "one")
    asked = (mirror / "calls").read_text().splitlines()
    assert asked == ["update", "download toy-doc"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    (mirror / "down").touch()
    assert lucie(tmp_path / "two") == 0
    assert (mirror / "calls").read_text().splitlines() == asked


def test_what_was_fetched_before_a_failure_stays(
    mirror: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(home)
    (mirror / "down").touch()
    assert lucie(tmp_path / "c") == 1
    assert "apt could not fetch it: E: Failed to fetch" in capsys.readouterr().err
    assert not [p for p in tmp_path.iterdir() if "c" in p.name and p.name != "mirror"]
    (mirror / "down").unlink()
    (mirror / "toy_text-1.0-py3-none-any.whl").unlink()
    assert lucie(tmp_path / "c") == 0


def test_lists_of_which_one_does_not_come_are_none(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A corpus without its texts would pass for one with them."""
    (mirror / "silent").write_text(f"{PREFIX}_main_i18n_Translation-it")
    assert lucie(tmp_path / "c") == 1
    said = capsys.readouterr().err
    assert f"E: Failed to fetch {PREFIX}_main_i18n_Translation-it" in said
    assert "not in the release" not in said
    (mirror / "silent").unlink()
    assert lucie(tmp_path / "c") == 0
    assert "Left out" not in capsys.readouterr().err


def test_a_damaged_list_that_is_removed_comes_anew(
    mirror: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lucie(tmp_path / "one")
    lists = home / "cache/corpus/lists"
    with (lists / f"{PREFIX}_main_i18n_Translation-it").open("ab") as file:
        file.write(b"\xff")
    assert lucie(tmp_path / "two") == 1
    assert f"lists/{file.name.rpartition('/')[2]}: the package is damaged" in (
        capsys.readouterr().err
    )
    Path(file.name).unlink()  # as it says
    assert lucie(tmp_path / "two") == 0
    assert built(tmp_path / "two").files == built(tmp_path / "one").files


def test_each_description_is_of_the_day_of_its_list(mirror: Path, tmp_path: Path) -> None:
    later = mirror / "lists" / f"{PREFIX}-updates_InRelease"
    later.write_text(release("Thu, 26 Nov 2026 08:00:00 UTC"))
    list_of = later.with_name(f"{PREFIX}-updates_main_i18n_Translation-it")
    list_of.write_text(translation("it", range(50, 60)), encoding="utf-8")
    lucie(tmp_path / "c", "--sources", "descriptions")
    dates = [d.date for d in read_documents(tmp_path / "c")]
    assert {day: dates.count(day) for day in set(dates)} == {"2026-07-11": 50, "2026-11-26": 10}
    (source,) = built(tmp_path / "c").data
    assert (source.first_date, source.last_date) == ("2026-07-11", "2026-11-26")
    packages = built(tmp_path / "c").recipe["packages"]
    assert isinstance(packages, dict)
    assert packages["Translation-it"]["version"] == "2026-11-26"


def test_a_wheel_that_is_another_is_refused(
    mirror: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(home)
    wheel(mirror, "toy-text", "1.0", {"toy/fr.json": b"{}"})
    assert lucie(tmp_path / "c") == 1
    assert "not the one expected" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_release_without_a_package(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mirror / "toy-doc_2.0-1_all.deb").unlink()
    assert lucie(tmp_path / "c") == 0
    assert "Left out: handbook-fr, handbook-en. toy-doc is not in the release" in (
        capsys.readouterr().err
    )
    skipped = built(tmp_path / "c").recipe["skipped"]
    assert isinstance(skipped, dict)
    assert set(skipped) == {"handbook-fr", "handbook-en"}
    assert lucie(tmp_path / "d", "--sources", "intros,handbook") == 1
    assert "handbook-fr cannot be had here" in capsys.readouterr().err


def test_what_whole_lists_do_not_name_is_asked_for_once(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until apt is set up for another release."""
    (mirror / "toy-doc_2.0-1_all.deb").unlink()
    for name in ("one", "two"):
        assert lucie(tmp_path / name) == 0
    assert (mirror / "calls").read_text().splitlines().count("update") == 1
    etc = tmp_path / "etc"
    (etc / "sources.list.d").mkdir(parents=True)
    (etc / "sources.list.d/x.sources").touch()
    os.utime(etc / "sources.list.d/x.sources", (2**32, 2**32))
    monkeypatch.setattr(debian, "_SOURCES", etc)
    assert lucie(tmp_path / "three") == 0
    assert (mirror / "calls").read_text().splitlines().count("update") == 2


def test_why_a_source_is_left_out_is_told_in_english_to_the_manifest(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The same corpus is the same on a French screen."""
    (mirror / "toy-doc_2.0-1_all.deb").unlink()
    lucie(tmp_path / "en")
    monkeypatch.setenv("LUCIE_LANG", "fr")
    capsys.readouterr()
    lucie(tmp_path / "fr")
    said = capsys.readouterr().err
    assert translate("corpus.no-package", {"name": "toy-doc"}, lang="fr", folder=FOLDER) in said
    assert " Mo " in said
    assert " MB" not in said
    one, two = built(tmp_path / "en").recipe["skipped"], built(tmp_path / "fr").recipe["skipped"]
    assert one == two
    assert "toy-doc is not in the release" in str(two)


def test_a_machine_without_apt(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert lucie(tmp_path / "c") == 0
    said = capsys.readouterr().err
    assert "Left out: handbook-fr, handbook-en, descriptions-it. apt-get is not on" in said
    assert {d.source for d in read_documents(tmp_path / "c")} == {"intros"}
    assert lucie(tmp_path / "d", "--sources", "handbook") == 1
    assert lucie(tmp_path / "d", "--languages", "it") == 1
    assert "None of the sources can be had here" in capsys.readouterr().err


def test_a_damaged_package(
    mirror: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lucie(tmp_path / "one")
    package = home / "cache/corpus/debs/toy-doc_2.0-1_all.deb"
    package.write_bytes(package.read_bytes()[:300])
    capsys.readouterr()
    assert lucie(tmp_path / "two") == 1
    assert "the package is damaged" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(("mark", "more"), [(b"./usr/share/doc/toy-doc/en/1", 100), (b"<h1>1", 9)])
def test_a_package_that_stops_before_its_last_file(
    mirror: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str],
    mark: bytes, more: int,
) -> None:  # fmt: skip
    """Within a file's header, where a stream of tar just ends, and within a file."""
    debs = home / "cache/corpus/debs"
    debs.mkdir(parents=True)
    deb(debs, "toy-doc", "2.0-2", pages(), DAY, packed="none")
    package = debs / "toy-doc_2.0-2_all.deb"
    assert lucie(tmp_path / "whole") == 0
    content = package.read_bytes()
    package.write_bytes(content[: content.rindex(mark) + more])
    capsys.readouterr()
    assert lucie(tmp_path / "cut") == 1
    assert f"{package}: the package is damaged" in capsys.readouterr().err
    package.write_bytes(content[:50])
    assert lucie(tmp_path / "cut") == 1
    assert f"{package}: the package is damaged" in capsys.readouterr().err


def test_corpora_of_different_shares_are_not_mixed(
    mirror: Path, kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one holds out, another would train on."""
    for name, share in (("tenth", "10%"), ("fifth", "20%")):
        assert lucie(tmp_path / name, "--heldout", share, "--sources", "intros") == 0
    tenth, fifth = tmp_path / "tenth", tmp_path / "fifth"
    plain = kitchen / "text.jsonl"

    def read(*mixture: Path, evaluation: tuple[Path, ...] = ()) -> set[str]:
        parts = ", ".join(f'{{path="{path}"}}' for path in mixture)
        named = json.dumps(list(map(str, evaluation)))
        settings = [f"data.mixture=[{parts}]", f"data.evaluation={named}"]
        asked = read_recipe(Recipe, kitchen / "recipe.toml", settings)
        return {each.language for each in read_texts(asked, lambda *_: None).held_out}

    for mixture, evaluation in (
        ((tenth, fifth), ()), ((tenth,), (fifth,)), ((tenth, plain), ()), ((plain,), (fifth,)),
    ):  # fmt: skip
        with pytest.raises(PretrainUsageError) as raised:
            read(*mixture, evaluation=evaluation)
        assert raised.value.code == "tokens.shares"
    assert f"{plain} holds out 1.00 % of its documents, {fifth} 20.00 %" in str(raised.value)
    monkeypatch.setenv("LUCIE_LANG", "fr")
    with pytest.raises(PretrainUsageError) as raised:
        read(plain, fifth)
    assert f"{plain} réserve 1,00 % de ses documents, {fifth} 20,00 %" in str(raised.value)
    assert read(tenth, evaluation=(tenth,)) == {"tenth"}
    assert read(tenth, evaluation=(plain,)) == {"text"}


def test_ctrl_c_leaves_nothing_but_what_was_fetched(
    mirror: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def pressed(*_: object) -> Iterator[tuple[str, str]]:
        yield "a", SAME
        raise KeyboardInterrupt

    monkeypatch.setattr("pretrain.corpus.build.extract", pressed)
    target = tmp_path / "out"
    assert lucie(target / "c") == 130
    assert "Interrupted. What has been fetched is kept" in capsys.readouterr().err
    assert not list(target.iterdir())
    assert (home / "cache/corpus/debs/toy-doc_2.0-1_all.deb").exists()


def test_what_is_wrong_on_the_command_line(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c"
    for words, said in [
        (["--languages", "fr,tlh"], "tlh: no language"),
        (["--sources", "x"], "x: no source"),
        (["--languages", "fr,,en"], "not a list of names"),
        (["--heldout", "60%"], "no share from 0 to 50"),
        (["--heldout", "nan"], "no share from 0 to 50"),
        (["--heldout", "some"], "no share from 0 to 50"),
        (["--limit-mb", "-1"], "-1"),
        (["--limit-mb", "nan"], "nan"),
    ]:
        assert lucie(out, *words) == 2, words
        assert said in capsys.readouterr().err, words
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    assert lucie(out) == 1
    assert str(out) in capsys.readouterr().err
    assert (out / "mine.txt").read_text() == "kept"
    assert not (mirror / "calls").exists()


def test_the_list_of_sources_goes_to_stdout(
    mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "corpus", "--list"]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    lines = shown.out.splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:5] == ["handbook", "fr,en", "GPL-2.0-or-later", "OR", "CC-BY-SA-3.0"]
    assert "of package" in lines[2]
    assert "2026-08" in lines[1]


def test_files_are_compressed_and_have_the_columns(mirror: Path, tmp_path: Path) -> None:
    lucie(tmp_path / "c")
    file = pq.ParquetFile(tmp_path / "c/train/intros-fr.parquet")
    assert file.schema_arrow.names == ["id", "text", "source", "licence", "language", "date"]
    assert file.metadata.row_group(0).column(1).compression == "ZSTD"


def test_the_key_sees_no_white_space() -> None:
    assert text_key("a  b\n\nc ") == text_key("a b c")
    assert text_key("a b c") != text_key("ab c")
    # By `printf 'a b c' | b2sum -l 128`.
    assert text_key("a b c").hex() == "bf20797f12a991ed2a5ddfdaef9283f6"


def test_shares() -> None:
    keys = [hashlib.md5(str(n).encode(), usedforsecurity=False).digest() for n in range(20_000)]
    assert not any(held_out(key, 0.0) for key in keys)
    out = [key for key in keys if held_out(key, 0.01)]
    assert 200 - 60 < len(out) < 200 + 60  # four standard deviations
    assert set(out) <= {key for key in keys if held_out(key, 0.02)}
    # The other half of the key decides on samples: those held out are no rarer in them.
    half = sum(sampling_rank(key) < 2**63 for key in out) / len(out)
    assert 0.35 < half < 0.65


def test_a_sample_takes_the_lowest_ranks_that_fit() -> None:
    import numpy as np

    ranks = np.array([5, 1, 2**64 - 1, 3], np.uint64)
    sizes = np.array([400_000, 300_000, 10, 300_001], np.int64)
    assert _sample(ranks, sizes, None).tolist() == [True] * 4
    assert _sample(ranks, sizes, 0.7).tolist() == [False, True, False, True]
    assert _sample(ranks, sizes, 2.0).tolist() == [True] * 4
    assert _sample(ranks[:0], sizes[:0], 1.0).tolist() == []
