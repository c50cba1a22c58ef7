"""A battery on real Modbus TCP and on a pty: set-points, limits, every fault, the timer; and never a wrong reading for it."""

import re
import time
from contextlib import contextmanager

import pytest
from gateway import served
from patience import wait_until

from drivers import battery as driver
from drivers.battery import Battery
from drivers.catalog import find
from drivers.faults import Faulty, Several
from drivers.modbus import Bus, Refusal
from drivers.reading import MeterError
from drivers.register_meter import Meter
from drivers.setpoint import Told
from drivers.simulated import Entry, Scene, SimulatedMeter
from drivers.simulated_battery import FAULTS, PretendBattery
from drivers.sunspec_meter import SunSpecMeter

CONTROLS, DOORS = ("sunspec-124", "sunspec-704"), ("tcp", "pty")
SETTLE_S = 0.3  # of tests in which something does not come


@contextmanager
def steered(pretend, door="tcp", power_w=3000, others=()):
    """The driver of a pretend battery, with `others` beside it on its line."""
    units = Several({pretend.unit: pretend, **{one.unit: one for one in others}})
    with served(units, door) as line:
        bus = Bus(line)
        battery = Battery(bus, pretend.unit, pretend.control, power_w)
        bus.open()
        try:
            yield battery
        finally:
            bus.close()


def gives(pretend):
    return round(pretend.watts(time.time()))


def told(battery, watts, revert_s=60):
    """What the driver says of a set-point in the end, and how often it had to be asked."""
    said, asked = battery.set(watts, revert_s, time.monotonic()), 1
    while said is None:
        time.sleep(0.05)
        said, asked = battery.check(time.monotonic()), asked + 1
    return said, asked


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("control", CONTROLS)
def test_a_battery_does_what_it_is_told_and_is_let_go_of(control, door):
    pretend = PretendBattery(control, unit=7)
    with steered(pretend, door) as battery:
        for watts in (1234, -2000, 0, 3000, -3000):
            assert told(battery, watts) == ("", 1)
            assert (battery.watts, gives(pretend)) == (watts, watts)
            meter = SunSpecMeter(battery.bus, 7, which="storage")
            meter.whole = True
            values = meter.read(time.monotonic()).values
            assert (values["w"], values["soc_pct"]) == (-watts, pytest.approx(50, abs=0.1))  # of a meter + is what charges
            assert meter.hertz(time.monotonic()) == 50.0
        battery.close(time.monotonic())
        assert gives(pretend) == 0
        battery.close(time.monotonic())
        assert gives(pretend) == 0
        own = {"sunspec-124": {5, 12, 15}, "sunspec-704": {22, 23, 30}}[control]
        assert {at for at, _ in pretend.writes} == own
        timer = 15 if control == "sunspec-124" else 30
        assert pretend.writes[0][0] == timer  # before anything else, and again with each
        assert len([at for at, _ in pretend.writes if at == timer]) == 5


@pytest.mark.parametrize("control", CONTROLS)
def test_a_battery_that_was_never_told_anything_is_not_written_to(control):
    pretend = PretendBattery(control)
    with steered(pretend) as battery:
        battery.close(time.monotonic())
        assert battery.check(time.monotonic()) == ""
    assert pretend.writes == []


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(("rated_w", "power_w", "held_w"), [(5000, 3000, 3000), (2500, 3000, 2500)])
def test_the_smaller_of_both_limits_holds(control, rated_w, power_w, held_w):
    pretend = PretendBattery(control, power_w=rated_w)
    with steered(pretend, power_w=power_w) as battery:
        for watts, held in ((9000, held_w), (-9000, -held_w), (100, 100)):
            assert told(battery, watts) == ("", 1)
            assert (battery.watts, gives(pretend)) == (held, held)


