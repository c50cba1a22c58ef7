"""What one agent costs: start, memory, CPU of polling, and the price of a record in its table."""

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec
from bench import RATED_W, Bench, Node, cpu_s, end, grow, main, progress, rss_mb
from bench_desk import Client, Meter

from agent import wire
from agent.events import Connected, Heard, Quiet, Started, Tick
from agent.node import Node as Core
from agent.own import Settings

STARTS, SETTLE_S, EVERY_S, IDLE_S = 10, 30.0, 0.05, 20.0
IMPORTS = "import paho.mqtt.client, pymodbus.client, msgspec"
SIZES = (10, 1_000, 9_999)  # the last is all that a table takes in: 10,000 owners, "network" being one of them
MERGES = 2_000
# What the agent asks an SDM630 for each second, and each ten seconds; paced as the agent's polling is.
LOOP = """
import sys, time
from pymodbus.client import ModbusTcpClient
client = ModbusTcpClient("127.0.0.1", port=int(sys.argv[1]), timeout=0.5, retries=0)
client.connect()
before, due = time.process_time(), time.monotonic()
for number in range(int(sys.argv[2])):
    client.read_input_registers(0x0C, count=42, device_id=1)
    due += float(sys.argv[3])
    time.sleep(max(0.0, due - time.monotonic()))
print(time.process_time() - before)
"""


def starts(bench: Bench) -> tuple[list[float], list[float]]:
    """Seconds from spawning an agent to its first state record at a subscriber, and to the first of quality good."""
    first, good = [], []
    for number in range(STARTS + 1):
        node = Node(bench, f"start-{number}", watts=1000)
        seen: list[tuple[str, float]] = []

        def heard(topic: str, payload: bytes, seen: list[tuple[str, float]] = seen) -> None:
            seen.append((msgspec.json.decode(payload)["quality"], time.monotonic()))

        client = Client(bench.desk, node.port, [wire.node_topic(node.id, wire.STATE)], heard)
        begun = time.monotonic()
        node.start()
        if not bench.desk.run(20, lambda seen=seen: any(quality == "good" for quality, _ in seen)):
            raise OSError("an agent published no good state within 20 s of its start")
        first.append(seen[0][1] - begun)
        good.append(next(at_s for quality, at_s in seen if quality == "good") - begun)
        client.close()
        node.close()
    return first[1:], good[1:]  # the first start wrote the compiled files


