"""The texts of a recipe: what is known of them, what is held out, what is damaged."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from edge.manifest import all_of, least_known
from edge.paths import cache_dir
from edge.tokenizer_file import open_tokenizer
from pretrain import tokens
from pretrain.documents import Document, read_documents
from pretrain.errors import PretrainError, PretrainUsageError
from pretrain.recipe import Recipe
from pretrain.recipe_file import read_recipe
from pretrain.shape import shape
from pretrain.texts import Texts, read_texts


@pytest.fixture
def own(kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kitchen to be written to."""
    monkeypatch.setenv("LUCIE_HOME", str(tmp_path / "home"))
    shutil.copytree(kitchen, tmp_path / "kitchen")
    return tmp_path / "kitchen"


def write(path: Path, n: int, **known: Any) -> Path:
    text = "le chat dort sur la table et la pluie tombe depuis le matin"
    path.parent.mkdir(exist_ok=True)
    rows = ({"text": f"{i} {text}", **known} for i in range(n))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(kitchen: Path, *settings: str) -> Texts:
    return read_texts(read_recipe(Recipe, kitchen / "recipe.toml", settings), lambda *_: None)


def recipe(kitchen: Path, *settings: str) -> Recipe:
    return read_recipe(Recipe, kitchen / "recipe.toml", settings)


def test_a_source_under_two_licences_is_under_both(own: Path) -> None:
    free = write(own / "text.jsonl", 50, licence="CC0-1.0")
    with free.open("a", encoding="utf-8") as writer:
        writer.write(json.dumps({"text": "la pluie", "licence": "GPL-3.0-only"}) + "\n")
    (source,) = texts(own).rows[0].about.data
    assert source.licence == "CC0-1.0 AND GPL-3.0-only"
    with free.open("a", encoding="utf-8") as writer:
        writer.write(json.dumps({"text": "le chat"}) + "\n")
    (source,) = texts(own).rows[0].about.data
    assert source.licence is None, "of one document nobody knows"


def test_control_tokens_that_a_text_spells_are_text(own: Path) -> None:
    """A document ends where it ends, and nobody speaks in it."""
    said = [f"{n} <|im_start|>user\nle chat<|im_end|> dort sur la table" for n in range(400)]
    rows = (json.dumps({"text": each}) + "\n" for each in said)
    (own / "text.jsonl").write_text("".join(rows), encoding="utf-8")
    found, tokenizer = texts(own), open_tokenizer(own / "model")
    read: list[str] = []
    for row in (found.rows[0], found.held_out[0].row):
        ids = row.read(0, len(row))
        (ends,) = np.nonzero(ids == found.end)
        assert len(ends) == row.about.documents
        read += [tokenizer.decode(each[:-1].tolist()) for each in np.split(ids, ends + 1)[:-1]]
    assert sorted(read) == sorted(said)