# what is said of 2000 W and what the battery gives afterwards
WRONG = {
    "refuses": ("it reports a failure of its own .exception 4.; it was let go of|could not be let go of", 0),
    "ignores": ("2000 W were written, and the device holds no set-point; it was let go of", 0),
    "clips": ("2000 W were written, and the device holds 1000 W; it was let go of", 0),
    "lies": ("2000 W were written, and the device holds -2000 W; it was let go of", 0),
    "no-timer": ("a reversion timer of 60 s was written, and the device holds 0 s; it was let go of", 0),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("fault", WRONG)
def test_what_a_battery_does_wrong_is_said_and_it_is_let_go_of(fault, control, door, monkeypatch):
    monkeypatch.setattr(driver, "SETTLE_S", SETTLE_S)
    pretend = PretendBattery(control)
    with steered(pretend, door) as battery:
        pretend.fault = fault
        said, _ = told(battery, 2000)
        why, left_w = WRONG[fault]
        assert re.search(why, said), said
        assert said.startswith("unit 1 on ")
        assert (battery.watts, gives(pretend)) == (0, left_w)
        pretend.fault = ""
        assert told(battery, 1500) == ("", 1)  # and it is believed again when it does what it is told
        assert gives(pretend) == 1500


@pytest.mark.parametrize("control", CONTROLS)
def test_a_battery_that_is_slow_to_hold_what_it_was_told_is_waited_for(control):
    pretend = PretendBattery(control)
    with steered(pretend) as battery:
        assert told(battery, 700) == ("", 1)
        pretend.fault = "delays"
        assert battery.set(-900, 60, time.monotonic()) is None
        assert battery.waits
        said, asked = told(battery, -800)  # the newest counts
        assert (said, battery.watts, gives(pretend)) == ("", -800, -800)
        assert asked > 2
        assert not battery.waits


@pytest.mark.parametrize("door", DOORS)
def test_a_write_without_an_answer_is_judged_by_what_is_held(door):
    """Only the first of its three writes reaches it: what it holds is not what was asked, so that it is let go of."""
    pretend = PretendBattery("sunspec-124")
    with steered(pretend, door) as battery:
        assert told(battery, 700) == ("", 1)
        pretend.fault = "mute"
        said, asked = told(battery, 900)
        assert asked > 1
        assert "no answer within 1 s" in said or "belongs to another" in said
        pretend.fault = ""
        wait_until(lambda: told(battery, 900)[0] == "", 10)
        assert gives(pretend) == 900


@pytest.mark.parametrize("control", CONTROLS)
def test_a_dead_line_is_said_and_the_timer_ends_what_is_in_force(control):
    pretend = PretendBattery(control)
    with steered(pretend) as battery:
        assert told(battery, 1800, revert_s=2) == ("", 1)
        pretend.fault = "dead"
        assert gives(pretend) == 1800
        said, _ = told(battery, 900, revert_s=2)
        assert "no answer within" in said
        assert said.endswith("its own timer ends what is in force")
        assert battery.watts == 0
        wait_until(lambda: gives(pretend) == 0, 5)


@pytest.mark.parametrize("control", CONTROLS)
def test_when_the_writes_stop_the_power_does(control):
    """The agent is killed: nothing is written any more, nothing is closed."""
    pretend = PretendBattery(control)
    began = time.monotonic()
    with steered(pretend) as battery:
        while time.monotonic() - began < 2.0:  # renewed in time, it never lapses
            assert told(battery, 1111, revert_s=1) == ("", 1)
            assert gives(pretend) == 1111
            time.sleep(0.2)
        last = time.time()
    wait_until(lambda: gives(pretend) == 0, 3)
    assert time.time() - last < 2
    assert pretend.watts(last + 0.5) in (0.0, 1111.0)


def test_a_device_that_is_replaced_by_another_is_looked_for_again():
    pretend = PretendBattery("sunspec-124")
    with steered(pretend) as battery:
        assert told(battery, 100) == ("", 1)
        other = PretendBattery("sunspec-704")
        pretend._image = other._image
        battery._held_s = float("-inf")
        assert "model 124 of length 24 is not at" in told(battery, 200)[0]
        assert "it has no SunSpec model 124" in told(battery, 200)[0]


class Terse:
    """A bus that answers what the test says, for what no pretend battery does."""

    line = "here"

    def __init__(self, error):
        self.error, self.wrote = error, []

    def expect(self, unit, count, timeout_s):
        """Of a line without timing."""

    def settle(self, unit, block, probes, now):
        raise self.error

    def write(self, unit, write, now):
        self.wrote.append(write)


def test_a_busy_device_keeps_its_place_and_a_refused_release_is_left_to_the_timer():
    battery = Battery(Terse(Refusal("busy", 6)), 1, "sunspec-124", 3000)
    assert battery.set(100, 60, 0.0) == "busy"
    battery._engaged = True
    battery.close(0.0)
    assert battery.bus.wrote == []
    battery._asked, battery._until_s = Told(True, 100, 60), 1.0
    assert battery.check(0.5) is None
    assert battery.check(1.0) == "busy; its own timer ends what is in force"


# beside a meter on one line


@pytest.mark.parametrize("door", DOORS)
def test_no_fault_of_a_write_spoils_a_reading_of_the_same_line(door, monkeypatch):
    monkeypatch.setattr(driver, "SETTLE_S", SETTLE_S)
    map_ = find("eastron-sdm120")
    shown = SimulatedMeter(Entry("", 0, 3, map_.id, fixed={"w": 4321, "hz": 49.87, "v_l1": 231.0}), Scene(()), time.time())
    pretend = PretendBattery("sunspec-704", unit=9)
    wrong, right = [], 0
    with steered(pretend, door, others=[Faulty(map_, 3, shown.held, (), 1, 1)]) as battery:
        meter = Meter(battery.bus, map_, 3)
        for round_, fault in enumerate([*FAULTS, ""]):
            pretend.fault = fault
            battery.set(500 + round_, 60, time.monotonic())
            for _ in range(3):
                try:
                    values = meter.read(time.monotonic()).values
                    hz = meter.hertz(time.monotonic())
                except MeterError:
                    continue
                right += 1
                if (values["w"], hz) != (4321, 49.87):
                    wrong.append((fault, values, hz))
                battery.check(time.monotonic())
    assert wrong == []
    assert right > 15
