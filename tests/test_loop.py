"""The loop: one thread, one queue, a bounded flood, and last words at the end."""

import json
import subprocess
import sys
import threading
import time

import pytest
from patience import wait_until
from ports import free_ports

from agent import loop
from agent.events import Asked, Connected, Heard, Metered, Publish, Save, Started, Status, Tick, Warned
from agent.loop import Bell, End, Inbox
from agent.node import Node
from agent.own import MeterSlot, Settings
from agent.wire import Tariff
from drivers.reading import Reading

TARIFF = Tariff(version=0, import_u=300_000, export_u=80_000, floor_u=80_000, cap_u=300_000, currency="EUR", slot_s=900, rule="mmr")
SETTINGS = Settings(
    id="x", zone="main", rated_w=5000, deadband_w=10, tariff=TARIFF, meters=(MeterSlot("house", "grid", 1.0),), agent="test"
)


class Desk:
    """A node in a loop on a thread of its own; everything it wants done is written down."""

    def __init__(self, outcome=None):
        self.done, self.inbox, self.bell, self.outcome, self.end = [], Inbox(maxsize=loop.ROOM), Bell(), outcome, None
        self.node = Node(SETTINGS, "i1")
        loop.step(self.node, Started({}, time.time()), time.monotonic(), self.perform)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        self.end = loop.run(self.node, self.inbox, self.bell, self.perform)

    def perform(self, effect):
        self.done.append(effect)
        return self.outcome(effect) if self.outcome else None

    def said(self, topic):
        return [effect.payload for effect in list(self.done) if isinstance(effect, Publish) and effect.topic == topic]

    def close(self, end=End.STOP):
        self.bell.end = end
        self.thread.join(5)
        assert not self.thread.is_alive()
        return self.end


@pytest.fixture
def desk():
    one = Desk()
    yield one
    if one.thread.is_alive():
        one.close()


def test_events_become_effects_at_once(desk):
    desk.inbox.put(Connected())
    began_s = time.monotonic()
    desk.inbox.put(Metered("house", Reading("good", "", {"w": 700})))
    wait_until(lambda: desk.said("grid/net")[-1:] == [b"-700"], 2, desk.done)
    assert time.monotonic() - began_s < 1
    assert json.loads(desk.said("grid/node/x/state")[-1])["net_w"] == -700
    # a record goes out before the summary that counts it
    order = [effect.topic for effect in desk.done if isinstance(effect, Publish)]
    last = len(order) - 1 - order[::-1].index("grid/node/x/state")
    assert "grid/summary" in order[last:]


def test_time_passes_by_itself(desk):
    desk.inbox.put(Connected())
    wait_until(lambda: len(desk.said("grid/node/x/state")) >= 3, 5, desk.done)  # births, 0.7 s apart, from ticks alone


@pytest.mark.parametrize("end", list(End))
def test_the_end_says_last_words_and_saves(desk, end):
    desk.inbox.put(Connected())
    desk.inbox.put(Metered("house", Reading("good", "", {"w": 700})))
    wait_until(lambda: desk.said("grid/net")[-1:] == [b"-700"], 2)
    assert desk.close(end) is end
    assert json.loads(desk.said("grid/node/x/state")[-1])["quality"] == "absent"
    assert desk.said("grid/agent/status")[-1] == b"offline"
    assert [effect.name for effect in desk.done if isinstance(effect, Save)][-1] == "records"


def test_a_flood_starves_neither_time_nor_commands(desk):
    desk.inbox.put(Connected())
    stop = threading.Event()

    def flood():
        number = 0
        while not stop.is_set():
            number += 1
            desk.inbox.put(Heard(f"$grid/in/y/ghost-{number % 5000}/state", b"rubbish"))  # waits when the queue is full

    source = threading.Thread(target=flood)
    source.start()
    try:
        wait_until(lambda: desk.node.show.refusals.total > 20_000, 30)
        beats = len(desk.said("grid/node/x/state"))
        asked_s = time.monotonic()
        desk.inbox.put(Asked(1, Status()))
        wait_until(lambda: [e for e in list(desk.done) if type(e).__name__ == "Answer"], 10)
        assert time.monotonic() - asked_s < 10  # it waits its turn behind what was there first
        wait_until(lambda: len(desk.said("grid/node/x/state")) > beats, 10, "heartbeats go on")
        assert desk.inbox.qsize() <= loop.ROOM
    finally:
        stop.set()
        wait_until(lambda: desk.inbox.qsize() < loop.ROOM, 10)
        source.join(5)


def test_an_outcome_is_heard_at_once():
    desk = Desk(lambda effect: Warned("disk", "full") if isinstance(effect, Save) else None)
    try:
        desk.inbox.put(Connected())
        wait_until(lambda: desk.said("grid/alert/disk"), 3)
        assert json.loads(desk.said("grid/alert/disk")[-1])["text"] == "full"
    finally:
        desk.close()


def test_the_end_comes_through_the_queue_too(desk):
    desk.inbox.put(End.RESTART)
    desk.thread.join(5)
    assert desk.end is End.RESTART


def test_drain_lets_go_a_source_that_waits_for_room():
    inbox = Inbox(maxsize=3)
    for _ in range(3):
        inbox.put_nowait(Tick(0.0))
    source = threading.Thread(target=inbox.put, args=(Tick(1.0),), daemon=True)
    source.start()
    loop.drain(inbox)
    source.join(5)
    assert not source.is_alive()


SIGNALLED = """
import signal, sys, threading
from agent import loop, root
from agent.config import load

class Inbox(loop.Inbox):
    def get(self, block=True, timeout=None):
        with self.mutex:  # as in the middle of any get
            signal.raise_signal(signal.SIGTERM)
        return super().get(block, timeout)

loop.Inbox = root.Inbox = Inbox
print(root.run(load(root.Path(sys.argv[1]))))
"""


def test_a_signal_in_the_middle_of_the_queue_is_no_deadlock(tmp_path):
    """Seen on a busy machine: SIGTERM came while `get` held the queue's lock, and the agent hung for ever."""
    (tmp_path / "grid.toml").write_text(f'[node]\nid = "x"\nrated_w = 1\n[mqtt]\nport = {free_ports(1)[0]}\n[state]\ndir = "."\n')
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path / "grid.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, "End.STOP\n"), done.stderr
