"""`lucie image catalog`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import click

from edge.commands.paths import AnyPath
from images.commands.words import say, stages, words
from images.errors import ImageUsageError

__all__ = ["catalog"]


@click.command("catalog", **words("catalog"))
@click.argument("bundles", nargs=-1, required=True, type=AnyPath(), metavar="BUNDLE...")
@click.option("--url", metavar="URL", help=say("catalog-url"))
@click.option("-o", "--output", type=AnyPath(), metavar="FILE", help=say("catalog-output"))
def catalog(bundles: tuple[Path, ...], url: str | None, output: Path | None) -> None:
    """List images for Raspberry Pi Imager."""
    from edge.bundle import Bundle
    from images.publishing.catalog import catalog as of
    from images.publishing.catalog import write_catalog

    if url is not None and not _public(url):
        raise ImageUsageError("catalog.url", url=ascii(url))
    with stages() as stage:
        found = [Bundle.open(each, verify=True, progress=stage("bundle")) for each in bundles]
    listed = of(found, url)
    if output is None:
        click.echo(listed.text(), nl=False)
    else:
        write_catalog(listed, output)


def _public(url: str) -> bool:
    """Whether files can be below it, in a way that Imager fetches."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # of brackets or a port that are none
        return False
    return named and parts.scheme in {"http", "https"} and not parts.query and not parts.fragment
