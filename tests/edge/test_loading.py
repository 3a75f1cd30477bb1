from __future__ import annotations

import os
import shutil
from array import array
from pathlib import Path

import pytest

from edge.errors import DamagedModelError, UsageError
from edge.kvstore import kv_store_bytes
from edge.loading import fingerprint, load
from edge.plan import Chosen

MIB = 1 << 20


def test_loads_as_chosen_and_tells_progress(model_path: Path) -> None:
    told: list[float] = []
    engine, store, _ = load(model_path, Chosen(n_ctx=512, n_seq=2, kv_type="q8_0"), told.append)
    try:
        assert (engine.spec.n_ctx, engine.spec.n_parallel) == (512, 2)
        assert engine.spec.kv_type == "q8_0"
        assert told == sorted(told)
        assert told[-1] == 1.0
        assert store.best(array("i", [1, 2])) == (None, 0)
    finally:
        engine.close()


def test_native_code_never_sees_a_damaged_file(tmp_path: Path, model_path: Path) -> None:
    short = tmp_path / "short.gguf"
    with model_path.open("rb") as source, short.open("wb") as target:
        target.write(source.read(3 * MIB))
    with pytest.raises(DamagedModelError):
        load(short, Chosen())


def test_kv_states_of_another_file_or_kv_type_are_not_found(
    tmp_path: Path, home: Path, model_path: Path
) -> None:
    folders = set()
    for kv_type in ("f16", "q8_0"):
        engine, _, _ = load(model_path, Chosen(n_ctx=256, kv_type=kv_type))
        engine.close()
        folders |= set((home / "cache" / "kv").iterdir())
    assert len(folders) == 2


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(20 * MIB))
    stat = path.stat()
    before = fingerprint(path)
    for offset in (100, 20 * MIB - 5):
        changed = tmp_path / "changed.gguf"
        shutil.copy(path, changed)
        with changed.open("r+b") as file:
            file.seek(offset)
            file.write(b"x")
        os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert fingerprint(changed) != before
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert fingerprint(path) != before, "the same size at the same samples, but written again"


def test_kv_cache_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 64 * MIB <= kv_store_bytes() <= 1024 * MIB
    monkeypatch.setenv("LUCIE_KV_CACHE_MB", "0")
    assert kv_store_bytes() == 0
    monkeypatch.setenv("LUCIE_KV_CACHE_MB", "12")
    assert kv_store_bytes() == 12 * MIB
    monkeypatch.setenv("LUCIE_KV_CACHE_MB", "-3")
    with pytest.raises(UsageError, match="LUCIE_KV_CACHE_MB=-3"):
        kv_store_bytes()
