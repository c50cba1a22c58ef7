"""What balance costs one node of a zone of 4 to 500: a look with plan and guards, a frequency, a record, beside the bare plan."""

import argparse
import json
import time
from collections.abc import Callable

from bench import Bench, main, progress
from desk import info, state
from fleet import UNIX_S
from house import AT, BATTERY, CELLAR, DIGEST, MAIN, House

from agent.dispatch import Settings, dispatch
from agent.events import Heard, Hertz, Metered, Quiet, Tick
from agent.switches import Load
from drivers.reading import Reading

LOADS = tuple(Load(f"load{each}", each, 1000) for each in range(4))
ROUNDS = 60


def record(number: int, version: int) -> tuple[str, bytes]:
    """A house's state: loads of all classes, every fifth with a battery; the first has the feeder, and too little."""
    flex = {"load": [300, 200 + number, 300, 400], "digest": DIGEST}
    if number % 5 == 1:
        flex |= {"dis_w": 2000 + number, "chg_w": 3000, "ttg_s": 3600 + number, "soc_wh": 3000, "cap_wh": 6000}
    if number == 0:
        flex |= {"firm_w": 60_000, "slack_w": 50_000, "kind": "grid"}
    return f"$grid/in/b/n{number:04d}/state", state(version, 0, 1200 + number, at=AT, flex=flex)


def mean_us(work: Callable[[int], object], rounds: int = ROUNDS) -> float:
    started = time.perf_counter()
    for each in range(rounds):
        work(each)
    return (time.perf_counter() - started) / rounds * 1e6


def cost(bench: Bench, count: int) -> None:
    house = House({"main": {"w": 3500}, "cellar": {"w": 0, "soc_pct": 50.0}}, loads=LOADS, battery=BATTERY, meters=(MAIN, CELLAR))
    for number in range(count - 1):
        house.hear(f"$grid/in/b/n{number:04d}/info", info(1))
    for version in range(1, 16):
        house.live(1.0)
        for number in range(count - 1):
            house.hear(*record(number, version))
    node = house.node
    plan = node.balance.verdict
    bench.report.must(plan.share is not None and plan.why == "", f"{count} nodes: no plan: {plan.why}")
    view = {id_: (known.flex, 1.0) for id_, known in node.balance.zone.known.items()}
    bare_us = mean_us(lambda _: dispatch(view, 20_779, "tied", Settings()))
    bench.report.add(f"the bare plan, {count} nodes", bare_us, "us")

    def look(each: int) -> None:
        house.now += 1.0
        node.step(Tick(UNIX_S + house.now), house.now)

    def other(each: int) -> None:
        house.now += 0.001
        node.step(Tick(UNIX_S + house.now), house.now)

    def read(each: int) -> None:
        node.step(Metered("main", Reading("good", "", {"w": 3500})), house.now)

    rounds = min(ROUNDS, 14)  # beyond it the others are stale
    bench.report.add(f"a tick with a plan, {count} nodes", mean_us(look, rounds), "us", bare_us, "the bare plan")
    bench.report.add(f"a tick without one, {count} nodes", mean_us(other), "us", bare_us, "the bare plan")
    bench.report.add(
        f"a frequency, {count} nodes", mean_us(lambda _: node.step(Hertz(49.99), house.now)), "us", bare_us, "the bare plan"
    )
    bench.report.add(f"a reading, {count} nodes", mean_us(read), "us", bare_us, "the bare plan")
    records = [record(number, 100 + number) for number in range(min(ROUNDS, count - 1))]
    plain = [
        (topic, json.dumps({k: v for k, v in json.loads(body).items() if k != "flex"} | {"version": 999}).encode())
        for topic, body in records
    ]
    with_us = mean_us(lambda each: node.step(Heard(*records[each]), house.now), len(records))
    bench.report.add(f"a record with its offer, {count} nodes", with_us, "us")
    without_us = mean_us(lambda each: node.step(Heard(*plain[each]), house.now), len(plain))
    bench.report.add(f"a record without one, {count} nodes", without_us, "us", with_us, "one with it")
    node.step(Quiet(), house.now)


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    for count in arguments.nodes:
        progress(f"{count} nodes")
        cost(bench, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 50, 200, 500], help="how many (4 50 200 500)")
    main(run, parser)
