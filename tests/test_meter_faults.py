"""Every fault that a meter, a line or a gateway can have, on a real pty and real TCP: no value may ever be a wrong one."""

import socket
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
from gateway import served

from drivers.catalog import find, models
from drivers.faults import SERIAL_ONLY, TCP_ONLY, Faulty
from drivers.mapfile import parse
from drivers.modbus import Bus, Line, Refusal
from drivers.reading import MeterError
from drivers.register_meter import Meter
from drivers.registers import plan
from drivers.simulated import Entry, Scene, SimulatedMeter

HEAD = '[meter]\nid = "t"\nvendor = ""\nmodels = []\nphases = 1\ntrust = "C"\nsources = []\n[read]\nfc = 4\n'
# three requests of one size, so that an answer taken for another's would fit
THREE = parse(
    HEAD + '[regs]\nw = { at = 100, type = "i32" }\nva = { at = 200, type = "i32" }\nvar = { at = 300, type = "i32" }\n', "t.toml"
)
BLOCKS = plan(THREE, "all")
TIMEOUT_S = 0.3  # of tests in which something does not come
PATIENCE_S = 2.0  # of tests in which everything comes: a busy machine must not fail them


def truth(unit, n, address, count=2):
    """The words that a scripted meter shows to its n-th request, n from 1: never 0, other ones at each request and place."""
    return [1 + (n * 257 + (address + i) * 7919 + unit * 31) % 65535 for i in range(count)]


class Scripted:
    """`held` of a Faulty whose registers change with every request."""

    def __init__(self, unit=1):
        self.unit, self.n = unit, 0

    def held(self, now):
        self.n += 1
        return {(4, a): truth(self.unit, self.n, a, 1)[0] for block in BLOCKS for a in (block.address, block.address + 1)}


@contextmanager
def asked(faults, transport, every=1, unit=1, timeout_s=TIMEOUT_S):
    """(script, bus) of a scripted meter with these faults."""
    script = Scripted(unit)
    meter = Faulty(THREE, unit, script.held, faults, every, seed=1)
    meter.late_s = timeout_s + 0.04  # just after the reader gave up
    with served(meter, transport) as line:
        bus = Bus(line, timeout_s)
        Meter(bus, THREE, unit)
        bus.timeout_s = timeout_s
        bus.open()
        try:
            yield script, bus
        finally:
            bus.close()


RECOVERS = {("noise", "pty"), ("echo", "pty")}
LINE_FAULTS = ("late", "short", "wrong-unit", "wrong-function", "noise", "echo", "crc", "absent", "hangup", "busy")
NEVER = {"pty": TCP_ONLY, "tcp": SERIAL_ONLY}


MET = {transport: [fault for fault in LINE_FAULTS if fault not in never] for transport, never in NEVER.items()}


@pytest.mark.parametrize(("transport", "fault"), [(transport, fault) for transport, faults in MET.items() for fault in faults])
def test_a_fault_of_the_line_gives_an_error_or_the_right_value(fault, transport):
    recovers = (fault, transport) in RECOVERS
    told = []
    with asked([fault], transport, every=2, timeout_s=PATIENCE_S if recovers else TIMEOUT_S) as (script, bus):
        for i in range(7):
            block = BLOCKS[i % 3]
            try:
                words = bus.read_block(1, block, 100.0 * i)
            except MeterError:
                told.append(None)
            else:
                assert list(words) == truth(1, script.n, block.address)
                told.append(script.n)
        assert script.n >= 7 - (fault in ("late", "hangup"))
    good = [n for n in told if n is not None]
    assert len(good) >= 3
    assert all(a < b for a, b in pairwise(good)), "an answer was taken twice"
    assert recovers or any(n is None for n in told), "the fault was not met"
    if recovers:
        assert len(good) == 7


