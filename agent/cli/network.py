"""grid status, watch, siblings, join, leave, forget: what a running node knows of its network, and its place in it."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from agent.cli.main import config_option, json_option
from agent.cli.table import Column, bold, lines, show, width
from agent.cli.words import UNREACHABLE, ask, load, say, say_json
from agent.wire import price_text

NODES = (
    Column("node"),
    Column("net W", number=True),
    Column("produced W", 2, number=True),
    Column("consumed W", 2, number=True),
    Column("quality", 3),
    Column("seen", 0),
    Column("age s", 1, number=True),
    Column("siblings", 4),
)


def headline(summary: dict[str, Any], most: int | None = None) -> str:
    """One line: the network's net with its bounds, the price, how many were heard; shortened from its end to `most` characters."""
    net = f"net {summary['net_w']} W"
    if summary["partial"]:
        net += f" ({summary['low_w']} to {summary['high_w']})"
    price = f"{price_text(summary['price_u'])} {summary['currency']}/kWh" if summary["price_u"] is not None else "no price"
    parts = [net, price, f"{summary['heard']} of {summary['nodes']} nodes", f"digest {summary['digest']}"]
    while most is not None and len(parts) > 1 and len("  ".join(parts)) > most:
        parts.pop()
    return "  ".join(parts)


def node_rows(nodes: dict[str, dict[str, Any]]) -> list[list[Any]]:
    keys = ("net_w", "produced_w", "consumed_w", "quality", "availability", "age_s")
    return [[id_, *(row[key] for key in keys), ",".join(row["siblings"])] for id_, row in nodes.items()]


@click.command()
@config_option
@json_option
def status(path: Path | None, as_json: bool) -> None:
    """What this node knows: net, price, every node, alerts."""
    body = ask(load(path), "status")
    if as_json:
        say_json(body)
    else:
        say(bold(headline(body["summary"], width() if sys.stdout.isatty() else None)))
        show(NODES, node_rows(body["nodes"]))
        for alert in body["alerts"]:
            say(f"{alert['level']} since {alert['since']}: {alert['text']}")
    if not body["connected"]:
        sys.exit(UNREACHABLE)


@click.command()
@config_option
@click.option("--every", default=1.0, show_default=True, type=click.FloatRange(0.2, 3600), help="Seconds between looks.")
@click.option("--for", "for_s", type=click.FloatRange(0), help="Stop after this many seconds.")
def watch(path: Path | None, every: float, for_s: float | None) -> None:
    """The same, live; into a pipe one line a look. Ctrl-C ends it."""
    config = load(path)
    end = time.monotonic() + for_s if for_s is not None else float("inf")
    try:
        while True:
            body = ask(config, "status")
            most = width() if sys.stdout.isatty() else None
            draw([headline(body["summary"], most), *lines(NODES, node_rows(body["nodes"]), width())], body["alerts"])
            if time.monotonic() + every > end:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return


def draw(rows: list[str], alerts: list[dict[str, Any]]) -> None:
    """A full screen in a terminal, the first line alone into a pipe."""
    if not sys.stdout.isatty():
        say(f"{time.strftime('%H:%M:%S')}  {rows[0]}")
        return
    body = [*rows, *(f"{alert['level']}: {alert['text']}" for alert in alerts)]
    say("\x1b[H\x1b[J" + "\n".join(body))


SIBLINGS = (Column("sibling"), Column("link"), Column("address", 1), Column("dialled by", 2))


@click.command()
@config_option
@json_option
def siblings(path: Path | None, as_json: bool) -> None:
    """The nodes that this one is joined to. 'linked' means that something is really heard from there."""
    config = load(path)
    body = ask(config, "status")
    if as_json:
        say_json(body["siblings"])
    elif not body["siblings"]:
        say("no siblings yet: grid join HOST:PORT")
    else:
        rows = body["siblings"].items()
        show(SIBLINGS, [[id_, s["link"], s["address"] or "not known", config.node.id if s["dials"] else id_] for id_, s in rows])


@click.command()
@click.argument("address", metavar="HOST:PORT", required=False)
@click.option(
    "--bundle", "file", type=click.Path(path_type=Path), help="What 'grid admit' made for this node; - reads it from a pipe."
)
@config_option
def join(address: str | None, file: Path | None, path: Path | None) -> None:
    """Become a sibling of the node at this address; it becomes ours by itself. With --bundle: a member of a closed network."""
    if (address is None) == (file is None):
        raise click.UsageError("name HOST:PORT, or a bundle with --bundle FILE")
    if file is not None:
        from agent.cli.bundle import take

        take(load(path), file)
        return
    answer = ask(load(path), "join", address)
    say(f"{'already joined to' if answer['known'] else 'joined'} {answer['joined']}")
    if answer.get("removed"):
        say("it was removed from this network: it counts again after a 'grid join' on it, with an address of ours", err=True)


@click.command()
@click.argument("sibling", required=False)
@config_option
def leave(sibling: str | None, path: Path | None) -> None:
    """Part from one SIBLING, at both ends; without a name take this node out of the network."""
    answer = ask(load(path), "leave", sibling)
    parted = ", ".join(answer["left"])
    say(f"left the network (parted from {parted or 'nobody'})" if answer["network"] else f"parted from {parted}")


@click.command()
@click.argument("node")
@config_option
def forget(node: str, path: Path | None) -> None:
    """Remove a dead or stolen node for everyone. Its owner brings it back with 'grid join'."""
    answer = ask(load(path), "forget", node)
    say(f"{answer['forgotten']} is removed everywhere")
