"""An image for the tests that need a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.paths import cache_dir
from images.commands import image

# What is built is kept in the user's own cache, before a test moves LUCIE_HOME.
_KEPT = cache_dir() / "images"


def lucie_image(*arguments: str | Path) -> Result:
    """`lucie image` with these."""
    return CliRunner().invoke(image, [str(each) for each in arguments], catch_exceptions=False)


def keep(home: Path) -> None:
    """Have what is built kept, wherever LUCIE_HOME is."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    (home / "cache").mkdir(exist_ok=True)
    (home / "cache" / "images").symlink_to(_KEPT)


@pytest.fixture
def kept(home: Path) -> None:
    """What was built is found again."""
    keep(home)


@pytest.fixture(scope="session")
def built(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an image for the Pi 3."""
    out = tmp_path_factory.mktemp("image") / "pi3"
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        keep(home)
        patch.setenv("LUCIE_HOME", str(home))
        made = lucie_image("build", "--board", "pi3", "--lang", "en", "--model",
                           model_path.parent, "--output", out)  # fmt: skip
    assert made.exit_code == 0, made.output
    return out
