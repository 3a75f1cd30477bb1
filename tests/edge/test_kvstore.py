from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import textwrap
from array import array
from pathlib import Path

import pytest

from edge.errors import EngineError
from edge.kvstore import KVStore, Saved, forget, kv_store_dir
from edge.prefixes import common_prefix
from tests.edge.test_history import namespaces

MIB = 1 << 20


def tokens(*ids: int) -> array[int]:
    return array("i", ids)


def keep(store: KVStore, ids: array[int], state: bytes) -> bool:
    def fill(out: memoryview) -> None:
        out[:] = state

    return store.save(ids, len(state), fill)


def read(store: KVStore, prompt: array[int]) -> bytes | None:
    saved, _ = store.best(prompt)
    if saved is None:
        return None
    got: list[bytes] = []
    return got[0] if store.load(saved, lambda state: got.append(bytes(state))) else None


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*/*.kv")
    return path


def test_common_prefix_equals_the_naive_one() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        a = array("i", rng.choices(range(3), k=rng.randrange(40)))
        b = array("i", list(a[: rng.randrange(40)]) + rng.choices(range(3), k=rng.randrange(9)))
        naive = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        assert common_prefix(a, b) == (min(len(a), len(b)) if naive is None else naive)


def test_found_again_by_a_later_store(tmp_path: Path) -> None:
    assert keep(KVStore(tmp_path, "k", MIB), tokens(1, 2, 3), b"state")
    later = KVStore(tmp_path, "k", MIB)
    saved, shared = later.best(tokens(1, 2, 9, 9))
    assert saved is not None
    assert (list(saved.tokens), shared) == ([1, 2, 3], 2)
    assert read(later, tokens(1, 2, 3, 4)) == b"state"
    assert (only_file(tmp_path).stat().st_mode & 0o077) == 0, "a conversation is private"


@pytest.mark.parametrize("key", ["other model", "other engine build"])
def test_another_key_finds_nothing(tmp_path: Path, key: str) -> None:
    keep(KVStore(tmp_path, "k", MIB), tokens(1, 2, 3), b"state")
    assert KVStore(tmp_path, key, MIB).best(tokens(1, 2, 3)) == (None, 0)


def test_a_file_of_another_key_in_our_folder_is_removed(tmp_path: Path) -> None:
    ours, theirs = KVStore(tmp_path / "a", "k", MIB), KVStore(tmp_path / "b", "other", MIB)
    keep(ours, tokens(1), b"x")
    keep(theirs, tokens(1), b"y")
    only_file(tmp_path / "b").replace(only_file(tmp_path / "a"))
    assert KVStore(tmp_path / "a", "k", MIB).best(tokens(1)) == (None, 0)
    assert not list((tmp_path / "a").glob("*/*.kv"))


def test_every_truncation_is_removed_at_start(tmp_path: Path) -> None:
    keep(KVStore(tmp_path, "k", MIB), tokens(1, 2, 3), b"state")
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        assert KVStore(tmp_path, "k", MIB).best(tokens(1, 2, 3)) == (None, 0)
        assert not path.exists()


def test_every_flipped_byte_is_detected_and_removed(tmp_path: Path) -> None:
    keep(KVStore(tmp_path, "k", MIB), tokens(1, 2, 3), b"state")
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n] + bytes([whole[n] ^ 0x40]) + whole[n + 1 :])
        assert read(KVStore(tmp_path, "k", MIB), tokens(1, 2, 3)) is None
        assert not path.exists()


def test_what_the_engine_refuses_is_removed(tmp_path: Path) -> None:
    store = KVStore(tmp_path, "k", MIB)
    keep(store, tokens(1, 2, 3), b"state")
    saved, _ = store.best(tokens(1, 2, 3))
    assert saved is not None

    def refuse(_: memoryview) -> None:
        raise EngineError("engine.state-refused", reason="no")

    assert not store.load(saved, refuse)
    assert not saved.path.exists()
    assert store.best(tokens(1, 2, 3)) == (None, 0)


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    room_for_two = 2 * (84 + 4 + 1000) + 10
    store = KVStore(tmp_path, "k", room_for_two)
    for n, age in [(1, 200), (2, 100)]:
        keep(store, tokens(n), bytes(1000))
        saved, _ = store.best(tokens(n))
        assert saved is not None
        os.utime(saved.path, (saved.path.stat().st_mtime - age,) * 2)
    assert read(store, tokens(1)) is not None, "reading it makes it the newest"
    assert keep(store, tokens(3), bytes(1000))
    assert [store.best(tokens(n))[1] for n in (1, 2, 3)] == [1, 0, 1]
    assert len(list(tmp_path.glob("*/*.kv"))) == 2


def test_files_of_other_keys_count_and_go_too(tmp_path: Path) -> None:
    keep(KVStore(tmp_path, "old engine", MIB), tokens(1), bytes(1000))
    old = only_file(tmp_path)
    os.utime(old, (1, 1))
    assert keep(KVStore(tmp_path, "k", 1500), tokens(2), bytes(1000))
    assert not old.exists()


def test_more_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    store = KVStore(tmp_path, "k", 500)
    assert not keep(store, tokens(1), bytes(1000))
    assert not list(tmp_path.rglob("*.*"))


