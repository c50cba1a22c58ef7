"""What the plan leaves unserved, by the bound of the same weather: the table of the balance's figures.

`.venv/bin/python tests/bench_simulate.py` prints all of it (4, 53 and 500 nodes), tab-separated, with progress lines on stderr.
Days 14-28 and 180-194 are those the rules were tuned on; --start picks others.
"""

import argparse
import sys
import time
from dataclasses import replace

from agent.simulate.run import CASES, Setup, run, scene_of

HEAD = ("scenario", "bound kWh", "unserved kWh n/d/g", "% of demand n/d/g/bound", "ratio n/d/g", "blackouts n/d/g")
MORE = ("minutes lost a node n/d/g", "critical kWh d/g", "lowest Hz d/g", "min below 49 Hz d/g", "beyond limit kWh")
LAST = ("switchings a relay and day d/g", "curtailed kWh d/g", "CPU s")


def scenarios(nodes: int, days: int, start: int) -> dict[str, Setup]:
    """By name. None and droop know no records, so they run once for each weather."""
    base = Setup(nodes=nodes, days=days, start=start, hop_s=2.0)
    if nodes > 100:
        return {f"{nodes} nodes, 2 s a hop": replace(base, days=1)}
    grid = replace(base, cases=("grid",))
    odd = min(2, nodes - 1)
    found = {
        "2 s a hop": base,
        "0.2 s a hop": replace(grid, hop_s=0.2),
        "10 s a hop": replace(grid, hop_s=10.0),
        "5 % loss": replace(grid, loss=0.05),
        "partition 6 h a day": replace(grid, partition_h=6.0),
        "one lies ×10": replace(grid, liar=odd),
        "one does not obey": replace(grid, deaf=odd),
        "summer": replace(base, start=(start + 170) % 366),
        "tied": replace(base, mode="tied"),
        "tied, 10 s a hop": replace(grid, mode="tied", hop_s=10.0),
    }
    return {f"{nodes} nodes, {name}": setup for name, setup in found.items()}


def row(name: str, setup: Setup) -> list[str]:
    began, tenth = time.process_time(), 0

    def progress(slot: int, slots: int) -> None:
        nonlocal tenth
        if 4 * slot // slots > tenth:
            tenth = 4 * slot // slots
            print(f"{name}: {25 * tenth} % after {time.process_time() - began:.0f} s of CPU", file=sys.stderr, flush=True)

    result = run(setup, scene_of(setup), progress)
    have = [result.cases.get(case) for case in CASES]

    def say(form: str, *values: float | None) -> str:
        return "/".join("-" if value is None else format(value, form) for value in values)

    def of(field: str, by: float = 1.0, first: int = 0) -> list[float | None]:
        return [None if totals is None else getattr(totals, field) / by for totals in have[first:]]

    part = [*of("unserved_wh", result.demand_wh / 100), 100 * result.bound_wh / result.demand_wh]
    return [
        f"{result.bound_wh / 1000:.2f}",
        say(".2f", *of("unserved_wh", 1000)),
        say(".2f", *part),
        say(".3f", *(None if totals is None else result.ratio(totals) for totals in have)),
        say(".0f", *of("blackouts")),
        say(".1f", *of("lost_node_min", setup.nodes)),
        say(".3f", *of("critical_wh", 1000, 1)),
        say(".2f", *of("min_hz", 1, 1)),
        say(".1f", *of("low_hz_min", 1, 1)),
        f"{result.cases['grid'].over_wh / 1000:.3f}",
        say(".1f", *of("switches", 4 * setup.nodes * setup.days, 1)),
        say(".1f", *of("curtailed_wh", 1000, 1)),
        f"{time.process_time() - began:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 53, 500])
    parser.add_argument("--days", type=int, default=2, help="500 nodes run one day")
    parser.add_argument("--start", type=int, default=15, help="winter's first day of the year; summer is 170 days later")
    parser.add_argument("--data", choices=("synthetic", "simbench"), default="synthetic")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    asked = parser.parse_args()
    print("\t".join((*HEAD, *MORE, *LAST)), flush=True)
    for nodes in asked.nodes:
        for name, setup in scenarios(nodes, asked.days, asked.start).items():
            if asked.only in name:
                print("\t".join((name, *row(name, replace(setup, data=asked.data)))), flush=True)


if __name__ == "__main__":
    main()
