"""JSON schemas: every allowed walk ends in JSON that fits, and hostile schemas end in words."""

from __future__ import annotations

import gc
import json
import random
import re
import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.constraint import compile_schema, json_object
from edge.engine import Constraint
from edge.errors import EngineError, UsageError
from edge.llamacpp.vocab import Vocab
from tests.edge.vocabulary import vocabulary

Check = Any
_ANY = {"anyOf": [{"type": "null"}, {"type": "boolean"}, {"type": "integer"}]}
_NODE = {
    "type": "object",
    "properties": {
        "name": {"enum": ["feuille", "nœud"]},
        "below": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
    },
    "required": ["name", "below"],
    "additionalProperties": False,
}


def _is_node(value: Any) -> bool:
    return (
        value.keys() == {"name", "below"}
        and value["name"] in ("feuille", "nœud")
        and len(value["below"]) <= 2
        and all(map(_is_node, value["below"]))
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Schemas, each with what it means, checked by hand.
_SCHEMAS: dict[str, tuple[dict[str, Any], Check]] = {
    "object": (
        {
            "type": "object",
            "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 120}, "ok": _ANY},
            "required": ["age"],
            "additionalProperties": False,
        },
        lambda v: v.keys() <= {"age", "ok"} and _is_int(v["age"]) and 0 <= v["age"] <= 120,
    ),
    "array": (
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
        lambda v: 2 <= len(v) <= 4 and all(isinstance(item, bool) for item in v),
    ),
    "enum": (
        {"enum": ["été", "été 😀", 3, None, {"a": [1]}]},
        lambda v: v in ["été", "été 😀", 3, None, {"a": [1]}],
    ),
    "const": ({"const": '"\n\\é\u0000'}, lambda v: v == '"\n\\é\u0000'),
    "string length": (
        {"type": "string", "minLength": 2, "maxLength": 12},
        lambda v: 2 <= len(v) <= 12,
    ),
    "pattern": (
        {"type": "string", "pattern": "^(ab|cd){1,3}-[0-9]{4}$"},
        lambda v: re.fullmatch("(ab|cd){1,3}-[0-9]{4}", v),
    ),
    "date": (
        {"type": "string", "format": "date"},
        lambda v: re.fullmatch(r"\d{4}-\d\d-\d\d", v),
    ),
    "any of": (
        {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}}]},
        lambda v: _is_int(v) or all(item is None for item in v),
    ),
    "recursive": ({"$defs": {"node": _NODE}, "$ref": "#/$defs/node"}, _is_node),
    "names like keywords": (
        {
            "type": "object",
            "properties": {"$ref": {"const": 1}, "oneOf": {"const": 2}},
            "required": ["$ref", "oneOf"],
            "additionalProperties": False,
        },
        lambda v: v == {"$ref": 1, "oneOf": 2},
    ),
}


@pytest.fixture(scope="module")
def tokenizer(model_path: Path) -> Vocab:
    return vocabulary(model_path)


def _walk(constraint: Constraint, tokenizer: Vocab, rng: random.Random, most: int) -> bytes | None:
    """Take random allowed tokens to the end; None where `most` steps do not lead there."""
    text = b""
    ending = _ending(tokenizer)
    for _ in range(most):
        if constraint.finished():
            return text
        logits = np.zeros(tokenizer.n_vocab, np.float32)
        constraint.apply(logits)
        allowed = np.flatnonzero(logits == 0.0)
        assert allowed.size, text
        assert np.isneginf(logits).sum() + allowed.size == logits.size
        # Prefer what ends: else strings and numbers go on for ever.
        ends = allowed[ending[allowed]]
        choice = ends if ends.size and rng.random() < 0.3 else allowed
        token = int(choice[rng.randrange(choice.size)])
        constraint.accept(token)
        if token in tokenizer.eog:
            assert constraint.finished()
            return text
        text += tokenizer.piece(token)
    return None


