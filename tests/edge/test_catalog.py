from __future__ import annotations

import re

from edge.catalog import catalog, entry_of_hash
from edge.engine import Sampling
from edge.manifest import DataSource
from edge.messages import LANGUAGES
from edge.sources import FileSource, HubSource, IndexSource, parse
from edge.store import DEFAULT_MODEL, NAME


def test_the_default_model_is_in_it_and_pinned() -> None:
    entry = catalog()[DEFAULT_MODEL]
    assert entry.size == 98_362_432
    assert (
        entry_of_hash("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53") is entry
    )
    assert [type(parse(source)) for source in entry.sources] == [HubSource, IndexSource]


def test_every_entry_can_be_added_shown_and_declared() -> None:
    for name, entry in catalog().items():
        assert NAME.fullmatch(name)
        assert entry.sources
        for text in entry.sources:
            source = parse(text)
            assert not isinstance(source, FileSource)
            assert source.file.endswith(".gguf")
        assert set(entry.notes) == set(LANGUAGES)
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
        # A size without the hash would promise a check that is none.
        assert (entry.size is None) == (entry.sha256 is None)
        assert entry.memory > (entry.size or entry.about or 0)
        assert entry.data
        for data in entry.data:
            DataSource(**data)


def test_a_revision_is_pinned_wherever_a_hash_is() -> None:
    for entry in catalog().values():
        for text in entry.sources:
            source = parse(text)
            if entry.sha256 and isinstance(source, HubSource):
                assert re.fullmatch("[0-9a-f]{40}", source.revision)


def test_an_unknown_hash_is_of_no_entry() -> None:
    assert entry_of_hash("0" * 64) is None


def test_sampling_is_what_engines_know() -> None:
    assert Sampling(**catalog()["smollm2-135m-instruct"].sampling).temperature == 0.2
    for entry in catalog().values():
        Sampling(**entry.sampling)  # an unknown name is a TypeError
