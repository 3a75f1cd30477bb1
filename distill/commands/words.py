"""What the commands of `lucie distill` say."""

from __future__ import annotations

from distill.words import FOLDER
from edge.commands.words import HELP, CommandWords

__all__ = ["HELP", "say", "stages", "words"]

_words = CommandWords(FOLDER, in_bytes={"verify", "weights", "hash"})
say, words, stages = _words.say, _words.words, _words.stages
