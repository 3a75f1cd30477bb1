"""What a person asks a student to be: so many parameters, or so fast on a board.

1b   1.1b   350m   500k   1,098,000,000   1,1 Md  parameters
pi5@12                                             tokens per second on a board
pi5 at 12 tokens/s with 2k context in 2 GB         ... that has so much memory
pi5 à 12 jetons/s avec 2k de contexte dans 2 Go
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from distill.errors import DistillUsageError
from distill.planning.boards import HERE, boards
from edge.text import one_line

__all__ = ["OnBoard", "Parameters", "Target", "parse"]

_UNITS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "md": 1e9}
_NUMBER = r"\d+(?:[.,]\d+)?"
_COUNT = re.compile(rf"({_NUMBER})\s*(k|m|b|g|md)?")
_GROUPS = re.compile(r"\d{1,3}(?:[,_  ]\d{3})+")
_BOARD = re.compile(
    rf"(?P<board>.+?)\s*(?:@|\bat\b|\bà)\s*(?P<speed>{_NUMBER})\s*"
    r"(?:(?:tokens?|tok|t|jetons?)?\s*(?:/\s*s\b|per second|par seconde)|tokens?\b|jetons?\b)?"
    r"(?P<rest>.*)"
)
_CONTEXT = re.compile(
    rf"(?:with|avec)?\s*(?:a |un )?(?P<size>{_NUMBER})\s*(?P<k>k)?\s*(?:tokens? |jetons? )?"
    r"(?:of |de )?(?:context|contexte|ctx)\b"
)
_MEMORY = re.compile(rf"(?:in|dans|en)?\s*(?P<size>{_NUMBER})\s*(?P<unit>gb|go|gib|mb|mo|mib)\b")
_BYTES = {"gb": 1, "go": 1, "gib": 1.073741824, "mb": 1e-3, "mo": 1e-3, "mib": 1.048576e-3}
"""In GB."""
_LONGEST = 200
"""Characters; whoever says more means something else."""
_AS_NAMED = (0.9, 1.35)
"""What is called "1B" has from 1.0 (Gemma 3 1B) to 1.3 billion (Luciole-1B); so a name of one
digit means from a tenth less to 35 % more."""
_EXACT = (0.9, 1.1)
"""What a more exact number means."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """So many weights."""

    least: int
    most: int
    aim: int
    """What counts as nearest: the number itself, or the middle of what its name covers."""
    named: bool = False
    """It was a name, as "1b"."""


@dataclass(frozen=True, slots=True)
class OnBoard:
    """As large as is fast enough on a board, and fits its memory."""

    board: str
    """A name of `distill.planning.boards`, or `here`."""
    tokens_per_s: float
    """Decode, with the context full."""
    context: int | None
    """Tokens; None: not said."""
    memory_gb: float | None
    """Main memory of the board; None: any that it is sold with."""


Target = Parameters | OnBoard


def parse(given: str) -> Target:
    """What `given` asks for.

    Raises:
        DistillUsageError: it is not understood; the text shows what is.
    """
    text = " ".join(given.lower().split())
    if len(text) > _LONGEST:  # of which numbers would be none, and every search slow
        raise _not_understood(given)
    if _GROUPS.fullmatch(text):
        return _parameters(float(re.sub(r"\D", "", text)), _EXACT, given)
    if found := _COUNT.fullmatch(text):
        digits, unit = found[1], found[2] or ""
        named = len(digits) == 1 and unit in ("b", "g", "md")
        count = _real(digits) * _UNITS[unit]
        return _parameters(count, _AS_NAMED if named else _EXACT, given)
    found = _BOARD.fullmatch(text)
    if not found:
        raise _not_understood(given)
    return _on_board(found, given)


def _parameters(count: float, span: tuple[float, float], given: str) -> Parameters:
    if not 1e3 <= count <= 1e12:
        raise _not_understood(given)
    least, most = (int(count * end) for end in span)
    named = span == _AS_NAMED
    middle = (least * most) ** 0.5 if named else count
    return Parameters(least, most, int(middle), named)


def _on_board(found: re.Match[str], given: str) -> OnBoard:
    name = _board(found["board"])
    if name is None:
        known = ", ".join([*boards(), HERE])
        raise DistillUsageError("plan.unknown-board", board=one_line(found["board"]), known=known)
    rest = found["rest"]
    context, rest = _clause(_CONTEXT, rest)
    memory, rest = _clause(_MEMORY, rest)
    speed = _real(found["speed"])
    if rest.replace(",", "").strip() or not 0.01 <= speed <= 10_000:
        raise _not_understood(given)
    tokens = None
    if context:
        tokens = round(_real(context["size"]) * (1024 if context["k"] else 1))
        if not 1 <= tokens <= 1 << 24:
            raise _not_understood(given)
    gb = _real(memory["size"]) * _BYTES[memory["unit"]] if memory else None
    if gb is not None and not 0.1 <= gb <= 10_000:
        raise _not_understood(given)
    return OnBoard(name, speed, tokens, gb)


def _clause(pattern: re.Pattern[str], text: str) -> tuple[re.Match[str] | None, str]:
    """What `pattern` finds, and the text without it."""
    found = pattern.search(text)
    return found, text if not found else text[: found.start()] + text[found.end() :]


def _board(said: str) -> str | None:
    wanted = said.strip().strip(",").replace("-", " ")
    if wanted in (HERE, "this machine", "ici", "cette machine"):
        return HERE
    return next((name for name, board in boards().items() if wanted in (name, *board.names)), None)


def _real(digits: str) -> float:
    return float(digits.replace(",", "."))


def _not_understood(given: str) -> DistillUsageError:
    return DistillUsageError("plan.bad-target", given=one_line(given), known=", ".join(boards()))
