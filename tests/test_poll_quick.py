"""Between two readings: the frequency by itself and a battery's set-points, on real lines that are as slow as real ones."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from live import ROOT
from patience import spend, wait_until

from agent import poll
from agent.config import BatteryConfig, parse
from agent.events import Hertz, Metered, PointSet, SetPoint
from agent.metering import build
from drivers import battery as driver
from drivers.catalog import find
from drivers.faults import Faulty, Send, Several
from drivers.registers import MapError
from drivers.served import Served
from drivers.simulated import Entry, Scene, SimulatedMeter
from drivers.simulated_battery import PretendBattery

NODE = '[node]\nid = "x"\nrated_w = 1000\n'
SDM630 = find("eastron-sdm630")


class Paced:
    """A unit at the end of a wire of so many bits a second, that thinks for a while."""

    def __init__(self, inner, baud=9600, think_s=0.02):
        self.inner, self.baud, self.think_s = inner, baud, think_s

    def answer(self, request, now):
        bytes_ = len(request.pdu) + 3
        sends = self.inner.answer(request, now)
        return [Send(one.after_s + self.think_s + (bytes_ + len(one.data)) * 10 / self.baud, one.data) for one in sends]


def meter(unit, w=1000, **fixed):
    shown = SimulatedMeter(Entry("", 0, unit, SDM630.id, fixed={"w": w, "hz": 49.87, **fixed}), Scene(()), time.time())
    return Faulty(SDM630, unit, shown.held, (), 1, 1)


@contextmanager
def served(units):
    """The server of these units; its thread ends with us."""
    server = Served(units)
    thread = threading.Thread(target=server.run, daemon=True)
    try:
        yield server, thread
    finally:
        server.stop()
        thread.join()


@contextmanager
def polling(tables, battery=None, hertz_meter=None):
    """(poll, its events with the time of each)."""
    events = []
    one = poll.Poll(
        parse(NODE + tables, "grid.toml").meters, lambda event: events.append((time.monotonic(), event)), battery, hertz_meter
    )
    one.open({})
    try:
        yield one, events
    finally:
        one.close()
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("line ")]


def table(name, model, role, where, unit, every_s=1.0):
    return f'[[meter]]\nname = "{name}"\nmodel = "{model}"\nrole = "{role}"\n{where}\nunit = {unit}\nevery_s = {every_s}\n'


def serial(port):
    return f'port = "{port}"\nbaud = 9600\nframing = "8N1"'


def tcp(port):
    return f'host = "127.0.0.1"\ntcp_port = {port}'


def settings(control="sunspec-124", power_w=3000):
    return BatteryConfig("cells", power_w, 10_000, control, True, 50, 60)


def kind(events, what):
    return [(at, event) for at, event in list(events) if isinstance(event, what)]


def points(events):
    return [event for _, event in kind(events, PointSet)]


def test_the_frequency_is_read_five_times_a_second_beside_three_meters_on_a_9600_baud_line():
    with served(Paced(Several({unit: meter(unit, 100 * unit) for unit in (1, 2, 3)}))) as (server, thread):
        port = server.on_pty(9600)
        thread.start()
        tables = "".join(table(f"m{unit}", SDM630.id, "load", serial(port), unit) for unit in (1, 2, 3))
        with polling(tables, hertz_meter="m2") as (_, events):
            wait_until(lambda: len(kind(events, Metered)) >= 3, 10)
            began = len(events)
            spend(4.0)
            window = events[began:]
    hertz, readings = kind(window, Hertz), kind(window, Metered)
    assert {event.hz for _, event in hertz} == {49.87}
    assert len(hertz) >= 16  # of about 24: a busy machine
    assert {(event.name, event.reading.quality, event.reading.values["w"]) for _, event in readings} == {
        (f"m{unit}", "good", 100 * unit) for unit in (1, 2, 3)
    }
    assert len(readings) >= 9  # of 12


def test_a_frequency_that_cannot_be_read_is_none_and_comes_back():
    unit = meter(1)
    with served(unit) as (server, thread):
        where = tcp(server.on_tcp("127.0.0.1", 0))
        thread.start()
        with polling(table("m1", SDM630.id, "load", where, 1), hertz_meter="m1") as (_, events):
            wait_until(lambda: len(kind(events, Hertz)) > 2, 10)
            unit._faults = ("hangup",)
            wait_until(lambda: Hertz(None) in [event for _, event in events], 10)
            unit._faults = ()
            count = len(events)
            wait_until(lambda: Hertz(49.87) in [event for _, event in events[count:]], 10)


@pytest.mark.parametrize("hz", [0.0, 12.5, 99.0])
def test_a_frequency_that_no_grid_has_is_none(hz):
    with served(meter(1, hz=hz)) as (server, thread):
        where = tcp(server.on_tcp("127.0.0.1", 0))
        thread.start()
        with polling(table("m1", SDM630.id, "load", where, 1), hertz_meter="m1") as (_, events):
            wait_until(lambda: kind(events, Hertz), 10)
    assert {event.hz for _, event in kind(events, Hertz)} == {None}


@pytest.mark.parametrize("control", ["sunspec-124", "sunspec-704"])
def test_a_sunspec_device_tells_its_frequency_and_takes_set_points(control):
    hz = [50.12]
    pretend = PretendBattery(control, unit=4, hz=lambda now: hz[0])
    with served(pretend) as (server, thread):
        where = tcp(server.on_tcp("127.0.0.1", 0))
        thread.start()
        tables = table("cells", "sunspec", "battery", where, 4, 0.2)
        with polling(tables, settings(control), "cells") as (one, events):
            wait_until(lambda: Hertz(50.12) in [event for _, event in events], 10)
            hz[0] = 49.5
            wait_until(lambda: Hertz(49.5) in [event for _, event in events], 10)
            assert one.set(SetPoint("cells", 1500, 60)) is None
            wait_until(lambda: points(events) == [PointSet("cells", 1500, "")], 10)
            assert pretend.watts(time.time()) == 1500
            w = wait_until(lambda: [e for _, e in kind(events, Metered) if e.reading.values.get("w") == -1500], 10)[0].reading
            assert (w.quality, 40 < w.values["soc_pct"] <= 50) == ("good", True)
        assert pretend.watts(time.time()) == 0  # it is let go of when the agent ends


def test_of_several_set_points_only_the_newest_is_written():
    pretend = PretendBattery(unit=4)
    with served(Paced(pretend)) as (server, thread):
        where = serial(server.on_pty(9600))
        thread.start()
        with polling(table("cells", "sunspec", "battery", where, 4), settings()) as (one, events):
            wait_until(lambda: kind(events, Metered), 10)
            writers = [threading.Thread(target=lambda: [one.set(SetPoint("cells", w, 60)) for w in range(100)]) for _ in range(4)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            one.set(SetPoint("cells", -777, 60))

            def written():
                if points(events) and points(events)[-1].trouble:  # the line was slow; the agent asks again, too
                    one.set(SetPoint("cells", -777, 60))
                return PointSet("cells", -777, "") in points(events)

            wait_until(written, 10, lambda: points(events)[-3:])
            assert len(points(events)) < 40
            assert points(events)[-1].watts == -777
            assert pretend.watts(time.time()) == -777


def test_what_goes_wrong_is_told_and_the_readings_go_on(monkeypatch):
    monkeypatch.setattr(driver, "SETTLE_S", 0.3)
    pretend = PretendBattery("sunspec-704", unit=4)
    with served(Several({4: pretend, 1: meter(1, 640)})) as (server, thread):
        where = tcp(server.on_tcp("127.0.0.1", 0))
        thread.start()
        tables = table("cells", "sunspec", "battery", where, 4, 0.2) + table("house", SDM630.id, "grid", where, 1, 0.2)
        with polling(tables, settings("sunspec-704"), "house") as (one, events):
            for fault, why in (("refuses", "exception 4"), ("ignores", "holds no set-point"), ("clips", "holds 500 W")):
                pretend.fault = fault
                one.set(SetPoint("cells", 1000, 60))
                wait_until(lambda why=why: points(events) and why in points(events)[-1].trouble, 10, lambda: points(events))
                assert points(events)[-1].watts == 0
            pretend.fault = ""
            one.set(SetPoint("cells", 950, 60))
            wait_until(lambda: points(events)[-1] == PointSet("cells", 950, ""), 10, lambda: points(events))
            assert {e.reading.values["w"] for _, e in kind(events, Metered) if e.name == "house"} == {640}
            assert {e.hz for _, e in kind(events, Hertz)} == {49.87}


def test_a_battery_that_is_slow_is_read_back_until_it_holds_what_it_was_told():
    pretend = PretendBattery(unit=4)
    pretend.fault = "delays"
    with served(pretend) as (server, thread):
        where = tcp(server.on_tcp("127.0.0.1", 0))
        thread.start()
        with polling(table("cells", "sunspec", "battery", where, 4), settings()) as (one, events):
            one.set(SetPoint("cells", 900, 60))
            wait_until(lambda: points(events), 10)
            assert points(events) == [PointSet("cells", 900, "")]


KILLED = """
import sys, time
from agent import poll
from agent.config import BatteryConfig, parse
from agent.events import PointSet, SetPoint
tables = open(sys.argv[1]).read()
said = []
one = poll.Poll(parse(tables, "x").meters, said.append, BatteryConfig("cells", 3000, 10000, "sunspec-704", True, 50, 2))
one.open({})
one.set(SetPoint("cells", 1800, 2))
while PointSet("cells", 1800, "") not in said:
    time.sleep(0.02)
