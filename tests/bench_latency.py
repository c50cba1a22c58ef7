"""From a meter's answer to the price on every node of a ring of four, beside the bare bridge and two hops through a C relay.

The meter is a Modbus server of this program's own; it notes the moment before it sends new watts. Each new value moves the price
to one that occurs once, computed here, so that what is timed on a node is the right price and not just some message.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import Bench, Node, Report, bare, end, grow, main, progress, quantile
from bench_desk import HOST, Client, Desk
from ports import free_ports

from agent import wire
from agent.events import Bridge
from agent.price import mmr

NODES = 4
PAIRS = [(1, 0), (2, 1), (3, 2), (3, 0)]
EVERY_S = 0.2
OTHERS_W = (-3000, 150, 250)  # on the meters of nodes 2, 3, 4: one gives, two take
IMPORT_U, EXPORT_U = 300_000, 80_000  # the defaults of [tariff]
MOST_S = 2.0  # an answer or a message that is not there by then counts as missed

RELAY = r"""
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_connect(struct mosquitto *m, void *data, int code) { mosquitto_subscribe(m, NULL, "$grid/in/#", 1); }

static void on_message(struct mosquitto *m, void *data, const struct mosquitto_message *one) {
    static long newest;
    char topic[256];
    const char *rest = strchr(one->topic + 9, '/'), *version = one->payloadlen ? strchr(one->payload, ':') : NULL;
    if (rest == NULL || version == NULL || atol(version + 1) <= newest) return; /* ours is coming back */
    newest = atol(version + 1);
    snprintf(topic, sizeof topic, "grid/node%s", rest);
    mosquitto_publish(m, NULL, topic, one->payloadlen, one->payload, 1, true);
}

