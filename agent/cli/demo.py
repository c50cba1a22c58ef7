"""grid demo: the sample network on this machine, with real brokers and meters served over Modbus TCP."""

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

import click

from agent.cli.network import NODES, draw, headline, node_rows
from agent.cli.sample import Graph, Look, Sample, busy, graph
from agent.cli.table import Column, lines, width
from agent.cli.words import PROBLEM, fail, say
from agent.config import ConfigError
from agent.seal import SealError
from agent.wire import price_text

READY_S = 120.0  # sixteen nodes on a Pi Zero 2 W need a minute


class Ends:
    """Ctrl-C and its like: the first is a KeyboardInterrupt, but not before `release`; after `close` there are none.

    One that came while a process is being started would leave it behind, and so would a second one that cuts the cleaning up short.
    """

    def __init__(self) -> None:
        self._held, self._came = True, False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # man 1 nohup
                signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        first, self._came = not self._came, True
        if first and not self._held:
            raise KeyboardInterrupt

    def release(self) -> None:
        self._held = False
        if self._came:
            raise KeyboardInterrupt

    def close(self) -> None:
        self._came = True


@click.command()
@click.option(
    "--port", default=18830, show_default=True, type=click.IntRange(1024, 65000), help="Node i's broker listens on PORT+i."
)
@click.option("--nodes", default=4, show_default=True, type=click.IntRange(1, 64))
@click.option("--graph", "kind", default="ring", show_default=True, type=click.Choice(["ring", "line", "full", "random"]))
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the weather, the loads and the random graph."
)
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(0.1, 3600), help="Simulated seconds a second.")
@click.option(
    "--closed", is_flag=True, help="A closed network: bundles, TLS, signatures. Node i's siblings come in on PORT+NODES+i."
)
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Keep all files here; else in a temporary directory.")
@click.option("--for", "for_s", type=click.FloatRange(0), help="Stop this many seconds after 'ready'.")
def demo(
    port: int, nodes: int, kind: str, seed: int, speed: float, closed: bool, directory: Path | None, for_s: float | None
) -> None:  # fmt: skip
    """Run a sample network on this machine until Ctrl-C: real brokers, real agents, simulated meters on Modbus TCP.

    Nodes can be killed (see DIR/ID/agent.pid, mosquitto.pid) and brought back with 'grid run -c DIR/ID/grid.toml'.
    """
    taken = busy(port, 2 * nodes if closed else nodes)
    if taken is not None:
        fail(f"port {taken} is taken: another sample, or a broker? Choose other ports with --port")
    ends = Ends()
    folder = (directory or Path(tempfile.mkdtemp(prefix="grid-demo-"))).absolute()
    sample = Sample(folder, port, nodes, seed, speed, closed)
    started = time.monotonic()
    code = 0
    try:
        try:
            pairs = graph(kind, nodes, seed)
            say(f"starting {nodes} nodes in {folder}")
            sample.open()
            ends.release()
            sample.join(pairs)
            _until_ready(sample, pairs, started)
            _show(sample, for_s)
        finally:
            ends.close()
    except KeyboardInterrupt:
        pass
    except (OSError, ConfigError, SealError) as error:
        say(f"grid: {error}", err=True)
        code = PROBLEM
    finally:
        sample.close()
        if directory is None and code == 0:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def _until_ready(sample: Sample, pairs: Graph, started: float) -> None:
    while True:
        trouble = sample.died()
        if trouble:
            raise OSError(trouble)
        agreed = sample.agreed(pairs)
        took_s = time.monotonic() - started
        if agreed is not None:
            first, last = sample.port, sample.port + sample.nodes - 1
            say(f"ready after {took_s:.1f} s: {headline(agreed['summary'])}  brokers 127.0.0.1:{first}..{last}")
            called = sys.argv[0] if sys.argv[0].endswith("/grid") else "grid"  # in a checkout it is not in the PATH
            say(f"try: mosquitto_sub -p {first} -v -t 'grid/+'    {called} status -c {sample.members[0].config.path}")
            return
        if took_s > READY_S:
            raise OSError(f"no agreement after {READY_S:.0f} s: see the logs in {sample.directory}")
        time.sleep(0.1)


def _show(sample: Sample, for_s: float | None) -> None:
    """The view of every node, until the time is over."""
    end = time.monotonic() + for_s if for_s is not None else float("inf")
    while (left_s := end - time.monotonic()) > 0:
        looks = sample.looks()
        if sys.stdout.isatty():
            draw([*lines(VIEWS, [view(id_, look) for id_, look in looks.items()], width()), *_last(sample, looks)], _alerts(looks))
        else:
            for id_, look in looks.items():
                text = headline(look["summary"]) if look else "its agent does not answer"
                say(f"{time.strftime('%H:%M:%S')}  {id_:16}  {text}")
        time.sleep(min(1.0 if sys.stdout.isatty() else 5.0, left_s))


VIEWS = (
    Column("seen from"),
    Column("net W", number=True),
    Column("price"),
    Column("sell", 2),
    Column("heard"),
    Column("digest", 1),
)


def view(id_: str, look: Look) -> list[Any]:
    """One node's own account of the network, as a row."""
    if look is None:
        return [id_, None, None, None, "no agent", None]
    summary = look["summary"]
    prices = [price_text(u) if u is not None else None for u in (summary["price_u"], summary["sell_u"])]
    return [id_, summary["net_w"], *prices, f"{summary['heard']} of {summary['nodes']}", summary["digest"]]


def _alerts(looks: dict[str, Look]) -> list[dict[str, Any]]:
    return [alert | {"text": f"{id_}: {alert['text']}"} for id_, look in looks.items() if look for alert in look["alerts"]]


def _last(sample: Sample, looks: dict[str, Look]) -> list[str]:
    """Below the views: the nodes as the first one sees them, and what to try."""
    look = next((look for look in looks.values() if look), None)
    table = lines(NODES, node_rows(look["nodes"]), width()) if look else []
    return ["", *table, "", f"mosquitto_sub -p {sample.port} -v -t 'grid/+'", f"files: {sample.directory}", "Ctrl-C ends it"]
