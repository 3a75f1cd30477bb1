"""What the commands of `lucie distill` say."""

from __future__ import annotations

from distill.words import FOLDER
from edge.commands.words import HELP, CommandWords

__all__ = ["HELP", "WORDS", "say", "stages", "words"]

_TRAININGS = ("train", "train-distilled", "train-cross-entropy", "train-scratch")
_UNITS = dict.fromkeys(_TRAININGS, "steps") | {
    "cache": "tokens",
    "here": "types",
    "measure": "pieces",
    "report-accuracy": "answers",
    "report-bits": "batches",
    "report-export": "models",
    "report-speed": "runs",
}
WORDS = CommandWords(
    FOLDER,
    in_bytes={"verify", "weights", "hash", "tokens"},  # of text, which becomes tokens
    units=_UNITS,
)
say, words, stages = WORDS.say, WORDS.words, WORDS.stages