@cache
def _ending(tokenizer: Vocab) -> NDArray[np.bool_]:
    """[V] which tokens close something."""
    ends = {b'"', b'",', b'"}', b"}", b"]", b"]}"}
    return np.array(
        [t in tokenizer.eog or tokenizer.piece(t) in ends for t in range(tokenizer.n_vocab)]
    )


@pytest.mark.parametrize("name", _SCHEMAS)
def test_random_walks_end_in_json_that_fits(name: str, tokenizer: Vocab) -> None:
    schema, fits = _SCHEMAS[name]
    rng = random.Random(name)
    ended = set()
    for _ in range(12):
        text = _walk(compile_schema(schema, tokenizer), tokenizer, rng, 250)
        if text is not None:
            value = json.loads(text)
            assert fits(value), text
            ended.add(json.dumps(value))
    assert ended
    assert len(ended) > 1 or name in ("const", "names like keywords")


def test_any_json_object(tokenizer: Vocab) -> None:
    rng = random.Random(3)
    texts = [_walk(json_object(tokenizer), tokenizer, rng, 200) for _ in range(15)]
    ended = [json.loads(text) for text in texts if text is not None]
    assert ended
    assert all(isinstance(value, dict) for value in ended)


def test_white_space_is_that_of_python(tokenizer: Vocab) -> None:
    """Else a small model may write blanks until its tokens run out."""
    schema, _ = _SCHEMAS["array"]
    rng = random.Random(4)
    for _ in range(5):
        text = _walk(compile_schema(schema, tokenizer), tokenizer, rng, 100)
        assert text is not None
        assert text.decode() == json.dumps(json.loads(text))


def test_control_tokens_are_never_allowed_inside(tokenizer: Vocab) -> None:
    constraint = json_object(tokenizer)
    control = [t for t in range(tokenizer.n_vocab) if not tokenizer.piece(t)]
    assert set(control) >= tokenizer.eog
    for token in tokenizer.encode('{"<|im_end|>', special=False):
        logits = np.zeros(tokenizer.n_vocab, np.float32)
        constraint.apply(logits)
        assert np.isneginf(logits[control]).all()
        assert logits[token] == 0
        constraint.accept(token)


def test_logits_of_allowed_tokens_stay_as_they_are(tokenizer: Vocab) -> None:
    logits = np.random.default_rng(0).normal(size=tokenizer.n_vocab).astype(np.float32)
    before = logits.copy()
    compile_schema({"type": "boolean"}, tokenizer).apply(logits)
    allowed = np.isfinite(logits)
    assert np.array_equal(logits[allowed], before[allowed])
    pieces = {tokenizer.piece(int(t)) for t in np.flatnonzero(allowed)}
    assert pieces >= {b"t", b"true", b"false"}
    assert all(b"true".startswith(p) or b"false".startswith(p) for p in pieces)


def test_a_token_that_is_not_allowed_is_a_mistake(tokenizer: Vocab) -> None:
    constraint = json_object(tokenizer)
    (token,) = tokenizer.encode("x", special=False)
    with pytest.raises(EngineError) as caught:
        constraint.accept(token)
    assert caught.value.facts == {"token": token}


def test_the_vocabulary_is_read_once(tokenizer: Vocab, monkeypatch: pytest.MonkeyPatch) -> None:
    json_object(tokenizer)
    monkeypatch.setattr(type(tokenizer), "piece", lambda *_: pytest.fail("read again"))
    json_object(tokenizer)