def test_a_bound_of_zero_keeps_nothing(tmp_path: Path) -> None:
    assert not keep(KVStore(tmp_path / "kv", "k", 0), tokens(1), b"x")
    assert not (tmp_path / "kv").exists()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    store = KVStore(tmp_path, "k", MIB)

    def full(_: memoryview) -> None:
        raise OSError(28, "No space left on device")

    assert not store.save(tokens(1), 10, full)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_unfinished_file_is_removed_at_start(tmp_path: Path) -> None:
    store = KVStore(tmp_path, "k", MIB)
    keep(store, tokens(1), b"x")
    part = only_file(tmp_path).with_suffix(".part")
    part.write_bytes(b"half")
    KVStore(tmp_path, "k", MIB)
    assert not part.exists()


def test_processes_may_save_the_same_at_once(tmp_path: Path) -> None:
    ours, theirs = (KVStore(tmp_path, "k", MIB) for _ in range(2))

    def fill(out: memoryview) -> None:
        out[:2] = b"ou"
        assert keep(theirs, tokens(1, 2), b"theirs")
        KVStore(tmp_path, "k", MIB)  # a third one starts, and takes away what was cut off
        out[2:] = b"rs"

    assert ours.save(tokens(1, 2), 4, fill)
    assert read(KVStore(tmp_path, "k", MIB), tokens(1, 2)) == b"ours"
    assert [path.suffix for path in tmp_path.glob("*/*")] == [".kv"]


def test_what_another_process_has_just_taken_away_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(KVStore(tmp_path, "k", MIB), tokens(1), b"x")
    look = KVStore._read_tokens

    def look_too_late(store: KVStore, path: Path) -> Saved | None:
        path.unlink()
        return look(store, path)

    monkeypatch.setattr(KVStore, "_read_tokens", look_too_late)
    assert keep(KVStore(tmp_path, "k", MIB), tokens(2), b"y"), "the others are kept all the same"


def test_a_longer_conversation_replaces_its_beginning_but_not_the_system_prompt(
    tmp_path: Path,
) -> None:
    store = KVStore(tmp_path, "k", MIB)
    for ids in [(1,), (1, 2), (1, 2, 3), (1, 9)]:
        keep(store, tokens(*ids), b"x")
    store.drop_prefixes(tokens(1, 2, 3), longer_than=1)
    left = [ids for ids in [(1,), (1, 2), (1, 2, 3), (1, 9)] if store.covers(tokens(*ids))]
    assert left == [(1,), (1, 2, 3), (1, 9)]


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    store = KVStore(tmp_path, "k", MIB)
    keep(store, tokens(1, 2), b"x")
    folder = only_file(tmp_path).parent
    (folder / "folder.kv").mkdir()
    os.mkfifo(folder / "pipe.kv")
    assert read(KVStore(tmp_path, "k", MIB), tokens(1, 2)) == b"x"


def test_a_cache_that_is_cleared_meanwhile_begins_anew(tmp_path: Path) -> None:
    store = KVStore(tmp_path / "kv", "k", MIB)
    keep(store, tokens(1, 2), b"x")
    shutil.rmtree(tmp_path / "kv")
    assert read(store, tokens(1, 2)) is None
    assert keep(store, tokens(1, 2), b"y")
    assert read(store, tokens(1, 2)) == b"y"


@namespaces
def test_a_read_only_cache_is_read_and_no_more(tmp_path: Path) -> None:
    store = KVStore(tmp_path, "k", MIB)
    keep(store, tokens(1, 2), b"x")
    keep(store, tokens(3, 4), b"y")
    damaged = next(path for path in tmp_path.glob("*/*.kv") if path.read_bytes()[-1:] == b"y")
    with damaged.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"z")
    code = """
        import sys
        from pathlib import Path
        from edge.kvstore import KVStore
        from tests.edge.test_kvstore import keep, read, tokens
        store = KVStore(Path(sys.argv[1]), "k", 1 << 20)
        print(read(store, tokens(1, 2)), read(store, tokens(3, 4)), read(store, tokens(3, 4)))
        print(keep(store, tokens(5), b"v"), read(store, tokens(1, 2)))
    """
    shell = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    program = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    command = ["unshare", "-rm", "sh", "-c", shell, str(tmp_path), *program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b'x'", "None", "None", "False", "b'x'"]


# -- forgetting ---------------------------------------------------------------------------


def test_forgetting_takes_all_from_disk_of_every_model() -> None:
    for key in ("one model", "another"):
        keep(KVStore(kv_store_dir(), key, MIB), tokens(1, 2), b"x")
    forget()
    assert not list(kv_store_dir().glob("*/*"))
    assert KVStore(kv_store_dir(), "another", MIB).best(tokens(1, 2)) == (None, 0)


def test_nothing_from_before_is_written_until_the_engine_has_let_go_of_it() -> None:
    store = KVStore(kv_store_dir(), "k", MIB)
    assert keep(store, tokens(1, 2), b"x")
    assert not store.forgotten()
    forget()
    assert not keep(store, tokens(3, 4), b"y")
    assert not list(kv_store_dir().glob("*/*"))
    assert store.forgotten()
    assert not store.forgotten(), "it was told"
    assert store.best(tokens(1, 2)) == (None, 0)
    assert keep(store, tokens(3, 4), b"y")


def test_what_is_being_written_is_forgotten_too() -> None:
    store = KVStore(kv_store_dir(), "k", MIB)
    assert not store.save(tokens(1, 2), 4, lambda _: forget())
    assert not list(kv_store_dir().glob("*/*"))


def test_where_nothing_was_ever_kept_nothing_is_made() -> None:
    forget()
    assert not kv_store_dir().exists()
