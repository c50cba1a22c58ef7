"""SML on the wire: the telegrams in a stream of bytes, and the messages in a telegram (SML 1.04, transport version 1)."""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass

from drivers.reading import MeterError

ESCAPE = b"\x1b" * 4
START = ESCAPE + b"\x01" * 4
MOST_BYTES = 4096  # the longest telegram known here has 520; a start whose end was lost must not grow for ever
MOST_DEPTH = 10  # message, body, list, entry, time, time stamp: 7 are used

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
X25, KERMIT = (0xFFFF, 0xFFFF), (0, 0)  # start value, and what the end is combined with; a few Holley meters send the other kind


@dataclass(frozen=True, slots=True)
class Int:
    """A number as it was sent."""

    value: int
    size: int  # bytes
    signed: bool


Element = None | bool | bytes | Int | list["Element"]


class Telegrams:
    """Cuts telegrams out of a stream, from start to CRC, that comes in any pieces and begins anywhere."""

    def __init__(self) -> None:
        self.dropped = 0  # telegrams begun that have no end
        self._data = bytearray()
        self._begun, self._at = False, 0

    def add(self, data: bytes) -> None:
        self._data += data

    def back(self, telegram: bytes) -> None:
        """A telegram proved wrong: what was cut off in its end escape may have swallowed the start of the next one."""
        self._data[:0] = telegram[1:]

    def next(self) -> bytes | None:
        """The next telegram, its escapes still doubled; None when it is not yet whole."""
        data = self._data
        while self._begun or self._begin():
            found = data.find(ESCAPE, self._at)
            if (found if found >= 0 else len(data) - 3) > MOST_BYTES:
                self._drop(1)
            elif found < 0:
                self._at = max(len(data) - 3, self._at)
                return None
            elif len(data) < found + 8:
                self._at = found
                return None
            elif data[found + 4 : found + 8] == ESCAPE:
                self._at = found + 8
            elif data[found + 4] == 0x1A:
                telegram = bytes(data[: found + 8])
                del data[: found + 8]
                self._begun = False
                return telegram
            else:  # the start of the next telegram, or nothing known
                self._drop(found)
        return None

    def _begin(self) -> bool:
        start = self._data.find(START)
        self._begun, self._at = start >= 0, len(START)
        del self._data[: start if self._begun else max(len(self._data) - len(START) + 1, 0)]
        return self._begun

    def _drop(self, count: int) -> None:
        """Give up the telegram begun and look for the next start behind its first `count` bytes."""
        self.dropped += 1
        del self._data[: max(count, 1)]
        self._begun = False


def crc(kind: tuple[int, int], data: bytes) -> int:
    """CRC-16, polynomial 0x1021, mirrored both ways: the standard library's own runs over the mirrored bytes."""
    mirrored = crc_hqx(data.translate(_MIRRORED), kind[0])
    return (_MIRRORED[mirrored & 0xFF] << 8 | _MIRRORED[mirrored >> 8]) ^ kind[1]


def messages(telegram: bytes) -> list[tuple[int, Element]]:
    """(tag, content) of each message of a telegram. Raises MeterError on anything that is not exactly so."""
    sent, padding = int.from_bytes(telegram[-2:], "little"), telegram[-3]
    if sent not in (crc(X25, telegram[:-2]), crc(KERMIT, telegram[:-2])):
        raise MeterError("wrong CRC")
    body = telegram[len(START) : -8].replace(ESCAPE * 2, ESCAPE)
    body, rest = body[: len(body) - padding], body[len(body) - padding :]
    if (len(body) + padding) % 4 or padding > 3 or any(rest):
        raise MeterError("wrong padding")
    found: list[tuple[int, Element]] = []
    kinds = [X25, KERMIT]  # one of them serves all messages of a telegram
    position = 0
    while position < len(body):
        start = position
        fields, position = _fields(body, start)
        number, end = _element(body, position, 1)
        if not isinstance(number, Int) or body[end : end + 1] != b"\0":
            raise MeterError("a message without its end")
        kinds = [kind for kind in kinds if crc(kind, body[start:position]) == _swapped(number.value)]
        if not kinds:
            raise MeterError("wrong CRC of a message")
        match fields[3]:
            case [Int(tag), content]:
                found.append((tag, content))
            case _:
                raise MeterError("a message without a body")
        position = end + 1
    return found


def _fields(body: bytes, position: int) -> tuple[list[Element], int]:
    """Transaction id, group, abort on error and body of the message at `position`, and where they end."""
    if body[position] != 0x76:
        raise MeterError("no message where one should begin")
    fields = []
    position += 1
    for _ in range(4):
        field, position = _element(body, position, 1)
        fields.append(field)
    return fields, position


def _swapped(sent: int) -> int:
    """The CRC travels low byte first, in a field that reads high byte first; -1 when it cannot be one."""
    return (sent & 0xFF) << 8 | sent >> 8 if 0 <= sent <= 0xFFFF else -1


def _element(data: bytes, position: int, depth: int) -> tuple[Element, int]:
    """The element that begins at `position`, and where it ends (SML 1.04, 6.3: type and length, then the value)."""
    if depth > MOST_DEPTH or position >= len(data):
        raise MeterError("cut off or too deep")
    head, begin = data[position], position
    kind, length = head >> 4 & 7, head & 0x0F
    while head & 0x80:
        position += 1
        if position >= len(data) or data[position] & 0x70 or length > 0xFF:
            raise MeterError("a wrong length")
        head = data[position]
        length = length << 4 | head & 0x0F
    position += 1
    if kind == 7:
        elements = []
        for _ in range(length):
            element, position = _element(data, position, depth + 1)
            elements.append(element)
        return elements, position
    end = begin + length
    value = data[position:end]
    size = end - position
    if size < 0 or len(value) < size:
        raise MeterError("a wrong length")
    if kind == 0:
        return value or None, end
    if kind == 4 and size == 1:
        return value != b"\0", end
    if kind in (5, 6) and 1 <= size <= 8:
        return Int(int.from_bytes(value, "big", signed=kind == 5), size, kind == 5), end
    raise MeterError("an unknown type")