class _Same:
    """The tokenizer under another identity, to see it go."""

    def __init__(self, tokenizer: Vocab) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def test_the_vocabulary_goes_with_its_model(tokenizer: Vocab) -> None:
    model: Any = _Same(tokenizer)
    constraint = json_object(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is not None
    constraint.apply(np.zeros(tokenizer.n_vocab, np.float32))
    del constraint
    gc.collect()
    assert gone() is None


# -- hostile schemas -------------------------------------------------------------------


def _nested(schema: Any, levels: int) -> dict[str, Any]:
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def _doubled(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"anyOf": [schema, schema]}
    return schema


def _crossed(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for n in range(levels):
        other = {"type": "object", "properties": {f"b{n}": {"type": "integer"}}}
        third = {"type": "object", "properties": {f"c{n}": {}}}
        schema = {"allOf": [{"anyOf": [schema, other]}, {"anyOf": [{"type": "object"}, third]}]}
    return schema


def _pattern(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _chained(length: int) -> dict[str, Any]:
    defs: dict[str, Any] = {
        f"d{n}": {**_pattern(f".*{chr(97 + n)}.*"), "$ref": f"#/$defs/d{n + 1}"}
        for n in range(length)
    }
    return {"$defs": {**defs, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def _branched(length: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for n in range(length):
        schema = {**_pattern(f".*{chr(97 + n)}.*"), "anyOf": [schema]}
    return schema


_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "deep": (_nested({}, 10_000), "too-deep"),
    "deep lists": ({"enum": [json.loads("[" * 500 + "]" * 500)]}, "too-deep"),
    "long": ({"enum": [f"value {n}" for n in range(10_000)]}, "too-long"),
    "long pattern": (_pattern("a" * 70_000), "too-long"),
    "exponential anyOf": (_doubled(14), "too-long"),
    "crossed": (_crossed(9), "too-complex"),
    "remote": ({"$ref": "http://127.0.0.1:1/schema.json"}, "remote-ref"),
    "remote file": ({"items": {"$ref": "file:///etc/passwd"}, "type": "array"}, "remote-ref"),
    "relative": ({"$id": "http://a/b", "$ref": "c.json"}, "remote-ref"),
    "remote by id": ({"$defs": {"a": {"$id": "http://a/b"}}, "$ref": "#/$defs/c"}, "refused"),
    "missing": ({"$ref": "#/nowhere"}, "refused"),
    "beyond 64 bits": ({"type": "integer", "minimum": 2**64, "maximum": 2**64 + 4},
                       "bound-too-large"),
    "a float beyond": ({"items": {"exclusiveMaximum": -1e30}, "type": "array"}, "bound-too-large"),
    "to itself": ({"$ref": "#"}, "nothing-fits"),
    "in a circle": ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                     "$ref": "#/$defs/a"}, "nothing-fits"),
    "look-around": (_pattern("^(?=a)b"), "refused"),
    "back reference": (_pattern(r"(a)\1"), "refused"),
    "open class": (_pattern("["), "refused"),
    "brackets": (_pattern("(" * 5_000 + ")" * 5_000), "refused"),
    "type of wrong kind": ({"type": 5}, "refused"),
    "unknown type": ({"type": "text"}, "refused"),
    "properties as a list": ({"properties": []}, "refused"),
    "required as a text": ({"required": "a"}, "refused"),
    "bound as a text": ({"type": "integer", "minimum": "1"}, "refused"),
    "nothing to choose": ({"enum": []}, "refused"),
    "never": ({"properties": {"a": False}, "required": ["a"], "type": "object"}, "refused"),
    "unknown format": ({"type": "string", "format": "poem"}, "refused"),
    "not": ({"not": {"type": "string"}}, "refused"),
    "unique items": ({"type": "array", "uniqueItems": True}, "refused"),
    "one of": ({"oneOf": [{"type": "string"}, {"maxLength": 3, "type": "string"}]}, "one-of"),
    # what gets around the library's own limits
    "many patterns at once": ({"allOf": [_pattern(f".*{c}.*") for c in "abcdefghijklmnopqrstuvwx"]},
                              "combined-patterns"),
    "many patterns in a chain": (_chained(24), "combined-patterns"),
    "many patterns in branches": (_branched(24), "combined-patterns"),
    "large divisor": ({"type": "integer", "multipleOf": 99_999_989}, "multiple-of"),
    "divisor with many digits": ({"type": "number", "multipleOf": 0.99999989}, "multiple-of"),
    "divisors at once": ({"allOf": [{"type": "integer", "multipleOf": n} for n in (997, 991)]},
                         "multiple-of"),
    "many divisors": ({"anyOf": [{"type": "integer", "multipleOf": n} for n in range(900, 999)]},
                      "multiple-of"),
    "many name patterns": ({"type": "object", "patternProperties":
                            {f"^[ab]*a[ab]{{12}}x{n}$": {} for n in range(300)}}, "name-patterns"),
    "options of the library": ({"x-guidance": {"lenient": True}}, "refused"),
    "surrogate": ({"const": "\ud800"}, "refused"),
    "surrogate in a name": ({"properties": {"\udfff": {}}}, "refused"),
    "number without end": ({"const": 10**400}, "refused"),
    "more digits than Python writes": ({"const": 10**5000}, "refused"),
    "infinity": ({"maximum": float("inf")}, "refused"),
    "no number": ({"const": float("nan")}, "refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", _REFUSED)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_hostile_and_wrong_schemas_are_refused(
    name: str, language: str, tokenizer: Vocab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIE_LANG", language)
    schema, code = _REFUSED[name]
    with pytest.raises(UsageError) as caught:
        compile_schema(schema, tokenizer)
    assert caught.value.code == f"schema.{code}", str(caught.value)
    said = str(caught.value)
    assert said.replace("\u00a0", " ").isprintable()
    assert len(said) < 400


@pytest.mark.parametrize(
    "schema",
    [
        _pattern("^(a+)+$"),
        _pattern("^(a{1,1000}){1,1000}$"),
        _pattern("(.*a){50}"),
        _pattern(r"\w{0,100000}"),
        _pattern(".*a.{200}"),
        _pattern("(?:(?:(?:a{1,100}){1,100}){1,100}){1,100}"),
        {"type": "string", "minLength": 100_000},
        {"type": "string", "maxLength": 10**9},
        {"type": "array", "minItems": 10**6, "items": {"type": "integer"}},
        {"type": "array", "maxItems": 10**9},
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(1_500)}},
        {"type": "integer", "multipleOf": 4993},
        {"type": "number", "multipleOf": 0.0001},
        {"type": "integer", "multipleOf": 10**9},
        {"allOf": [_pattern(f".*{c}.{{300}}") for c in "abcd"]},
        {"type": "object", "patternProperties": {f"^[ab]*a[ab]{{12}}{n}$": {} for n in range(60)}},
        _nested({}, 25),
        _doubled(8),
        {"$defs": {"s": _doubled(9)}, "anyOf": [{"$ref": "#/$defs/s"}] * 400},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ],
)
def test_heavy_schemas_work_or_say_so(schema: dict[str, Any], tokenizer: Vocab) -> None:
    """They compile, and where a step would take too much it fails with a reason."""
    try:
        _walk(compile_schema(schema, tokenizer), tokenizer, random.Random(5), 60)
    except UsageError as error:
        stopped = error
    else:
        return
    assert stopped.code in ("schema.too-complex", "schema.refused")
    assert stopped.facts["reason"].isprintable()


def test_where_llguidance_is_missing_words_say_so(
    tokenizer: Vocab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UsageError, match="pip install llguidance"):
        json_object(tokenizer)


def test_a_schema_that_becomes_too_complex_on_the_way_says_so(tokenizer: Vocab) -> None:
    constraint = compile_schema(_pattern("^.*a.{200}$"), tokenizer)
    (quote,) = tokenizer.encode('"', special=False)
    letters = [tokenizer.encode(letter, special=False)[0] for letter in "ab"]
    constraint.accept(quote)
    rng = random.Random(6)

    def write() -> None:
        for _ in range(300):
            constraint.apply(np.zeros(tokenizer.n_vocab, np.float32))
            constraint.accept(rng.choice(letters))

    with pytest.raises(UsageError) as caught:
        write()
    assert caught.value.code == "schema.too-complex"
    assert "lexer" in caught.value.facts["reason"]


def test_reasons_are_the_librarys_in_one_line(tokenizer: Vocab) -> None:
    with pytest.raises(UsageError) as caught:
        compile_schema(_pattern("a(?=b)"), tokenizer)
    assert caught.value.facts["reason"] == (
        "pattern: look-around, including look-ahead and look-behind, is not supported"
    )
