"""Meter faults on a real simulator: never a zero, never an old value as new, and back without a hand."""

import json
import socket
import threading
import time

import pytest
from live import RATED_W, SETTLE_S, Grid, free_ports, wait_until

from agent import poll
from agent.config import load
from agent.events import Metered
from drivers.reading import QUANTITIES

FAST = 'every_s = 0.1\nmodel = "eastron-sdm120"\nrole = "grid"\nhost = "127.0.0.1"\n'


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    with Grid(tmp_path_factory.mktemp("poll")) as grid:
        yield grid


def scalars(node):
    return {topic.rpartition("/")[2]: payload.decode() for topic, payload in node.held("grid/meter/house/#").items()}


def test_a_dead_meter_is_absent_with_null_watts_and_comes_back(grid):
    a, b = grid.network(a=-500, b=1200)
    wait_until(lambda: scalars(a).get("w") == "500", 5, lambda: scalars(a))
    with b.tap("grid/node/a/state", "grid/net") as tap:
        tap.retained()
        a.stop_meter()
        wait_until(lambda: (b.read("grid/net"), a.read("grid/net")) == (b"1200", b"1200"), 15, a.status)
        states = [json.loads(payload) for topic, payload, retained in tap.heard if topic.endswith("state") and not retained]
    nets = {(state["quality"], state["net_w"], state["produced_w"], state["consumed_w"]) for state in states}
    assert nets <= {("good", -500, 0, 500), ("absent", None, None, None)}  # nothing between: no zero, no half account
    assert states[-1]["quality"] == "absent"
    assert "meter 'house'" in states[-1]["why"]
    # they follow with the next tick; the others are cleared: an old value must not look alive
    wait_until(lambda: scalars(a) == {"quality": "absent"}, 5, lambda: scalars(a))
    for node in (a, b):
        summary = node.status()["summary"]
        assert (summary["heard"], summary["nodes"], summary["partial"]) == (1, 2, True)
        assert (summary["low_w"], summary["high_w"]) == (1200 - RATED_W, 1200 + RATED_W)
        assert node.status()["nodes"]["a"]["net_w"] is None
        assert node.status()["nodes"]["a"]["availability"] == "online"  # the node lives, its meter does not
    assert "a\t?\t?\t?\tabsent\tonline" in b.cli("status").stdout

    done = a.cli("meter", "read", "--json")
    assert done.returncode == 1
    row = json.loads(done.stdout)
    assert [row[quantity] for quantity in QUANTITIES] == [None] * len(QUANTITIES)
    assert (row["name"], row["quality"]) == ("house", "absent")
    assert row["why"]

    a.start_meter(-640)
    grid.agree([a, b], 560, 2)
    wait_until(lambda: scalars(a).get("w") == "640", 5, lambda: scalars(a))
    assert a.cli("meter", "read", "house").returncode == 0


def test_a_meter_that_is_not_there_at_the_start(grid):
    c = grid.node("c", -70, start=False)
    c.start(meter=False)
    wait_until(lambda: c.read("grid/summary"), 15, c.log)
    state = wait_until(lambda: c.read("grid/node/c/state"), 5)
    assert json.loads(state)["net_w"] is None
    assert c.read("grid/net") == b"0"
    summary = json.loads(c.read("grid/summary"))
    assert (summary["heard"], summary["nodes"], summary["low_w"], summary["high_w"]) == (0, 1, -RATED_W, RATED_W)
    c.start_meter()
    wait_until(lambda: c.read("grid/net") == b"-70", SETTLE_S, c.log)


def test_grid_meter_read_without_an_agent(grid):
    """Straight from the meter when no agent has the line."""
    d = grid.node("d", 321, start=False)
    d.start_meter()
    wait_until(lambda: d.cli("meter", "read").returncode == 0, 10, "the simulator serves")
    row = json.loads(d.cli("meter", "read", "--json").stdout)
    assert (row["quality"], row["w"], row["import_wh"], row["age_s"]) == ("good", -321, 1000, 0.0)
    d.stop_meter()
    done = d.cli("meter", "read")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("house: absent  ")
    assert d.cli("meter", "read", "roof").returncode == 2


# the threads by themselves


@pytest.fixture
def polled(tmp_path):
    """Starts the polling of these meters; gives the events."""
    started = []

    def start(tables):
        path = tmp_path / "grid.toml"
        path.write_text('[node]\nid = "x"\nrated_w = 1000\n[state]\ndir = "."\n' + tables)
        events = []
        started.append(poll.Poll(load(path).meters, events.append))
        started[-1].open()
        return events

    yield start
    for one in started:
        began_s = time.monotonic()
        one.close()
        assert time.monotonic() - began_s < 3
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("line ")]


def test_one_dead_line_does_not_hold_up_another(grid, polled):
    e = grid.node("e", -50, start=False)
    e.start_meter()
    with socket.socket() as mute:  # accepts and never says a word
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        dead = mute.getsockname()[1]
        events = polled(
            f'[[meter]]\nname = "live"\ntcp_port = {e.meter_port}\n{FAST}[[meter]]\nname = "dead"\ntcp_port = {dead}\n{FAST}'
        )
        wait_until(lambda: [x for x in events if x.name == "live" and x.reading.quality == "good"], 10, events)
        before = len(events)
        time.sleep(1.5)  # a window to count in
        window = events[before:]
    good = [event for event in window if event.name == "live"]
    assert len(good) >= 10  # of 15, on a busy machine
    assert {(type(event), event.reading.quality, event.reading.values["w"]) for event in good} == {(Metered, "good", 50)}
    dead = [event for event in events if event.name == "dead"]
    assert dead
    assert {(event.reading.quality, len(event.reading.values)) for event in dead} == {("absent", 0)}
    assert all(event.reading.why for event in dead)


def test_meters_that_share_a_line_are_read_by_one_thread_at_one_moment(grid, polled):
    port = free_ports(1)[0]
    events = polled("".join(f'[[meter]]\nname = "m{i}"\ntcp_port = {port}\nunit = {i}\n{FAST}' for i in (1, 2, 3)))
    wait_until(lambda: {event.name for event in events} == {"m1", "m2", "m3"}, 10, events)
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("line ")]) == 1
    assert {event.reading.quality for event in events} == {"absent"}