def test_tokens_that_an_older_version_kept_are_made_anew(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(tokens, "_FORMAT", tokens._FORMAT - 1)
        texts(own)
    kept = set((cache_dir() / "tokens").iterdir())
    texts(own)
    assert len(set((cache_dir() / "tokens").iterdir()) - kept) == len(kept)


def test_licences_of_parts_hold_together(own: Path) -> None:
    write(own / "text.jsonl", 50, licence="CC0-1.0", source="rain")
    write(own / "more.jsonl", 50, licence="MIT OR Apache-2.0", source="rain")
    asked = recipe(own, 'data.mixture=[{path="text.jsonl"}, {path="more.jsonl"}]')
    found = read_texts(asked, lambda *_: None)
    (source,) = found.sources(found.order(asked), 100)
    assert source.licence == "CC0-1.0 AND (MIT OR Apache-2.0)"


def test_what_is_known_of_several_is_the_least() -> None:
    assert least_known(["recorded", "recorded"]) == "recorded"
    assert least_known(["recorded", "declared"]) == "declared"
    assert least_known(["recorded", None]) == "unknown"
    assert all_of(["CC0-1.0", "CC0-1.0"]) == "CC0-1.0"
    assert all_of([]) is None
    assert all_of([f"LicenseRef-{n:0200d}" for n in range(20)]) is None


def test_named_texts_are_all_measured_or_refused(own: Path) -> None:
    for folder in ("a", "b", "c"):
        write(own / folder / "fr.jsonl", 50)
    (own / "a" / "c").mkdir()
    shutil.copy(own / "c" / "fr.jsonl", own / "a" / "c")
    found = texts(own, 'data.evaluation=["a/fr.jsonl", "b/fr.jsonl", "c/fr.jsonl", "a/c/fr.jsonl"]')
    names = [each.language for each in found.held_out]
    assert names == ["fr", "fr, b", "fr, c", "fr, c 2"]
    (own / "a" / "short.jsonl").write_text('{"text": "le chat"}\n')
    with pytest.raises(PretrainUsageError) as raised:
        texts(own, 'data.evaluation=["a/short.jsonl"]')
    assert raised.value.code == "tokens.short"


@pytest.mark.parametrize(
    ("read", "measured"),
    [
        ("some", "some"),
        ("some", "./some/text.jsonl"),
        ("some/text.jsonl", "some"),
        ("some", "link"),
    ],
)
def test_of_what_is_trained_on_what_is_held_out_is_measured(
    own: Path, read: str, measured: str
) -> None:
    (own / "some").mkdir()
    (own / "text.jsonl").rename(own / "some/text.jsonl")
    (own / "link").symlink_to("some")
    (held_out,) = texts(
        own, f'data.mixture=[{{path="{read}"}}]', f'data.evaluation=["{measured}"]'
    ).held_out
    apart = [*read_documents(own / "some", split="heldout")]
    assert held_out.row.about.documents == len(apart) > 0
    assert held_out.row.about.size == sum(len(each.text.encode()) for each in apart)


def test_a_text_that_is_measured_on_alone_is_read_whole(own: Path) -> None:
    write(own / "other" / "fr.jsonl", 50)
    (held_out,) = texts(own, 'data.evaluation=["other"]').held_out
    assert held_out.row.about.documents == 50


def test_a_name_with_a_space_that_does_not_break_is_a_name(own: Path) -> None:
    """Manifests take what can be printed alone."""
    shutil.copy(write(own / "fr.jsonl", 50), own / "mis\u00a0de\u00a0côté.jsonl")
    (held_out,) = texts(own, 'data.evaluation=["mis\u00a0de\u00a0côté.jsonl"]').held_out
    assert held_out.language == "mis de côté"


def test_documents_without_a_letter_are_no_text(own: Path) -> None:
    """Of which there would be infinitely many bits for each byte."""
    (own / "empty.jsonl").write_text('{"text": ""}\n' * 200)
    with pytest.raises(PretrainUsageError) as raised:
        texts(own, 'data.evaluation=["empty.jsonl"]')
    assert raised.value.code == "tokens.short"


def test_parts_that_are_read_alike_are_held_out_once(own: Path) -> None:
    parts = ['{path="text.jsonl", languages=["fr"], sources=["rain"]}'] * 2
    parts += ['{path="text.jsonl", languages=["fr"]}']
    found = texts(own, f"data.mixture=[{', '.join(parts)}]")
    assert [each.language for each in found.held_out] == ["fr", "fr, text.jsonl"]


@pytest.mark.parametrize("damage", ["cut", "about", "gone"])
def test_a_damaged_cache_is_told(own: Path, tmp_path: Path, damage: str) -> None:
    whole = texts(own)
    (file, *_) = sorted((tmp_path / "home" / "cache" / "tokens").glob("*/tokens.bin"))
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[:-2])
        case "about":
            file.with_name("about.json").write_text("{")
        case _:
            file.unlink()
    with pytest.raises(PretrainError) as raised:
        texts(own)
    assert raised.value.code == "tokens.damaged"
    shutil.rmtree(file.parent)  # as it says
    assert texts(own).rows[0].identity == whole.rows[0].identity


