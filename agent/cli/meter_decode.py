"""grid meter decode: what a captured file of a talking meter says, telegram by telegram."""

import os
import sys

import click

from agent.cli.words import PROBLEM, USAGE, fail, say, say_json


@click.command()
@click.argument("kind", type=click.Choice(["sml", "p1", "tic"]))
@click.argument("file")
def decode(kind: str, file: str) -> None:
    """Decode what a meter sent: a FILE as it came from the line, begun anywhere, or - for what comes in.

    One JSON line a telegram, like grid meter read --json; damaged ones are counted on stderr. Exit code 1 when none was good.
    """
    from agent.cli.meter_read import row
    from agent.metering import reader

    ear = reader(kind, recorded=True)
    good = 0
    try:
        source = sys.stdin.fileno() if file == "-" else os.open(file, os.O_RDONLY)
    except OSError as error:
        fail(f"{file}: {error.strerror}; name a captured file, or - for standard input", USAGE)
    try:
        while data := os.read(source, 65_536):
            for reading in ear.feed(data):
                good += reading.quality == "good"
                say_json(row(kind, reading, None))
    except OSError as error:
        fail(f"{file}: {error.strerror}; name a captured file, or - for standard input", USAGE)
    except KeyboardInterrupt:
        pass
    if ear.damaged:
        say(f"grid: {ear.damaged} damaged telegram{'s' if ear.damaged > 1 else ''} left out", err=True)
    if not good:
        say(f"grid: {file}: no good {kind} telegram; is it the right kind, captured as raw bytes and whole?", err=True)
        sys.exit(PROBLEM)
