"""Packages and package lists of Debian, by apt, without touching the system.

apt keeps its lists of packages in a folder of ours, a package is downloaded and never
installed, and root is not needed. apt checks every signature and hash, as it does for the
system itself: the release, mirror and keys are those that the machine is set up for.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path

from pretrain.corpus.package import File, Package
from pretrain.errors import PretrainError

__all__ = ["Apt", "NoSuchPackageError", "open_deb"]

_LANGUAGES = "en,fr,de,es,it"
_DISTRIBUTIONS = ("Debian", "Raspbian", "Ubuntu")
"""Whose component `main` holds free packages alone."""
_ORIGIN = re.compile(r"^Origin: *(.+?) *$", re.MULTILINE)
_DATE = re.compile(r"^Date: *(.+?) *$", re.MULTILINE)
_SOURCES = Path("/etc/apt")
"""Where it is said what apt is set up for: `sources.list`, and the files of `sources.list.d`."""


class NoSuchPackageError(PretrainError):
    """This machine, or its release of Debian, does not have the package."""


class Apt:
    """apt with its lists and downloads in `folder`.

    Args:
        folder: is there; what a call before has left there is used again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lists = folder / "lists"
        self._complete = self._lists / "complete"
        """Names of the lists that came when all came."""
        self._updated = False

    @staticmethod
    def missing() -> str | None:
        """The program that this machine lacks to read Debian packages; None where it has all."""
        return next((p for p in ("apt-get", "dpkg-deb") if shutil.which(p) is None), None)

    def package(self, name: str) -> Package:
        """Download the package of that name, or take the one that has been.

        Raises:
            NoSuchPackageError: the release has none.
            PretrainError: apt cannot get it.
        """
        debs = self._folder / "debs"
        found = self._downloaded(name)
        if found is None:
            debs.mkdir(exist_ok=True)
            draft = debs / f".{name}"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            try:
                self._download(name, draft)
                made = next(iter(draft.glob("*.deb")))
                found = debs / made.name
                made.replace(found)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return Package(
            name=name,
            version=_output(["dpkg-deb", "--field", str(found), "Version"], found).strip(),
            files=(File(found, _date(found)),),
            sha256=_sha256(found),
        )

    def _downloaded(self, name: str) -> Path | None:
        return next(iter(sorted((self._folder / "debs").glob(f"{name}_*.deb"))), None)

    def _download(self, name: str, draft: Path) -> None:
        self._need_lists()
        try:
            self._apt(name, "download", name, cwd=draft)
        except PretrainError as error:
            # Lists of long ago name versions that the mirror no longer has. What they do not name
            # the release has not, unless apt was set up for another one since.
            lacks = isinstance(error, NoSuchPackageError)
            if self._updated or (lacks and _set_up() <= self._complete.stat().st_mtime):
                raise
            self.update()
            self._apt(name, "download", name, cwd=draft)

    def translation(self, language: str) -> Package:
        """The descriptions of all free packages in that language.

        Raises:
            NoSuchPackageError: the release has none.
            PretrainError: apt cannot get them.
        """
        name = f"Translation-{language}"
        self._need_lists()
        releases = [r for r in self._releases() if self._list_of(r, name).exists()]
        if not releases:
            raise NoSuchPackageError("corpus.no-package", name=name)
        paths = [self._list_of(release, name) for release in releases]
        dates = [_release_date(release) for release in releases]
        whole = hashlib.sha256("".join(map(_sha256, paths)).encode()).hexdigest()
        files = tuple(map(File, paths, dates))
        return Package(name=name, version=max(dates), files=files, sha256=whole)

    def _releases(self) -> list[Path]:
        """The signed list of each suite of a distribution whose packages are free."""
        found = sorted(self._lists.glob("*_InRelease"))
        return [file for file in found if _field(_ORIGIN, file) in _DISTRIBUTIONS]

    def _list_of(self, release: Path, name: str) -> Path:
        prefix = release.name.removesuffix("_InRelease")
        return self._lists / f"{prefix}_main_i18n_{name}"

    def _need_lists(self) -> None:
        names = self._complete.read_text("utf-8").split() if self._complete.exists() else ()
        # Who is told that a list is damaged removes it.
        if not names or not all((self._lists / name).exists() for name in names):
            self.update()

    def update(self) -> None:
        """Fetch the lists of packages.

        Raises:
            PretrainError: apt cannot get all of them.
        """
        (self._lists / "partial").mkdir(parents=True, exist_ok=True)
        # Without a place for what it makes of the lists, apt reads them all again each time.
        (self._folder / "apt").mkdir(exist_ok=True)
        status, said = _run([*self._command(), "update"], self._folder)
        # A repository that does not answer may be anybody's: a corpus without its texts would pass
        # for one with them.
        if status or not any(self._list_of(r, "Translation-en").exists() for r in self._releases()):
            raise PretrainError("corpus.apt", name="update", reason=_reason(said, status))
        names = sorted(file.name for file in self._lists.glob("*_*"))
        self._complete.write_text("\n".join(names), encoding="utf-8")
        self._updated = True

    def _apt(self, name: str, *words: str, cwd: Path) -> None:
        status, said = _run([*self._command(), *words], cwd)
        if status and "Unable to locate package" in said:
            raise NoSuchPackageError("corpus.no-package", name=name)
        if status:
            raise PretrainError("corpus.apt", name=name, reason=_reason(said, status))

    def _command(self) -> list[str]:
        options = {
            "Dir::State::Lists": str(self._lists),
            "Dir::Cache": str(self._folder / "apt"),
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            # A value overrides a list that the system sets, as "none" in containers.
            "Acquire::Languages": _LANGUAGES,
            "Acquire::GzipIndexes": "false",
            # Where a mirror does not answer, apt takes what it has, and says that all is well.
            "APT::Update::Error-Mode": "any",
        }
        return ["apt-get", "--quiet", *(f"--option={key}={v}" for key, v in options.items())]


