"""What the commands of `lucie distill` say."""

from __future__ import annotations

from distill.words import FOLDER
from edge.commands.words import HELP, CommandWords

__all__ = ["HELP", "WORDS", "say", "stages", "words"]

WORDS = CommandWords(FOLDER, in_bytes={"verify", "weights", "hash"})
say, words, stages = WORDS.say, WORDS.words, WORDS.stages
