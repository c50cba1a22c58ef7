"""What signatures and TLS cost, and what a hostile member reaches with 10,000 wrongly signed records a second.

python tests/bench_seal.py [cost] [flood] [--seconds N]; GRID_MOSQUITTO=... for another broker.
"""

import argparse
import itertools
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import Bench, Report, cpu_s, main, progress, quantile, rss_mb
from desk import UNIX_S, info, settings, state
from foes import Foe, publish
from live import Grid, Node
from patience import wait_until
from tap import Tap

from agent import authority, closed, root
from agent.broker import version
from agent.events import Heard, Started, Tick
from agent.node import Node as Core
from agent.seal import Member
from agent.trust import Trust

RECORDS, MEMBERS = 20_000, 100
RATE = 10_000.0
FORGED_W = 9999
WATTS = {"v": -500, "h": 1200, "w": -70}


# one node's core


def seals(folder: Path, count: int) -> list[closed.Sealed]:
    """An operator's and so many members'."""
    first = folder / "s0"
    made = authority.create(first, "bench", "s0", None, UNIX_S)
    found = []
    for number in range(count + 1):
        trust = folder / f"s{number}"
        if number:
            bundle = authority.admit(first, made, f"s{number}", [], False, None, UNIX_S)
            assert bundle.key is not None
            member = Member(bundle.ca, bundle.cert, bundle.key)
        else:
            loaded = Member.load(trust)
            assert loaded is not None
            member = loaded
        found.append(closed.Sealed(member))
    return found


def with_cert(seal: closed.Sealed, body: bytes) -> bytes:
    return body[:-1].rstrip() + b',"cert":"' + seal.cert.encode() + b'"}'


def feed(trust: Trust | None, heard: Sequence[Heard]) -> float:
    """Microseconds of CPU a record."""
    node = Core(settings("s0"), "aaaaaaaa", trust)
    node.step(Started({}, UNIX_S), 0.0)
    node.step(Tick(UNIX_S), 0.0)
    began = time.process_time()
    for number, one in enumerate(heard):
        node.step(one, number * 0.002)
    used = time.process_time() - began
    assert node.show.refusals.total == 0, node.show.refusals.reasons
    return used / len(heard) * 1e6


