"""transformers.js and onnxruntime-web for tests, as npm has them; a server for their page."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["NPM", "folder_of_web", "serving"]

NPM = shutil.which("npm")
_PACKAGES = {
    "@huggingface/transformers@4.3.2": (
        "5414fb47b11ae2a8c10a3aac68f833e6fb6e9bde03e9e612ad7da3ea9e9d2663"
    ),
    # The one that it is made for.
    "onnxruntime-web@1.31.0-dev.20260914-8d85527a0": (
        "0de27582f3e3189dec4a2082513a0af1ea79ae7fd3039bbfe634a526e173cbe0"
    ),
}
"""35 MB, and their SHA-256. What is installed with them otherwise, 0.4 GB, is for Node.js."""


def folder_of_web(cache: Path) -> Path:
    """The folder with `transformers/` and `onnxruntime-web/`, fetched where it is not there."""
    key = hashlib.sha256("\n".join(_PACKAGES).encode()).hexdigest()[:16]
    made = cache / "environments" / f"transformers-js-{key}"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent, prefix=".transformers-js-") as draft:
        whole = Path(draft, "web")
        for package, sha256 in _PACKAGES.items():
            command = [str(NPM), "pack", "--silent", f"--pack-destination={draft}", package]
            said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=draft)
            file = Path(draft, said.stdout.strip())
            assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256, package
            with tarfile.open(file) as archive:
                archive.extractall(Path(draft, "unpacked"), filter="data")
            name = package.rpartition("@")[0].rpartition("/")[2]
            Path(draft, "unpacked", "package").rename(_below(whole, name))
        try:
            whole.rename(made)
        except OSError:  # another run was faster
            assert made.exists()
    return made


def _below(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / name


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files, while the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
