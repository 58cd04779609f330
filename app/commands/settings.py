"""`audience-sync settings`: the settings in force, and where each comes from."""

from __future__ import annotations

import json

import click

from app.commands.shown_settings import shown_settings
from app.commands.tables import print_table
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
    cells = [(row.variable, "" if row.value is None else str(row.value), row.source) for row in rows]
    print_table(("setting", "value", "from"), cells)
