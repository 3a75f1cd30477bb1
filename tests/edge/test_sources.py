from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.download import Want
from edge.errors import StoreError, UsageError
from edge.sources import FileSource, HubSource, IndexSource, fetch, fetch_first, parse
from tests.edge.hub_server import CONTENT, SHA256, Hub, serving
from tests.edge.wheel_index import local_index


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def index(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return local_index(tmp_path_factory.mktemp("index"), monkeypatch, CONTENT)


def refused(do: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        do()
    assert str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf:o/r/m.gguf", HubSource("hf:o/r/m.gguf", "o/r", "m.gguf", "main")),
        ("hf:o/r/sub/m.gguf@v1", HubSource("hf:o/r/sub/m.gguf@v1", "o/r", "sub/m.gguf", "v1")),
        ("pypi:a-b==1.2/p/m.gguf", IndexSource("pypi:a-b==1.2/p/m.gguf", "a-b==1.2", "p/m.gguf")),
        ("file:/x/m.gguf", FileSource(Path("/x/m.gguf"))),
        ("./m.gguf", FileSource(Path("m.gguf"))),
        ("c:m.gguf", FileSource(Path("c:m.gguf"))),
    ],
)
def test_sources_are_read(text: str, source: object) -> None:
    assert parse(text) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "file:",
        "hf:o/r",
        "hf:r/m.gguf",
        "hf:o/r/../m.gguf",
        "hf:o/r/m.gguf@../../api",
        "hf:../r/m.gguf",
        "hf:o/r//m.gguf",
        "hf:o/r/m\n.gguf",
        "pypi:a/m.gguf",
        "pypi:a>=1/m.gguf",
        "pypi:--index-url==1/m.gguf",
        "pypi:a==1/../m.gguf",
        "pypi:a==1 --pre/m.gguf",
    ],
)
def test_sources_written_wrongly_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert text in str(caught.value)


@pytest.mark.parametrize("token", ["secret", " secret\r\n"])
def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    source = parse("hf:o/r/m.gguf@refs/pr/1")
    assert isinstance(source, HubSource)
    with serving() as cdn:
        hub.redirect = cdn.url.replace("127.0.0.1", "localhost")
        assert fetch(source, tmp_path, Want()).sha256 == SHA256
    path, headers = hub.seen[0]
    assert path == "/o/r/resolve/refs%2Fpr%2F1/m.gguf"
    assert headers["authorization"] == "Bearer secret"
    assert "authorization" not in cdn.seen[0][1]


@pytest.mark.parametrize("token", ["hf_é", "hf_a\rb", "hf_a\x7f"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_told(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    error = refused(lambda: fetch_first(["hf:o/r/m.gguf"], tmp_path, Want()))
    assert error.code == "store.bad-token"
    assert "hf_" not in str(error)
    assert hub.seen == []


@pytest.mark.parametrize("endpoint", ["http://[x]", "huggingface.co", "ftp://127.0.0.1"])
def test_what_is_no_address_of_the_hub_is_told_at_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    error = refused(lambda: fetch_first(["hf:o/r/m.gguf"], tmp_path, Want()))
    assert error.code == "store.bad-address"


def test_offline_means_that_nothing_is_asked(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused(lambda: fetch_first(["hf:o/r/m.gguf"], tmp_path, Want())).code == "store.offline"
    assert hub.seen == []


def test_the_next_source_is_tried_and_the_reason_told(
    hub: Hub, tmp_path: Path, index: Path
) -> None:
    hub.statuses = [404]
    told: list[tuple[str, dict[str, str]]] = []
    got = fetch_first(
        ["hf:o/r/m.gguf", "pypi:toy-model==1.0/toy_model/m.gguf"],
        tmp_path,
        Want(SHA256, len(CONTENT)),
        notice=lambda *said: told.append(said),
    )
    assert got.source == "pypi:toy-model==1.0/toy_model/m.gguf"
    assert [code for code, _ in told] == ["store.source-failed"]
    assert "hf:o/r/m.gguf" in told[0][1]["reason"]


def test_when_all_sources_fail_every_reason_is_listed(
    hub: Hub, tmp_path: Path, index: Path
) -> None:
    hub.statuses = [404]
    sources = ["hf:o/r/m.gguf", "pypi:toy-model==2.0/toy_model/m.gguf"]
    error = refused(lambda: fetch_first(sources, tmp_path, Want()))
    assert error.code == "store.all-failed"
    assert all(source in str(error) for source in sources)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_the_search(hub: Hub, tmp_path: Path) -> None:
    sources = ["pypi:toy-model==1.0/toy_model/m.gguf", "hf:o/r/m.gguf"]
    error = refused(lambda: fetch_first(sources, tmp_path, Want(None, 1 << 60)))
    assert error.code == "store.no-space"
    assert hub.seen == []
