"""Every fault that a meter, a line or a gateway can have, on a real pty and real TCP: no value may ever be a wrong one."""

import socket
import time
from contextlib import contextmanager
from itertools import pairwise
from random import Random

import pytest
from gateway import served

from drivers.catalog import find, models
from drivers.faults import FAULTS, LATE_S, SERIAL_ONLY, TCP_ONLY, Faulty, Request, Send, SerialEar, TcpEar, crc, frame, spoiled
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


def test_unsigned_and_scaled_watts_wrap_too():
    """In 0.1 W as the register counts: 400000 is 0x61A80, of which 0x1A80 = 6784 remain."""
    map_ = parse(HEAD + '[regs]\nw = { at = 0, type = "u32", scale = 0.1 }\nimport_wh = { at = 2, type = "u32" }\n', "t.toml")
    held = {(4, 0): 6, (4, 1): 0x1A80, (4, 2): 5, (4, 3): 6}
    assert pdu_of(map_, held, "wrap") == bytes([4, 8, 0, 0, 0x1A, 0x80, 0, 5, 0, 6])
    assert pdu_of(map_, held, "zero") == bytes([4, 8, 0, 6, 0x1A, 0x80, 0, 0, 0, 0])
    assert pdu_of(map_, held, "nan") == pdu_of(map_, held, "")


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


# ---- the pretend meter itself, without a line


ASK = bytes([4, 0, 0, 0, 4])


def pdu_of(map_, held, fault, pdu=ASK):
    meter = Faulty(map_, 1, lambda now: held, [fault] if fault else [], 1, 1)
    (send,) = meter.answer(Request(1, pdu), 0.0)
    return send.data[1:-2]


def test_a_frame_by_hand():
    """The request in the Eastron manuals: unit 1, input registers from 0, two of them; its CRC is 71 CB."""
    assert frame(1, bytes.fromhex("0400000002")) == bytes.fromhex("01040000000271cb")
    assert crc(b"123456789") == bytes.fromhex("374b")  # CRC-16/MODBUS, check 0x4B37
    assert frame(1, bytes.fromhex("0400000002"), 0x1234) == bytes.fromhex("1234000000060104 00000002")


REFUSED = [
    (bytes([6, 0, 0, 0, 1]), bytes([0x86, 1])),  # it writes nothing
    (bytes([4, 0, 0]), bytes([0x84, 3])),
    (bytes([4, 0, 0, 0, 0]), bytes([0x84, 3])),
    (bytes([4, 0, 0, 0, 126]), bytes([0x84, 3])),
    (bytes([4, 0, 2, 0, 4]), bytes([0x84, 2])),  # its last two are not there
    (bytes([3, 0, 0, 0, 4]), bytes([0x83, 2])),
    (bytes([4, 0, 1, 0, 2]), bytes([0x84, 2])),  # odd, and align = 2
]


@pytest.mark.parametrize(("ask", "refusal"), REFUSED)
def test_it_refuses_what_its_model_refuses(ask, refusal):
    map_ = parse(HEAD + 'align = 2\n[regs]\nw = { at = 0, type = "f32" }\n', "t.toml")
    held = {(4, 0): 1, (4, 1): 2, (4, 2): 3, (4, 3): 4}
    assert pdu_of(map_, held, "", ask) == refusal
    assert pdu_of(map_, held, "") == bytes([4, 8, 0, 1, 0, 2, 0, 3, 0, 4])


