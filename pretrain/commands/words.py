"""What the commands of `lucie pretrain` say."""

from __future__ import annotations

from edge.commands.words import HELP, CommandWords
from pretrain.words import FOLDER

__all__ = ["HELP", "say", "stages", "words"]

_words = CommandWords(FOLDER, in_bytes={"verify", "hash", "fetch"})
say, words, stages = _words.say, _words.words, _words.stages