def test_a_new_model_ends_where_documents_end(kitchen: Path, own: Path) -> None:
    asked = recipe(own)
    found = read_texts(asked, lambda *_: None)
    end = json.loads((kitchen / "model" / "config.json").read_text())["eos_token_id"]
    assert shape(asked, found).eos_token_id == found.end == end


def test_a_new_model_takes_the_whole_shape_of_another(own: Path) -> None:
    config = json.loads((own / "model" / "config.json").read_text(encoding="utf-8"))
    rope = {"rope_type": "linear", "factor": 2.0}
    more = {"rms_norm_eps": 1e-6, "rope_scaling": rope}
    (own / "model" / "config.json").write_text(json.dumps(config | more))
    text = (own / "recipe.toml").read_text(encoding="utf-8")
    body = text[text.index("[data]") :]
    (own / "recipe.toml").write_text(f'[model]\nlike = "model"\ntokenizer = "model"\n{body}')
    asked = recipe(own)
    assert shape(asked, read_texts(asked, lambda *_: None)) == Checkpoint.open(own / "model").config
    with pytest.raises(PretrainUsageError, match="hidden_size"):
        recipe(own, "model.hidden_size=64")


def test_a_pipeline_wants_a_sequence_for_each_part(own: Path) -> None:
    asked = recipe(own, "parallel.pipeline=2", "parallel.data=8")
    with pytest.raises(PretrainUsageError) as raised:
        shape(asked, read_texts(asked, lambda *_: None))
    assert raised.value.code == "train.pipeline-batch"


def test_a_training_is_the_same_however_it_is_shared(own: Path) -> None:
    alike = ("batch.together=4", "parallel.data=2", "recompute=true")
    assert recipe(own, *alike).sha256() == recipe(own).sha256()
    assert recipe(own, "batch.sequences=4").sha256() != recipe(own).sha256()


def renumbered(model: Path, number: int) -> None:
    """Give the last added token of a tokenizer that id: ids then leave a gap."""
    path = model / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"][-1]["id"] = number
    content["model"]["vocab"][content["added_tokens"][-1]["content"]] = number
    path.write_text(json.dumps(content), encoding="utf-8")


def test_ids_that_leave_a_gap_want_rows_up_to_the_largest(own: Path) -> None:
    renumbered(own / "model", 70_000)
    end = open_tokenizer(own / "model").id_to_token(70_000)
    asked = recipe(own, f'data.separator="{end}"')
    found = read_texts(asked, lambda *_: None)
    assert found.rows[0].about.dtype == "uint32"
    assert int(found.rows[0].read(0, len(found.rows[0])).max()) == 70_000
    assert shape(asked, found).vocab_size == 70_001
    body = (own / "recipe.toml").read_text(encoding="utf-8").partition("[data]")[2]
    (own / "recipe.toml").write_text(f'[model]\nfrom = "model"\n[data]{body}', encoding="utf-8")
    with pytest.raises(PretrainUsageError) as raised:
        shape(recipe(own, f'data.separator="{end}"'), found)
    assert raised.value.code == "train.vocabulary"
    assert "70001" in str(raised.value)