@pytest.mark.parametrize("transport", ["pty", "tcp"])
def test_every_exception_is_told_by_its_number_and_the_next_read_is_right(transport):
    codes = range(1, 12)
    with asked([f"exception-{code}" for code in codes], transport, every=2, timeout_s=PATIENCE_S) as (script, bus):
        for code in codes:
            block = BLOCKS[code % 3]
            assert list(bus.read_block(1, block, 0.0)) == truth(1, script.n, block.address)
            with pytest.raises(Refusal, match=rf"\(exception {code}\)") as refused:
                bus.read_block(1, block, 0.0)
            assert refused.value.code == code


@pytest.mark.parametrize("transport", ["pty", "tcp"])
def test_all_faults_of_a_transport_in_turn(transport):
    """One after the other without a pause for the clock: what is left of one must not meet the next."""
    faults = MET[transport]
    good = 0
    with asked([*faults, "exception-4"], transport, every=2) as (script, bus):
        for i in range(2 * len(faults) + 2):
            block = BLOCKS[i % 3]
            try:
                assert list(bus.read_block(1, block, 100.0 * i)) == truth(1, script.n, block.address)
                good += 1
            except MeterError:
                pass
    assert good >= len(faults) // 2


@pytest.mark.parametrize("transport", ["pty", "tcp"])
def test_another_unit_is_absent_and_the_present_one_goes_on(transport):
    with asked([], transport) as (script, bus):
        for i in range(3):
            with pytest.raises(MeterError, match="no answer within" if transport == "pty" else "the gateway got no answer"):
                bus.read_block(2, BLOCKS[0], 100.0 * i)
            assert list(bus.read_block(1, BLOCKS[1], 100.0 * i)) == truth(1, script.n, 200)


def read_twice(faults, map_, transport="tcp", every=1, **fixed):
    """The raw words and the readings of two looks at a simulated meter."""
    simulated = SimulatedMeter(Entry("", 0, map_.unit, map_.id, fixed=fixed, period_s=1.0), Scene(()), time.time())
    step = [time.time()]

    def held(now):
        step[0] += 1.0
        return simulated.held(step[0])

    with served(Faulty(map_, map_.unit, held, faults, every, seed=1), transport, map_.baud) as line:
        bus = Bus(line, PATIENCE_S)
        meter = Meter(bus, map_, map_.unit)
        bus.open()
        try:
            return [(meter.raw(0.0), meter.read_all(0.0)) for _ in range(2)]
        finally:
            bus.close()


MODBUS = [name for name, map_ in models().items() if map_.regs]


@pytest.mark.parametrize("name", MODBUS)
def test_what_a_meter_calls_not_available_is_missing_and_never_a_number(name):
    """Where a register has a pattern of its own or is a float; an integer without one has no way to say it."""
    map_ = find(name)
    can = {reg.name for reg in map_.regs.values() if reg.missing or reg.kind[0] == "f"}
    lost = can | {name for name, terms in map_.derived.items() if any(part in can for _, part in terms)}
    sane = read_twice([], map_, w=1234)[0][1]
    assert "w" in sane.values
    (_, reading), _ = read_twice(["nan"], map_, w=1234)
    assert set(reading.values) == set(sane.values) - lost


@pytest.mark.parametrize("pattern", [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001])
def test_infinities_and_every_nan_are_missing(pattern):
    with served(Faulty(find("eastron-sdm120"), 1, lambda now: all_words(pattern), [], 1, 1), "tcp") as line:
        bus = Bus(line, PATIENCE_S)
        meter = Meter(bus, find("eastron-sdm120"), 1)
        bus.open()
        assert meter.read_all(0.0).values == {}
        bus.close()


def all_words(pattern):
    return {(4, address): pattern >> 16 * (1 - address % 2) & 0xFFFF for address in range(0x4C)}


def test_swapped_words_are_never_good():
    for _, reading in read_twice(["swapped"], find("eastron-sdm120"), "pty"):
        assert reading.quality == "suspect"
        assert 'try word_order = "little"' in reading.why


