from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from edge.download import Fetched, Want, check_space, download
from edge.errors import StoreError
from tests.edge.hub_server import COMMIT, CONTENT, PATH, SHA256, Hub, serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as hub:
        yield hub


def get(hub: Hub, folder: Path, want: Want | None = None, **options: object) -> Fetched:
    return download(
        hub.url + PATH,
        folder / "m.gguf",
        want or Want(),
        source="hf:o/r/m.gguf",
        pause=0,
        **options,  # type: ignore[arg-type]  # of the tests' own choice
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(do: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        do()
    assert str(caught.value)
    return caught.value


def test_a_file_comes_whole_and_hashed(hub: Hub, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    got = get(hub, tmp_path, progress=lambda *far: told.append(far))
    assert got == Fetched(tmp_path / "m.gguf", SHA256, len(CONTENT), "hf:o/r/m.gguf")
    assert got.path.read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert names(tmp_path) == ["m.gguf"]


def test_a_dropped_line_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.drop_after = [500_000, 1, 300_000]
    got = get(hub, tmp_path, Want(SHA256, len(CONTENT)))
    assert got.path.read_bytes() == CONTENT
    starts = hub.starts()
    assert starts[0] is None
    assert len(starts) == 4
    # What the kernel had not delivered when the line broke may be asked for again.
    assert all(a and 0 < int(a.split("=")[1].rstrip("-")) <= 800_001 for a in starts[1:])


def test_a_download_stopped_by_the_user_goes_on_in_the_next_run(hub: Hub, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(hub, tmp_path, progress=stop)
    assert names(tmp_path) == ["m.gguf.part", "m.gguf.part.json"]
    kept = (tmp_path / "m.gguf.part").stat().st_size
    assert kept > 0
    told: list[int] = []
    get(hub, tmp_path, Want(SHA256), progress=lambda done, _: told.append(done))
    assert hub.starts()[-1] == f"bytes={kept}-"
    assert told[0] == kept
    assert names(tmp_path) == ["m.gguf"]


def test_a_part_that_was_already_whole_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "m.gguf.part").write_bytes(CONTENT)
    (tmp_path / "m.gguf.part.json").write_text(f'{{"identity": "v1", "size": {len(CONTENT)}}}')
    got = get(hub, tmp_path, Want(SHA256))
    assert got.path.read_bytes() == CONTENT
    assert hub.starts() == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_another_file_is_thrown_away(hub: Hub, tmp_path: Path, ranges: bool) -> None:
    hub.ranges = ranges
    (tmp_path / "m.gguf.part").write_bytes(b"old" * 1000)
    (tmp_path / "m.gguf.part.json").write_text('{"identity": "v0", "size": 4000}')
    assert get(hub, tmp_path).path.read_bytes() == CONTENT
    assert hub.starts()[0] == "bytes=3000-"


@pytest.mark.parametrize("note", [None, "", "[1]", '{"identity": null, "size": 1}'])
def test_a_part_of_nobody_knows_what_is_not_continued(
    hub: Hub, tmp_path: Path, note: str | None
) -> None:
    (tmp_path / "m.gguf.part").write_bytes(b"old" * 1000)
    if note is not None:
        (tmp_path / "m.gguf.part.json").write_text(note)
    assert get(hub, tmp_path).path.read_bytes() == CONTENT
    assert hub.starts() == [None]


def test_a_part_damaged_on_disk_costs_one_more_try(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "m.gguf.part").write_bytes(b"\0" * 1000)
    (tmp_path / "m.gguf.part.json").write_text(f'{{"identity": "v1", "size": {len(CONTENT)}}}')
    assert refused(lambda: get(hub, tmp_path, Want(SHA256))).code == "store.wrong-hash"
    assert names(tmp_path) == []
    assert get(hub, tmp_path, Want(SHA256)).sha256 == SHA256


def test_wrong_bytes_are_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.content = CONTENT[:-1] + b"?"
    error = refused(lambda: get(hub, tmp_path, Want(SHA256, len(CONTENT))))
    assert error.code == "store.wrong-hash"
    assert SHA256 in str(error)
    assert names(tmp_path) == []


def test_a_file_of_another_size_is_refused_before_it_comes(hub: Hub, tmp_path: Path) -> None:
    error = refused(lambda: get(hub, tmp_path, Want(SHA256, 7)))
    assert error.code == "store.wrong-size"
    assert names(tmp_path) == []


def test_a_server_that_tells_no_size_is_stopped_at_the_size_wanted(
    hub: Hub, tmp_path: Path
) -> None:
    hub.length = False
    told: list[int] = []
    error = refused(
        lambda: get(hub, tmp_path, Want(None, 7), progress=lambda done, _: told.append(done))
    )
    assert error.code == "store.wrong-size"
    assert told == [0]  # it did not wait for the end, which might never come
    assert names(tmp_path) == []
    assert get(hub, tmp_path, Want(SHA256, len(CONTENT))).sha256 == SHA256


def test_a_short_file_is_noticed_though_the_server_tells_no_size(hub: Hub, tmp_path: Path) -> None:
    hub.length = False
    hub.content = CONTENT[:-5]
    error = refused(lambda: get(hub, tmp_path, Want(None, len(CONTENT))))
    assert error.code == "store.wrong-size"


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not-found"), (401, "forbidden"), (403, "forbidden"), (410, "http")],
)
def test_refusals_are_explained_and_not_repeated(
    hub: Hub, tmp_path: Path, status: int, code: str
) -> None:
    hub.statuses = [status]
    assert refused(lambda: get(hub, tmp_path)).code == f"store.{code}"
    assert len(hub.seen) == 1
    assert names(tmp_path) == []


def test_a_server_that_is_busy_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    hub.statuses = [503, 429]
    assert get(hub, tmp_path).sha256 == SHA256
    hub.statuses = [503] * 99
    error = refused(lambda: get(hub, tmp_path))
    assert error.code == "store.unreachable"
    assert "503" in str(error)


def test_a_server_that_never_lets_a_download_continue_is_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    hub.drop_after = [100_000] * 99
    assert refused(lambda: get(hub, tmp_path)).code == "store.changing"


def test_nobody_listens(tmp_path: Path, hub: Hub) -> None:
    hub.url = "http://127.0.0.1:1"
    assert refused(lambda: get(hub, tmp_path)).code == "store.unreachable"
    assert names(tmp_path) == []


def test_a_circle_of_redirects_is_left(hub: Hub, tmp_path: Path) -> None:
    hub.redirect = f"{hub.url}/again"
    assert refused(lambda: get(hub, tmp_path)).code == "store.circle"
    assert names(tmp_path) == []


@pytest.mark.parametrize("answers", [False, True])
def test_why_a_download_breaks_off_is_told_in_french(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    hub.mute = not answers
    hub.drop_after = [0] * 99
    error = refused(lambda: get(hub, tmp_path))
    said = "le serveur a coupé avant la fin" if answers else "le serveur a coupé sans répondre"
    assert f"injoignable ({said})" in str(error)


def test_that_a_server_falls_silent_is_told_in_french(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    monkeypatch.setattr("edge.download._TIMEOUT", httpx.Timeout(0.1))
    hub.hold_after = 0
    error = refused(lambda: get(hub, tmp_path))
    hub.release.set()
    assert "injoignable (le délai de connexion est dépassé)" in str(error)


def test_the_hash_that_the_hub_declares_is_checked_and_the_commit_recorded(
    hub: Hub, tmp_path: Path
) -> None:
    with serving() as cdn:
        hub.redirect, hub.linked = cdn.url, SHA256
        got = get(hub, tmp_path)
        assert got.source == f"hf:o/r/m.gguf@{COMMIT}"
        hub.linked = "0" * 64
        assert refused(lambda: get(hub, tmp_path)).code == "store.wrong-hash"


def test_a_disk_without_room_is_noticed_before(tmp_path: Path) -> None:
    error = refused(lambda: check_space(tmp_path, 1 << 60))
    assert error.code == "store.no-space"
    check_space(tmp_path, 1)
