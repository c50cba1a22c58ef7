"""A storm over eight real nodes and twelve links: links go deaf, cables are pulled, brokers and agents are killed; then quiet.

GRID_STORM_S is the length of the storm in seconds; the five minutes of an acceptance run are GRID_STORM_S=300.
"""

import os
import random
import time

import pytest
from conftest import Survived
from live import agreed, rss_mb
from netns import CUBE, a_lan
from patience import within
from witness import Witness

SEED = 7
STORM_S, GAP_S = float(os.environ.get("GRID_STORM_S", "20")), 0.4  # a fault every so many seconds
GROWN_MB = 6.0  # what a process may have grown by: Python's arenas and Mosquitto's buffers, no table that fills up


@pytest.fixture
def lan(tmp_path):
    with a_lan(tmp_path) as lan:
        yield lan


class Storm:
    """Faults and when they end, by a seeded die."""

    def __init__(self, lan, seed):
        self.lan, self.dice = lan, random.Random(seed)
        self.count = 0
        self.ends = []  # (when, how)
        self.struck = set()

    def strike(self, now):
        """One fault of what is whole now; it ends after a while."""
        kind = self.dice.choice(("deaf", "deaf", "deaf", "cut", "broker", "agent"))
        pi = self.lan.pis[self.dice.choice("abcdefgh")]
        one, other = (self.lan.pis[id_] for id_ in self.dice.choice(CUBE))
        key = (kind, one.id + other.id if kind == "deaf" else pi.id)
        lasts_s = self.dice.uniform(0.2, 8.0)
        if key in self.struck:
            return
        self.struck.add(key)
        self.count += 1
        match kind:
            case "deaf":  # one way only: what a half-broken radio link does
                one.deaf_to(other)
                end = lambda: one.deaf_to(other, False)  # noqa: E731
            case "cut":
                pi.cut()
                end = pi.heal
            case "broker":
                pi.kill("broker")
                end = pi.start_broker
            case _:
                pi.kill("agent")
                end = pi.start_agent
        self.ends.append((now + lasts_s, key, end))

    def mend(self, now):
        for entry in [entry for entry in self.ends if entry[0] <= now]:
            self.ends.remove(entry)
            self.struck.remove(entry[1])
            entry[2]()

    def run(self, seconds):
        began_s = time.monotonic()
        while time.monotonic() - began_s < seconds:
            self.strike(time.monotonic())
            time.sleep(GAP_S)
            self.mend(time.monotonic())
        self.mend(float("inf"))


def sizes(pis):
    return {(pi.id, name): rss_mb(pi.pid(name)) for pi in pis for name in ("agent", "broker")}


@pytest.mark.timeout(STORM_S + 120)
def test_storm_then_quiet(lan, survived):
    watts = {"a": -1000, "b": -3000, "c": 2000, "d": -500, "e": 5000, "f": -1500, "g": -300, "h": -200}
    pis = lan.network(CUBE, **watts)
    before = sizes(pis)
    for pi in pis:
        pi.start_meter(jitter_w=60)  # a new value ten times a second
    storm = Storm(lan, SEED)
    with Witness(lan, walking=True) as witness:
        storm.run(STORM_S)
        for number, pi in enumerate(pis):
            pi.start_meter(watts[pi.id] - number)  # still, and none as at the beginning
        agree_s = within(40, lambda: agreed(pis, sum(pi.net_w for pi in pis)), lambda: [pi.status() for pi in pis])
    after = sizes(pis)
    grown = {key: round(after[key] - before[key], 1) for key in after if after[key] - before[key] > GROWN_MB}
    assert not grown
    assert not any("Traceback" in pi.log() for pi in pis)
    assert len({summary["digest"] for seen in witness.seen.values() for summary in seen}) > STORM_S  # it did change all the while
    survived(Survived("storm of links, cables, brokers, agents", 8, storm.count, lan.lost(pis), len(witness.wrong), agree_s))
