"""`audience-sync settings`: the settings in force, and where each comes from."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from app.commands.shown_settings import shown_settings
from app.settings import load_settings


@click.command(name="settings")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(as_json: bool) -> None:
    """Show every setting by its variable, its value, and where that comes from.

    Secrets are never shown, only whether they are set. Status 2 when a setting cannot be used.
    """
    rows = shown_settings(load_settings())
    if as_json:
        click.echo(json.dumps({row.variable: {"value": row.value, "from": row.source} for row in rows}))
        return
    table = Table()
    table.add_column("setting", no_wrap=True)
    for heading in ("value", "from"):
        # Paths and addresses are to be copied whole.
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row.variable, "" if row.value is None else str(row.value), row.source)
    Console(markup=False, highlight=False).print(table)
