"""What the commands of `lucie quantize` say."""

from __future__ import annotations

from edge.commands.words import HELP, CommandWords
from quantize.words import FOLDER

__all__ = ["HELP", "say", "stages", "words"]

_words = CommandWords(FOLDER, in_bytes={"verify", "floats", "weights", "hash"})
say, words, stages = _words.say, _words.words, _words.stages
