"""Licences of Debian's `copyright` files, as SPDX has them."""

from __future__ import annotations

import pytest

from images.publishing.copyright_file import licence_of
from images.publishing.licences import listed
from tests.images.published import COPYRIGHT

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"


def told(licence: str, more: str = "") -> str:
    return f"{HEAD}Files: *\nCopyright: 2020 Somebody\nLicense: {licence}\n\n{more}"


# Of section 7 of the format: short names, their SPDX names, and what binds how.
@pytest.mark.parametrize(
    ("debian", "spdx"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Apache-2", "Apache-2.0"),
        ("Expat", "MIT"),
        ("ZLIB", "Zlib"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("ISC and MPL-1.1", "ISC AND MPL-1.1"),
        ("ISC or MPL-1.1", "ISC OR MPL-1.1"),
        ("GPL-1+ or ISC and X11", "GPL-1.0-or-later OR (ISC AND X11)"),
        ("GPL-1+ or ISC, and X11", "(GPL-1.0-or-later OR ISC) AND X11"),
    ],
)
def test_a_name_of_debian_is_one_of_spdx(debian: str, spdx: str) -> None:
    assert licence_of(told(debian), "some").expression == spdx
    assert listed(spdx) == spdx


def test_all_parts_of_a_package_count_and_each_licence_once() -> None:
    more = "Files: a\nCopyright: x\nLicense: ISC\n\nFiles: b\nCopyright: x\nLicense: GPL-2+\n"
    assert licence_of(told("GPL-2+", more), "some").expression == "GPL-2.0-or-later AND ISC"


def test_what_spdx_has_no_name_for_is_told_in_full() -> None:
    found = licence_of(COPYRIGHT, "greetings")
    artistic, rules = sorted(found.texts)
    assert found.expression == f"(GPL-2.0-or-later OR {artistic}) AND {rules} AND MIT"
    assert artistic.startswith("LicenseRef-Artistic-")
    assert rules.startswith("LicenseRef-house-rules-")
    assert found.texts[rules] == "Wipe your feet."
    assert "no text" in found.texts[artistic]


def test_one_name_of_two_texts_is_two_licences() -> None:
    one, other = (
        licence_of(told("mine", f"License: mine\n {text}\n"), "some") for text in ("Do.", "Do not.")
    )
    assert one.terms != other.terms


def test_an_exception_belongs_to_its_licence() -> None:
    name = "GPL-2+ with linking and fonts exception"
    found = licence_of(told(name, f"License: {name}\n You may link.\n"), "some")
    assert list(found.texts.values()) == ["You may link."]
    assert "OR" not in found.expression
    assert "AND" not in found.expression


@pytest.mark.parametrize(
    "text",
    [
        "This is free software.",
        "",
        HEAD,
        f"{HEAD}Files: *\nLicense ISC\n",
        f"{HEAD}Files: *\nCopyright: x\n",
    ],
)
def test_a_file_for_people_is_the_licence_itself(text: str) -> None:
    found = licence_of(text, "some-package")
    [(name, whole)] = found.texts.items()
    assert found.expression == name
    assert name.startswith("LicenseRef-some-package-")
    assert whole == text


@pytest.mark.parametrize(
    "text",
    [
        "LicenseRef-mine",
        "LicenseRef-scancode-public-domain",
        "GPL-2",
        "MIT AND",
        "a licence",
        "(",
        "",
    ],
)
def test_what_is_not_of_the_list_is_not_told_as_if_it_were(text: str) -> None:
    assert listed(text) is None
