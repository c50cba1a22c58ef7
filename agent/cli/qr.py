"""A QR code in the terminal, where it fits: a bundle for a telephone's camera."""

import sys

from agent.cli.table import width
from agent.cli.words import say


def show_qr(text: str) -> None:
    """Dark on light, two rows a line."""
    try:
        import segno
    except ImportError:
        say("no QR code: install segno (pip install segno)", err=True)
        return
    rows = [list(row) for row in segno.make(text, error="l", micro=False).matrix_iter(border=2)]
    try:
        "█▀▄".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        say("no QR code: this terminal does not show block characters", err=True)
        return
    if len(rows[0]) > width():
        say(f"no QR code: it needs {len(rows[0])} columns, and this window has {width()}", err=True)
        return
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        say("".join(" ▄▀█"[2 * (not a) + (not b)] for a, b in zip(upper, lower, strict=True)))
