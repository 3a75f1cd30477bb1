"""How a text is cut into words before byte-pair encoding: two spellings of the same rules.

A `tokenizer.json` carries the rules themselves. A GGUF file carries a name, for which
llama.cpp has the rules built in (src/llama-vocab.cpp); under a wrong name everything
seems to work, and the model reads other tokens than it learned. So a name is written only
where the rules are known to be the same, and each export is tried with thousands of texts.
"""

from __future__ import annotations

from typing import Any

__all__ = ["name_of", "rules_of"]

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def _split(regex: str) -> dict[str, Any]:
    pattern = {"Regex": regex}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


_RULES: dict[str, dict[str, Any]] = {
    "gpt-2": _byte_level(use_regex=True),
    "smollm": _sequence({"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)),
    "llama-bpe": _sequence(_split(_LLAMA_3), _byte_level(use_regex=False)),
}


def name_of(rules: object) -> str | None:
    """llama.cpp's name for the `pre_tokenizer` of a tokenizer.json; None where it has none."""
    wanted = _essential(rules)
    return next((name for name, known in _RULES.items() if _essential(known) == wanted), None)


def rules_of(name: str) -> dict[str, Any] | None:
    """The `pre_tokenizer` of a tokenizer.json that llama.cpp calls so; None where not known."""
    return _RULES.get(name)


def _essential(rules: object) -> object:
    """Without what changes no token: how offsets into the text are reported."""
    if isinstance(rules, dict):
        return {key: _essential(value) for key, value in rules.items() if key != "trim_offsets"}
    if isinstance(rules, list):
        return [_essential(value) for value in rules]
    return rules
