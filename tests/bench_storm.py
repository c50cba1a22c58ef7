"""Eight nodes in a ring with four chords while every meter changes ten times a second: cost, echoes, losses, and the truth.

An update is a record version that its owner published. Counted from outside, at every broker:
bridge messages: what arrives in an inbox `$grid/in/…`; by design at most two an edge for each update (once each way).
echo: a node's own record coming back into one of its own inboxes; unavoidable, and to be dropped there.
re-flood: a record version published more than once into the canonical tree of one broker, that is, given on although it was
known; a self-echo re-flood is one at the owner's own broker, or a version that the owner had to jump to (versions have gaps).
"""

import argparse
import random
import re
import time
from collections import Counter
from itertools import pairwise

import msgspec
from bench import Bench, Node, cpu_s, grow, main, progress, rss_mb
from bench_desk import Client, Desk

NODES = 8
PAIRS = [*((i, i - 1) for i in range(1, NODES)), (NODES - 1, 0), *((i + NODES // 2, i) for i in range(NODES // 2))]
EVERY_S = 0.1
STEP_W, MOST_W = 400, 8000
QUIET_S = 20.0
VERSION = re.compile(rb'"version":(\d+)')
Update = tuple[str, str, int]  # owner, kind, version


class Weather:
    """Changes every meter ten times a second until it is told to stop; remembers when the last one changed."""

    def __init__(self, desk: Desk, nodes: list[Node]) -> None:
        self._desk, self._nodes, self._chance, self.blowing = desk, nodes, random.Random(1), True
        self.changed_s = self._due_s = time.monotonic()
        self._blow()

    def _blow(self) -> None:
        if not self.blowing:
            return
        for node in self._nodes:
            step = self._chance.choice((-1, 1)) * self._chance.randint(1, STEP_W)
            node.meter.watts += step if abs(node.meter.watts + step) <= MOST_W else -step
        self.changed_s = time.monotonic()
        self._due_s += EVERY_S
        self._desk.at(self._due_s, self._blow)


class Watch:
    """Everything that arrives in the inboxes and canonical trees of all brokers, and what each node makes of it."""

    def __init__(self) -> None:
        self.inbox: Counter[Update] = Counter()
        self.canonical: list[Counter[Update]] = [Counter() for _ in range(NODES)]
        self.newest: list[dict[str, int]] = [{} for _ in range(NODES)]  # by broker: the version of each owner's state
        self.shown: list[tuple[int, str]] = [(0, "")] * NODES  # net_w and digest
        self.echoes = 0

    def forget(self) -> None:
        self.inbox.clear()
        self.echoes = 0
        for seen in self.canonical:
            seen.clear()

    def heard(self, at: int, topic: str, payload: bytes) -> None:
        if topic == "grid/summary":
            summary = msgspec.json.decode(payload)
            self.shown[at] = summary["net_w"], summary["digest"]
            return
        match, parts = VERSION.search(payload), topic.split("/")
        if match is None:
            return
        if topic.startswith("$grid/in/"):
            self.inbox[parts[3], "/".join(parts[4:]), int(match[1])] += 1
            self.echoes += parts[3] == name(at)
        else:
            owner, kind, version = parts[2], "/".join(parts[3:]), int(match[1])
            self.canonical[at][owner, kind, version] += 1
            if kind == "state":
                self.newest[at][owner] = version

    def agreed(self, net_w: int) -> bool:
        return len(set(self.shown)) == 1 and self.shown[0][0] == net_w

    def lost(self) -> int:
        """Pairs of a node and an owner where the newest update has not arrived."""
        return sum(
            self.newest[at].get(name(owner)) != self.newest[owner][name(owner)] for at in range(NODES) for owner in range(NODES)
        )


def name(number: int) -> str:
    return f"n{number + 1}"


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    report, desk, seconds = bench.report, bench.desk, arguments.seconds
    progress(f"starting {NODES} nodes, joining {len(PAIRS)} links")
    nodes = [Node(bench, name(number), EVERY_S) for number in range(NODES)]
    grow(bench, nodes, PAIRS)
    watch = Watch()
    for at, node in enumerate(nodes):

        def heard(topic: str, payload: bytes, at: int = at) -> None:
            watch.heard(at, topic, payload)

        Client(desk, node.port, ["$grid/in/#", "grid/node/#", "grid/network/#", "grid/summary"], heard)
    desk.run(2.0)
    agents, brokers = [node.agent_pid for node in nodes], [node.broker_pid for node in nodes]
    progress(f"storm for {seconds} s; agents are {' '.join(map(str, agents))}")

    watch.forget()
    before = [sum(map(cpu_s, agents)), sum(map(cpu_s, brokers)), time.process_time()]
    weather = Weather(desk, nodes)
    sizes: list[tuple[float, float]] = []
    for quarter in range(4):
        desk.run(seconds / 4)
        sizes.append((max(map(rss_mb, agents)), max(map(rss_mb, brokers))))
        progress(f"{25 * (quarter + 1)} %: {sum(watch.inbox.values())} bridge messages")
    weather.blowing = False
    agents_s, brokers_s, ours_s = (
        now - then
        for now, then in zip([sum(map(cpu_s, agents)), sum(map(cpu_s, brokers)), time.process_time()], before, strict=True)
    )

    net_w = -sum(node.meter.watts for node in nodes)  # a meter counts + from the grid, a node + into it
    first = desk.run(QUIET_S, lambda: watch.agreed(net_w))
    agree_s = time.monotonic() - weather.changed_s
    progress(f"quiet: {'agreed' if first else 'NOT agreed'} after {agree_s:.2f} s; looking for what is lost")
    desk.run(QUIET_S, lambda: watch.agreed(net_w) and watch.lost() == 0)
    lost = watch.lost()
    desk.run(3.0)  # heartbeats change digests for moments, but nothing may change the sum any more
    exact = sum(net == net_w for net, _ in watch.shown)
    desk.run(QUIET_S, lambda: watch.agreed(net_w))
    digests = len({digest for _, digest in watch.shown})

    own = [update for at in range(NODES) for update in watch.canonical[at] if update[0] == name(at)]
    versions = {name(at): sorted({v for o, k, v in own if o == name(at)}) for at in range(NODES)}
    jumps = sum(after - earlier - 1 for seen in versions.values() for earlier, after in pairwise(seen))
    repeats = [sum(count - 1 for count in seen.values()) for seen in watch.canonical]
    own_repeats = sum(watch.canonical[at][update] - 1 for at in range(NODES) for update in own if update[0] == name(at))
    crossings = [watch.inbox[update] for update in own if watch.inbox[update]]
    arrived = sum(update in seen for update in own for seen in watch.canonical)
    most = 2 * len(PAIRS)
    refloods = own_repeats + jumps

    report.add("updates", len(own), "", round(seconds * NODES / EVERY_S), "changes of the meters")
    report.add("bridge messages an update", sum(crossings) / len(own), "", most, "2E, twice the links")
    report.add("of the most expensive update", max(crossings), "", most, "2E")
    report.add("own records echoed back", watch.echoes, "", len(own), "updates; each was dropped")
    report.add("self-echo re-floods", refloods, "")
    report.add("re-floods of any kind", sum(repeats), "")
    report.add("overtaken on the way", 1 - arrived / (len(own) * NODES), "share", None, "a newer one of the same owner was faster")
    report.add("newest updates lost at the end", lost / NODES**2, "share")
    report.add("nodes with the exact sum", exact, "", NODES, f"nodes; {net_w} W")
    report.add("digests", digests, "")
    report.add("last change to agreement", agree_s, "s", EVERY_S, "the time between two reads")
    for quarter, (agent_mb, broker_mb) in enumerate(sizes):
        beside = f"the greatest of {NODES} at 25 %"
        report.add(f"agent RSS at {25 * (quarter + 1)} %", agent_mb, "MB", sizes[0][0], beside)
        report.add(f"broker RSS at {25 * (quarter + 1)} %", broker_mb, "MB", sizes[0][1], beside)
    report.add("CPU of the brokers", brokers_s, "s", seconds, "seconds of storm")
    report.add("CPU of the agents", agents_s, "s", brokers_s, "CPU of the brokers")
    report.add("CPU of this benchmark", ours_s, "s", brokers_s, "CPU of the brokers")
    report.add("agents' CPU an update at a node", 1e6 * agents_s / arrived, "µs", 1e6 * brokers_s / arrived, "the brokers'")

    report.must(sum(crossings) <= most * len(own) and max(crossings) <= most, "more bridge messages than two an edge")
    report.must(refloods == 0, f"{own_repeats} own records were published again, {jumps} versions jumped")
    report.must(sum(repeats) == 0, f"re-floods by broker: {repeats}")
    report.must(lost == 0, f"{lost} newest updates did not arrive")
    report.must(first and exact == NODES, f"the sum is {net_w} W, the nodes show {[net for net, _ in watch.shown]}")
    report.must(digests == 1, f"{digests} digests")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the storm (60)")
    main(run, parser)