def core(bench: Bench) -> None:
    every = seals(bench.folder / "seals", MEMBERS)
    bare: list[Heard] = []
    signed: list[Heard] = []
    forged: list[Heard] = []
    for number in range(RECORDS):
        id_ = f"s{1 + number % MEMBERS}"
        seal, kind = every[1 + number % MEMBERS], "info" if number < MEMBERS else "state"
        body = (info(1) if kind == "info" else state(1 + number, number % 5000)).replace(b" ", b"")
        topic = f"$grid/in/s1/{id_}/{kind}"
        bare.append(Heard(topic, body))
        whole = seal.sign(f"grid/node/{id_}/{kind}", with_cert(seal, body) if kind == "info" else body)
        signed.append(Heard(topic, whole))
        forged.append(Heard(topic, whole.replace(b'"version":', b'"version":9')) if kind == "state" else signed[-1])
    unsigned_us = feed(None, bare)
    signed_us = feed(Trust(every[0], "t"), signed)
    again = [*signed[: 2 * MEMBERS], *(one for one in signed[MEMBERS : 2 * MEMBERS] for _ in range(RECORDS // MEMBERS))]
    known_us, known_open_us = (
        feed(Trust(every[0], "t"), again),
        feed(
            None,
            [
                *bare[: 2 * MEMBERS],
                *(Heard(one.topic, one.payload) for one in bare[MEMBERS : 2 * MEMBERS] for _ in range(RECORDS // MEMBERS)),
            ],
        ),
    )
    began = time.process_time()
    for number in range(2000):
        every[1].sign("grid/node/s1/state", bare[MEMBERS + number].payload)
    sign_us = (time.process_time() - began) / 2000 * 1e6
    report = bench.report
    report.add("a newer record, core, CPU", signed_us, "us", unsigned_us, "unsigned")
    report.add("  that is", 1e6 / signed_us, "1/s", 1e6 / unsigned_us, "unsigned")
    report.add("a record already known, core, CPU", known_us, "us", known_open_us, "unsigned")
    report.add("signing a record of ours, CPU", sign_us, "us")
    report.add("its length", len(signed[-1].payload), "byte", len(bare[-1].payload), "unsigned")


# three real nodes in a line


def jittering(node: Node) -> None:
    """Its meter walks, so that each read is an update."""
    node.stop_meter()
    scene = node.folder / "meter.scene"
    body = json.loads(scene.read_text())
    body["meters"][0] |= {"jitter_w": 300, "period_s": 0.1}
    scene.write_text(json.dumps(body))
    node.meter = node._spawn("meter.log", sys.executable, "-m", "drivers.simulated", "meter.scene")


class Ear(Tap):
    """Notes when each payload came first, over a restart of its broker, too."""

    def __init__(self, port: int, topic: str) -> None:
        self.at: dict[bytes, float] = {}
        self._topic = topic
        super().__init__(port)

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        client.subscribe(self._topic)
        super()._on_connect(client, data, flags, reason, properties)

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self.at.setdefault(bytes(message.payload), time.monotonic())
        super()._on_message(client, data, message)


def three(folder: Path, is_closed: bool) -> tuple[Grid, list[Node]]:
    grid = Grid(folder)
    nodes = grid.network(closed=is_closed, **WATTS)
    for node in nodes:
        node.configure(deadband_w="0")
        jittering(node)
    time.sleep(6.0)  # they start anew with it
    for node in nodes:
        wait_until(lambda node=node: node.status().get("summary", {}).get("heard") == len(nodes), 30, node.log)
    return grid, nodes


def pids(node: Node) -> tuple[int, int]:
    assert node.agent is not None
    return node.agent.pid, node.broker_pid() or 0


def walk(grid: Grid, nodes: Sequence[Node], seconds: float) -> dict[str, float]:
    """CPU of agents and brokers for one update that all three heard, and how long it took to the far end."""
    first, _, last = nodes
    with Ear(first.port, "grid/node/v/state") as near, Ear(last.port, "grid/node/v/state") as far:
        before = [[cpu_s(pid) for pid in pids(node)] for node in nodes]
        time.sleep(seconds)
        after = [[cpu_s(pid) for pid in pids(node)] for node in nodes]
        took = [far.at[payload] - at for payload, at in near.at.items() if payload in far.at]
    updates = len(took) * len(nodes)
    agent, broker = ((sum(b[i] for b in after) - sum(a[i] for a in before)) / updates * 1e6 for i in (0, 1))
    memory = {"rss agent": rss_mb(pids(first)[0]), "rss broker": rss_mb(pids(first)[1])}
    return {"agent": agent, "broker": broker, "p50": quantile(took, 0.5) * 1e3, "p99": quantile(took, 0.99) * 1e3, **memory}


def cost(bench: Bench, seconds: float) -> None:
    core(bench)
    found = {}
    for is_closed in (False, True):
        progress(f"three nodes in a line, {'closed' if is_closed else 'open'}")
        grid, nodes = three(bench.folder / ("closed" if is_closed else "open"), is_closed)
        with grid:
            found[is_closed] = walk(grid, nodes, seconds)
    plain, safe = found[False], found[True]
    for name, key, unit in (
        ("agents' CPU an update", "agent", "us"),
        ("brokers' CPU an update", "broker", "us"),
        ("an update over two hops, half of them", "p50", "ms"),
        ("an update over two hops, 99 %", "p99", "ms"),
        ("agent's memory", "rss agent", "MB"),
        ("broker's memory", "rss broker", "MB"),
    ):
        bench.report.add(name, safe[key], unit, plain[key], "open")


# a flood


def pour(port: int, trust: str, topic: str, seconds: float) -> None:
    """In a process of its own: newer and newer records of h with a signature that is none."""
    tls = None
    if trust:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False
        tls.load_verify_locations(f"{trust}/ca.pem")
        tls.load_cert_chain(f"{trust}/node.pem", f"{trust}/node.key")
    body = state(0, FORGED_W).replace(b" ", b"").replace(b'"version":0}', b"")
    sig = b',"sig":"' + b"A" * 86 + b'"}'
    packets = [publish(topic, body + b'"version":%d' % (10**6 + number) + sig) for number in range(40_000)]
    sent, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        with suppress(OSError), Foe(port, "z", tls) as foe:
            sent += foe.flood(packets, RATE, seconds - (time.monotonic() - began))
    print(sent)


def phase(far: Ear, near: Ear, own: Ear, since: float) -> dict[str, float]:
    """What h's updates took to v, and how far apart v's own readings were."""
    took = [far.at[payload] - at for payload, at in near.at.items() if at >= since and payload in far.at]
    times = sorted(at for at in own.at.values() if at >= since)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    return {
        "p50": quantile(took, 0.5) * 1e3,
        "p95": quantile(took, 0.95) * 1e3,
        "max": max(took) * 1e3,
        "period": quantile(gaps, 0.5) * 1e3,
        "gap": max(gaps) * 1e3,
        "updates": len(took),
        "lost": sum(at >= since and at < time.monotonic() - 3 and payload not in far.at for payload, at in near.at.items()),
    }


def hostile(grid: Grid, v: Node) -> Node:
    """A member whose broker does what it likes, and v dials it."""
    z = grid.node("z", start=False, closed=True)
    config = root.load(z.config)
    root.broker(config, z.folder, lambda event: None, closed.load(config)).write_main()
    (z.folder / "acl").write_text("topic readwrite #\ntopic readwrite $grid/#\npattern readwrite #\npattern readwrite $grid/#\n")
    z.start_broker()
    wait_until(z.broker_pid, 10, "z's broker")
    assert v.cli("join", f"127.0.0.1:{z.tls_port}").returncode == 0
    wait_until(lambda: v.read("grid/sibling/z") == b"1", 20, "the bridge to z")
    return z


def flooded(report: Report, folder: Path, seconds: float, dialled: bool) -> None:
    grid, (v, h, _) = three(folder, True)
    with grid:
        z = hostile(grid, v) if dialled else grid.node("z", start=False, closed=True)
        topic = "grid/node/h/state" if dialled else "$grid/in/z/h/state"
        where = (str(z.port), "") if dialled else (str(v.tls_port), str(z.trust))
        with (
            Ear(h.port, "grid/node/h/state") as near,
            Ear(v.port, "grid/node/h/state") as far,
            Ear(v.port, "grid/node/v/state") as own,
        ):
            time.sleep(seconds)
            calm = phase(far, near, own, 0.0)
            agent, _ = pids(v)
            before, refused = cpu_s(agent), v.status()["refused"]
            wrong: list[Any] = []
            stop = watch(v, wrong)
            began = time.monotonic()
            command = [sys.executable, __file__, "pour", *where, topic, str(seconds)]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            wait_until(lambda: v.status().get("refused", 0) > refused, 30, v.log)
            first_s = time.monotonic()
            wait_until(lambda: "flood-z" in v.alerts(), 30, lambda: (v.alerts(), v.status()["refused"]))
            named_s = time.monotonic() - first_s
            sent = int(child.communicate(timeout=seconds + 30)[0])
            storm = phase(far, near, own, began)
            used = cpu_s(agent) - before
            wait_until(lambda: v.status()["cut"] == [], 90, "the pause ends")
            stop()
            looked = v.status()["refused"] - refused
            after = v.status()["summary"]
        name = "v dials z: " if dialled else "z dials v: "
        report.add(f"{name}wrong records sent", sent / seconds, "1/s")
        report.add(f"{name}z is named and cut after", named_s, "s")
        report.add(f"{name}of them seen by the agent", looked, "")
        for key, what, unit in (
            ("p50", "h's update reaches v, half", "ms"),
            ("p95", "h's update reaches v, 95 %", "ms"),
            ("max", "h's update reaches v, the last", "ms"),
            ("period", "v's own meter, half", "ms"),
            ("gap", "v's own meter, longest gap", "ms"),
        ):
            report.add(f"{name}{what}", storm[key], unit, calm[key], "before the flood")
        report.add(f"{name}updates of h lost", storm["lost"], "")
        report.add(f"{name}CPU of v's agent", used / seconds, "s/s")
        report.add(f"{name}memory of v's agent", rss_mb(pids(v)[0]), "MB")
        report.add(f"{name}memory of v's broker", rss_mb(pids(v)[1]), "MB")
        report.must(not wrong, f"{name}{wrong[:3]}")
        report.must(set(after["members"]) == {"v", "h", "w"}, f"{name}members {after['members']}")
        report.must(v.status()["siblings"]["h"]["link"] == "linked", f"{name}the link to h")


def watch(v: Node, wrong: list[Any]) -> Callable[[], None]:
    """Looks at v's summary all the while: nobody may drop out, nobody may come in, no forged watt."""
    ending = threading.Event()

    def work() -> None:
        while not ending.wait(0.2):
            status = v.status()
            if not status:
                continue
            summary = status["summary"]
            if summary["members"] != ["h", "v", "w"] or status["nodes"]["h"]["produced_w"] == FORGED_W:
                wrong.append((summary["members"], status["nodes"]["h"]))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def stop() -> None:
        ending.set()
        thread.join()

    return stop


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    progress(f"Mosquitto {version()[0]}.{version()[1]}")
    parts = arguments.parts or ["cost", "flood"]
    if "cost" in parts:
        cost(bench, arguments.seconds)
    for dialled in (False, True) if "flood" in parts else ():
        progress(f"a flood by {'a bridge that v dials' if dialled else 'a member that dials v'}")
        flooded(bench.report, bench.folder / f"flood{dialled}", arguments.seconds, dialled)


if __name__ == "__main__":
    if sys.argv[1:2] == ["pour"]:
        pour(int(sys.argv[2]), sys.argv[3], sys.argv[4], float(sys.argv[5]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("parts", nargs="*", choices=["cost", "flood"])
        parser.add_argument("--seconds", type=float, default=15.0, help="of each phase")
        main(run, parser)
