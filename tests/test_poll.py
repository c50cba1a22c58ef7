"""Meter faults on a real simulator: never a zero, never an old value as new, and back without a hand."""

import json
import os
import pty
import socket
import threading
import time
import tty
from contextlib import suppress

import pytest
from live import RATED_W, SETTLE_S, Grid
from patience import spend, wait_until
from ports import free_ports
from telegrams import NETHERLANDS_5

from agent import poll
from agent.config import load, parse
from agent.events import Metered, Pulsed
from agent.metering import build
from drivers.reading import QUANTITIES

DSMR5, DSMR5_W = NETHERLANDS_5, -2317
FAST = 'every_s = 0.1\nmodel = "eastron-sdm120"\nrole = "grid"\nhost = "127.0.0.1"\n'


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    with Grid(tmp_path_factory.mktemp("poll")) as grid:
        yield grid


def meter_config(**keys):
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    (config,) = parse(f'[node]\nid = "x"\nrated_w = 1000\n[[meter]]\nname = "street"\nrole = "grid"\n{lines}', "grid.toml").meters
    return config


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
        started[-1].open({})
        return events

    start.started, start.path = started, tmp_path / "grid.toml"
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
        spend(1.5)
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


# those that talk


class Talker:
    """A pty on which somebody talks."""

    def __init__(self):
        self.ours, self.theirs = pty.openpty()
        tty.setraw(self.ours)
        self.port = os.ttyname(self.theirs)

    def say(self, data: bytes):
        os.write(self.ours, data)

    def close(self):
        for end in (self.ours, self.theirs):
            with suppress(OSError):
                os.close(end)


@pytest.fixture
def talker():
    talker = Talker()
    yield talker
    talker.close()


def of(events, name="street"):
    return [event.reading for event in events if event.name == name]


def test_telegrams_come_as_they_are_told(talker, polled):
    events = polled(f'[[meter]]\nname = "street"\nmodel = "p1"\nrole = "grid"\nport = "{talker.port}"\n')
    time.sleep(0.1)
    talker.say(DSMR5[100:])  # plugged in in the middle of one
    for _ in range(2):
        talker.say(DSMR5)
    wait_until(lambda: len(of(events)) == 2, 5, events)
    assert {(reading.quality, reading.values["w"]) for reading in of(events)} == {("good", DSMR5_W)}
    assert of(events)[-1].values["import_wh"] == 4_711_815 + 3_920_402
    os.close(talker.ours)  # unplugged
    os.close(talker.theirs)
    wait_until(lambda: of(events)[-1].quality == "absent", 5, events)
    assert "is the adapter plugged in" in of(events)[-1].why


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "nothing comes; is the reading head"),
        (b"/XYZ5\r\n\r\nhalf", "bytes come but no telegram"),
        (DSMR5.replace(b"02.317", b"02.318"), "1 telegrams came damaged"),
    ],
)
def test_a_talker_that_makes_no_sense_is_absent_with_the_reason(said, why):
    (told,) = build([meter_config(model="p1", port="/dev/ttyUSB1")]).told
    ear = poll.Ear(told)
    assert ear.take(b"", 0.0) == []
    assert ear.take(said, 1.0) == []
    assert ear.take(b"", poll.SILENT_S - 0.1) == []
    (reading,) = ear.take(b"", poll.SILENT_S)
    assert reading.quality == "absent"
    assert why in reading.why
    assert ear.take(b"", poll.SILENT_S + 1) == []
    (reading,) = ear.take(b"", 2 * poll.SILENT_S)
    assert "nothing comes" in reading.why  # since then
    assert [one.quality for one in ear.take(DSMR5, 40.0)] == ["good"]
    assert ear.take(b"", 40.0 + poll.SILENT_S - 0.1) == []


def test_a_look_waits_for_a_telegram(talker):
    config = meter_config(model="p1", port=talker.port)
    said = threading.Timer(0.3, lambda: talker.say(DSMR5))
    said.start()
    assert [(name, reading.quality, reading.values["w"]) for name, reading in poll.look([config])] == [("street", "good", DSMR5_W)]
    said.join()
    ((_, reading),) = poll.look([meter_config(model="p1", port="/dev/ttyNONE")])
    assert (reading.quality, "No such file" in reading.why) == ("absent", True)


# those that pulse


def test_pulses_are_counted_and_kept(polled, monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    monkeypatch.setattr(poll, "KEEP_S", 0.2)
    import gpiozero

    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    table = '[[meter]]\nname = "street"\nmodel = "s0"\nrole = "load"\npin = 17\nimp_per_kwh = 1000\nevery_s = 0.05\n'
    events = polled(table)
    wait_until(lambda: gpiozero.Device.pin_factory is not None and gpiozero.Device.pin_factory.pins, 5)
    contact = gpiozero.Device.pin_factory.pin(17)
    wait_until(lambda: of(events), 5)
    for _ in range(4):
        contact.drive_low()
        time.sleep(0.06)
        contact.drive_high()
        time.sleep(0.06)
    wait_until(lambda: any(isinstance(event, Pulsed) and event.count == 4 for event in events), 5, events)
    readings = [event.reading for event in events if isinstance(event, Metered)]
    assert readings[0].why.startswith("no pulse yet: at 100 W and 1000 imp/kWh one comes in 36 s")
    assert readings[-1].values["import_wh"] == 4
    assert polled.started[-1].pulses == {"street": 4}
    gpiozero.Device.pin_factory.reset()


def test_a_machine_without_pins_says_so_and_runs(polled, monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nonsense")
    import gpiozero

    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    events = polled('[[meter]]\nname = "street"\nmodel = "s0"\nrole = "load"\npin = 17\nimp_per_kwh = 1000\nevery_s = 0.05\n')
    wait_until(lambda: len(of(events)) > 2, 5)
    assert {reading.quality for reading in of(events)} == {"absent"}
    assert "GPIO17" in of(events)[0].why
    ((_, reading),) = poll.look(load(polled.path).meters)
    assert "counted by the running agent" in reading.why
