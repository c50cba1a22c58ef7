"""Thousands of retained records cross one QoS 1 bridge: our nodes, and bare brokers with and without Mosquitto's own limits."""

import argparse
import os
import signal
import time

from bench import Bench, Node, bare, main, progress, rss_mb
from bench_desk import HOST, Client
from ports import free_ports

from agent import wire
from agent.events import Bridge

CROSS_S = 60.0  # at the most
STILL_S = 4.0  # nothing arrives for so long: it has stopped


def record(number: int) -> tuple[str, bytes]:
    """Canonical topic and bytes of the state of the node `x0000`, `x0001`, …"""
    keys = {
        "net_w": number - 2000,
        "produced_w": number,
        "consumed_w": 2000,
        "quality": "good",
        "zone": "main",
        "rated_w": 17250,
        "table": "0123456789ab",
        "at": "2025-06-01T12:00:00Z",
        "instance": "0badcafe",
        "version": 1,
    }
    return wire.node_topic(f"x{number:04d}", wire.STATE), wire.encode(keys)


class Tree:
    """What of the wanted topics one place of a broker has shown, byte for byte, and when the last one came."""

    def __init__(self, wanted: dict[str, bytes]) -> None:
        self.wanted, self.here, self.last_s = wanted, set[str](), time.monotonic()

    def heard(self, topic: str, payload: bytes) -> None:
        if topic not in self.here and self.wanted.get(topic) == payload:
            self.here.add(topic)
            self.last_s = time.monotonic()

    @property
    def whole(self) -> bool:
        return len(self.here) == len(self.wanted)

    def still(self) -> bool:
        return self.whole or time.monotonic() - self.last_s > STILL_S


def load(bench: Bench, port: int, records: dict[str, bytes]) -> None:
    client = Client(bench.desk, port)
    for topic, payload in records.items():
        client.publish(topic, payload)
        if client.unacked > 100:
            bench.desk.run(10, lambda: client.unacked <= 50)
    if not bench.desk.run(30, lambda: client.unacked == 0):
        raise OSError(f"the broker on port {port} did not take {len(records)} records in")
    client.close()


def in_inbox(sibling: str, records: dict[str, bytes]) -> dict[str, bytes]:
    return {wire.inbox_topic(sibling, topic): payload for topic, payload in records.items()}


def bridge_alone(bench: Bench, records: dict[str, bytes], defaults: bool) -> tuple[int, float]:
    """How many records reach the inbox beyond a bridge between two bare brokers, and in how many seconds from its CONNACK."""
    a, b = (f"{id_}-{'default' if defaults else 'ours'}" for id_ in "ab")
    port_a, port_b = free_ports(2)
    files = bare(bench, a, port_a, defaults=defaults)
    load(bench, port_a, records)
    pid = files.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # until somebody listens beyond the bridge, for its limits hold for listeners, too
    try:
        bare(bench, b, port_b, [Bridge(a, HOST, port_a)], defaults=defaults)
        tree = Tree(in_inbox(a, records))
        client = Client(bench.desk, port_b, ["$grid/in/#"], tree.heard, qos=0)
        bench.desk.run(0.5)
        started = tree.last_s = time.monotonic()
    finally:
        os.kill(pid, signal.SIGCONT)
    bench.desk.run(CROSS_S, tree.still)
    client.close()
    return len(tree.here), tree.last_s - started


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    report, desk, count = bench.report, bench.desk, arguments.records
    records = dict(map(record, range(count)))

    progress("two bare brokers, Mosquitto's limits (1000 queued, 20 in flight)")
    default_count, default_s = bridge_alone(bench, records, defaults=True)
    progress(f"{default_count} of {count} arrived; two bare brokers, our limits")
    bare_count, bare_s = bridge_alone(bench, records, defaults=False)
    progress(f"{bare_count} of {count} arrived; two nodes")

    a, b = Node(bench, "a"), Node(bench, "b")
    for node in (a, b):
        node.start()
        desk.work(lambda node=node: node.ask("status"), 60)
    desk.run(3.0)
    alone = rss_mb(a.agent_pid), rss_mb(b.agent_pid)
    brokers_alone = rss_mb(b.broker_pid)
    load(bench, a.port, records)
    inbox, canonical, back = Tree(in_inbox("a", records)), Tree(records), Tree(in_inbox("b", records))
    Client(desk, a.port, ["$grid/in/#"], back.heard)
    for topic, tree in (("$grid/in/a/#", inbox), ("grid/node/#", canonical)):
        Client(desk, b.port, [topic], tree.heard)
    progress(f"a's broker holds {count} records; b joins a")
    started = time.monotonic()
    desk.work(lambda: b.ask("join", f"{HOST}:{a.port}"), CROSS_S)
    for tree in (inbox, canonical, back):
        tree.last_s = time.monotonic() + 2.0  # b's broker has to take up the new bridge first
    desk.run(CROSS_S, lambda: inbox.still() and canonical.still() and back.still())
    progress(f"in b's inbox {len(inbox.here)}, in its canonical tree {len(canonical.here)}, back in a's inbox {len(back.here)}")
    desk.run(3.0)

    report.add("Mosquitto's limits: arrived", default_count, "records", count, "sent; the rest is dropped without a word")
    report.add("Mosquitto's limits: time", default_s, "s", bare_s, "bare bridge with our limits")
    report.add("bare bridge, our limits: arrived", bare_count, "records", count, "sent")
    report.add("bare bridge, our limits: time", bare_s, "s")
    report.add("join: arrived in b's inbox", len(inbox.here), "records", count, "sent, byte for byte")
    report.add("join: in b's canonical tree", len(canonical.here), "records", count, "sent, byte for byte")
    report.add("join: back in a's inbox", len(back.here), "records", count, "sent, byte for byte")
    report.add("join to the last in b's inbox", inbox.last_s - started, "s", bare_s, "bare bridge without a join")
    report.add("join to the last in b's tree", canonical.last_s - started, "s", bare_s, "bare bridge without a join")
    report.add("join to the last back at a", back.last_s - started, "s", bare_s, "bare bridge without a join")
    for node, before in ((a, alone[0]), (b, alone[1])):
        report.add(f"agent {node.id} RSS", rss_mb(node.agent_pid), "MB", before, "the same, alone")
    report.add("broker b RSS", rss_mb(b.broker_pid), "MB", brokers_alone, "the same, alone")
    report.must(bare_count == count, f"{count - bare_count} records did not cross the bare bridge with our limits")
    for tree, where in ((inbox, "b's inbox"), (canonical, "b's canonical tree"), (back, "a's inbox")):
        report.must(tree.whole, f"{count - len(tree.here)} records are missing or changed in {where}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5000, help="how many (5000; up to 9900)")
    main(run, parser)
