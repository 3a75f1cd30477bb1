from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge.bundle import Bundle
from edge.errors import DamagedModelError, LucieError, ModelError, StoreError
from edge.manifest import DataSource, File, Manifest, Parent

TEXT = b"weights" * 1000


def manifest(**fields: Any) -> Manifest:
    return Manifest(**{"kind": "gguf", "name": "toy", "provenance": "unknown", **fields})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def bundle(tmp_path: Path, source: Path) -> Bundle:
    return Bundle.write(
        tmp_path / "toy", manifest(), {"toy.gguf": source, "extra/notes.txt": source}
    )


def rewrite(bundle: Bundle, **changes: Any) -> None:
    path = bundle.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(path: Path, *, verify: bool = False) -> LucieError:
    with pytest.raises(LucieError) as caught:
        Bundle.open(path, verify=verify)
    assert str(path) in str(caught.value)
    return caught.value


def test_what_is_written_is_read_back_with_every_fact(tmp_path: Path, source: Path) -> None:
    written = manifest(
        parents=(Parent(name="corpus", sha256="0" * 64),),
        recipe={"step": "train", "lr": 1e-4, "layers": [1, 2]},
        software={"torch": "2.13.0"},
        commit="abc",
        licence="Apache-2.0",
        languages=("fr", "en"),
        provenance="recorded",
        data=(DataSource(name="Gallica", licence="CC0-1.0", tokens=5, first_date="1800"),),
        metrics={"loss": 1.5},
    )
    made = Bundle.write(tmp_path / "toy", written, {"toy.gguf": source})
    opened = Bundle.open(tmp_path / "toy", verify=True)
    assert opened.manifest == made.manifest
    assert opened.sha256 == made.sha256
    digest = hashlib.sha256(TEXT).hexdigest()
    assert opened.manifest.files == {"toy.gguf": File(sha256=digest, size=len(TEXT))}
    assert opened.manifest.model_copy(update={"files": {}}) == written
    assert source.exists()


def test_the_name_of_a_parent_covers_every_byte_of_the_bundle(bundle: Bundle) -> None:
    raw = (bundle.path / "manifest.json").read_bytes()
    assert bundle.sha256 == hashlib.sha256(raw).hexdigest()


def test_moving_takes_the_file_and_trusts_a_known_hash(tmp_path: Path, source: Path) -> None:
    known = File(sha256="1" * 64, size=len(TEXT))  # not its hash: shows that it was not read
    made = Bundle.write(tmp_path / "toy", manifest(files={"a": known}), {"a": source}, move=True)
    assert made.manifest.files["a"] == known
    assert not source.exists()
    assert refused(made.path, verify=True).code == "bundle.wrong-hash"


@pytest.mark.parametrize("move", [True, False])
def test_every_file_is_flushed_before_the_bundle_has_its_name(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, move: bool
) -> None:
    """Also those that are moved: who wrote them may be a library that flushes nothing."""
    target, before = tmp_path / "toy", set()

    def fsync(descriptor: int) -> None:
        if not target.exists():
            before.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    Bundle.write(target, manifest(), {"below/toy.gguf": source}, move=move)
    assert {path.stat().st_ino for path in (target, *target.rglob("*"))} <= before


def test_a_bundle_is_never_overwritten(bundle: Bundle, source: Path) -> None:
    before = bundle.path.stat().st_ino
    with pytest.raises(StoreError) as caught:
        Bundle.write(bundle.path, manifest(), {"toy.gguf": source})
    assert caught.value.code == "bundle.exists"
    assert bundle.path.stat().st_ino == before
    Bundle.open(bundle.path, verify=True)


def test_a_failed_write_leaves_nothing_and_returns_what_it_moved(
    tmp_path: Path, source: Path
) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Bundle.write(tmp_path / "a", manifest(), {"x": source}, progress=stop)
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    wrong = manifest(files={"y": File(sha256="0" * 64, size=99)})
    with pytest.raises(DamagedModelError) as caught:
        Bundle.write(tmp_path / "b", wrong, {"x": source, "y": other}, move=True)
    assert caught.value.code == "bundle.wrong-hash"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.bin", "source.bin"]
    assert source.read_bytes() == TEXT


def test_what_is_moved_in_can_be_read_by_all_who_read_the_folder(
    tmp_path: Path, source: Path
) -> None:
    source.chmod(0o600)  # as safetensors leaves it
    made = Bundle.write(tmp_path / "a", manifest(), {"x": source}, move=True)
    readable = made.path.stat().st_mode & 0o444
    assert (made.path / "x").stat().st_mode & 0o777 == readable | 0o200


def test_copying_checks_what_the_manifest_already_names(tmp_path: Path, source: Path) -> None:
    wrong = manifest(files={"x": File(sha256="0" * 64, size=len(TEXT))})
    with pytest.raises(DamagedModelError):
        Bundle.write(tmp_path / "a", wrong, {"x": source})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", ".", "", "a\\b", "manifest.json", "a\n"])