@contextmanager
def open_deb(deb: Path, *, whole: bool = True) -> Iterator[tarfile.TarFile]:
    """The files that a package would install, as a stream to be read once, from first to last.

    Args:
        deb: the package.
        whole: it is read to its last file; a stream that stops before is told by nothing else.

    Raises:
        PretrainError: it is no Debian package, or a damaged one.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            yield archive
        while whole and process.stdout.read(1 << 20):
            pass  # what fills up the last block
        status = process.wait() if whole else 0
    except (tarfile.TarError, EOFError) as error:
        raise PretrainError("corpus.bad-package", name=str(deb), reason=str(error)) from None
    finally:
        process.stdout.close()
        process.terminate()
        process.wait()
    if status:
        raise PretrainError("corpus.bad-package", name=str(deb), reason=f"dpkg-deb: exit {status}")


def _date(deb: Path) -> str:
    """When the package was made: its root folder has the time of its last change (deb-src
    builds clamp all times to that, for the same bytes again)."""
    with open_deb(deb, whole=False) as archive:
        first = archive.next()
    if first is None:
        raise PretrainError("corpus.bad-package", name=str(deb), reason="-")
    return datetime.fromtimestamp(first.mtime, UTC).date().isoformat()


def _set_up() -> float:
    """When what apt is set up for was last changed (Unix seconds)."""
    files = chain(_SOURCES.glob("sources.list*"), _SOURCES.glob("sources.list.d/*"))
    return max((file.stat().st_mtime for file in files), default=0.0)


def _release_date(release: Path) -> str:
    told = _field(_DATE, release)
    try:
        return parsedate_to_datetime(told).date().isoformat()
    except ValueError:
        raise PretrainError("corpus.bad-package", name=str(release), reason="Date") from None


def _field(pattern: re.Pattern[str], file: Path) -> str:
    found = pattern.search(file.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else ""


def _sha256(file: Path) -> str:
    with file.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def _output(command: Sequence[str], file: Path) -> str:
    status, said = _run(command, Path.cwd())
    if status:
        raise PretrainError("corpus.bad-package", name=str(file), reason=_reason(said, status))
    return said


def _run(command: Sequence[str], cwd: Path) -> tuple[int, str]:
    """Exit status and words of a program, which Ctrl-C ends with all that it has started."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        start_new_session=True,
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, said.decode(errors="replace")


def _reason(said: str, status: int) -> str:
    """apt's first error, of which the others follow, or its last words."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or [f"exit {status}"]
    told = next((line for line in lines if line.startswith("E:")), lines[-1])
    return "".join(char for char in told if char.isprintable())[:300]
