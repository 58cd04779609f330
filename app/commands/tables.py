"""Results as tables that lose nothing: in a pipe as wide as they have to be, and lines where a terminal is too narrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# What a column keeps when values are folded; narrower than that nobody can read them.
_LEAST_WIDTH: Final = 12


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    console: Console | None = None,
) -> None:
    """Rows have a cell for each heading; the first tells what a row is about and is never folded.

    `numbers` are the headings of columns to be aligned to the right.
    """
    console = console or Console()
    table = Table()
    # The lines between columns and around them, and a blank on either side of each.
    least = whole = 3 * len(headings) + 1
    for index, heading in enumerate(headings):
        widest = max(Text(cell).cell_len for cell in (heading, *(row[index] for row in rows)))
        narrowest = widest if index == 0 else min(widest, _LEAST_WIDTH)
        least, whole = least + narrowest, whole + widest
        table.add_column(
            Text(heading),
            justify="right" if heading in numbers else "left",
            no_wrap=index == 0,
            min_width=narrowest,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    if not console.is_terminal:
        console.width = whole
    if console.width >= least:
        console.print(table)
    else:
        _print_lines(console, headings, rows)


def _print_lines(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in rows:
        console.print(Text(row[0]), soft_wrap=True)
        for heading, value in zip(headings[1:], row[1:], strict=True):
            if value:
                console.print(Text(f"  {heading}: {value}" if heading else f"  {value}"), soft_wrap=True)
