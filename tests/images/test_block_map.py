"""Block maps, as bmaptool writes them, and as they should not be."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from images.errors import ImageError
from images.flashing.block_map import read_block_map
from tests.images.images import SIZE, content

GIVEN = Path(__file__).with_name("g.img.bmap")


def test_a_map_of_bmaptool_is_read() -> None:
    found = read_block_map(GIVEN)
    assert found.image_size == SIZE
    assert [(each.start, each.end) for each in found.ranges] == [
        (0, 256 * 4096),
        (768 * 4096, 771 * 4096),
    ]
    assert found.mapped == 259 * 4096
    whole = content()
    for each in found.ranges:
        assert hashlib.sha256(whole[each.start : each.end]).hexdigest() == each.sha256


def signed(text: str) -> bytes:
    """The map with its own hash made right again."""
    place = r"(?<=<BmapFileChecksum> )[0-9a-f]{64}"
    plain = re.sub(place, "0" * 64, text)
    return re.sub(place, hashlib.sha256(plain.encode()).hexdigest(), plain).encode()


def test_the_hash_of_a_map_is_taken_as_bmaptool_takes_it() -> None:
    assert signed(GIVEN.read_text(encoding="utf-8")) == GIVEN.read_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('version="2.0"', 'version="1.3"'),
        ("sha256 </Check", "md5 </Check"),
        (" 768-770 ", " 100-770 "),
        (" 768-770 ", " 768-99999999 "),
        (" 768-770 ", " -5 "),
        ("> 4096 <", "> 0 <"),
        ("> 4096 <", "> many <"),
        ("<ImageSize> 5242980 </ImageSize>", ""),
        ("</bmap>", ""),
    ],
)
def test_a_wrong_map_is_refused(tmp_path: Path, old: str, new: str) -> None:
    text = GIVEN.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "g.img.bmap"
    path.write_bytes(signed(text.replace(old, new)))
    if "99999999" in new:  # what is behind the end is not there to be written
        assert read_block_map(path).ranges[-1].end == SIZE
        return
    with pytest.raises(ImageError, match="no block map that can be read") as caught:
        read_block_map(path)
    assert str(path) in str(caught.value)


def test_a_changed_map_is_noticed_by_its_own_hash(tmp_path: Path) -> None:
    path = tmp_path / "g.img.bmap"
    path.write_bytes(GIVEN.read_bytes().replace(b"768-770", b"768-769"))
    with pytest.raises(ImageError, match="BmapFileChecksum"):
        read_block_map(path)


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    path = tmp_path / "g.img.bmap"
    laughs = '<!DOCTYPE b [<!ENTITY a "ha">]>\n<bmap version="2.0">&a;</bmap>'
    path.write_text(laughs, encoding="utf-8")
    with pytest.raises(ImageError, match="no block map that can be read"):
        read_block_map(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.img.bmap"
    path.write_bytes(bytes(100))
    with pytest.raises(ImageError, match="no block map that can be read"):
        read_block_map(path)
