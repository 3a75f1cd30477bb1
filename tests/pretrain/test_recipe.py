"""Recipes: what they refuse, what the command line sets, what a person is told of them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from distill.chat.recipe import ChatRecipe
from distill.recipe import ShrinkRecipe
from distill.words import FOLDER as DISTILLING
from edge.messages import text
from pretrain.difference import difference
from pretrain.errors import PretrainUsageError
from pretrain.fields import fields, listing
from pretrain.order import place
from pretrain.recipe import BaseRecipe, Recipe
from pretrain.recipe_file import read_recipe
from pretrain.result import recorded
from pretrain.words import FOLDER


def read(kitchen: Path, *settings: str) -> Recipe:
    return read_recipe(Recipe, kitchen / "recipe.toml", settings)


def test_paths_are_relative_to_the_recipe(kitchen: Path) -> None:
    recipe = read(kitchen)
    assert recipe.data.mixture[0].path == str(kitchen / "text.jsonl")
    assert recipe.tokenizer_path == kitchen / "model"


def test_the_command_line_sets_any_field(kitchen: Path) -> None:
    recipe = read(
        kitchen,
        "schedule.steps=7",
        "schedule.kind=wsd",
        "optimizer.betas=[0.8, 0.9]",
        "model.tie_word_embeddings=false",
        'data.mixture=[{path="a", weight=1.0}, {path="b", weight=3.0}]',
    )
    assert (recipe.schedule.steps, recipe.schedule.kind) == (7, "wsd")
    assert recipe.optimizer.betas == (0.8, 0.9)
    assert recipe.model.tie_word_embeddings is False
    assert [part.weight for part in recipe.data.mixture] == [1.0, 3.0]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("schedule.rate=nan", "schedule.rate"),
        ("schedule.steps=-1", "schedule.steps"),
        ("schedule.typo=1", "schedule.typo"),
        ("optimizer.betas=[0.9]", "optimizer.betas"),
        ("parallel.data=0", "parallel.data"),
        ("name=x", "name"),
        ("model.from=x", "from"),
        ('data.mixture=[{path="a", weight=1.0}, {path="b"}]', "weight"),
    ],
)
def test_what_is_wrong_is_named(kitchen: Path, setting: str, said: str) -> None:
    with pytest.raises(PretrainUsageError) as raised:
        read(kitchen, setting)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_field_in_a_list_is_set_by_its_number(kitchen: Path) -> None:
    mixture = read(kitchen).data.mixture
    changed = read(kitchen, "data.mixture.0.weight=0.25").data.mixture
    assert changed[0].weight == 0.25
    assert changed[0].path == mixture[0].path
    assert changed[1:] == mixture[1:]
    for number in (len(mixture), "00", "-1", "²", "x", "0.path.0"):
        with pytest.raises(PretrainUsageError, match="sets no field"):
            read(kitchen, f"data.mixture.{number}.weight=0.25")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("schedule.steps=x", "schedule.steps : doit être un nombre entier."),
        ("schedule.steps=0", "schedule.steps : doit être > 0."),
        ("schedule.steps=true", "schedule.steps : doit être un nombre entier."),
        ('schedule.steps="7"', "schedule.steps : doit être un nombre entier."),
        ("schedule.rate=true", "schedule.rate : doit être un nombre, et fini."),
        ("schedule.rate=1e300", "schedule.rate : doit être ≤ 1e+30."),
        ("data.mixture=[{path=''}]", "data.mixture.0.path : ne doit pas être vide."),
        ("schedule.rate=inf", "schedule.rate : doit être un nombre, et fini."),
        ("schedule.kind=x", "doit être l’une de ces valeurs : 'cosine', 'wsd', 'linear'."),
        ("optimizer.betas=[1.0, 0.9]", "optimizer.betas.0 : doit être < 1."),
        ("optimizer.betas=[0, 0, 0]", "a trop d’éléments."),
        ("data.mixture=[]", "a trop peu d’éléments."),
        ("data.mixture=[{}]", "data.mixture.0.path : manque."),
        ("data.mixture=x", "doit être une liste"),
        ("data=5", "data : doit être une table"),
        ("recompute=3", "recompute : doit être true ou false."),
        ("data.separator=5", "data.separator : doit être un texte"),
        ("nix=1", "nix : ce champ n’existe pas."),
        ("batch.sequences=1099511627776", "batch.sequences : doit être ≤ 1\u00a0048\u00a0576."),
        ("batch.together=1048577", "batch.together : doit être ≤ 1\u00a0048\u00a0576."),
        ("schedule.steps=2147483649", "schedule.steps : doit être ≤ 2\u00a0147\u00a0483\u00a0648."),
        ("parallel.data=3", "recipe.toml : batch.sequences 8 n’est pas un multiple"),
    ],
)
def test_why_it_is_wrong_is_told_in_the_readers_language(
    kitchen: Path, monkeypatch: pytest.MonkeyPatch, setting: str, said: str
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    with pytest.raises(PretrainUsageError) as raised:
        read(kitchen, setting)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ('model.tokenizer="a\\u0000"', "model.tokenizer"),
        ('model={from="\\u0000"}', "model.from"),
        ('data.evaluation=["a", "\\u0000b"]', "data.evaluation.1"),
    ],
)
def test_a_nul_is_in_no_name(kitchen: Path, setting: str, field: str) -> None:
    with pytest.raises(PretrainUsageError, match=rf"{field}: has a NUL"):
        read(kitchen, setting)


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    too_much = b"#" * ((1 << 20) + 1)
    for content in (b"\xff\xfe", b"[model", b"", b"x = " + b"[" * 100_000, too_much):
        path = tmp_path / "recipe.toml"
        path.write_bytes(content)
        with pytest.raises(PretrainUsageError) as raised:
            read_recipe(Recipe, path)
        assert str(path) in str(raised.value)
    with pytest.raises(PretrainUsageError):
        read_recipe(Recipe, tmp_path / "none.toml")
    with pytest.raises(PretrainUsageError, match="> 1 MiB"):
        read_recipe(Recipe, Path("/dev/zero"))


def test_a_step_has_as_many_tokens_as_a_process_can_hold(kitchen: Path) -> None:
    """2²⁰ sequences of 256 are the most; and each of both fields has its own bound."""
    most = read(kitchen, "batch.sequences=1048576", "data.length=256")
    assert most.batch.sequences * most.data.length == 1 << 28
    for settings in (
        ["batch.sequences=1048576", "data.length=257"],
        ["batch.sequences=257", "data.length=1048576"],
    ):
        with pytest.raises(
            PretrainUsageError, match=r"are more tokens than a step may have"
        ) as one:
            read(kitchen, *settings)
        assert "\n" not in str(one.value)


def test_the_order_is_exact_to_the_last_sequence_that_a_recipe_allows() -> None:
    """Steps × sequences; where doubles are not, neighbours fall on one place."""
    last = (1 << 31) * (1 << 20) - 1
    for weights in ([1.0, 2.0], [0.1, 0.3, 0.6]):
        places = [place(last - n, weights) for n in range(200)]
        assert len(set(places)) == 200


@pytest.mark.parametrize(
    ("more", "line", "reason"),
    [
        ("[schedule]\nsteps = 1\nsteps = 2\nrate = 1.0\n", 3, "Cannot overwrite a value"),
        ("[data]\n\n[data]\nlength = 8\n", 3, "Cannot declare ('data',) twice"),
        ("betas = [0.9,\n0.95\n\n", 2, "Unclosed array"),
    ],
)
def test_the_line_that_is_no_toml_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, line: int, reason: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(more, encoding="utf-8")
    for language, said in (("en", f", line {line}: "), ("fr", f", ligne {line} : ")):
        monkeypatch.setenv("LUCIE_LANG", language)
        with pytest.raises(PretrainUsageError) as raised:
            read_recipe(Recipe, path)
        assert str(raised.value).startswith(f"{path}{said}")
        assert f"({reason})" in str(raised.value)
        assert "--fields" in str(raised.value)


@pytest.mark.parametrize(
    "value", ["9" * 5000, "0x" + "f" * 5000, "[" * 5000, "[" * 300 + "]" * 300, "\udcff"],
    ids=["digits", "hex", "open", "nested", "bytes"],
)  # fmt: skip
def test_what_no_number_holds_is_one_line(kitchen: Path, tmp_path: Path, value: str) -> None:
    with pytest.raises(PretrainUsageError) as raised:
        read(kitchen, f"data.length={value}")
    assert str(raised.value).startswith("data.length cannot be read: ")
    assert "\n" not in str(raised.value)
    if value.isprintable():
        path = tmp_path / "recipe.toml"
        path.write_text(f"[data]\nlength = {value}\n", encoding="utf-8")
        with pytest.raises(PretrainUsageError) as raised:
            read_recipe(Recipe, path)
        assert str(raised.value).startswith(f"{path}")
        assert raised.value.code in ("recipe.beyond", "recipe.not-toml")


def test_a_field_in_thousands_of_tables_is_none(kitchen: Path) -> None:
    with pytest.raises(PretrainUsageError) as raised:
        read(kitchen, ".".join(["a"] * 20_000) + "=1")
    assert raised.value.code == "recipe.setting"
    assert len(str(raised.value)) < 400


def test_how_work_is_shared_is_not_what_is_learned(kitchen: Path) -> None:
    same = read(kitchen).sha256()
    assert read(kitchen, "parallel.data=2", "save_every_s=1.0", "recompute=true").sha256() == same
    assert read(kitchen, "seed=9").sha256() != same
    assert read(kitchen, "batch.sequences=4").sha256() != same


def test_what_two_recipes_differ_in_is_named(
    kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read(kitchen)
    assert difference(recipe, recipe) == ""
    watched = read(kitchen, "parallel.data=2", "batch.together=8", "seed=2")
    assert difference(recipe, watched) == "seed 1 → 2"
    more = read(kitchen, 'data.mixture=[{path="a"}, {path="b"}]')
    place = kitchen / "text.jsonl"
    said = difference(recipe, more)
    assert said.startswith("data.mixture.0.path ")
    assert said.split(" → ")[1].startswith(("…", '"'))
    assert "data.mixture.1.path – → " in said
    assert str(place)[-10:] in said
    many = read(kitchen, "seed=2", "batch.sequences=4", "schedule.steps=3", "data.length=16",
                "schedule.kind=wsd")  # fmt: skip
    assert difference(recipe, many).endswith(", 2 more")
    monkeypatch.setenv("LUCIE_LANG", "fr")
    assert difference(recipe, many).endswith(", 2 de plus")


def test_paths_that_begin_alike_are_shown_where_they_differ(kitchen: Path) -> None:
    """As when a training is taken up from another folder than it was begun in."""
    text = (kitchen / "recipe.toml").read_text(encoding="utf-8")
    deep = "/".join(["a-folder"] * 20)
    known, given = (
        Recipe.model_validate(tomllib.loads(text.replace("text.jsonl", f"{deep}/{last}.jsonl")))
        for last in ("first", "second")
    )
    assert difference(known, given) == (
        'data.mixture.0.path …er/a-folder/first.jsonl" → …er/a-folder/second.jsonl"'
    )


def test_what_a_noted_recipe_says_cannot_move_the_cursor(kitchen: Path) -> None:
    known = read(kitchen).model_copy(update={"precision": "\x1b[2J\n" + "x" * 500})
    said = difference(known, read(kitchen))
    assert said.isprintable()
    assert len(said) < 100


def test_every_field_is_told_as_its_docstring_has_it() -> None:
    ours = dict(fields(Recipe))
    for name, field in fields(ShrinkRecipe):
        folder = FOLDER if name in ours else DISTILLING
        told = text(f"fields.{name.replace('.', '-')}", folder=folder)
        assert told == " ".join((field.description or "").split()).replace("'", "’"), name


@pytest.mark.parametrize("kind", [Recipe, ShrinkRecipe, ChatRecipe])
def test_a_listing_can_be_pasted(kind: type[BaseRecipe], tmp_path: Path) -> None:
    """With what has to be given: a number of steps, where to begin, and what is cut."""
    shown = listing(kind, (DISTILLING, FOLDER), "chatfields" if kind is ChatRecipe else "fields")
    for blank, given in (("steps = …", "steps = 7"), ("#from", "from"), ("#ffn = …", "ffn = 8")):
        shown = shown.replace(f"\n{blank}", f"\n{given}")
    (tmp_path / "recipe.toml").write_text(shown, encoding="utf-8")
    read_recipe(kind, tmp_path / "recipe.toml")


def test_a_listing_is_toml_with_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = listing(Recipe)
    known = tomllib.loads(shown.replace("steps = …", "steps = 7"))
    assert known["optimizer"]["betas"] == [0.9, 0.95]
    assert known["data"]["mixture"][0]["path"] == "…"
    assert '\n#from = "…"\n' in shown
    monkeypatch.setenv("LUCIE_LANG", "fr")
    assert "# Ce qui est lu.\n[data]" in listing(Recipe)


def test_a_manifest_tells_no_folder_of_this_computer(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        'cuts = [{ ffn = 8 }]\nmodel = { from = "a/b" }\n'
        'teacher = { model = "a/b", cache = "a/c" }\n'
        'importance = { texts = [{ path = "a/d.txt" }] }\nschedule = { steps = 1 }\n'
        'data = { mixture = [{ path = "a/e" }], evaluation = ["a/f"] }\n',
        encoding="utf-8",
    )
    kept = recorded(read_recipe(ShrinkRecipe, tmp_path / "recipe.toml"))
    assert kept["importance"]["texts"][0]["path"] == "d.txt"
    assert str(tmp_path) not in str(kept)
    assert "a/" not in str(kept)
