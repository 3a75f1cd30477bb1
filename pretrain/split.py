"""Which documents are held out: decided by each text and the share alone, for ever.

With the same share a document's place depends on its own text and on nothing else: adding a
source, another order or another limit never moves a text from the one side to the other, and
two copies of a text always stand on the same side. With a larger share more are held out, which
a text of the smaller one trains on: `pretrain.texts` refuses to mix the two.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["HELD_OUT", "KEY_BYTES", "SHARE", "held_out", "sampling_rank", "text_key"]

KEY_BYTES = 16
HELD_OUT = 0.01
"""Share of the documents that are held out where nothing else is said."""
SHARE = "heldout"
"""Of a corpus' recipe: that share of it."""
_HALF = KEY_BYTES // 2


def text_key(text: str) -> bytes:
    """A hash [16 bytes] of a text that does not see how its white space is laid out."""
    return blake2b(" ".join(text.split()).encode(), digest_size=KEY_BYTES).digest()


def held_out(key: bytes, share: float = HELD_OUT) -> bool:
    """Whether the text of that key is among the `share` of texts that are held out."""
    return int.from_bytes(key[:_HALF], "big") < int(share * 2 ** (8 * _HALF))


def sampling_rank(key: bytes) -> int:
    """A text's place when only some are taken: lowest first, independent of `held_out`."""
    return int.from_bytes(key[_HALF:], "big")
