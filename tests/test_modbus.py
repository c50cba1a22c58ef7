"""Modbus: a scripted device on a real pty pair and on a real TCP port answers badly; no value may ever be wrong."""

import time
from contextlib import suppress

import pytest
from units import PATIENCE_S, SDM120, TIMEOUT_S, TRUE, W_TRUE, Device, answer, framed, image, serial, well

from drivers.catalog import find
from drivers.mapfile import parse
from drivers.modbus import Bus, Line, Refusal
from drivers.reading import MeterError
from drivers.register_meter import Meter
from drivers.registers import encode, plan


def test_a_well_behaved_meter_is_read_whole():
    with serial(well, timeout_s=PATIENCE_S) as (device, _, meter):
        reading = meter.read(0.0)
        assert (reading.quality, reading.values) == ("good", TRUE)
        assert next(iter(reading.values)) == "w"
        assert meter.read_all(0.0) == reading
        assert meter.raw(0.0)["w"] == list(W_TRUE)
        assert len(device.requests) == 1 + 2 + 2 + 2  # w lies inside the first of the two blocks of everything


# What comes for the first request, where the right answer is `pdu`. Every later request is answered well.
WRONG = {
    "nothing": lambda pdu: b"",
    "half of it": lambda pdu: framed(pdu)[:5],
    "fewer registers": lambda pdu: framed(bytes([1, 4, 2]) + pdu[3:5]),
    "more registers": lambda pdu: framed(bytes([1, 4, 6]) + pdu[3:] + b"\0\0"),
    "another unit": lambda pdu: framed(bytes([2]) + pdu[1:]),
    "another function": lambda pdu: framed(bytes([1, 3]) + pdu[2:]),
    "a flipped bit": lambda pdu: framed(pdu)[:4] + bytes([framed(pdu)[4] ^ 0x10]) + framed(pdu)[5:],
    "noise only": lambda pdu: b"\x01\x04\xff\x00" * 8,
    "a request's echo": lambda pdu: framed(b"\x01\x04\x00\x0c\x00\x02"),
    "an exception of another function": lambda pdu: framed(b"\x01\x83\x02"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_is_an_error_and_the_next_read_is_right(wrong):
    with serial(lambda request, n: [(0, WRONG[wrong](answer(request)))] if n == 1 else well(request, n)) as (_, _, meter):
        with pytest.raises(MeterError, match=r"unit 1 on .* at 9600 8N1, registers 0x000C..0x000D \(w\): no answer within"):
            meter.read(0.0)
        assert meter.read(1.0).values == TRUE


# What surrounds a right answer.
AROUND = {
    "byte by byte": lambda request, right: [(0.001 * i, right[i : i + 1]) for i in range(len(right))],
    "in two pieces": lambda request, right: [(0, right[:4]), (0.03, right[4:])],
    "our echo": lambda request, right: [(0, request), (0.02, right)],
    "our echo in one piece": lambda request, right: [(0, request + right)],
    "another unit first": lambda request, right: [(0, framed(bytes([2]) + right[1:-2])), (0.03, right)],
    "a broken frame first": lambda request, right: [(0, right[:3] + b"\xff" + right[4:] + right)],
    "noise behind": lambda request, right: [(0, right + b"\x00")],
    **{
        f"noise {noise.hex()} before": lambda request, right, noise=noise: [(0, noise + right)]
        for noise in (b"\0", b"\xff", b"\1", b"\4", b"\1\4", b"\0\0\0")
    },
}


@pytest.mark.parametrize("around", AROUND)
def test_a_right_answer_is_found_in_what_surrounds_it(around):
    with serial(lambda request, n: AROUND[around](request, framed(answer(request))), timeout_s=PATIENCE_S) as (_, _, meter):
        assert meter.read(0.0).values == TRUE


def test_a_late_answer_never_becomes_the_next_ones_value():
    """Volts and watts have blocks of the same size here; every third answer comes just after the timeout."""
    volts = parse(
        '[meter]\nid = "t"\nvendor = ""\nmodels = []\nphases = 1\ntrust = "C"\nsources = []\n[read]\nfc = 4\n'
        '[regs]\nw = { at = 12, type = "f32" }\nv_l1 = { at = 0, type = "f32", slow = true }',
        "t.toml",
    )
    blocks = plan(volts, "all")
    rights = {block.regs[0].name: list(encode(block.regs[0], TRUE[block.regs[0].name], "big")) for block in blocks}
    lost = 0
    with serial(lambda request, n: [(TIMEOUT_S + 0.04 if n % 3 == 0 else 0.005, framed(answer(request)))]) as (_, bus, _):
        for i in range(24):
            block = blocks[i % 2]
            try:
                assert bus.read_block(1, block, float(i)) == rights[block.regs[0].name]
            except MeterError:
                lost += 1
    assert 0 < lost <= 8


def test_a_late_answer_of_the_same_register_is_not_taken_for_the_new_one():
    def late(request, n):
        return [(TIMEOUT_S + 0.05 if n == 1 else 0, framed(answer(request, image(w=100 * n))))]

    with serial(late) as (device, _, meter):
        with pytest.raises(MeterError):
            meter.read(0.0)
        assert meter.read(1.0).values["w"] == 300
        sizes = [request[4:6] for request in device.requests[:3]]
        assert sizes[1] not in (sizes[0], sizes[2])  # a request of another size came between


def test_an_answer_that_is_two_seconds_late_is_not_taken_for_the_new_one():
    """It comes after the drain, in the middle of the next poll."""

    def late(request, n):
        return [(TIMEOUT_S + 0.5 if n == 1 else 0.2 if n == 2 else 0, framed(answer(request, image(w=100 * n))))]

    with serial(late) as (device, _, meter):
        with pytest.raises(MeterError):
            meter.read(0.0)
        time.sleep(0.2)
        assert meter.read(1.0).values["w"] == 300
        assert len(device.requests) >= 3


def test_a_device_without_a_request_of_another_size_is_left_alone_for_a_while():
    one = parse(
        '[meter]\nid = "t"\nvendor = ""\nmodels = []\nphases = 1\ntrust = "C"\nsources = []\n[read]\nfc = 4\n'
        '[regs]\nw = { at = 12, type = "f32" }',
        "t.toml",
    )
    with serial(lambda request, n: [] if n == 1 else [(0, framed(answer(request)))]) as (device, bus, _):
        meter = Meter(bus, one, 1)
        with pytest.raises(MeterError, match="no answer within"):
            meter.read(0.0)
        with pytest.raises(MeterError, match="no answer within"):
            meter.read(2.1)
        assert len(device.requests) == 1
        assert meter.read(2.2).values == {"w": 1000}


def test_a_refusal_names_register_and_way_out():
    with serial(lambda request, n: [(0, framed(bytes([request[0], request[1] | 0x80, 2])))]) as (_, _, meter):
        with pytest.raises(
            Refusal, match=r"unit 1 .*\(w\): it has no such register; is the model right\? \(exception 2\)"
        ) as refused:
            meter.read(0.0)
        assert refused.value.code == 2


def test_an_absent_unit_is_left_alone_for_longer_and_longer_and_holds_up_nobody():
    with serial(lambda request, n: well(request, n) if request[0] == 1 else []) as (device, bus, meter):
        dead, lost, said = Meter(bus, SDM120, 2), 0, set()
        bus.timeout_s = TIMEOUT_S
        for second in range(20):
            assert meter.read(float(second)).values["w"] == 1000
            try:
                dead.read(float(second))
            except MeterError as error:
                lost += 1
                said.add(str(error))
        assert lost == 20
        # asked at 0, at 1 (the first silence is free), then after 1, 2, 4 and 8 s: 2, 4, 8, 16
        assert sum(request[0] == 2 for request in device.requests) == 6
        # and says the same all the while: each change of the words is a message to the whole network
        with pytest.raises(
            MeterError, match=rf"unit 2 on .* \(w\): no answer within {TIMEOUT_S} s; check power, wiring, unit number"
        ):
            dead.read(19.0)
        assert len(said) == 1


def test_a_unit_alone_on_its_line_is_asked_every_few_seconds():
    silent = [True]
    with serial(lambda request, n: [] if silent[0] else well(request, n)) as (device, _, meter):
        for second in range(16):
            with suppress(MeterError):
                meter.read(float(second))
        assert len(device.requests) == 6  # at 0, 1, 2, 4, 8, 12
        silent[0] = False
        assert meter.read(16.0).values["w"] == 1000
        assert meter.read(17.0).values["w"] == 1000


def test_an_absent_unit_blocks_for_its_timeout_only():
    with serial(lambda request, n: []) as (_, _, meter):
        began = time.monotonic()
        with pytest.raises(MeterError):
            meter.read(0.0)
        assert time.monotonic() - began < 0.1 + TIMEOUT_S + 0.5


def test_a_port_that_vanishes_and_returns(tmp_path):
    link = tmp_path / "ttyUSB0"
    bus = Bus(Line(None, None, str(link), 9600, "8N1"), TIMEOUT_S)
    meter = Meter(bus, SDM120, 1)
    bus.open()
    try:
        with pytest.raises(MeterError, match="no connection; is the adapter plugged in"):
            meter.read(0.0)
        device = Device(well)
        link.symlink_to(device.port)
        assert meter.read(0.1).values == TRUE  # the first failure costs nothing
        device.close()
        link.unlink()
        with pytest.raises(MeterError, match="connection broke; is the adapter plugged in"):
            meter.read(1.0)
        for second in (2.0, 3.0, 4.0, 5.0, 30.0):
            with pytest.raises(MeterError, match="no connection"):
                meter.read(second)
        device = Device(well)
        link.symlink_to(device.port)
        with pytest.raises(MeterError, match="no connection"):
            meter.read(30.1)
        assert meter.read(35.1).values == TRUE  # at most five seconds later
        device.close()
    finally:
        bus.close()


def test_a_closed_bus_says_so():
    bus = Bus(Line("127.0.0.1", 1, None))
    with pytest.raises(MeterError, match="the bus is closed"):
        Meter(bus, SDM120, 1).read(0.0)


def test_a_slow_line_gets_the_time_its_answers_need():
    bus = Bus(Line(None, None, "/dev/null", 2400, "8N1"))
    Meter(bus, find("eastron-sdm630"), 1)
    assert bus.timeout_s == pytest.approx(0.2 + (13 + 2 * 76) * 11 / 2400)
    fast = Bus(Line("127.0.0.1", 502, None))
    Meter(fast, find("eastron-sdm630"), 1)
    assert fast.timeout_s == 0.5
