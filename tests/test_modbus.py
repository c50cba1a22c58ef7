"""Modbus: a scripted device on a real pty pair and on a real TCP port answers badly; no value may ever be wrong."""

import os
import pty
import select
import socket
import struct
import threading
import time
import tty
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from drivers.catalog import find
from drivers.mapfile import parse
from drivers.modbus import Bus, Line, Meter, Refusal
from drivers.reading import MeterError
from drivers.registers import MapError, encode, plan, words_of

SDM120 = find("eastron-sdm120")
TRUE = {"w": 1000, "v_l1": 230.5, "a_l1": 4.3, "va": 1000, "var": 0, "pf": 1.0, "hz": 50.0, "import_wh": 5000, "export_wh": 0}
W, SLOW = plan(SDM120, "fast")[0], plan(SDM120, "slow")
W_TRUE = encode(SDM120.regs["w"], 1000, "big")
TIMEOUT_S = 0.3  # of tests in which something does not come
PATIENCE_S = 2.0  # of tests in which everything comes: a busy machine must not fail them


def crc(data: bytes) -> bytes:
    """Modbus over serial line V1.02, 6.2.2: CRC-16, polynomial 0xA001, low byte first."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xA001 if register & 1 else 0)
    return register.to_bytes(2, "little")


def image(map_=SDM120, **values):
    """address -> word of a device that holds TRUE, changed by `values`."""
    return {
        reg.address + i: word
        for name, reg in map_.regs.items()
        for i, word in enumerate(encode(reg, {**TRUE, **values}[name], map_.word_order))
    }


def answer(request: bytes, words=None) -> bytes:
    """unit, function, byte count, words: the right answer to a request, without CRC."""
    unit, fc, address, count = struct.unpack(">BBHH", request[:6])
    held = image() if words is None else words
    return bytes([unit, fc, 2 * count]) + b"".join(held.get(address + i, 0).to_bytes(2, "big") for i in range(count))


def framed(pdu: bytes) -> bytes:
    return pdu + crc(pdu)


class Device:
    """A thread at the other end of a pty; script(request, n) gives [(delay_s, bytes), …] for the n-th request, n from 1."""

    def __init__(self, script):
        self.master, self.slave = pty.openpty()
        tty.setraw(self.master)
        tty.setraw(self.slave)
        self.port, self.script, self.requests = os.ttyname(self.slave), script, []
        self.stop, self.stopped = os.pipe()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        data, due = b"", []
        while True:
            wait = max(0, min((at for at, _ in due), default=time.monotonic() + 60) - time.monotonic())
            ready = select.select([self.master, self.stop], [], [], wait)[0]
            if self.stop in ready:
                return
            if self.master in ready:
                data += os.read(self.master, 1024)
            while len(data) >= 8:
                request, data = data[:8], data[8:]
                self.requests.append(request)
                due += [(time.monotonic() + delay, out) for delay, out in self.script(request, len(self.requests))]
            for entry in [entry for entry in due if entry[0] <= time.monotonic()]:
                due.remove(entry)
                os.write(self.master, entry[1])

    def close(self):
        os.write(self.stopped, b"x")
        self.thread.join()
        for fd in (self.master, self.slave, self.stop, self.stopped):
            with suppress(OSError):
                os.close(fd)


@contextmanager
def serial(script, unit=1, map_=SDM120, timeout_s=TIMEOUT_S, **meter):
    """(device, bus, meter) on a pty pair with a short timeout."""
    device = Device(script)
    bus = Bus(Line(None, None, device.port, 9600, "8N1"), timeout_s)
    made = Meter(bus, map_, unit, **meter)
    bus.timeout_s = timeout_s
    bus.open()
    try:
        yield device, bus, made
    finally:
        bus.close()
        bus.close()
        device.close()


def well(request, n):
    return [(0, framed(answer(request)))]


def test_a_well_behaved_meter_is_read_whole():
    with serial(well, timeout_s=PATIENCE_S) as (device, _, meter):
        reading = meter.read(0.0)
        assert (reading.quality, reading.values) == ("good", TRUE)
        assert next(iter(reading.values)) == "w"
        assert meter.read_all(0.0) == reading
        assert meter.raw(0.0)["w"] == list(W_TRUE)
        assert len(device.requests) == 1 + 2 + 2 + 2  # w lies inside the first of the two blocks of everything


@pytest.mark.parametrize("turned", [False, True])
def test_flip_is_the_installers_word(turned):
    with serial(well, timeout_s=PATIENCE_S, flip=turned) as (_, _, meter):
        values = meter.read(0.0).values
        assert (values["w"], values["export_wh"]) == ((-1000, 5000) if turned else (1000, 0))


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
        with pytest.raises(MeterError, match=r"unit 2 on .* \(w\): no answer within 0\.3 s; check power, wiring, unit number"):
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


def test_slow_values_are_kept_for_ten_seconds_and_dropped_when_they_fail():
    state = {"export_wh": 1, "dead": False}

    def script(request, n):
        if state["dead"] and request[2:4] != b"\x00\x0c":
            return []
        return [(0, framed(answer(request, image(export_wh=state["export_wh"] * 1000))))]

    with serial(script) as (device, _, meter):
        assert meter.read(0.0).values["export_wh"] == 1000
        state["export_wh"] = 2
        assert meter.read(9.0).values["export_wh"] == 1000
        assert len(device.requests) == 4
        assert meter.read(10.0).values["export_wh"] == 2000
        state["dead"] = True
        reading = meter.read(20.0)
        assert (reading.quality, reading.values) == ("good", {"w": 1000})
        state["dead"] = False
        assert meter.read(21.0).values == {"w": 1000}
        assert meter.read(22.0).values["export_wh"] == 2000


def test_watts_are_suspect_until_the_volts_have_proved_the_map():
    dead = [True]
    with serial(lambda request, n: [] if dead[0] and request[2:4] != b"\x00\x0c" else well(request, n)) as (_, _, meter):
        reading = meter.read(0.0)
        assert reading.quality == "suspect"
        assert "v_l1 and hz were never read" in reading.why
        assert "no answer within" in reading.why
        assert meter.read(1.0).quality == "suspect"
        dead[0] = False
        assert meter.read(2.0).quality == "good"


def test_swapped_words_are_suspect_for_as_long_as_they_are_not_read_well():
    swapped = {address: image()[address ^ 1] for address in image()}
    with serial(lambda request, n: [(0, framed(answer(request, swapped)))], timeout_s=PATIENCE_S) as (_, _, meter):
        for second in range(3):
            reading = meter.read(float(second))
            assert reading.quality == "suspect"
            assert 'try word_order = "little"' in reading.why


def test_an_optional_register_that_is_refused_is_not_asked_for_again():
    map_ = find("abb-b2x")
    held = image(map_, **{name: 230 if name[0] == "v" else 0 for name in map_.regs if name not in TRUE})

    def script(request, n):
        if request[2:4] == b"\x50\x04":
            return [(0, framed(bytes([1, 0x83, 2])))] if n < 9 else []
        return [(0, framed(answer(request, held)))]

    with serial(script, map_=map_) as (device, _, meter):
        values = meter.read(0.0).values
        assert values["import_wh"] == 5000
        assert "export_wh" not in values
        meter.read(20.0)
        assert sum(request[2:4] == b"\x50\x04" for request in device.requests) == 1


def test_a_silent_optional_register_costs_its_own_value_only():
    map_ = find("abb-b2x")
    held = image(map_, **{name: 230 if name[0] == "v" else 0 for name in map_.regs if name not in TRUE})
    with serial(lambda request, n: [] if request[2:4] == b"\x50\x04" else [(0, framed(answer(request, held)))], map_=map_) as (
        _,
        _,
        meter,
    ):
        reading = meter.read(0.0)
        assert reading.quality == "suspect"  # the phases hold 0 W, the total 1000 W
        assert reading.values["v_l3"] == 230.0
        assert "export_wh" not in reading.values


# ---- TCP


class Gateway:
    """A TCP server in a thread; script(request of 6 bytes, n) gives the raw bytes to send, or None to hang up."""

    def __init__(self, script):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.tcp_port = self.listener.getsockname()[1]
        self.script, self.n, self.connections, self.closing = script, 0, 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.closing:
            peer, _ = self.listener.accept()
            self.connections += 1
            with peer, suppress(OSError):
                while request := peer.recv(12):
                    self.n += 1
                    out = self.script(request, self.n)
                    if out is None:
                        break
                    peer.sendall(out)

    def close(self):
        self.closing = True
        socket.create_connection(("127.0.0.1", self.tcp_port)).close()
        self.thread.join()
        self.listener.close()


def enveloped(request: bytes, pdu: bytes) -> bytes:
    return request[:4] + len(pdu).to_bytes(2, "big") + pdu


@contextmanager
def tcp(script, unit=1, map_=SDM120):
    gateway = Gateway(script)
    bus = Bus(Line("127.0.0.1", gateway.tcp_port, None), TIMEOUT_S)
    meter = Meter(bus, map_, unit)
    bus.timeout_s = TIMEOUT_S
    bus.open()
    try:
        yield gateway, bus, meter
    finally:
        bus.close()
        gateway.close()


def right(request, n=0):
    return enveloped(request, answer(request[6:]))


WRONG_TCP = {
    "nothing": lambda request: b"",
    "hangs up": lambda request: None,
    "half of it": lambda request: right(request)[:10],
    "another transaction": lambda request: b"\x7f\x7f" + right(request)[2:],
    "no transaction": lambda request: b"\0\0" + right(request)[2:],
    "another protocol": lambda request: request[:2] + b"\0\1" + right(request)[4:],
    "another unit": lambda request: enveloped(request, b"\x02" + answer(request[6:])[1:]),
    "another function": lambda request: enveloped(request, b"\x01\x03" + answer(request[6:])[2:]),
    "an unknown function": lambda request: enveloped(request, b"\x01\x6e\x00"),
    "fewer registers": lambda request: enveloped(request, b"\x01\x04\x02\x00\x01"),
    "more registers": lambda request: enveloped(request, b"\x01\x04\x06" + b"\0" * 6),
    "a byte count that lies": lambda request: enveloped(request, b"\x01\x04\x08\x00\x01"),
    "an odd byte count": lambda request: enveloped(request, b"\x01\x04\x03\x00\x01\x02"),
    "an empty answer": lambda request: enveloped(request, b"\x01"),
    "an exception of another function": lambda request: enveloped(request, b"\x01\x83\x02"),
}


@pytest.mark.parametrize("wrong", WRONG_TCP)
def test_a_wrong_answer_over_tcp_is_an_error_and_the_next_read_is_right(wrong):
    with tcp(lambda request, n: WRONG_TCP[wrong](request) if n == 1 else right(request)) as (gateway, _, meter):
        with pytest.raises(MeterError, match=r"unit 1 on 127.0.0.1:\d+, registers"):
            meter.read(0.0)
        assert meter.read(1.0).values == TRUE
        assert gateway.connections == 2


def test_a_gateway_that_misses_the_unit_says_so():
    with tcp(lambda request, n: enveloped(request, b"\x01\x84\x0b")) as (gateway, _, meter):
        with pytest.raises(Refusal, match="the gateway got no answer from it; check its unit number"):
            meter.read(0.0)
        with pytest.raises(Refusal):
            meter.read(0.0)
        assert gateway.connections == 1


def test_a_refused_connection_is_tried_again_within_five_seconds():
    probe = socket.create_server(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    bus = Bus(Line("127.0.0.1", port, None), TIMEOUT_S)
    meter = Meter(bus, SDM120, 1)
    bus.open()
    bus.open()
    for tenth in range(600):
        with pytest.raises(MeterError, match="is the meter or gateway on"):
            meter.read(tenth / 10)
    assert bus._connect_failures == 5 + 11  # at 0, 0.1, 0.6, 1.6, 3.6 and then every 5 s up to 60 s
    bus.close()


def test_an_impossible_host_name_is_an_error_of_the_read():
    bus = Bus(Line("a..b", 502, None), TIMEOUT_S)
    bus.open()
    with pytest.raises(MeterError, match="no connection"):
        Meter(bus, SDM120, 1).read(0.0)
    bus.close()


def test_a_device_that_needs_a_rest_after_the_connection_gets_it_once_a_connection():
    asked = []

    def script(request, n):
        asked.append(time.monotonic())
        return None if n == 2 else right(request)

    with tcp(script, map_=replace(SDM120, connect_delay_s=0.05)) as (gateway, bus, _):
        assert bus.connect_delay_s == 0.05
        began = time.monotonic()
        bus.read_block(1, W, 0.0)
        assert asked[0] - began >= 0.05
        with pytest.raises(MeterError):
            bus.read_block(1, W, 1.0)
        began = time.monotonic()
        bus.read_block(1, W, 2.0)
        assert asked[2] - began >= 0.05
        assert gateway.connections == 2


def test_watts_are_suspect_until_model_and_setting_are_right():
    em24, ident, application = find("gavazzi-em24-e1"), [340], [0]
    shown = dict.fromkeys(em24.regs, 0) | {"w": -1234, "w_l1": -1234, "v_l1": 230, "hz": 50}

    def script(request, n):
        fc, address = request[7], int.from_bytes(request[8:10], "big")
        words = words_of(em24, shown) | {"ident": ident, "require": application}
        held = {reg.address + i: word for name, reg in em24.regs.items() if reg.fc == fc for i, word in enumerate(words[name])}
        asked.append((fc, address))
        return enveloped(request, answer(request[6:], held))

    asked = []
    with tcp(script, map_=em24) as (_, _, meter):
        reading = meter.read(0.0)
        assert (reading.quality, reading.values["w"]) == ("suspect", -1234)
        assert "ident (register 0x000B) reads 340" in reading.why
        assert "set the EM24's application to H" in reading.why
        ident[0] = 1650
        assert "ident" in meter.read(9.0).why
        assert "ident" not in meter.read(10.0).why
        application[0] = 7
        reading = meter.read(20.0)
        assert (reading.quality, reading.why) == ("good", "")
        assert not {"ident", "require"} & set(reading.values)
        assert asked.count((3, 0x000B)) == asked.count((3, 0xA000)) == 2 + 1 + 2  # suspect ones are looked at twice


def test_a_model_that_is_not_read_by_registers_is_refused():
    with pytest.raises(MapError, match="p1 speaks p1, which is not read by registers; give the model of a Modbus meter"):
        Meter(Bus(Line("127.0.0.1", 502, None)), find("p1"), 1)


def test_a_meter_that_gives_all_at_once_is_asked_once():
    pzem = find("peacefair-pzem004t-v3")
    frame = bytes.fromhex("010414 08D1 006C0000 00F40000 00260000 01F4 0064 0000 5134")  # ESPHome, Tasmota
    with serial(lambda request, n: [(0, framed(frame[:2] + b"\x12" + frame[3:21]))], map_=pzem) as (device, _, meter):
        values = {"w": 24, "v_l1": 225.7, "a_l1": 0.108, "hz": 50.0, "pf": 1.0, "import_wh": 38}
        assert (meter.read(0.0).values, meter.read(0.0).quality) == (values, "good")
        assert [request[:6].hex() for request in device.requests] == ["010400000009"] * 2