int main(int count, char **arguments) {
    mosquitto_lib_init();
    struct mosquitto *m = mosquitto_new("relay", true, NULL);
    mosquitto_int_option(m, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_connect_callback_set(m, on_connect);
    mosquitto_message_callback_set(m, on_message);
    if (count != 2 || mosquitto_connect(m, "127.0.0.1", atoi(arguments[1]), 60)) return 1;
    return mosquitto_loop_forever(m, -1, 1);
}
"""


def c_relay(folder: Path) -> list[str]:
    """The command of a relay as lean as can be: C, or a bare socket in Python where libmosquitto's header is missing."""
    source, program = folder / "relay.c", folder / "relay"
    source.write_text(RELAY)
    try:
        subprocess.run(["gcc", "-O2", "-o", program, source, "-lmosquitto"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return [sys.executable, __file__, "--relay"]
    return [str(program)]


def socket_relay(port: int) -> None:
    desk, newest = Desk(), 0

    def heard(topic: str, payload: bytes) -> None:
        nonlocal newest
        version = int(payload.partition(b":")[2].partition(b",")[0])
        if version > newest:  # else ours is coming back
            newest = version
            client.publish(wire.NODE + topic.removeprefix(wire.INBOX).partition("/")[2], payload)

    client = Client(desk, port, ["$grid/in/#"], heard)
    desk.run(3600)


def time_floor(bench: Bench, count: int) -> tuple[list[float], list[float], str]:
    """Seconds of messages over one bare bridge, and over two with a relay on either broker, publish to canonical topic."""
    folder, desk = bench.folder, bench.desk
    command = c_relay(folder)
    ports = free_ports(3)
    bare(bench, "l1", ports[0])
    bare(bench, "l2", ports[1], [Bridge("l1", HOST, ports[0])])
    bare(bench, "l3", ports[2], [Bridge("l2", HOST, ports[1])])
    for port in ports[1:]:
        Client(desk, port).close()  # it is up
        child = subprocess.Popen([*command, str(port)], stdin=subprocess.DEVNULL, start_new_session=True)
        bench.stack.callback(end, child)
    near: dict[bytes, float] = {}
    far: dict[bytes, float] = {}
    talker = Client(desk, ports[0])
    for port, topic, seen in ((ports[1], "$grid/in/l1/probe/#", near), (ports[2], "grid/node/probe/#", far)):

        def heard(topic: str, payload: bytes, seen: dict[bytes, float] = seen) -> None:
            seen.setdefault(payload, time.monotonic())

        Client(desk, port, [topic], heard)

    def through(number: int) -> tuple[float, float] | None:
        payload = b'{"version":%d,"padding":"%s"}' % (number, b"x" * 270)  # as long as a state record
        started = time.monotonic()
        talker.publish(wire.node_topic("probe", wire.STATE), payload)
        there = desk.run(MOST_S, lambda: payload in near and payload in far)
        return (near[payload] - started, far[payload] - started) if there else None

    for number in range(20):  # links and relays come up
        through(number)
    chance, times = random.Random(2), []
    for number in range(1000, 1000 + count):
        desk.run(chance.uniform(0.01, 0.03))
        times.append(through(number))
    found = [pair for pair in times if pair is not None]
    kind = "C relays" if command[0] != sys.executable else "bare Python relays"
    return [one for one, _ in found], [two for _, two in found], kind


class Prices:
    """Gives the first node's meter a new load at each read, and notes when its price is on each node."""

    def __init__(self, desk: Desk, nodes: Sequence[Node], count: int) -> None:
        self.sent: dict[bytes, float] = {}
        self.seen: list[dict[bytes, float]] = [{} for _ in nodes]
        self._meter, self._last = nodes[0].meter, b""
        chance = random.Random(3)
        self._loads = chance.sample(range(3500, 9500), count)
        self._meter.asked = self._change
        for at, node in enumerate(nodes):

            def heard(topic: str, payload: bytes, at: int = at) -> None:
                self.seen[at].setdefault(payload, time.monotonic())

            Client(desk, node.port, ["grid/price"], heard)

    def _change(self) -> None:
        if self._last:
            self.sent[self._last] = self._meter.sent_s
            self._last = b""
        if self._loads:
            load_w = self._meter.watts = self._loads.pop()
            supply_w = sum(-w for w in OTHERS_W if w < 0)
            demand_w = load_w + sum(w for w in OTHERS_W if w > 0)
            self._last = wire.price_text(mmr(supply_w, demand_w, IMPORT_U, EXPORT_U).buy_u).encode()

    def done(self) -> bool:
        return not self._loads and not self._last

    def seconds(self, number: int) -> list[float]:
        """Of each price that node showed: the time since the meter sent what it follows from."""
        seen = self.seen[number]
        return [seen[price] - sent_s for price, sent_s in self.sent.items() if price in seen]

    def everywhere(self) -> list[float]:
        whole = [price for price in self.sent if all(price in seen for seen in self.seen)]
        return [max(seen[price] for seen in self.seen) - self.sent[price] for price in whole]


def tell(report: Report, name: str, times: Sequence[float], beside: Sequence[float], of: str) -> None:
    shares: tuple[tuple[str, Callable[[Sequence[float]], float]], ...] = (
        ("p50", lambda values: quantile(values, 0.5)),
        ("p95", lambda values: quantile(values, 0.95)),
        ("max", max),
    )
    for share, pick in shares:
        report.add(f"{name}, {share}", 1e3 * pick(times), "ms", 1e3 * pick(beside) if beside else None, of)


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    report, desk, count = bench.report, bench.desk, arguments.samples
    progress("the floor: three bare brokers in a line, a relay on the second and the third")
    one, two, kind = time_floor(bench, count)
    report.must(len(one) > 0.9 * count, "the bare bridges lost messages")
    progress(f"two hops through {kind} measured; now a ring of {NODES} nodes")
    watts = (4000, *OTHERS_W)
    nodes = [Node(bench, f"n{at + 1}", EVERY_S if at == 0 else 1.0, watts[at]) for at in range(NODES)]
    grow(bench, nodes, PAIRS)
    desk.run(5.0)
    progress(f"{count} changes of the first node's meter, one each {EVERY_S} s")
    prices = Prices(desk, nodes, count)
    desk.run(2 * count * EVERY_S + 10, prices.done)
    desk.run(MOST_S)
    everywhere = prices.everywhere()

    tell(report, "one bare bridge", one, [], "")
    tell(report, f"two bridges, two {kind}", two, one, "one bare bridge")
    tell(report, "meter to price, own node", prices.seconds(0), one, "one bare bridge")
    tell(report, "meter to price, neighbour", prices.seconds(1) + prices.seconds(3), one, "one bare bridge")
    tell(report, "meter to price, across", prices.seconds(2), two, f"two bridges, two {kind}")
    tell(report, "meter to price, every node", everywhere, two, f"two bridges, two {kind}")
    missed = len(prices.sent) - len(everywhere)
    report.add("prices that a newer one overtook", missed, "", len(prices.sent), "changes")
    last = next(reversed(prices.sent))
    report.must(all(last in seen for seen in prices.seen), f"the last price, {last.decode()}, is not on every node")
    report.must(missed <= 0.1 * len(prices.sent), f"{missed} of {len(prices.sent)} prices were not shown everywhere")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--relay"]:
        socket_relay(int(sys.argv[2]))
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=250, help="changes of the meter (250)")
    main(run, parser)
