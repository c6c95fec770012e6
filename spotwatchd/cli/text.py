"""Columns for people. The only place for rich, which may be missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

Row = Sequence[str]


def columns(
    header: Row,
    rows: Sequence[Row],
    alarms: frozenset[int] = frozenset(),
    out: TextIO | None = None,
) -> None:
    """Print rows below a header.

    Args:
        header: names of the columns; an empty one prints no header line.
        rows: cells.
        alarms: indexes of the rows where a person must act: the only ones in colour.
        out: standard output when None.
    """
    stream = sys.stdout if out is None else out
    if stream.isatty() and "NO_COLOR" not in os.environ and _rich(header, rows, alarms, stream):
        return
    widths = [max(map(len, cells)) for cells in zip(header, *rows, strict=False)]
    for row in [*([header] if any(header) else []), *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        print("  ".join(cells).rstrip(), file=stream)


def _rich(header: Row, rows: Sequence[Row], alarms: frozenset[int], stream: TextIO) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=None, pad_edge=False, show_header=any(header), header_style="bold")
    for name in header:
        table.add_column(name, no_wrap=True)
    for index, row in enumerate(rows):
        style = "bold red" if index in alarms else ""
        table.add_row(*(Text(cell, style=style) for cell in row))
    Console(file=stream).print(table)
    return True
