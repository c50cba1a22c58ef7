"""Tables for people and plain lines for pipes."""

import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from agent.cli.words import say


class Column(NamedTuple):
    """`rank`: when the window is narrow the columns with the highest rank go first; numbers are never cut."""

    head: str
    rank: int = 0
    number: bool = False


def text(value: Any) -> str:
    if value is None:
        return "?"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) and not isinstance(value, bool) else str(value)


def plain(value: Any) -> str:
    return "?" if value is None else str(value)


def fit(columns: Sequence[Column], rows: Sequence[Sequence[Any]], width: int) -> list[int]:
    """The columns (by index) that fit into this many characters together, two blanks between them."""
    kept = list(range(len(columns)))

    def total() -> int:
        return sum(max(len(columns[i].head), *(len(text(row[i])) for row in rows), 0) + 2 for i in kept) - 2

    while len(kept) > 1 and rows and total() > width:
        worst = max(kept, key=lambda i: (columns[i].rank, i))
        if columns[worst].rank == 0:
            break
        kept.remove(worst)
    return kept


def lines(columns: Sequence[Column], rows: Sequence[Sequence[Any]], width: int) -> list[str]:
    """The table as aligned lines, head first."""
    kept = fit(columns, rows, width)
    cells = [[columns[i].head for i in kept], *([text(row[i]) for i in kept] for row in rows)]
    wide = [max(len(row[j]) for row in cells) for j in range(len(kept))]
    return [
        "  ".join(c.rjust(w) if columns[i].number else c.ljust(w) for c, w, i in zip(row, wide, kept, strict=True)).rstrip()
        for row in cells
    ]


def width() -> int:
    """The window's columns; $COLUMNS wins."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 80


def show(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
    """An aligned table in a terminal; one line a row with tabs, all columns and bare numbers into a pipe."""
    if sys.stdout.isatty():
        head, *body = lines(columns, rows, width())
        say(bold(head))
        for line in body:
            say(line)
    else:
        say("\t".join(column.head for column in columns))
        for row in rows:
            say("\t".join(plain(value) for value in row))


def bold(line: str) -> str:
    return line if not sys.stdout.isatty() or os.environ.get("NO_COLOR") else f"\x1b[1m{line}\x1b[0m"
