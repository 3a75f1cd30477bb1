"""llama.cpp's wheel: its key, its cache, builds that fail, two set-ups at once."""

from __future__ import annotations

import select
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import files
from pathlib import Path
from typing import IO

import pytest

from edge.bootstrap import build, llamacpp
from edge.errors import LucieError
from edge.paths import cache_dir

ROOT = Path(__file__).parents[2]
X86 = "processor : 0\nflags\t\t: fpu sse sse2 ssse3 avx avx2 fma rep_good md_clear\n"
PI5 = (
    "processor\t: 0\nFeatures\t: fp asimd aes crc32 atomics fphp asimdhp asimddp\n"
    "CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
)


def test_the_key_is_that_of_instructions_not_of_kernels() -> None:
    assert llamacpp.key(X86) == llamacpp.key(X86.replace(" md_clear", " tsc_known_freq"))
    assert llamacpp.key(X86) == llamacpp.key(X86 + X86.replace("processor : 0", "processor : 1"))
    assert llamacpp.key(X86) != llamacpp.key(X86.replace(" avx2", ""))
    assert llamacpp.key(X86) != llamacpp.key(X86.replace(" avx2", " avx2 avx512f"))


def test_the_key_tells_boards_apart() -> None:
    pi4 = PI5.replace("0xd0b", "0xd08").replace(" asimddp", "")
    same_features = PI5.replace("0xd0b", "0xd0c")
    assert len({llamacpp.key(text) for text in (X86, PI5, pi4, same_features)}) == 4


def test_the_key_changes_with_flags_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {llamacpp.key(X86)}
    monkeypatch.setattr(llamacpp, "FLAGS", (*llamacpp.FLAGS, "-DGGML_LTO=ON"))
    keys.add(llamacpp.key(X86))
    monkeypatch.setattr(llamacpp, "VERSION", "0.3.37")
    keys.add(llamacpp.key(X86))
    assert len(keys) == 3


def test_builds_the_version_that_is_pinned() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"llama-cpp-python=={llamacpp.VERSION}" in pyproject["project"]["dependencies"]


def test_the_cache_is_where_the_rest_of_lucie_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert llamacpp.cache_dir() == cache_dir()
    monkeypatch.delenv("LUCIE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/else")
    assert llamacpp.cache_dir() == cache_dir()
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert llamacpp.cache_dir() == cache_dir()


def test_a_finished_wheel_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    finished = llamacpp.cache_dir() / "wheels" / llamacpp.key() / "llama_cpp_python-1.whl"
    finished.parent.mkdir(parents=True)
    finished.touch()
    monkeypatch.setenv("PATH", "")  # no compiler: not needed either
    assert llamacpp.wheel() == finished


def test_the_bindings_find_their_library_on_android_as_well(tmp_path: Path) -> None:
    """The module itself, as it is installed here, in a process that is told to be on Android."""
    installed = files("llama-cpp-python") or ()
    [module] = [file for file in installed if file.name == "_ctypes_extensions.py"]
    copy = tmp_path / "llama_cpp" / module.name
    copy.parent.mkdir()
    shutil.copyfile(str(module.locate()), copy)

    def told() -> str:
        code = (
            "import sys; sys.platform = 'android'; from _ctypes_extensions import *\n"
            "load_shared_library('llama', __import__('pathlib').Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.run(command, cwd=copy.parent, capture_output=True, text=True).stderr

    assert "Unsupported platform" in told()
    llamacpp.name_android(tmp_path)
    named = copy.read_bytes()
    assert "with base name 'llama' not found" in told(), "it looks for libllama.so"
    llamacpp.name_android(tmp_path)
    assert copy.read_bytes() == named
    copy.write_text("another version", encoding="utf-8")
    with pytest.raises(ValueError, match="_ctypes_extensions"):
        llamacpp.name_android(tmp_path)


def test_says_that_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LucieError, match=r"apt install g\+\+"):
        llamacpp.wheel()


def test_a_wheel_of_one_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUCIE_WHEEL", str(tmp_path / "mine.whl"))
    with pytest.raises(LucieError, match=r"mine\.whl"):
        llamacpp.wheel()
    (tmp_path / "mine.whl").touch()
    assert llamacpp.wheel() == tmp_path / "mine.whl"


def fake_build(monkeypatch: pytest.MonkeyPatch, *causes: str | None) -> list[dict[str, str]]:
    """Compilations that fail for `causes`, or work; returns their environments."""
    tried: list[dict[str, str]] = []
    outcomes = iter(causes)

    def run(
        command: list[str],
        *,
        log: Path,
        title: str | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        if "wheel" in command:
            tried.append(env or {})
            if cause := next(outcomes):
                raise build.BuildError(f"bootstrap.failed-{cause}", log=str(log), cause=cause)
            out = Path(command[command.index("-w") + 1])
            out.mkdir(parents=True)
            (out / "llama_cpp_python-1.whl").write_bytes(b"whole")
        elif "venv" in command:
            (llamacpp.cache_dir() / "build" / llamacpp.key() / "env").mkdir(exist_ok=True)
        elif "download" in command:
            packed = Path(command[command.index("-d") + 1])
            (packed / "pack" / "llama").mkdir(parents=True)
            subprocess.run(["tar", "czf", "../s.tar.gz", "llama"], cwd=packed / "pack", check=True)

    monkeypatch.setattr(llamacpp, "run", run)
    monkeypatch.setattr(llamacpp, "jobs", lambda: 4)
    return tried


def test_out_of_memory_goes_on_with_one_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = fake_build(monkeypatch, "memory", None)
    assert llamacpp.wheel().read_bytes() == b"whole"
    assert [env["CMAKE_BUILD_PARALLEL_LEVEL"] for env in tried] == ["4", "1"]
    assert "-DGGML_OPENMP=OFF" in shlex.split(tried[0]["CMAKE_ARGS"])
    assert "going on with one" in capsys.readouterr().err
    assert not list((llamacpp.cache_dir() / "build").glob("*/")), "what is not needed has gone"


def test_the_cache_may_be_in_a_folder_with_a_space(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LUCIE_HOME", str(tmp_path / "USB stick"))
    tried = fake_build(monkeypatch, None)
    llamacpp.wheel()
    more = llamacpp.cache_dir() / "build" / llamacpp.key() / "more.cmake"
    last = shlex.split(tried[0]["CMAKE_ARGS"])[-1]
    assert last == f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={more}"


@pytest.mark.parametrize("causes", [("unknown",), ("memory", "memory")])
def test_a_failed_build_leaves_no_wheel_but_what_was_compiled(
    monkeypatch: pytest.MonkeyPatch, causes: tuple[str, ...]
) -> None:
    fake_build(monkeypatch, *causes)
    with pytest.raises(build.BuildError):
        llamacpp.wheel()
    assert not list(llamacpp.cache_dir().glob("wheels/**/*.whl"))
    assert (llamacpp.cache_dir() / "build" / llamacpp.key() / "src").is_dir()


def test_two_set_ups_take_turns(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge.bootstrap.llamacpp import locked\n"
        "with locked(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def says(stream: IO[str] | None) -> str:
        assert stream is not None
        assert select.select([stream], [], [], 30)[0], "it says nothing"
        return stream.readline()

    with start() as first:
        try:
            assert says(first.stdout) == "in\n"
            with start() as second:
                try:
                    assert "waiting for it" in says(second.stderr)
                    first.communicate()
                    assert second.communicate()[0] == "in\n"
                finally:
                    second.kill()
        finally:
            first.kill()
