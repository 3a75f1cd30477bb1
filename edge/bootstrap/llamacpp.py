"""llama.cpp for this CPU: compiled once from llama-cpp-python's source, kept as a wheel.

    <cache>/wheels/<key>/llama_cpp_python-….whl     finished; appears only when complete
    <cache>/build/<key>/{env,sdist,src,cmake}       unfinished; ninja goes on from here

llama.cpp compiles for the CPU it finds, so a wheel belongs to one kind of CPU: that is
in the key, as is the C library, below whose version a wheel does not load. The compiler
is not: a wheel goes on working when the compiler is upgraded, or removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.bootstrap.build import BuildError, run, say
from edge.errors import LucieError
from edge.messages import text

__all__ = [
    "FLAGS",
    "LLAMA_CPP_COMMIT",
    "NO_AMX",
    "SDIST_SHA256",
    "VERSION",
    "cache_dir",
    "jobs",
    "key",
    "locked",
    "name_android",
    "python",
    "sdist",
    "wheel",
]

VERSION = "0.3.36"
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
LLAMA_CPP_COMMIT = "0c1e57098"
"""What it has of llama.cpp, by its CHANGELOG.md."""

FLAGS = (
    "-DLLAVA_BUILD=OFF",  # pictures: not used
    # OpenMP's barriers spin: with another program on one core, decode on two threads
    # falls 10 to 30 times. ggml's own thread pool does not.
    "-DGGML_OPENMP=OFF",
)
_NO_COMMON = """
# llama-cpp-python forces this library on, as a cache entry; a plain variable wins over
# that (CMake policy CMP0126). It is 40 % of the compile time and nothing here loads it.
set(LLAMA_BUILD_COMMON OFF)
"""
NO_AMX = """\
# GCC 12 believes that _tile_loadconfig reads 8 of its 64 bytes, and drops the others: the
# first multiplication with AMX is then an illegal instruction (llama.cpp pull request 26954).
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  add_compile_options(-mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
endif()
"""
"""For CMake, as a file that a project includes."""
_CMAKE = _NO_COMMON + NO_AMX

# Its bindings look for the library on the systems that they name, and Android is none of them.
_NAMED, _NAMED_TOO = (
    f"elif sys.platform.startswith({names}) or" for names in ('"linux"', '("linux", "android")')
)

_JOB_BYTES = 700 << 20
"""Peak memory of one compiler process of this build."""

# The flags of /proc/cpuinfo that stand for instructions a compiler may use. The others
# change with the kernel, and would have us build again for nothing.
_INSTRUCTIONS = re.compile(
    r"mmx|sse|ssse|pni|abm|popcnt|fma|f16c|bmi|avx|amx|aes|v?pclmul|vaes|gfni|sha|adx|movbe|xsave"
)


def cache_dir() -> Path:
    """The folder of `edge.paths.cache_dir`, whose dependency is not installed yet."""
    if home := os.environ.get("LUCIE_HOME"):
        return Path(home) / "cache"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lucie-edge"


def key(cpuinfo: str | None = None) -> str:
    """Names the wheel that this machine needs.

    Args:
        cpuinfo: text of /proc/cpuinfo, read where None.
    """
    if cpuinfo is None:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    facts = [VERSION, FLAGS, _CMAKE, platform.machine(), platform.libc_ver(), _cpu(cpuinfo)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _cpu(cpuinfo: str) -> list[str]:
    """What decides which instructions a compiler uses: features, and on ARM the core's design."""
    facts: set[str] = set()
    for line in cpuinfo.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "flags":  # x86
            facts.update(flag for flag in value.split() if _INSTRUCTIONS.match(flag))
        elif name == "Features":  # ARM
            facts.update(value.split())
        elif name in {"CPU implementer", "CPU part"}:
            facts.add(f"{name} {value}")
    return sorted(facts)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` alone; says so when another process has to be waited for."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def wheel() -> Path:
    """The wheel for this machine, built if there is none; `LUCIE_WHEEL` names one instead.

    Raises:
        LucieError: no compiler, or the wheel of LUCIE_WHEEL is not there.
        BuildError: the build failed.
    """
    if given := os.environ.get("LUCIE_WHEEL"):
        if not Path(given).is_file():
            raise LucieError("bootstrap.no-such-wheel", path=given)
        return Path(given)
    wheels = cache_dir() / "wheels"
    with locked(wheels):
        finished = wheels / key()
        for found in finished.glob("*.whl"):
            return found
        built = _build(cache_dir() / "build" / key())
        # Installed by others as soon as it is there, so it must be there as a whole.
        finished.mkdir(parents=True, exist_ok=True)
        kept = finished / built.name
        built.replace(kept)
        shutil.rmtree(cache_dir() / "build" / key())
        return kept


def _build(folder: Path) -> Path:
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise LucieError("bootstrap.no-compiler")
    log = folder.with_suffix(".log")
    log.unlink(missing_ok=True)
    source = sdist(folder, log)
    if sys.platform == "android":
        name_android(source)
    more = folder / "more.cmake"
    more.write_text(_CMAKE, encoding="utf-8")
    flags = (*FLAGS, f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={more}")
    command = [
        *(str(python(folder, log)), "-m", "pip", "wheel", "-v", "--no-deps"),
        *("--no-build-isolation", "--disable-pip-version-check", "--no-cache-dir"),
        *("--config-settings", f"build-dir={folder / 'cmake'}"),
        *("--config-settings", "build.targets=llama"),
        # Left out: headers, and a second copy of the libraries for other C++ programs.
        *("--config-settings", "wheel.exclude=lib/**;include/**;bin/**"),
        *("-w", str(folder / "out"), str(source)),
    ]
    path = f"{folder / 'env/bin'}:{os.environ['PATH']}"
    env = {"CMAKE_ARGS": shlex.join(flags), "PATH": path}
    most = jobs()
    try:
        _compile(command, env, most, log)
    except BuildError as error:
        if error.facts["cause"] != "memory" or most == 1:
            raise
        say("one-job")
        _compile(command, env, 1, log)
    return next((folder / "out").glob("*.whl"))


def name_android(source: Path) -> None:
    """Have the bindings in an unpacked source find their library on Android; again: no change.

    Raises:
        ValueError: they are not of the version that is known.
    """
    module = source / "llama_cpp" / "_ctypes_extensions.py"
    code = module.read_text(encoding="utf-8")
    if _NAMED_TOO not in code:
        if _NAMED not in code:
            raise ValueError(module)
        module.write_text(code.replace(_NAMED, _NAMED_TOO), encoding="utf-8")


def _compile(command: list[str], env: dict[str, str], n_jobs: int, log: Path) -> None:
    env = {**env, "CMAKE_BUILD_PARALLEL_LEVEL": str(n_jobs)}
    run(command, log=log, title=text("bootstrap.building"), env=env)


def jobs() -> int:
    """As many compilers as there are cores and free memory for."""
    available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("utf-8"))
    cores = len(os.sched_getaffinity(0))
    return (
        cores if available is None else max(1, min(cores, int(available[1]) * 1024 // _JOB_BYTES))
    )


def python(folder: Path, log: Path) -> Path:
    """The Python of an environment in `folder` that can build the source; made if need be.

    CMake and ninja come from PyPI where the system has none that runs.
    """
    program = folder / "env" / "bin" / "python"
    ready = folder / "env" / "ready"
    if not ready.exists():
        missing = [tool for tool in ("cmake", "ninja") if not _runs(tool)]
        run(
            [sys.executable, "-m", "venv", "--clear", str(program.parents[1])],
            log=log,
            title=text("bootstrap.tools"),
        )
        packages = ["scikit-build-core[pyproject]>=0.9.2", *missing]
        run([str(program), "-m", "pip", "install", "-q", *packages], log=log)
        ready.touch()
    return program


def _runs(tool: str) -> bool:
    if shutil.which(tool) is None:
        return False
    return subprocess.run([tool, "--version"], capture_output=True, check=False).returncode == 0


def sdist(folder: Path, log: Path) -> Path:
    """The unpacked source of llama-cpp-python in `folder`, fetched from PyPI if need be.

    Its path stays the same when a build goes on after an interruption; else CMake would
    begin again.
    """
    source = folder / "src"
    if source.exists():
        return source
    folder.mkdir(parents=True, exist_ok=True)
    pin = folder / "pin.txt"
    pin.write_text(f"llama-cpp-python=={VERSION} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
    command = [
        *(str(python(folder, log)), "-m", "pip", "download", "-q", "--no-deps"),
        *("--no-build-isolation", "--no-binary", ":all:", "--require-hashes"),
        *("-d", str(folder / "sdist"), "-r", str(pin)),
    ]
    path = f"{folder / 'env/bin'}:{os.environ['PATH']}"
    run(command, log=log, title=text("bootstrap.fetching"), env={"PATH": path})
    unpacked = folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(next((folder / "sdist").glob("*.tar.gz"))) as archive:
        # Debian 12's Python 3.11.2 has no filters yet; the hash has been checked anyway.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(unpacked)  # noqa: S202 - filtered, in the way that old versions know
    next(unpacked.iterdir()).rename(source)
    shutil.rmtree(folder / "sdist")
    return source