def test_a_file_that_would_leave_the_bundle_is_not_written(
    tmp_path: Path, source: Path, name: str
) -> None:
    with pytest.raises(DamagedModelError) as caught:
        Bundle.write(tmp_path / "a", manifest(), {name: source})
    assert caught.value.code == "bundle.bad-name"
    assert [path.name for path in tmp_path.iterdir()] == ["source.bin"]


@pytest.mark.parametrize(
    "name", ["../source.bin", "/etc/passwd", "a//b", "./toy.gguf", "x/..", "a\x1b[2Jb", "x" * 300]
)
def test_a_manifest_cannot_name_a_file_elsewhere(bundle: Bundle, name: str) -> None:
    rewrite(bundle, files={name: {"sha256": "0" * 64, "size": 1}})
    error = refused(bundle.path)
    assert error.code == "bundle.bad-manifest"
    assert "\x1b" not in str(error)


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"kind": "virus"},
        {"name": "../toy"},
        {"name": "TOY"},
        {"provenance": "trust me"},
        {"files": {"a": {"sha256": "0" * 63, "size": 1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": -1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": 1, "mode": 7}}},
        {"metrics": {"loss": float("nan")}},
        {"data": [{"name": "x", "first_date": "last year"}]},
        {"data": [{"name": "x", "last_date": "9999-99-99"}]},
        {"parents": [{"name": "a"}]},
        {"licence": "MIT\x1b[2J"},
        {"languages": ["x" * 9999]},
        {"format": "1.5"},
    ],
)
def test_a_manifest_that_says_nonsense_is_refused(bundle: Bundle, changes: dict[str, Any]) -> None:
    rewrite(bundle, **changes)
    error = refused(bundle.path)
    assert error.code == "bundle.bad-manifest"
    assert isinstance(error, DamagedModelError)


def test_a_later_format_is_told_apart_from_damage(bundle: Bundle) -> None:
    rewrite(bundle, format=2, something_new=True)
    error = refused(bundle.path)
    assert error.code == "bundle.newer-format"
    assert not isinstance(error, DamagedModelError)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"[1]",
        b'{"format": 1',
        b"[" * 100_000,
        b"\xff\xfe{}",
        b'{"format": 1e400}',
    ],
)
def test_a_manifest_that_is_no_json_object_is_refused(bundle: Bundle, raw: bytes) -> None:
    (bundle.path / "manifest.json").write_bytes(raw)
    assert refused(bundle.path).code == "bundle.bad-manifest"


def test_a_huge_manifest_is_not_read(bundle: Bundle) -> None:
    with (bundle.path / "manifest.json").open("ab") as handle:
        handle.truncate(1 << 40)  # a sparse terabyte
    assert refused(bundle.path).code == "bundle.manifest-too-big"


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file", tmp_path / "nowhere"):
        error = refused(path)
        assert error.code == "bundle.no-manifest"
        assert isinstance(error, ModelError)


def test_files_missing_added_or_cut_are_noticed_without_hashing(bundle: Bundle) -> None:
    (bundle.path / "stranger").touch()
    error = refused(bundle.path)
    assert (error.code, error.facts["file"]) == ("bundle.extra-file", "stranger")
    (bundle.path / "stranger").unlink()

    notes = bundle.path / "extra" / "notes.txt"
    os.truncate(notes, 5)
    assert refused(bundle.path).code == "bundle.wrong-size"
    notes.unlink()
    error = refused(bundle.path)
    assert (error.code, error.facts["file"]) == ("bundle.missing-file", "extra/notes.txt")


def test_a_flipped_bit_is_found_by_verifying(bundle: Bundle) -> None:
    path = bundle.path / "toy.gguf"
    path.write_bytes(TEXT[:-1] + bytes([TEXT[-1] ^ 1]))
    Bundle.open(bundle.path, verify=False)
    error = refused(bundle.path, verify=True)
    assert (error.code, error.facts["file"]) == ("bundle.wrong-hash", "toy.gguf")


def test_links_pipes_and_sockets_are_refused(bundle: Bundle, source: Path) -> None:
    path = bundle.path / "toy.gguf"
    path.unlink()
    path.symlink_to(source)
    assert refused(bundle.path, verify=True).code == "bundle.irregular"
    path.unlink()
    os.mkfifo(path)  # opening one waits for ever
    assert refused(bundle.path, verify=True).code == "bundle.irregular"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert refused(bundle.path).code == "bundle.irregular"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_the_manifest_itself_must_be_a_plain_file(
    bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    path = bundle.path / "manifest.json"
    content = path.read_bytes()
    path.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert refused(bundle.path).code == "bundle.irregular"


def test_verifying_tells_how_far_it_is(bundle: Bundle) -> None:
    told: list[tuple[int, int | None]] = []
    Bundle.open(bundle.path, verify=True, progress=lambda *far: told.append(far))
    assert told[-1] == (2 * len(TEXT), 2 * len(TEXT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_manifests_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        manifest().name = "other"  # type: ignore[misc]  # that is the point


def test_errors_speak_french(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    (bundle.path / "toy.gguf").unlink()
    assert "il manque toy.gguf" in str(refused(bundle.path))
    rewrite(bundle, licence=7)
    assert "licence : doit être un texte" in str(refused(bundle.path))
