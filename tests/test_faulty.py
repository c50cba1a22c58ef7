"""The pretend meter's own faults, without a line: frames by hand, what it refuses, how requests are found in noise."""

import socket
from random import Random

import pytest
from gateway import served
from test_meter_faults import HEAD, LINE_FAULTS, THREE, Scripted

from drivers.faults import FAULTS, LATE_S, Faulty, Request, Send, SerialEar, TcpEar, crc, frame, spoiled
from drivers.mapfile import parse

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


def test_unsigned_and_scaled_watts_wrap_too():
    """In 0.1 W as the register counts: 400000 is 0x61A80, of which 0x1A80 = 6784 remain."""
    map_ = parse(HEAD + '[regs]\nw = { at = 0, type = "u32", scale = 0.1 }\nimport_wh = { at = 2, type = "u32" }\n', "t.toml")
    held = {(4, 0): 6, (4, 1): 0x1A80, (4, 2): 5, (4, 3): 6}
    assert pdu_of(map_, held, "wrap") == bytes([4, 8, 0, 0, 0x1A, 0x80, 0, 5, 0, 6])
    assert pdu_of(map_, held, "zero") == bytes([4, 8, 0, 6, 0x1A, 0x80, 0, 0, 0, 0])
    assert pdu_of(map_, held, "nan") == pdu_of(map_, held, "")


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