print("set", flush=True)
time.sleep(60)
"""


def test_an_agent_that_is_killed_lets_go_within_the_timer(tmp_path):
    pretend = PretendBattery("sunspec-704", unit=4)
    with served(pretend) as (server, thread):
        path = tmp_path / "grid.toml"
        path.write_text(NODE + table("cells", "sunspec", "battery", tcp(server.on_tcp("127.0.0.1", 0)), 4))
        thread.start()
        with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "set\n"
            at = time.time()
            assert pretend.watts(at) == 1800
            process.kill()
        wait_until(lambda: pretend.watts(time.time()) == 0, 5)
        assert time.time() - at < 4


def test_without_control_nothing_is_written():
    with polling("", settings("none")) as (one, events):
        why = "nothing is ever written to this battery: its control in [battery] is none"
        assert one.set(SetPoint("cells", 5, 60)) == PointSet("cells", 0, why)
    assert events == []


# what the configuration asks for


def built(tables, battery=None, hertz_meter=None):
    return build(parse(NODE + tables, "grid.toml").meters, battery, hertz_meter)


def test_who_cannot_take_set_points_or_tell_a_frequency_is_refused_at_the_start():
    plain = table("cells", SDM630.id, "battery", tcp(502), 1)
    with pytest.raises(MapError, match="meter 'cells': a eastron-sdm630 takes no set-points: write control = \"none\""):
        built(plain, settings())
    assert built(plain, settings("none")).battery is None
    with pytest.raises(MapError, match="meter 'm': a p1 tells no frequency when it is asked"):
        built('[[meter]]\nname = "m"\nmodel = "p1"\nrole = "grid"\nport = "/dev/ttyUSB0"\n', None, "m")
    with pytest.raises(MapError, match="tells no frequency"):
        built(table("m", "eastron-sdm72dm", "grid", tcp(502), 1), None, "m")


def test_a_battery_is_alone_in_its_unit_unless_another_meter_reads_it():
    cells, roof = table("cells", "sunspec", "battery", tcp(502), 1), table("roof", "sunspec", "pv", tcp(502), 1)
    ((_, (alone,)),) = built(cells, settings()).lines.values()
    assert alone.meter.whole
    ((_, (first, second)),) = built(cells + roof, settings()).lines.values()
    assert (first.meter.whole, second.meter.whole) == (False, False)