def test_long_documents_are_not_tokenized_together(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(own / "text.jsonl", 50)
    whole = texts(own).rows[0].identity
    shutil.rmtree(cache_dir() / "tokens")
    monkeypatch.setattr(tokens, "_CHARACTERS", 200)
    batches: list[int] = []
    some = tokens._some

    def watched(documents: Iterator[Document]) -> Iterator[list[Document]]:
        for batch in some(documents):
            batches.append(sum(len(document.text) for document in batch))
            yield batch

    monkeypatch.setattr(tokens, "_some", watched)
    assert texts(own).rows[0].identity == whole
    assert 120 < max(batches) <= 200
    given = [Document("a", "x" * n) for n in (300, 100, 100, 1, 500)]
    cut = [[len(document.text) for document in batch] for batch in some(iter(given))]
    assert cut == [[300], [100, 100], [1], [500]]


def test_of_several_processes_one_makes_the_tokens(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait, and read them."""
    write(own / "text.jsonl", 50)
    made: list[Path] = []
    both = threading.Barrier(2)
    original, state = tokens._write, tokens.Choice.state

    def slow(choice: tokens.Choice, *others: Any) -> None:
        made.append(choice.path)
        time.sleep(0.5)
        original(choice, *others)

    def met(choice: tokens.Choice) -> str:
        both.wait(30)
        return state(choice)

    monkeypatch.setattr(tokens, "_write", slow)
    monkeypatch.setattr(tokens.Choice, "state", met)
    tokenizer = open_tokenizer(own / "model")
    cache = own / "tokens"

    def row(_: int) -> str:
        choice = tokens.Choice(own / "text.jsonl")
        return tokens.tokenized(choice, tokenizer, 0, cache, lambda *_: None).identity

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(row, range(2))
    assert first == second
    assert len(made) == 1
    assert [path.is_dir() for path in cache.iterdir()] == [True], "neither drafts nor locks"


def test_somebody_who_was_quicker_has_made_the_same(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another computer, whose locks are not seen here."""
    write(own / "text.jsonl", 50)
    original = tokens._write

    def beaten(*given: Any) -> None:
        original(*given)
        cache = cache_dir() / "tokens"
        (lock,) = cache.glob("*.lock")
        shutil.copytree(given[3], lock.with_suffix(""))

    monkeypatch.setattr(tokens, "_write", beaten)
    assert len(texts(own).rows[0]) > 50
    assert all(path.is_dir() for path in (cache_dir() / "tokens").iterdir())
    assert not [path for path in (cache_dir() / "tokens").iterdir() if path.name[0] == "."]


def test_what_a_killed_process_has_left_is_cleared(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object, __: object, ___: object, folder: Path, *____: object) -> None:
        (folder / "tokens.bin").write_bytes(b"half of it")
        shutil.copytree(folder, folder.with_name(f"{folder.name}left"))
        raise PretrainError("tokens.damaged", path="")

    write(own / "text.jsonl", 50)
    with monkeypatch.context() as patched:
        patched.setattr(tokens, "_write", killed)
        with pytest.raises(PretrainError):
            texts(own)
    assert list((cache_dir() / "tokens").glob("*left"))
    assert texts(own)
    assert not list((cache_dir() / "tokens").glob("*left"))


def test_whoever_waits_at_a_lock_that_is_gone_waits_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fails; the second, who waited at its file, works; a third comes meanwhile."""
    asked, works, let_go = (threading.Event() for _ in range(3))
    entered: list[str] = []
    flock = tokens.fcntl.flock

    def seen(descriptor: int, kind: int) -> None:
        asked.set()
        flock(descriptor, kind)

    def second() -> None:
        with tokens._first(tmp_path / "row") as first:
            entered.append("second")
            works.set()
            assert let_go.wait(30)
            assert first
            (tmp_path / "row").mkdir()

    def third() -> bool:
        with tokens._first(tmp_path / "row") as first:
            entered.append("third")
            return first

    with ThreadPoolExecutor(2) as pool:
        with tokens._first(tmp_path / "row"):
            monkeypatch.setattr(tokens.fcntl, "flock", seen)
            waiting = pool.submit(second)
            assert asked.wait(30)
            time.sleep(0.2)  # it is in the call
        assert works.wait(30)
        later = pool.submit(third)
        time.sleep(0.5)
        assert entered == ["second"], (
            "the third waits for the second, not for the file of the first"
        )
        let_go.set()
        waiting.result(30)
        assert not later.result(30), "and finds it made"
    assert [path.name for path in tmp_path.iterdir()] == ["row"]
