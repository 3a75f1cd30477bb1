"""What the commands of `lucie image` say."""

from __future__ import annotations

from edge.commands.words import HELP, CommandWords
from images.words import FOLDER

__all__ = ["HELP", "PACKAGES", "WORDS", "say", "stages", "words"]

WORDS = CommandWords(FOLDER, in_bytes={"bundle", "verify", "write"})
say, words, stages = WORDS.say, WORDS.words, WORDS.stages
PACKAGES = "mmdebstrap uidmap openssh-client"
"""Of Debian, which the commands that make images need; the READMEs name the same."""