def interpreter(code: str) -> tuple[list[float], float]:
    """Seconds that an interpreter takes for this, and its RSS in MB afterwards."""
    times = []
    for _ in range(STARTS + 1):
        begun = time.monotonic()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.monotonic() - begun)
    child = subprocess.Popen([sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()"], stdin=-1, stdout=-1)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        return times[1:], rss_mb(child.pid)
    finally:
        end(child)


def agent_cpu(bench: Bench, id_: str, polls: int, walk: bool, every_s: float = EVERY_S) -> float:
    """CPU seconds of an agent for so many polls, all that it does meanwhile included; `walk`: each read finds other watts."""
    node = Node(bench, id_, every_s if polls else 3600.0, watts=1000)

    def change() -> None:
        node.meter.watts = 1000 + (node.meter.watts + 7) % 1000

    node.start()
    bench.desk.run(20, lambda: node.meter.polls > 0)
    bench.desk.run(4.0)  # its three births are over
    if walk:
        node.meter.asked = change
    start, begun, before = node.meter.polls, time.monotonic(), cpu_s(node.agent_pid)
    bench.desk.run(3 * polls * every_s if polls else IDLE_S, lambda: polls > 0 and node.meter.polls >= start + polls)
    spent, took, done = cpu_s(node.agent_pid) - before, time.monotonic() - begun, node.meter.polls - start
    node.close()
    return spent / done * 1000 if polls else spent / took


def loop_cpu(bench: Bench, polls: int, every_s: float = EVERY_S) -> float:
    """CPU seconds of a bare loop of pymodbus reads, for so many polls at the agent's pace."""
    meter = Meter(bench.desk, 1000)
    child = subprocess.Popen([sys.executable, "-c", LOOP, str(meter.port), str(polls), str(every_s)], stdout=subprocess.PIPE)
    bench.stack.callback(end, child)
    bench.desk.run(3 * polls * every_s, lambda: child.poll() is not None)
    assert child.stdout is not None
    return float(child.stdout.read()) / polls * 1000


def record(number: int, version: int) -> Heard:
    produced_w, consumed_w = number % 4000, version * 7 % 4000
    keys = {
        "net_w": produced_w - consumed_w,
        "produced_w": produced_w,
        "consumed_w": consumed_w,
        "quality": "good",
        "zone": "main",
        "rated_w": RATED_W,
        "table": "0123456789ab",
        "at": "2025-06-01T12:00:00Z",
        "instance": "0badcafe",
        "version": version,
    }
    return Heard(wire.inbox_topic("s", wire.node_topic(f"x{number:05d}", wire.STATE)), wire.encode(keys))


def core(nodes: int) -> tuple[Core, float]:
    """A node that counts so many nodes, itself included, and its time then."""
    tariff = wire.Tariff(
        version=0, import_u=300_000, export_u=80_000, floor_u=80_000, cap_u=300_000, currency="EUR", slot_s=900, rule="mmr"
    )
    node, now = Core(Settings("me", "main", RATED_W, 0, tariff), "bench"), 0.0
    node.step(Started({}, 1.7e9), now)
    node.step(Connected(), now)
    for version in (1, 2):  # the second growth makes a node count
        for number in range(nodes - 1):
            node.step(record(number, version), now)
        now += 1.0
    return node, now


def micros(job: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        job()
    return 1e6 * (time.perf_counter() - begun) / times


def best(job: Callable[[], object], times: int) -> float:
    return min(micros(job, times) for _ in range(5))


def resum(node: Core) -> tuple[int, int, int, int]:
    """What every merge would cost if the net were summed from the table each time: the sums alone, without digest and life."""
    produced = consumed = supply = demand = 0
    for owner in node.book.nodes:
        held = node.book.get(owner, wire.STATE)
        if held is None or not isinstance(held.record, wire.State) or held.record.net_w is None:
            continue
        produced += held.record.produced_w or 0
        consumed += held.record.consumed_w or 0
        net_w = held.record.net_w
        supply, demand = supply + max(net_w, 0), demand - min(net_w, 0)
    return produced, consumed, supply, demand


def table_costs(bench: Bench) -> None:
    report, merges = bench.report, list[float]()
    for size in SIZES:
        node, now = core(size)
        newer = (record(number % (size - 1), 3 + number // (size - 1)) for number in itertools.count())
        costs = []
        for _ in range(5):
            todo = iter(list(itertools.islice(newer, MERGES)))  # made before the clock runs
            costs.append(micros(lambda todo=todo, node=node, now=now: node.step(next(todo), now), MERGES))
        merges.append(min(costs))
        report.add(f"merge of a newer record, {size} nodes", merges[-1], "µs", merges[0], "the same at 10")
        report.must(node.net.heard == size - 1, f"{node.net.heard} of {size - 1} nodes count")
        sums = (node.net.produced_w, node.net.consumed_w, node.net.supply_w, node.net.demand_w)
        report.must(sums == resum(node), f"kept by additions {sums}, summed from the table {resum(node)}")

        def show(node: Core = node, now: float = now) -> None:
            node.changed = True
            node.step(Quiet(), now)

        def tick(node: Core = node, now: float = now) -> None:
            node.looked_s = float("-inf")
            node.step(Tick(1.7e9), now)

        tick()
        report.add(f"showing the new net, {size} nodes", best(show, 20), "µs", merges[-1], "merge")
        report.add(f"the second's look at all, {size} nodes", best(tick, 5), "µs", merges[-1], "merge")
    report.add(f"sum anew, {SIZES[-1]} nodes", best(lambda: resum(node), 5), "µs", merges[-1], "merge, which sums by additions")


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    report, polls = bench.report, arguments.polls
    progress(f"{STARTS + 1} starts of the bare interpreter, with the imports, and of the agent")
    bare_s, bare_mb = interpreter("pass")
    imports_s, imports_mb = interpreter(IMPORTS)
    first, good = starts(bench)
    for pick, word in ((min, "best"), (lambda times: sorted(times)[len(times) // 2], "median")):
        report.add(f"python -c pass, {word}", pick(bare_s), "s")
        report.add(f"python with paho, pymodbus, msgspec, {word}", pick(imports_s), "s", pick(bare_s), "bare interpreter")
        report.add(f"agent start to first state, {word}", pick(first), "s", pick(imports_s), "interpreter with imports")
        report.add(f"agent start to first good state, {word}", pick(good), "s", pick(imports_s), "interpreter with imports")

    progress(f"a ring of four for {SETTLE_S:.0f} s")
    ring = [Node(bench, f"n{number}", watts=500 * number) for number in range(4)]
    grow(bench, ring, [(1, 0), (2, 1), (3, 2), (3, 0)])
    bench.desk.run(SETTLE_S)
    report.add("RSS of the bare interpreter", bare_mb, "MB")
    report.add("RSS with paho, pymodbus, msgspec", imports_mb, "MB", bare_mb, "bare interpreter")
    report.add("RSS of an agent in a ring of four", max(rss_mb(node.agent_pid) for node in ring), "MB", imports_mb, "with imports")
    report.add("RSS of its broker", max(rss_mb(node.broker_pid) for node in ring), "MB", bare_mb, "bare interpreter")
    for node in ring:
        node.close()

    progress(f"{polls} polls at {1 / EVERY_S:.0f} Hz: a bare loop, an agent, an agent whose meter changes; then one that idles")
    loop = loop_cpu(bench, polls)
    steady = agent_cpu(bench, "steady", polls, walk=False)
    changing = agent_cpu(bench, "changing", polls, walk=True)
    idle = agent_cpu(bench, "idle", 0, walk=False)
    spent = 1000 * EVERY_S * idle  # what an idle agent uses in the time of 1,000 polls
    report.add("CPU of 1,000 bare reads", loop, "s")
    report.add("CPU of 1,000 polls, less idling", steady - spent, "s", loop, "bare reads")
    report.add("the same, each read changed and published", changing - spent, "s", loop, "bare reads")
    report.add("CPU of idling", 1e3 * idle, "ms/s")

    progress(f"merging records at {', '.join(map(str, SIZES))} nodes")
    table_costs(bench)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polls", type=int, default=600, help="polls for the CPU figures, at 20 Hz (600)")
    main(run, parser)
