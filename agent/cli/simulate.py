"""grid simulate: the agents' plan under simulated physics, beside no control, droop alone, and perfect foresight."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from agent.cli.main import json_option
from agent.cli.table import Column, show
from agent.cli.words import USAGE, fail, say, say_json

if TYPE_CHECKING:
    from agent.simulate.run import Result, Setup

BAR = 30
LAST_DAY = 365  # of a year of 366 days, like that of the data
COLUMNS = (
    Column("case"),
    Column("unserved kWh", number=True),
    Column("of demand %", 5, number=True),
    Column("ratio", number=True),
    Column("blackouts", number=True),
    Column("critical kWh", 2, number=True),
    Column("lowest Hz", 1, number=True),
    Column("switches", 3, number=True),
    Column("minutes lost", 4, number=True),
    Column("curtailed kWh", 6, number=True),
)


class Bar:
    """Progress: one line that grows in a terminal, a line each tenth into a pipe; to stderr, so that the result stays alone."""

    def __init__(self) -> None:
        self._tty, self._tenth, self._began = sys.stderr.isatty(), 0, time.monotonic()

    def step(self, slot: int, slots: int) -> None:
        took_s = time.monotonic() - self._began
        left_s = took_s * (slots - slot) / slot
        if self._tty:
            full = BAR * slot // slots
            print(
                f"\r[{'#' * full}{'.' * (BAR - full)}] {100 * slot // slots:3d} %  {left_s:.0f} s left ",
                end="",
                file=sys.stderr,
                flush=True,
            )
            if slot == slots:
                print("\r" + " " * (BAR + 24) + "\r", end="", file=sys.stderr, flush=True)
        elif 10 * slot // slots > self._tenth:
            self._tenth = 10 * slot // slots
            say(f"simulated {self._tenth * 10} % after {took_s:.0f} s", err=True)


@click.command()
@click.option("--nodes", default=4, show_default=True, type=click.IntRange(2, 1000))
@click.option("--days", default=2, show_default=True, type=click.IntRange(1, 366))
@click.option("--start", default=15, show_default=True, type=click.IntRange(0, LAST_DAY), help="Day of the year, 0 is 1 January.")
@click.option("--hop", "hop_s", default=0.2, show_default=True, type=click.FloatRange(0, 60), help="Seconds a message takes a hop.")
@click.option(
    "--loss", default=0.0, show_default=True, type=click.FloatRange(0, 1, max_open=True), help="Part of the messages lost."
)
@click.option("--partition", default=0.0, show_default=True, type=click.FloatRange(0, 24), help="Hours a day cut in two parts.")
@click.option("--data", default="synthetic", show_default=True, type=click.Choice(["synthetic", "simbench"]))
@click.option("--mode", default="island", show_default=True, type=click.Choice(["island", "tied"]))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the weather, the graph, losses and trips.")
@click.option("--plot", "plot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture of the run, e.g. run.png.")
@json_option
def simulate(
    nodes: int, days: int, start: int, hop_s: float, loss: float, partition: float, data: str, mode: str, seed: int,
    plot: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Simulate a neighbourhood: what the agents' plan leaves unserved, beside no control, droop alone, and perfect foresight.

    An island has a generator with trips, sized so that perfect foresight leaves about 1 % unserved; tied to the grid the same
    neighbourhood has an import limit. 'ratio' is unserved energy by what perfect foresight would have left unserved of the same
    weather at the same resolution of 2 s (linear program). Energy drawn beyond the import limit counts as unserved.
    """
    lacking = [name for name in ("scipy", *(["matplotlib"] if plot else [])) if importlib.util.find_spec(name) is None]
    if lacking:
        fail(f"this needs {' and '.join(lacking)}. In the checkout: .venv/bin/pip install -e '.[simulate]'")
    if plot is not None and not plot.absolute().parent.is_dir():
        fail(f"there is no folder {plot.absolute().parent} for --plot", USAGE)
    from agent.dispatch import Mode
    from agent.simulate.bound import Unsolved
    from agent.simulate.run import Setup, run, scene_of
    from agent.simulate.simbench import DataMissing

    setup = Setup(nodes, days, start, hop_s, loss, partition, data, cast(Mode, mode), seed)
    try:
        result = run(setup, scene_of(setup), Bar().step, trace=plot is not None)
    except DataMissing as error:
        fail(str(error))
    except Unsolved as error:
        fail(f"the linear program was not solved: {error}. Try fewer days")
    except KeyboardInterrupt:
        sys.exit(130)
    if as_json:
        say_json(result.as_json())
    else:
        _tell(setup, result)
    if plot is not None:
        _plot(setup, result, plot)


def _tell(setup: Setup, result: Result) -> None:
    said: Any = result.as_json()
    way = f"{setup.hop_s:g} s a hop, {setup.loss:.0%} lost, partition {setup.partition_h:g} h a day"
    say(f"{setup.data}, {setup.mode}: {setup.nodes} nodes, {setup.days} days from day {setup.start}, {way}, seed {setup.seed}")
    say(f"demand {said['demand_kwh']:.1f} kWh; perfect foresight leaves {said['bound_kwh']:.3f} kWh unserved")
    if setup.data == "simbench":
        say("profiles: SimBench, University of Kassel, Fraunhofer IEE, RWTH Aachen, TU Dortmund (ODbL)")
    rows = []
    for name, case in said["cases"].items():
        part = 100 * case["unserved_kwh"] / max(said["demand_kwh"], 1e-9)
        ratio = "-" if case["ratio"] is None else f"{case['ratio']:.3f}"
        rows.append(
            (
                name,
                f"{case['unserved_kwh']:.3f}",
                f"{part:.2f}",
                ratio,
                case["blackouts"],
                f"{case['critical_kwh']:.3f}",
                f"{case['min_hz']:.2f}",
                case["switches"],
                f"{case['saidi_min']:.1f}",
                f"{case['curtailed_kwh']:.1f}",
            )
        )
    show(COLUMNS, rows)


def _plot(setup: Setup, result: Result, path: Path) -> None:
    from agent.simulate.plot import save

    try:
        save(result, path, f"{setup.data}, {setup.mode}, {setup.nodes} nodes, {setup.days} days, seed {setup.seed}")
    except (OSError, ValueError) as error:
        fail(f"{path} was not written: {error}")
    say(f"written: {path}", err=True)