@pytest.mark.parametrize(("w", "wrapped"), [(40_000, -25_536), (-40_000, 25_536), (32_767, 32_767), (-32_768, -32_768), (-5, -5)])
def test_watts_that_wrapped_in_the_meter_are_passed_as_sent(w, wrapped):
    """The meter lies: the driver adds nothing to it. Its own counters show the lie elsewhere."""
    for raw, reading in read_twice(["wrap"], find("eastron-sdm630"), w=w):
        assert reading.values["w"] == wrapped
        assert len(raw["w"]) == 2


def test_a_counter_that_falls_to_zero_is_passed_as_sent():
    for raw, reading in read_twice(["zero"], find("eastron-sdm120"), import_wh=5_000_000):
        assert (reading.values["import_wh"], list(raw["import_wh"])) == (0, [0, 0])
        assert reading.values["v_l1"] > 200


@pytest.mark.parametrize("transport", ["pty", "tcp"])
@pytest.mark.parametrize("fault", ["frozen", "repeat"])
def test_registers_that_stand_still_are_asked_for_anew_each_time(fault, transport):
    """The meter answers well with what it showed first. That nothing moves is for the one who judges the readings."""
    with asked([fault], transport, timeout_s=PATIENCE_S) as (script, bus):
        for i in range(3):
            for place, block in enumerate(BLOCKS):
                first = place + 1 if fault == "repeat" else 1
                assert list(bus.read_block(1, block, float(i))) == truth(1, first, block.address)
        assert script.n == 9


def test_an_adapter_that_comes_back_under_another_name(tmp_path):
    """The configuration names it by its id, which the system points to wherever the adapter is now."""
    link = tmp_path / "usb-FTDI_FT232R-if00-port0"
    first, second = Scripted(1), Scripted(1)
    second.n = 1000
    bus = Bus(Line(None, None, str(link), 9600, "8N1"), TIMEOUT_S)
    bus.open()
    try:
        with served(Faulty(THREE, 1, first.held, [], 1, 1), "pty") as line:
            link.symlink_to(line.port)
            assert list(bus.read_block(1, BLOCKS[0], 0.0)) == truth(1, 1, 100)
        link.unlink()
        for at in (1.0, 100.0):
            with pytest.raises(MeterError, match=r"connection broke|no connection|no answer"):
                bus.read_block(1, BLOCKS[0], at)
        with served(Faulty(THREE, 1, second.held, [], 1, 1), "pty") as line:
            link.symlink_to(line.port)
            assert list(bus.read_block(1, BLOCKS[0], 200.0)) == truth(1, 1001, 100)
            assert list(bus.read_block(1, BLOCKS[1], 200.0)) == truth(1, 1002, 200)
    finally:
        bus.close()


def test_a_gateway_that_goes_and_comes_back():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first, second = Scripted(), Scripted()
    second.n = 500
    bus = Bus(Line("127.0.0.1", port, None), TIMEOUT_S)
    bus.open()
    try:
        with served(Faulty(THREE, 1, first.held, [], 1, 1), "tcp", port=port):
            assert list(bus.read_block(1, BLOCKS[0], 0.0)) == truth(1, 1, 100)
        for at in (100.0, 200.0):
            with pytest.raises(MeterError):
                bus.read_block(1, BLOCKS[0], at)
        with served(Faulty(THREE, 1, second.held, [], 1, 1), "tcp", port=port):
            assert list(bus.read_block(1, BLOCKS[2], 300.0)) == truth(1, 501, 300)
    finally:
        bus.close()


def test_a_meter_at_another_baud_rate_is_silent():
    with served(Faulty(THREE, 1, Scripted().held, [], 1, 1), "pty", 2400) as line:
        bus = Bus(Line(None, None, line.port, 9600, "8N1"), TIMEOUT_S)
        bus.open()
        with pytest.raises(MeterError, match="check power, wiring, unit number and baud rate"):
            bus.read_block(1, BLOCKS[0], 0.0)
        bus.close()
