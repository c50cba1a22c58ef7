"""A month of slots with delay, loss, restarts, power cuts and partitions: which price stands where and when, and its worth."""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from bench import ROOT, Bench, Report, main, progress
from bench_month_model import World
from bench_month_parts import DAY_0, SLOT_S, SLOTS, TARIFF, Member, accounts_of, slot_bytes
from bench_month_react import demand, react

from agent import tariffs, wire
from agent.accounts import Settled, account, entries
from agent.price import RULES
from agent.wire import DAY_S, Energy

PAIRS_DAYS = 250_000  # nodes * nodes * days that one run may have without --whole: some ten minutes
MARKS_S = (30, 120, 300)
POOLS = ("mmr", "vwm", "sdr")
REPLAY = """
import json, sys
from agent import wire
from agent.decode import decode
from bench_month_parts import accounts_of
told = json.load(open(sys.argv[1]))
print(accounts_of([(o, decode(wire.place(wire.node_topic(o, k)), p.encode())) for o, k, p in told]))
"""


class Month:
    """What is seen of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.marks: dict[tuple[int, int], dict[str, bool]] = {}  # by slot and seconds after its end: agreed, by whom
        self.signals: dict[int, dict[str, bool]] = {}
        self.signal: dict[int, Settled] = {}  # what the first running node acts on in a slot
        self.live: dict[str, list[int]] = defaultdict(list)  # by rule the buying price, each step
        self.live_slot: dict[str, list[int]] = defaultdict(list)  # the same once a slot
        self.cpu_s = time.process_time()
        self.said = 0

    def look_at(self, slot: int, seconds: int) -> None:
        world, end_s = self.world, (slot + 1) * SLOT_S
        up = [member for member in world.members if member.up]
        ran = [member for member in up if member.since_s <= end_s - 120]
        whole = world.whole and world.apart_s <= (end_s if seconds else end_s - 120)

        def same(group: Sequence[Member], of: Callable[[Member], object]) -> bool:
            shown = {of(member) for member in group}
            return len(shown) == 1 and None not in shown

        def agreed(of: Callable[[Member], object]) -> dict[str, bool]:
            right = [member for member in ran if not member.off_s]
            parts = [[m for m in right if world.parts[m.number] == part] for part in set(world.parts)]
            found = {"all": same(up, of)}
            if whole:
                found |= {"whole": same(ran, of), "right": same(right, of)}
            elif not world.whole and world.parts_s <= end_s - 120:
                found["part"] = all(same(part, of) for part in parts if part)
            return found

        if seconds:
            self.marks[slot, seconds] = agreed(lambda m: m.settlement.heads.get(slot) and shown(m, slot))
            return
        self.signals[slot + 1] = agreed(lambda m: shown(m, int((world.now + m.off_s) // SLOT_S) - 2))
        head = next((m.settlement.signal(slot + 1) for m in up if not m.off_s), None)
        if head is not None:
            self.signal[slot + 1] = world.seen[head.digest]

    def told(self, slot: int) -> None:
        world = self.world
        rates = tariffs.rates_at(world.members[0].tariff, (slot + 1) * SLOT_S)
        assert rates is not None
        houses = [member.house for member in world.members]
        for step in range(len(houses[0].watts)):
            watts = [house.watts[step] for house in houses]
            sums = sum(-w for w in watts if w < 0), sum(w for w in watts if w > 0)
            for rule in POOLS:
                buy_u = RULES[rule](*sums, rates.import_u, rates.export_u).buy_u
                self.live[rule].append(buy_u)
                if not step:
                    self.live_slot[rule].append(buy_u)
        spent_s = time.process_time() - self.cpu_s
        if spent_s > self.said + 30:
            self.said = int(spent_s)
            progress(f"  {((slot + 2) * SLOT_S - world.begin_s) / DAY_S:.2f} of {world.days} days")


def shown(member: Member, slot: int) -> object:
    head = member.settlement.heads.get(slot)
    return (head.prices, head.digest) if head is not None else None


def under(rule: str, settled: Settled) -> Settled:
    """The same parts under another rule."""
    sums = sum(given for _, given in settled.uses.values()), sum(taken for taken, _ in settled.uses.values())
    prices = RULES[rule](*sums, settled.import_u, settled.export_u)
    return msgspec.structs.replace(settled, rule=f"{rule}/1", buy_u=prices.buy_u, sell_u=prices.sell_u)


def worse(settled: Settled) -> int:
    """How many participants are worse off than with the outside grid alone."""
    books = entries(settled)
    alone = {node: given * settled.export_u - taken * settled.import_u for node, (taken, given) in settled.uses.items()}
    return sum(books[account(node)] < nano for node, nano in alone.items())


def same_bytes(report: Report, world: World, folder: Path, pythons: list[str], size: str) -> None:
    member, dice, rates = world.members[0], random.Random(2), TARIFF.rates
    records = list(member.records())
    last = max(record.day for _, record in records)
    tried = same = 0
    for slot in range(last * SLOTS + 4, (last + 1) * SLOTS, 4):
        right = slot_bytes(records, slot, rates)
        for _ in range(10):
            dice.shuffle(records)
            tried, same = tried + 1, same + (slot_bytes(records, slot, rates) == right)
    report.add(f"{size}: same bytes, records shuffled", same, "times", tried, "tried")
    report.must(same == tried, f"{size}: other bytes from shuffled records")
    told = [
        (r.owner, wire.energy_kind(r.record.day), r.payload.decode()) for r in member.held.values() if isinstance(r.record, Energy)
    ]
    path = folder / "records.json"
    path.write_text(json.dumps(told))
    mine = accounts_of(records)
    for python in pythons:
        environment = {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([python, "-c", REPLAY, str(path)], env=environment, capture_output=True, text=True)
        if done.returncode:
            progress(f"  {python} cannot reckon here: {done.stderr.strip().splitlines()[-1:]}")
            continue
        version = subprocess.run([python, "-V"], capture_output=True, text=True).stdout.strip()
        alike = done.stdout.strip() == mine
        report.add(f"{size}: same bytes with {version}", SLOTS * len(RULES) * alike, "slots", SLOTS * len(RULES), "slots by rules")
        report.must(alike, f"{size}: other bytes with {version}")


def share(found: Sequence[bool]) -> float:
    return 100 * sum(found) / len(found) if found else float("nan")


def agreement(report: Report, month: Month, counted: set[int], size: str) -> None:
    groups = [
        ("all", "all running nodes"),
        ("whole", "no partition"),
        ("right", "no partition, right clocks"),
        ("part", "within each part, right clocks"),
    ]
    for group, text in groups:
        for seconds in MARKS_S:
            found = [m[group] for (slot, s), m in month.marks.items() if s == seconds and slot in counted and group in m]
            report.add(f"{size}: settled alike at {seconds} s, {text}", share(found), "%", beside=f"of {len(found)} slots counted")
    finals = [member.final for member in month.world.members]
    alike = [len({final.get(slot) for final in finals}) == 1 for slot in sorted(counted)]
    report.add(f"{size}: settled alike at the end, all nodes", share(alike), "%", beside=f"of {len(alike)} slots counted")
    report.must(all(alike), f"{size}: {len(alike) - sum(alike)} slots are settled differently at the end")
    for group, text in groups:
        found = [m[group] for slot, m in month.signals.items() if slot - 2 in counted and group in m]
        report.add(f"{size}: signal alike as its slot begins, {text}", share(found), "%", beside=f"of {len(found)} slots counted")


def steps(prices: Sequence[int]) -> list[float]:
    """The largest step, the standard deviation of the steps, and all steps together: in % of what lies between the first rates."""
    moves = [100 * (b - a) / (TARIFF.import_u - TARIFF.export_u) for a, b in pairwise(prices)]
    return [max(map(abs, moves)), statistics.pstdev(moves), sum(map(abs, moves))]


def worth(report: Report, month: Month, counted: set[int], size: str) -> None:
    world = month.world
    final = {slot: world.seen[row[0]] for slot, row in world.members[0].final.items()}
    for rule in POOLS:
        signal = steps([under(rule, month.signal[slot]).buy_u for slot in sorted(month.signal)])
        live, once = steps(month.live[rule]), steps(month.live_slot[rule])
        often = f"live each {world.members[0].house.step_s} s"
        report.add(f"{size}: {rule} signal, largest step", signal[0], "% of lb-ls", live[0], often)
        report.add(f"{size}: {rule} signal, volatility", signal[1], "% of lb-ls", once[1], "live once a slot")
        report.add(f"{size}: {rule} signal, volatility", signal[1], "% of lb-ls", live[1], often)
        report.add(f"{size}: {rule} signal, steps a day", signal[2] / world.days, "% of lb-ls", live[2] / world.days, often)
        for side in ("buy_u", "sell_u"):
            off = [
                abs(getattr(under(rule, month.signal[s]), side) - getattr(under(rule, final[s]), side))
                / (final[s].import_u - final[s].export_u)
                for s in sorted(counted & month.signal.keys())
            ]
            report.add(
                f"{size}: {rule} mean |signal - settled|, {side[:-2]}", 100 * statistics.fmean(off), "% of lb-ls", len(off), "slots"
            )
        books = [under(rule, settled) for settled in (final.values() if rule != "mmr" else world.seen.values())]
        losers, sums = sum(map(worse, books)), sum(abs(sum(entries(one).values())) for one in books)
        report.add(f"{size}: {rule} worse off than alone", losers, "node-slots", beside=f"of {sum(len(one.uses) for one in books)}")
        report.must(losers == 0 and sums == 0, f"{size}: {rule}: {losers} are worse off, accounts off by {sums}")
    report.add(f"{size}: sum of all entries at all nodes", world.sums, "nano", beside=f"of {world.revisions} revisions posted")
    report.must(world.sums == 0 and world.bad == 0, f"{size}: entries sum to {world.sums}, {world.bad} revisions do not replay")
    report.add(f"{size}: revisions a slot and node", world.revisions / len(final) / len(world.members), "")
    taken = sum(import_wh for one in final.values() for import_wh, _ in one.uses.values())
    given = sum(export_wh for one in final.values() for _, export_wh in one.uses.values())
    first, last = min(final) - DAY_0 * SLOTS, max(final) + 1 - DAY_0 * SLOTS
    truth = [sum(m.house.past[last][side] - m.house.past[first][side] for m in world.members) / 3600 for side in (0, 1)]
    report.add(f"{size}: energy settled, taken", taken / 1000, "kWh", truth[0] / 1000, "what flowed")
    report.add(f"{size}: energy settled, given", given / 1000, "kWh", truth[1] / 1000, "what flowed")


def one_size(bench: Bench, nodes: int, days: int, seed: int, pythons: list[str]) -> None:
    report, size = bench.report, f"{nodes} nodes"
    world = World(nodes, days, seed, 10 if nodes <= 4 else 120 if nodes <= 50 else 300)
    month = Month(world)
    progress(f"{size}, {days} days, {len(world.links)} links")
    undo = world.shared.patch()
    try:
        world.run(month.look_at, month.told)
    finally:
        undo()
    cpu_s = time.process_time() - month.cpu_s
    happened = {what: world.happened[what] for what in ("down", "silent", "split", "wrong", "tariff")}
    progress(f"  {cpu_s:.0f} s of CPU; {happened}; {world.repairs} repairs")
    final = {slot: world.seen[row[0]] for slot, row in world.members[0].final.items()}
    counted = {
        slot for slot, one in final.items() if sum(use[0] for use in one.uses.values()) and sum(use[1] for use in one.uses.values())
    }
    report.add(f"{size}: slots with production and consumption", len(counted), "slots", beside=f"of {days * SLOTS} in {days} days")
    for what, count in happened.items():
        report.add(f"{size}: {what}", count, "times")
    agreement(report, month, counted, size)
    worth(report, month, counted, size)
    same_bytes(report, world, bench.folder, pythons, size)
    shared = world.shared
    report.add(
        f"{size}: shared results checked", shared.checks, "times", beside=f"of {shared.calls} asked for; {shared.wrong} wrong"
    )
    report.must(shared.wrong == 0, f"{size}: {shared.wrong} shared results are not what direct reckoning gives")
    report.add(f"{size}: CPU of the run", cpu_s, "s")


def oscillation(report: Report, nodes: int, days: int, seed: int) -> None:
    load, sun = demand(nodes, days, seed)
    means = [statistics.fmean(row[n] for row in load) for n in range(nodes)]
    flat = [[1.1 * mean if slot == 3 else mean for mean in means] for slot in range(len(load))]
    half = sum(means) * 0.5 / max(1, sum(1 for n in range(nodes) if n % 5 in (0, 2)))
    steady = [[half + means[n] if n % 5 in (0, 2) else 0.0 for n in range(nodes)] for _ in load]
    for name, loads, suns in (("as it is", load, sun), ("flat, one kick", flat, steady)):
        for rule in POOLS:
            never, once, by_turns = (react(loads, suns, rule, turns) for turns in (0, 1, 8))
            text = f"{nodes} nodes: oscillation, {name}, {rule}"
            report.add(f"{text}, all at once", once, "of mean", never, "nobody reacts")
            report.add(f"{text}, by turns of 8", by_turns, "of mean", once, "all at once")


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    for nodes in arguments.nodes:
        days = arguments.days if arguments.whole else min(arguments.days, max(1, PAIRS_DAYS // nodes**2))
        one_size(bench, nodes, days, arguments.seed, arguments.python)
        progress("  oscillation")
        oscillation(bench.report, nodes, min(arguments.days, max(1, 350 // nodes), 7), arguments.seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--nodes", type=lambda text: [int(one) for one in text.split(",")], default=[4, 50, 500], help="how many (4,50,500)"
    )
    parser.add_argument("--days", type=int, default=30, help="of each network; large ones get fewer unless --whole (30)")
    parser.add_argument("--whole", action="store_true", help="all days for large networks, too: hours")
    parser.add_argument("--seed", type=int, default=1, help="(1)")
    others = [path for name in ("python3.12", "python3.13") if (path := shutil.which(name))]
    parser.add_argument("--python", action="append", default=others, help="another interpreter, with msgspec, for the same bytes")
    main(run, parser)
