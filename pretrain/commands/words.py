"""What the commands of `lucie pretrain` say."""

from __future__ import annotations

from edge.commands.words import HELP, CommandWords
from pretrain.words import FOLDER

__all__ = ["HELP", "WORDS", "say", "stages", "words"]

WORDS = CommandWords(
    FOLDER,
    in_bytes={"verify", "hash", "fetch", "tokens"},  # of text, which becomes tokens
    units={"train": "steps", "packages": "packages", "texts": "packages"},
)
say, words, stages = WORDS.say, WORDS.words, WORDS.stages
