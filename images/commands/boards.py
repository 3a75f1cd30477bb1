"""`lucie image boards`."""

from __future__ import annotations

import json

import click

from edge.markdown_table import markdown_table
from edge.quantity import decimal_text, size_text
from images.commands.words import say, words

__all__ = ["boards"]


@click.command("boards", **words("boards"))
@click.option("--json", "as_json", is_flag=True, help=say("boards-json"))
def boards(as_json: bool) -> None:
    """Boards that images are for."""
    from images.boards import boards as known

    if as_json:
        told = [
            {
                "name": board.name,
                "title": board.title,
                "processor": board.processor,
                "memory_gib": list(board.memory),
                "imager": list(board.imager),
                "models": {f"{m:g}": [e.name for e in board.models(m)] for m in board.memory},
            }
            for board in known().values()
        ]
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    rows = []
    for board in known().values():
        for n, memory in enumerate(board.memory):
            models = board.models(memory)
            who = [board.name, board.title, board.processor] if n == 0 else ["", "", ""]
            largest = f"{models[-1].title} ({size_text(models[-1].memory)})" if models else "—"
            rows.append([*who, decimal_text(memory, memory % 1 > 0), largest])
    headings = [say(f"board-{each}") for each in ("name", "title", "processor", "memory", "model")]
    click.echo(markdown_table(headings, rows, left=frozenset({0, 1, 2, 4})))
