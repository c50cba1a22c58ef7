"""Faults: a Modbus meter that answers frame by frame, rightly or as badly as it is told to."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from drivers.registers import FORMATS, Map, Reg

LATE_S = 1.2  # longer than any reader here waits: 0.95 s for the largest block at 2400 baud
Held = Mapping[tuple[int, int], int]  # (function, address) -> word of every register that may be read, holes too

FAULTS: Mapping[str, str] = {
    "late": f"answers after {LATE_S} s, when nobody listens any more",
    "short": "sends the first half of its answer",
    "wrong-unit": "answers with another unit's number",
    "wrong-function": "answers with another function",
    "noise": "sends a few random bytes before its answer",
    "echo": "an adapter that hears what it sends",
    "crc": "one bit of the answer is flipped (serial only)",
    **{f"exception-{code}": f"refuses with Modbus exception {code}" for code in range(1, 12)},
    "busy": "refuses with exception 6: busy",
    "absent": "never answers",
    "hangup": "closes the connection (TCP only)",
    "frozen": "its registers stand still at their first values",
    "nan": "every register holds its 'not available' pattern, where it has one",
    "swapped": "sends the words of each register the other way round",
    "wrap": "its watts are 16 bits wide and wrap beyond 32767",
    "zero": "its energy counters fall to zero",
    "repeat": "a gateway that gives its first answer to a request again and again",
}
OF_TELEGRAMS = frozenset({"short", "noise", "crc", "absent"})  # what a meter that talks of its own accord can have
SERIAL_ONLY, TCP_ONLY = frozenset({"crc"}), frozenset({"hangup"})


@dataclass(frozen=True, slots=True)
class Request:
    """What a reader asks; `transaction` is None on a serial line."""

    unit: int
    pdu: bytes
    transaction: int | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes to send after so many seconds; with `hang_up` the connection is closed then."""

    after_s: float
    data: bytes
    hang_up: bool = False


def crc(data: bytes) -> bytes:
    """Modbus over serial line V1.02, 6.2.2: polynomial 0xA001, from 0xFFFF, the low byte first."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xA001 if register & 1 else 0)
    return register.to_bytes(2, "little")


def frame(unit: int, pdu: bytes, transaction: int | None = None) -> bytes:
    """The bytes on the wire: with CRC on a serial line, behind an MBAP header over TCP."""
    if transaction is None:
        body = bytes([unit]) + pdu
        return body + crc(body)
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


class SerialEar:
    """Finds the requests in the bytes of a serial line, behind noise too: functions 1 to 6 in eight bytes, 16 in more."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Request]:
        self._data += data
        found = []
        while len(self._data) >= 8:
            size = _size(self._data)
            if len(self._data) < size:
                break
            head = self._data[:size]
            whole = crc(head[:-2]) == head[-2:]
            if whole:
                found.append(Request(head[0], head[1:-2]))
            self._data = self._data[size if whole else 1 :]
        return found


def _size(data: bytes) -> int:
    """Of the request that may begin here: one that writes says how many bytes it brings, twice."""
    writes = data[1] == 16 and data[6] == 2 * int.from_bytes(data[4:6], "big") and 0 < data[6] <= 246
    return 9 + data[6] if writes else 8


class Answers(Protocol):
    """A unit, or several, as the one who serves them sees them."""

    def answer(self, request: Request, now: float) -> list[Send]: ...


class Several:
    """Several units on one line: each answers what it is asked; of another, over TCP, the first one is the gateway."""

    def __init__(self, units: Mapping[int, Answers]) -> None:
        self._units = units

    def answer(self, request: Request, now: float) -> list[Send]:
        unit = self._units.get(request.unit) or next(iter(self._units.values()))
        return unit.answer(request, now)