def test_each_fault_in_bytes():
    held = {(4, 0): 0x1122, (4, 1): 0x3344}
    map_ = parse(HEAD + '[regs]\nw = { at = 0, type = "i32", missing = [0x7FFFFFFF, 0x80000000] }\n', "t.toml")
    ask = bytes([4, 0, 0, 0, 2])
    right = frame(1, bytes([4, 4, 0x11, 0x22, 0x33, 0x44]))

    def sent(fault, transaction=None):
        return Faulty(map_, 1, lambda now: held, [fault], 1, 7).answer(Request(1, ask, transaction), 0.0)

    assert sent("late") == [Send(LATE_S, right)]
    assert sent("short") == [Send(0.0, right[:4])]
    assert sent("wrong-unit") == [Send(0.0, frame(2, bytes([4, 4, 0x11, 0x22, 0x33, 0x44])))]
    assert sent("wrong-function") == [Send(0.0, frame(1, bytes([3, 4, 0x11, 0x22, 0x33, 0x44])))]
    (noise,) = sent("noise")
    assert noise.data.endswith(right)
    assert 1 <= len(noise.data) - len(right) <= 8
    assert sent("echo") == [Send(0.0, frame(1, ask) + right)]
    (flipped,) = sent("crc")
    assert (int.from_bytes(flipped.data, "big") ^ int.from_bytes(right, "big")).bit_count() == 1
    assert sent("absent") == []
    assert sent("hangup") == [Send(0.0, b"", True)]
    assert sent("busy") == sent("exception-6") == [Send(0.0, frame(1, bytes([0x84, 6])))]
    assert sent("exception-11", 9) == [Send(0.0, frame(1, bytes([0x84, 11]), 9))]
    assert pdu_of(map_, held, "nan", ask) == bytes([4, 4, 0x7F, 0xFF, 0xFF, 0xFF])
    assert pdu_of(map_, held, "swapped", ask) == bytes([4, 4, 0x33, 0x44, 0x11, 0x22])
    little = parse(HEAD + 'word_order = "little"\n[regs]\nw = { at = 0, type = "i32", missing = 0x7FFF0000 }\n', "t.toml")
    assert pdu_of(little, held, "nan", ask) == bytes([4, 4, 0, 0, 0x7F, 0xFF])
    # 0x33441122 of which 0x1122 remain
    assert pdu_of(little, held, "wrap", ask) == bytes([4, 4, 0x11, 0x22, 0, 0])
    assert set(FAULTS) >= {*LINE_FAULTS, "frozen", "repeat", "zero"}


def test_a_telegram_is_spoiled_as_told():
    telegram, random = bytes(range(100)), Random(1)
    assert spoiled("", telegram, random) == telegram
    assert spoiled("short", telegram, random) == telegram[:50]
    assert spoiled("absent", telegram, random) == b""
    noise = spoiled("noise", telegram, random)
    assert noise.endswith(telegram)
    assert len(noise) > 100
    assert (int.from_bytes(spoiled("crc", telegram, random), "big") ^ int.from_bytes(telegram, "big")).bit_count() == 1


def test_a_fault_meets_every_nth_request_and_faults_take_turns():
    meter = Faulty(THREE, 1, Scripted().held, ["exception-1", "exception-2"], 3, 1)
    answers = [meter.answer(Request(1, bytes([4, 0, 100, 0, 2])), 0.0)[0].data[1:3] for _ in range(9)]
    assert [data[1] for data in answers if data[0] == 0x84] == [1, 2, 1]
    assert [data[0] for data in answers] == [4, 4, 0x84] * 3


def test_a_serial_ear_finds_requests_behind_noise_and_in_pieces():
    ask = frame(1, bytes([4, 0, 0, 0, 2]))
    ear = SerialEar()
    assert ear.feed(b"\xff\x00" + ask[:5]) == []
    assert ear.feed(ask[5:] + ask) == [Request(1, bytes([4, 0, 0, 0, 2]))] * 2
    assert ear.feed(ask[:7] + b"\0") == []


def test_a_tcp_ear_finds_requests_in_pieces_and_hangs_up_on_another_protocol():
    ask = frame(1, bytes([4, 0, 0, 0, 2]), 7)
    ear = TcpEar()
    assert ear.feed(ask[:9]) == []
    assert ear.feed(ask[9:] + ask) == [Request(1, bytes([4, 0, 0, 0, 2]), 7)] * 2
    for wrong in (b"GET / HTTP/1.1\r\n", ask[:4] + b"\0\1" + ask[6:], ask[:4] + b"\1\0" + ask[6:]):
        with pytest.raises(ValueError, match="not Modbus TCP"):
            TcpEar().feed(wrong)


def test_a_served_meter_hangs_up_on_what_is_not_modbus():
    with (
        served(Faulty(THREE, 1, Scripted().held, [], 1, 1), "tcp") as line,
        socket.create_connection((line.host, line.tcp_port), 5) as peer,
    ):
        peer.settimeout(5)
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.recv(10) == b""
