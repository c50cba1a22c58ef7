"""What an SML telegram lists: whose it is, the meter's own clock, and its numbers by their OBIS codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from drivers.reading import MeterError
from drivers.sml_wire import Element, Int, messages

W, WH, A, V, HZ = 27, 30, 33, 35, 44  # units of DLMS (IEC 62056-62, 5.2.2)
_MOST_W, _STEP_WH = 1_000_000, 1000  # most of a low-voltage connection; without its PIN a meter counts whole kWh
_UNTIMED_S = 10  # between two telegrams of a meter without clock, and what a clock may be wrong


@dataclass(frozen=True, slots=True)
class Entry:
    value: Int
    unit: int  # 0: none
    scale: Fraction
    status: int | None

    @property
    def number(self) -> Fraction:
        return self.value.value * self.scale

    @property
    def unsigned(self) -> Fraction:
        """What the same bytes are without a sign."""
        return self.value.value % (1 << 8 * self.value.size) * self.scale


Entries = Mapping[bytes, Entry]


@dataclass(frozen=True, slots=True)
class Told:
    """What one telegram says."""

    server: bytes
    second: int | None  # on the meter's own clock
    entries: Entries
    shape: tuple[Element, ...]  # what comes again in every telegram of the meter
    counters: tuple[Fraction | None, Fraction | None]  # watt-hours of import and export

    def follows(self, other: Told) -> bool:
        """Whether one meter can have sent `other` and then this."""
        if (self.server, self.shape) != (other.server, other.shape):
            return False
        took_s = max((self.second or 0) - (other.second or 0), 0) + _UNTIMED_S
        pairs = zip(self.counters, other.counters, strict=True)
        moved = [abs(after - before) for after, before in pairs if after is not None and before is not None]
        return all(wh <= _STEP_WH + took_s * _MOST_W / 3600 for wh in moved)


def listed(telegram: bytes) -> Told:
    """Raises MeterError when it is not what a meter pushes."""
    match messages(telegram):
        case [(0x101, _), (0x701, content), (0x201, _)]:  # open, list of values, close
            server, second, entries, shape = _content(content)
            return Told(server, second, entries, shape, (energy(entries, 1), energy(entries, 2)))
        case _:
            raise MeterError("not the messages of a meter that pushes its values")


def _content(content: Element) -> tuple[bytes, int | None, Entries, tuple[Element, ...]]:
    """Server id, the meter's seconds, the numbers of a GetList response by OBIS C.D.E, and its shape."""
    if not isinstance(content, list) or len(content) != 7:
        raise MeterError("not a list of values")
    _, server, title, time, entries, _, _ = content
    if not isinstance(server, bytes) or not isinstance(entries, list):
        raise MeterError("not a list of values")
    found: dict[bytes, Entry] = {}
    shape = [title, _form(time)]
    for fields in entries:
        if not isinstance(fields, list) or len(fields) != 7:
            raise MeterError("not an entry")
        name, status, stamp, unit, scaler, value, signature = fields
        shape += [name, unit, scaler, _form(status), _form(stamp), _form(value), _form(signature)]
        if not isinstance(name, bytes) or len(name) != 6 or not isinstance(signature, bytes | None):
            raise MeterError("an entry without a name")
        if name[:2] != b"\1\0" or name[5] != 0xFF or not isinstance(value, Int):
            continue  # another medium or channel, a value of the past, or a text
        key = name[2:5]
        if key in found:
            raise MeterError("an entry twice")
        power = _small(scaler, True)
        found[key] = Entry(value, _small(unit, False), Fraction(10) ** power, status.value if isinstance(status, Int) else None)
    second = time[1] if isinstance(time, list) and len(time) == 2 else time
    return server, second.value if isinstance(second, Int) else None, found, tuple(shape)


def _form(element: Element) -> Element:
    """What of an element stays the same while its value changes. Some meters send as many bytes as the number needs."""
    match element:
        case Int(_, _, signed):
            return Int(0, 0, signed)
        case bytes():
            return b"..."
        case list():
            return [_form(part) for part in element]
        case _:
            return element is not None


def _small(element: Element, signed: bool) -> int:
    """A unit or a power of ten; 0 when left out."""
    if element is None:
        return 0
    if not isinstance(element, Int) or element.size != 1 or element.signed != signed or (signed and abs(element.value) > 9):
        raise MeterError("a wrong unit or scaler")
    return element.value


def number(entries: Entries, key: bytes, unit: int) -> Fraction | None:
    entry = entries.get(key)
    return entry.number if entry is not None and entry.unit == unit else None


def energy(entries: Entries, direction: int) -> Fraction | None:
    total = number(entries, bytes((direction, 8, 0)), WH)
    if total is not None:
        return total
    tariffs = [number(entries, bytes((direction, 8, tariff)), WH) for tariff in range(1, 5)]
    listed = [wh for wh in tariffs if wh is not None]
    return sum(listed, Fraction(0)) if listed else None
