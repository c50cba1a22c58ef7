"""What a price, a settled slot and its place in the ledger cost for 10 to 10,000 nodes, beside the bare sums of the same run."""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
from bench import ROOT, Bench, Report, main, progress

from agent.accounts import Settled, entries, settle
from agent.energy import read
from agent.ledger import Ledger
from agent.price import RULES
from agent.wire import Energy, Tariff

DAY, SLOTS = 20_000, 96
AT_LEAST_S = 0.2  # each figure is the best of many rounds in this time
TARIFF = Tariff(version=1, import_u=300_000, export_u=80_000, floor_u=80_000, cap_u=300_000, currency="EUR", slot_s=900, rule="mmr")


def best_us(work: Callable[[], object]) -> float:
    """Microseconds of the quickest round: what the machine's other work did not disturb."""
    best, end = float("inf"), time.perf_counter() + AT_LEAST_S
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best * 1e6


def records(count: int) -> list[tuple[str, Energy]]:
    """A whole day of every node, seeded."""
    chance = random.Random(count)
    made = []
    for number in range(count):
        taken, given = chance.randrange(10**7), chance.randrange(10**7)
        rows = [(taken := taken + chance.randrange(400), given := given + chance.randrange(300)) for _ in range(SLOTS + 1)]
        import_wh, export_wh = ([row[side] for row in rows] for side in (0, 1))
        keys = Energy(
            version=1, day=DAY, slot_s=900, edges=0, import_wh=import_wh, export_wh=export_wh, zone="main", rated_w=17_250
        )
        made.append((f"node-{number}", keys))
    return made


def settled_of(nodes: list[tuple[str, Energy]], slot: int) -> Settled:
    found = read(nodes, slot, 900, "main")
    settled = settle(slot, "main", {node: (use.import_wh, use.export_wh) for node, use in found.uses.items()}, TARIFF)
    assert settled is not None
    return settled


def elsewhere(count: int, seed: int) -> bytes:
    """The same slot's bytes from a fresh interpreter with another hash seed, its records in another order."""
    code = (
        "import random, sys, msgspec; from bench_price import *; nodes = records(int(sys.argv[1])); "
        "random.Random(int(sys.argv[2])).shuffle(nodes); settled = settled_of(nodes, DAY * SLOTS + 40); "
        "sys.stdout.buffer.write(msgspec.json.encode((settled, entries(settled))))"
    )
    environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    command = [sys.executable, "-c", code, str(count), str(seed)]
    return subprocess.run(command, env=environment, capture_output=True, check=True).stdout


def one_size(report: Report, folder: Path, count: int) -> None:
    nodes, slot = records(count), DAY * SLOTS + 40
    settled = settled_of(nodes, slot)
    pairs = list(settled.uses.values())

    def sums() -> tuple[int, int]:
        return sum(pair[1] for pair in pairs), sum(pair[0] for pair in pairs)

    bare_us = best_us(sums)
    for name, rule in RULES.items():
        price_us = best_us(lambda rule=rule: rule(*sums(), 300_000, 80_000))
        report.add(f"price, {count} nodes, {name}", price_us, "us", bare_us, "the bare sums of supply and demand")
    look_us = best_us(lambda: settled_of(nodes, slot))
    report.add(f"slot settled, {count} nodes", look_us, "us", bare_us, "the bare sums: with reading, checks and digest")
    books_us = best_us(lambda: entries(settled))
    report.add(f"accounts, {count} nodes", books_us, "us", bare_us, "the bare sums")
    report.must(sum(entries(settled).values()) == 0, f"the accounts of {count} nodes do not sum to 0")

    folder.mkdir()
    with closing(Ledger(folder)) as ledger:
        report.must(ledger.open() == "", "the ledger does not open")
        numbers = iter(range(10**6))
        write_us = best_us(lambda: ledger.write([msgspec.structs.replace(settled, slot=slot + next(numbers))], 0))
        report.add(f"ledger write, {count} nodes", write_us, "us", look_us, "the slot settled")
        rows = len(ledger.recent(1e9)[0])
    size = (folder / "ledger.db").stat().st_size
    report.add(f"ledger a slot, {count} nodes", size / rows, "B", len(msgspec.json.encode(settled)), "the bytes of its revision")
    report.add(f"ledger of 400 days, {count} nodes", size / rows * SLOTS * 400 / 1e6, "MB")
    started = time.perf_counter()
    with closing(Ledger(folder)) as ledger:
        ledger.open()
    opened_us = (time.perf_counter() - started) * 1e6
    report.add(f"ledger checked at a start, {count} nodes", opened_us / (size / 1e6), "us/MB", write_us, "one write")

    mine = msgspec.json.encode((settled, entries(settled)))
    same = sum(elsewhere(count, seed) == mine for seed in (1, 2))
    report.add(f"same bytes shuffled in fresh interpreters, {count} nodes", same, "runs", 2, "tried")
    report.must(same == 2, f"{count} nodes: other bytes in another interpreter")


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    for count in arguments.nodes:
        progress(f"{count} nodes")
        one_size(bench.report, bench.folder / str(count), count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 1000, 10_000], help="how many (10 1000 10000)")
    main(run, parser)