class TcpEar:
    """Finds the requests in the bytes of one TCP connection."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Request]:
        """Raises ValueError when this is not Modbus: the connection is of no use any more."""
        self._data += data
        found = []
        while len(self._data) >= 8:
            transaction, protocol, size, unit = struct.unpack(">HHHB", self._data[:7])
            if protocol != 0 or not 2 <= size <= 254:
                raise ValueError("not Modbus TCP")
            if len(self._data) < 6 + size:
                break
            found.append(Request(unit, self._data[7 : 6 + size], transaction))
            self._data = self._data[6 + size :]
        return found


def spoiled(fault: str, telegram: bytes, random: Random) -> bytes:
    """What comes of a telegram with one of the faults OF_TELEGRAMS, or with none."""
    match fault:
        case "short":
            return telegram[: len(telegram) // 2]
        case "noise":
            return random.randbytes(random.randint(1, 8)) + telegram
        case "crc":
            return _one_bit_flipped(telegram, random)
        case "absent":
            return b""
    return telegram


def _one_bit_flipped(data: bytes, random: Random) -> bytes:
    return (int.from_bytes(data, "big") ^ 1 << random.randrange(8 * len(data))).to_bytes(len(data), "big")


class Faulty:
    """One unit with a map's registers. Of its requests every n-th meets a fault: each of `faults` in turn."""

    late_s = LATE_S

    def __init__(self, map_: Map, unit: int, held: Callable[[float], Held], faults: Sequence[str], every: int, seed: int) -> None:
        """`held` gives the words at a time; every request is answered from one call."""
        self._map, self.unit, self._held = map_, unit, held
        self._faults, self._every, self._random = tuple(faults), every, Random(seed)
        self.asked = 0
        self._first: Held | None = None
        self._said: dict[bytes, bytes] = {}

    def answer(self, request: Request, now: float) -> list[Send]:
        """What to send for this request. Another unit's is met with silence, over TCP with a gateway's exception 11."""
        if request.unit != self.unit:
            missed = frame(request.unit, bytes([request.pdu[0] | 0x80, 11]), request.transaction)
            return [] if request.transaction is None else [Send(0.0, missed)]
        self.asked += 1
        fault = self._faults[(self.asked // self._every - 1) % len(self._faults)] if self._is_due() else ""
        held = self._held(now)
        self._first = self._first or held
        pdu = _answer(self._map, request.pdu, _changed(fault, self._map, held, self._first))
        said = self._said.setdefault(request.pdu, pdu)
        return self._sent(fault, request, said if fault == "repeat" else pdu)

    def _is_due(self) -> bool:
        return bool(self._faults) and self.asked % self._every == 0

    def _sent(self, fault: str, request: Request, pdu: bytes) -> list[Send]:
        unit, transaction = request.unit, request.transaction
        right = frame(unit, pdu, transaction)
        match fault:
            case "late":
                return [Send(self.late_s, right)]
            case "short":
                return [Send(0.0, right[: len(right) // 2])]
            case "wrong-unit":
                return [Send(0.0, frame(unit % 247 + 1, pdu, transaction))]
            case "wrong-function":
                return [Send(0.0, frame(unit, bytes([pdu[0] ^ 7]) + pdu[1:], transaction))]  # 3 and 4 change places
            case "noise":
                return [Send(0.0, self._random.randbytes(self._random.randint(1, 8)) + right)]
            case "echo":
                return [Send(0.0, frame(unit, request.pdu, transaction) + right)]
            case "crc":
                return [Send(0.0, _one_bit_flipped(right, self._random))]
            case "absent":
                return []
            case "hangup":
                return [Send(0.0, b"", hang_up=True)]
        code = 6 if fault == "busy" else int(fault.removeprefix("exception-")) if fault.startswith("exception-") else 0
        return [Send(0.0, frame(unit, bytes([request.pdu[0] | 0x80, code]), transaction) if code else right)]


def _answer(map_: Map, pdu: bytes, held: Held) -> bytes:
    """A right answer or a right refusal: 1 other functions, 3 a count that the model does not take, 2 no such registers."""
    fc = pdu[0]
    if fc not in (3, 4):
        return bytes([fc | 0x80, 1])
    if len(pdu) != 5:
        return bytes([fc | 0x80, 3])
    address, count = struct.unpack(">HH", pdu[1:])
    if not 1 <= count <= map_.max_regs:
        return bytes([fc | 0x80, 3])
    words = [held.get((fc, address + i), -1) for i in range(count)]
    if -1 in words or address % map_.align or count % map_.align:
        return bytes([fc | 0x80, 2])
    return struct.pack(f">BB{count}H", fc, 2 * count, *words)


def _changed(fault: str, map_: Map, held: Held, first: Held) -> Held:
    """The words that a meter with this fault would hold instead."""
    if fault == "frozen":
        return first
    changes: Mapping[str, tuple[Callable[[Reg, list[int]], list[int]], tuple[str, ...]]] = {
        "nan": (_not_available, ("",)),
        "swapped": (_swapped, ("",)),
        "wrap": (_wrapped, ("w", "w_l1", "w_l2", "w_l3")),
        "zero": (_zero, ("import_wh", "export_wh")),
    }
    if fault not in changes:
        return held
    change, names = changes[fault]
    changed = dict(held)
    for reg in map_.regs.values():
        if names == ("",) or any(reg.name in (name, *(part for _, part in map_.derived.get(name, ()))) for name in names):
            places = [(reg.fc, reg.address + i) for i in range(reg.count)]
            order = 1 if map_.word_order == "big" else -1
            changed |= zip(places, change(reg, [held[place] for place in places][::order])[::order], strict=True)
    return changed


# Each takes and gives the words of one register, the most significant first.


def _not_available(reg: Reg, words: list[int]) -> list[int]:
    nan = {"f32": 0x7FC00000, "f64": 0x7FF8000000000000}
    pattern = min(reg.missing) if reg.missing else nan.get(reg.kind)
    return words if pattern is None else [pattern >> 16 * i & 0xFFFF for i in reversed(range(reg.count))]


def _swapped(reg: Reg, words: list[int]) -> list[int]:
    return words[::-1]


def _wrapped(reg: Reg, words: list[int]) -> list[int]:
    form = ">" + FORMATS[reg.kind]
    (number,) = struct.unpack(form, struct.pack(f">{len(words)}H", *words))
    narrow = round(number) % 0x10000  # a pretend meter's watts are finite
    if reg.kind[0] != "u" and narrow > 0x7FFF:
        narrow -= 0x10000
    return list(struct.unpack(f">{len(words)}H", struct.pack(form, narrow)))


def _zero(reg: Reg, words: list[int]) -> list[int]:
    return [0] * reg.count
