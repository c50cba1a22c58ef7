"""Writing registers: the frames by hand, and on real lines no answer but the right one is taken, and no write is repeated."""

import time

import pytest
from gateway import served

from drivers.faults import Request, Send, SerialEar, crc, frame
from drivers.guard import Guard
from drivers.modbus import Bus, Refusal
from drivers.reading import MeterError
from drivers.registers import Write


def test_a_write_on_the_wire_by_hand():
    """Modbus application protocol V1.1b3, 6.12: function, address, count, bytes, words; the answer repeats address and count."""
    request = bytes([1, 16, 0x9C, 0x92, 0, 2, 4, 0x09, 0xA4, 0xF6, 0x5C])
    ear = SerialEar()
    assert ear.feed(request[:7]) == []
    assert ear.feed(request[7:] + crc(request)[:1]) == []
    assert ear.feed(crc(request)[1:]) == [Request(1, request[1:])]
    assert ear.feed(b"\x07\x10" + frame(1, bytes([3, 0, 0, 0, 1]))) == [Request(1, bytes([3, 0, 0, 0, 1]))]  # behind noise

    rests = []
    guard = Guard(lambda data: int.from_bytes(crc(data), "big"), rests.append)
    sent = request + crc(request)
    assert guard.hook(True, sent) == sent
    right = frame(1, request[1:6])
    assert guard.hook(False, right) == right
    assert guard.hook(False, sent + right) == right  # an adapter that hears what it sends
    assert guard.hook(False, right[:5]) == b""
    assert rests == [3]
    for other in (
        frame(1, bytes([16, 0x9C, 0x93, 0, 2])),  # another address
        frame(1, bytes([16, 0x9C, 0x92, 0, 1])),  # fewer
        frame(2, request[1:6]),
        frame(1, bytes([3, 4, 0, 0, 0, 0])),
        right[:-1] + bytes([right[-1] ^ 1]),
    ):
        assert guard.hook(False, other) == b""
    refusal = frame(1, bytes([0x90, 3]))
    assert guard.hook(False, refusal) == refusal


class Says:
    """A unit that answers each write with what the test says, and reads with nothing."""

    def __init__(self, unit, pdu):
        self.unit, self.pdu, self.asked = unit, pdu, 0

    def answer(self, request, now):
        self.asked += 1
        return [Send(0.0, frame(request.unit, self.pdu, request.transaction))] if self.pdu else []


@pytest.mark.parametrize("door", ["tcp", "pty"])
@pytest.mark.parametrize(
    "pdu", [b"", bytes([16, 0, 11, 0, 2]), bytes([16, 0, 10, 0, 1]), bytes([3, 4, 0, 0, 0, 0]), bytes([6, 0, 10, 0, 2])]
)
def test_another_answer_is_none_and_a_write_is_never_repeated(pdu, door):
    unit = Says(1, pdu)
    with served(unit, door) as line:
        bus = Bus(line, 0.2)
        bus.open()
        now = time.monotonic()
        with pytest.raises(MeterError, match=r"unit 1 on .*, writing registers 0x000A..0x000B .test.: "):
            bus.write(1, Write(10, (1, 2), "test"), now)
        assert unit.asked == 1
        if door == "pty":  # its answer may still come: nothing that it would fit is asked
            with pytest.raises(MeterError):
                bus.write(1, Write(20, (3, 4), "test"), time.monotonic())
            assert unit.asked == 1
        else:
            for _ in range(2):  # the second failure in a row earns it a rest
                with pytest.raises(MeterError, match="test"):
                    bus.write(1, Write(20, (3, 4), "test"), now)
            assert unit.asked == 2
        unit.pdu = bytes([0x90, 2])
        with pytest.raises((Refusal, MeterError)):
            bus.write(1, Write(10, (1,), "test"), now + 1.5)
        bus.close()
        with pytest.raises(MeterError):
            bus.write(1, Write(10, (1,), "test"), time.monotonic() + 3)
