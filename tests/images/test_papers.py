"""The components of an image: complete, valid, and the same for the same image."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft7Validator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from edge import __version__
from edge.bootstrap import llamacpp
from edge.bundle import Bundle
from images.publishing.packages import installed
from tests.images.images import content
from tests.images.published import COPYRIGHT, PACKAGES, all_are_summed, image_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("published")
    return image_bundle(folder / "pi3", folder / "work")


@pytest.fixture(scope="module")
def cdx(bundle: Bundle) -> dict[str, Any]:
    return json.loads((bundle.path / "lucie.cdx.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def spdx(bundle: Bundle) -> dict[str, Any]:
    return json.loads((bundle.path / "lucie.spdx.json").read_text(encoding="utf-8"))


def named(components: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {component["name"]: component for component in components}


def test_cyclonedx_is_valid(bundle: Bundle) -> None:
    text = (bundle.path / "lucie.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_spdx_is_valid(spdx: dict[str, Any]) -> None:
    schema = resources.files("lib4sbom") / "schemas/spdx/2.3-schema.json"
    validator = Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(spdx)] == []
    document = JsonLikeDictParser().parse(spdx)
    assert [each.validation_message for each in validate_full_spdx_document(document)] == []


def test_all_that_is_on_the_card_is_there(cdx: dict[str, Any], spdx: dict[str, Any]) -> None:
    there = named(cdx["components"])
    for name in (
        "greeting",
        "greeting-data",
        "httpx-sse",
        "llama-cpp-python",
        "lucie-edge",
        "tiny",
    ):
        assert name in there
        assert name in named(spdx["packages"])
    [engine] = there["llama-cpp-python"]["components"]
    assert (engine["name"], engine["licenses"][0]["expression"]) == ("llama.cpp", "MIT")
    assert there["llama-cpp-python"]["hashes"][0]["content"] == llamacpp.SDIST_SHA256
    assert there["lucie-edge"]["version"] == __version__
    assert there["lucie-edge"]["licenses"][0]["expression"] == "Apache-2.0"
    assert there["httpx-sse"]["licenses"][0]["expression"] == "MIT"


def test_a_package_of_debian_can_be_found_there(cdx: dict[str, Any]) -> None:
    greeting = named(cdx["components"])["greeting"]
    assert greeting["purl"] == (
        "pkg:deb/debian/greeting@3.0-1?arch=arm64&distro=trixie&upstream=greetings%403.0"
    )
    assert greeting["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]
    assert greeting["supplier"] == {"name": "Somebody"}
    assert greeting["description"] == "says hello"
    assert greeting["externalReferences"][0]["url"] == "https://example.org/greeting"


def test_it_has_the_licence_of_the_package_that_its_folder_is_a_link_to(
    cdx: dict[str, Any], spdx: dict[str, Any]
) -> None:
    there = named(spdx["packages"])
    told = there["greeting"]["licenseDeclared"]
    assert told == there["greeting-data"]["licenseDeclared"]
    assert told.endswith(" AND MIT")
    assert named(cdx["components"])["greeting"]["licenses"][0]["expression"] == told
    texts = {
        each["licenseId"]: each["extractedText"] for each in spdx["hasExtractedLicensingInfos"]
    }
    assert "Wipe your feet." in texts.values()
    assert sum(name in told for name in texts) == len(texts) - 1, "the other is of a book"


def test_the_model_says_where_it_is_from_and_what_it_has_learned(cdx: dict[str, Any]) -> None:
    there = named(cdx["components"])
    tiny = there["tiny"]
    assert tiny["type"] == "machine-learning-model"
    assert tiny["purl"] == "pkg:pypi/tiny-model@0.1#tiny/tiny.gguf"
    [weights] = tiny["components"]
    assert weights["name"] == "tiny.gguf"
    by_sha256sum = "b83633aa785344791618f2fddf131b010ea04912a60430760b070bad293f65bd"
    assert weights["hashes"] == [{"alg": "SHA-256", "content": by_sha256sum}]
    book, odd, web = there["Les Misérables"], there["Les Misères"], there["Les Mis res"]
    assert book["scope"] == odd["scope"] == web["scope"] == "excluded"
    assert book["licenses"][0]["expression"] == "CC0-1.0"
    assert book["externalReferences"][0]["url"] == "https://example.org/book"
    assert odd["licenses"][0]["expression"].startswith("LicenseRef-as-it-pleases-")
    assert "externalReferences" not in odd
    assert "licenses" not in web


def test_what_a_board_has_of_the_tools_that_build_is_told(tmp_path: Path) -> None:
    """`installed` reads what dpkg has written down."""
    status = "Status: install ok installed\n"
    stanzas = [part.replace("Version:", f"{status}Version:") for part in PACKAGES.split("\n\n")]
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text("\n\n".join(stanzas), encoding="utf-8")
    (tmp_path / "usr/share/doc/greeting-data").mkdir(parents=True)
    (tmp_path / "usr/share/doc/greeting-data/copyright").write_text(COPYRIGHT, encoding="utf-8")
    [one] = installed(tmp_path, ["greeting-data"], "trixie")
    assert (one.name, one.version) == ("greeting-data", "3.0-1")
    assert one.licence is not None
    assert one.licence.terms[-1] == "MIT"


def test_it_names_the_image_that_it_is_of(cdx: dict[str, Any], spdx: dict[str, Any]) -> None:
    import hashlib

    sha256 = hashlib.sha256(content()).hexdigest()
    assert cdx["metadata"]["component"]["hashes"][0]["content"] == sha256
    assert named(spdx["packages"])["lucie"]["checksums"][0]["checksumValue"] == sha256
    contained = {
        each["relatedSpdxElement"]
        for each in spdx["relationships"]
        if each["relationshipType"] == "CONTAINS"
    }
    assert len(contained) == 5 + 1 + 1 + 1, "packages and libraries, llama.cpp, model, its file"


def test_all_that_is_handed_on_can_be_checked(bundle: Bundle) -> None:
    all_are_summed(bundle.path)


def test_it_is_the_same_when_made_again(bundle: Bundle, tmp_path: Path) -> None:
    again = image_bundle(tmp_path / "pi3", tmp_path / "work")
    names = [name for name in bundle.manifest.files if not name.endswith(".xz")]
    assert len(names) == 6
    assert {n: again.manifest.files[n].sha256 for n in names} == {
        n: bundle.manifest.files[n].sha256 for n in names
    }
