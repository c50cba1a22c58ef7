"""What the plan leaves unserved, by the bound of the same weather: the table of the balance's figures."""

import argparse
import sys
import time
from dataclasses import replace

from agent.simulate.run import CASES, Setup, run, scene_of

HEAD = ("scenario", "bound kWh", "% of demand", "none", "droop", "grid", "blackouts n/d/g", "lowest Hz", "min below 49 Hz d/g")
MORE = ("minutes lost d/g", "critical kWh", "beyond limit kWh", "turns a relay and day", "curtailed kWh", "CPU s")


def scenarios(nodes: int, days: int) -> dict[str, Setup]:
    """By name. None and droop know no records, so they run once for each weather."""
    base = Setup(nodes=nodes, days=days, hop_s=2.0)
    grid = replace(base, cases=("grid",))
    found = {
        "2 s a hop": base,
        "0.2 s a hop": replace(grid, hop_s=0.2),
        "10 s a hop": replace(grid, hop_s=10.0),
        "5 % loss": replace(grid, loss=0.05),
        "partition 6 h a day": replace(grid, partition_h=6.0),
        "one lies ×10": replace(grid, liar=min(2, nodes - 1)),
        "one does not obey": replace(grid, deaf=min(2, nodes - 1)),
        "summer": replace(base, start=185),
        "tied": replace(base, mode="tied"),
        "tied, 10 s a hop": replace(grid, mode="tied", hop_s=10.0),
    }
    return {f"{nodes} nodes, {name}": setup for name, setup in found.items()}


def row(setup: Setup) -> list[str]:
    began = time.process_time()
    result = run(setup, scene_of(setup))
    took_s = time.process_time() - began
    have = [result.cases.get(name) for name in CASES]

    def say(form: str, *values: float | None) -> str:
        return "/".join("-" if value is None else format(value, form) for value in values)

    def of(name: str, *which: int) -> list[float | None]:
        return [None if have[k] is None else getattr(have[k], name) for k in which]

    grid = result.cases["grid"]
    ratios = [say(".3f", None if totals is None else result.ratio(totals)) for totals in have]
    lost = [None if minutes is None else minutes / setup.nodes for minutes in of("lost_node_min", 1, 2)]
    return [
        f"{result.bound_wh / 1000:.2f}",
        f"{100 * result.bound_wh / result.demand_wh:.2f}",
        *ratios,
        say("d", *of("blackouts", 0, 1, 2)),
        f"{grid.min_hz:.2f}",
        say(".1f", *of("low_hz_min", 1, 2)),
        say(".1f", *lost),
        f"{grid.critical_wh / 1000:.3f}",
        f"{grid.over_wh / 1000:.3f}",
        f"{grid.switches / (4 * setup.nodes * setup.days):.2f}",
        f"{grid.curtailed_wh / 1000:.1f}",
        f"{took_s:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 53])
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--data", choices=("synthetic", "simbench"), default="synthetic")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    asked = parser.parse_args()
    print("\t".join((*HEAD, *MORE)))
    for nodes in asked.nodes:
        for name, setup in scenarios(nodes, asked.days).items():
            if asked.only in name:
                print("\t".join((name, *row(replace(setup, data=asked.data)))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
