"""Answers that keep to a JSON schema, by masking every token that would leave it.

The grammar is llguidance's: derivatives of regular expressions in an Earley
parser, walked over a trie of the vocabulary, so that a mask takes microseconds.
Schemas come from requests: they are checked before native code sees them
(`edge.json_schema`), and every step is limited.

The JSON is written as Python's `json.dumps` writes it (`{"a": 1, "b": [2, 3]}`).
Where any white space is allowed, small models write it without end.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, cast

from edge.errors import EngineError, UsageError
from edge.json_schema import check_schema
from edge.text import one_line

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer
    from numpy.typing import NDArray

    from edge.engine import Constraint, Tokenizer

__all__ = ["compile_schema", "json_object"]

_NOTHING_FITS = "NoExtensionBias"


def compile_schema(schema: dict[str, Any], tokenizer: Tokenizer) -> Constraint:
    """A constraint that allows the JSON texts of `schema` and nothing else.

    Args:
        schema: a JSON schema as a request has it.
        tokenizer: of the model that will answer. Its trie is built at the first call
            (0.3 s for 49,152 tokens, 2.6 s for 262,144) and kept as long as it lives.

    Raises:
        UsageError: the schema is too large, wrong, allows nothing, or uses what is not
            supported; the text says what. Or llguidance is not there: nobody builds it for Android.
    """
    try:
        from llguidance import LLMatcher
    except ModuleNotFoundError as error:
        raise UsageError("schema.no-llguidance") from error

    source = check_schema(schema)
    try:
        grammar = LLMatcher.grammar_from_json_schema(
            source,
            overrides={
                "item_separator": ", ",
                "key_separator": ": ",
                "whitespace_flexible": False,
            },
        )
    except ValueError as error:  # JSON that Rust does not read, e.g. a number of 400 digits
        raise UsageError("schema.refused", reason=_reason(str(error))) from error
    matcher = LLMatcher(_trie(tokenizer), grammar, log_level=0, limits=_limits())
    if matcher.is_error():
        raise UsageError("schema.refused", reason=_reason(matcher.get_error()))
    # A schema that refers to itself for ever compiles; only its first step shows it.
    matcher.compute_bitmask()
    if matcher.is_error():
        if _NOTHING_FITS in matcher.get_error():
            raise UsageError("schema.nothing-fits")
        raise UsageError("schema.too-complex", reason=_reason(matcher.get_error()))
    return _SchemaConstraint(matcher, tokenizer)


def _limits() -> LLParserLimits:
    """A twelfth to a half of llguidance's defaults, which allow half a gigabyte of states."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_items_in_row=1_000,
        initial_lexer_fuel=500_000,
        step_lexer_fuel=100_000,
        step_max_items=20_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


def json_object(tokenizer: Tokenizer) -> Constraint:
    """A constraint that allows any JSON object: `response_format` of type `json_object`."""
    return compile_schema({"type": "object"}, tokenizer)


class _SchemaConstraint:
    """Implements `edge.engine.Constraint`."""

    def __init__(self, matcher: LLMatcher, tokenizer: Tokenizer) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer  # the trie refers to it weakly
        self._mask = b""

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Set the logits `[V]` of every token that may not come next to -inf, in place.

        Raises:
            UsageError: the schema became too complex on the way.
        """
        import numpy as np

        self._mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise self._too_complex()
        mask = np.frombuffer(self._mask, np.uint8)
        allowed = np.unpackbits(mask, count=logits.shape[0], bitorder="little")
        logits[allowed == 0] = -np.inf

    def accept(self, token: int) -> None:
        """Advance past `token`.

        Raises:
            EngineError: the last `apply` did not allow it.
            UsageError: the schema becomes too complex after it.
        """
        if not self._matcher.consume_token(token):
            byte, bit = divmod(token, 8)
            if byte < len(self._mask) and self._mask[byte] >> bit & 1:
                raise self._too_complex()
            raise EngineError("schema.token-not-allowed", token=token)

    def _too_complex(self) -> UsageError:
        return UsageError("schema.too-complex", reason=_reason(self._matcher.get_error()))

    def finished(self) -> bool:
        """Whether the JSON is complete and nothing may follow."""
        stopped: bool = self._matcher.is_stopped()
        return stopped


# -- the vocabulary --------------------------------------------------------------------

_tries: weakref.WeakKeyDictionary[Tokenizer, LLTokenizer] = weakref.WeakKeyDictionary()
_building = threading.Lock()


class _Vocabulary:
    """A tokenizer in the form that llguidance reads."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = [tokenizer.piece(token) for token in range(tokenizer.n_vocab)]
        self.eos_token_id = min(tokenizer.eog)
        self.special_token_ids = [token for token, piece in enumerate(pieces) if not piece]
        # 0xFF begins no UTF-8 text; llguidance takes it as the mark of a control token.
        self.tokens = [piece or b"\xff<%d>" % token for token, piece in enumerate(pieces)]
        self._ids = {piece: token for token, piece in enumerate(pieces) if piece}
        self._longest = max(map(len, self._ids))
        self._tokenizer = weakref.ref(tokenizer)

    def __call__(self, text: str | bytes) -> list[int]:
        tokenizer = self._tokenizer()
        if tokenizer is None:
            raise ReferenceError("the tokenizer is gone")
        raw = text.encode() if isinstance(text, str) else text
        ids = tokenizer.encode(raw.decode("utf-8", "replace"), special=False)
        # Llama 2's puts a space before a text, and Lucie's one behind brackets, too.
        as_it_is = b"".join(self.tokens[token] for token in ids) == raw
        return ids if as_it_is else self._spelt(raw)

    def _spelt(self, raw: bytes) -> list[int]:
        """Tokens that say these bytes and no more, each as long as there is one."""
        ids: list[int] = []
        at = 0
        while at < len(raw):
            ends = range(min(len(raw), at + self._longest), at, -1)
            end = next((end for end in ends if raw[at:end] in self._ids), None)
            if end is None:  # no token has this byte, so no answer has it either
                break
            ids.append(self._ids[raw[at:end]])
            at = end
        return ids


def _trie(tokenizer: Tokenizer) -> LLTokenizer:
    from llguidance import LLTokenizer

    with _building:
        trie = _tries.get(tokenizer)
        if trie is None:
            trie = _tries[tokenizer] = LLTokenizer(
                cast("Any", _Vocabulary(tokenizer)),  # llguidance looks at its attributes only
                n_vocab=tokenizer.n_vocab,
                eos_token=sorted(tokenizer.eog),
                slices=LLTokenizer.json_slices(),
            )
        return trie


def _reason(message: str) -> str:
    """llguidance's message without the state it dumps and the drawings around regexes."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if lines and lines[0] == "regex parse error:":
        return one_line(f"pattern: {lines[-1].removeprefix('error: ')}")
    return one_line(" ".join(line for line in lines if line != "<non-verbose/>"))
