"""P1: the telegrams that Dutch, Belgian, Swedish, Luxembourg and some German meters push as lines of text become readings.

Sources: DSMR P1 companion standard 2.2 to 5.0.2, Fluvius eMUCS-P1 1.7.1, EasyMeter Q3D data sheet, IEC 62056-21 6.6 (line syntax).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from drivers.reading import Reading
from drivers.registers import rounded

MOST_LINE = 4096  # bytes; the longest line is a message of 2048 hex digits
MOST_TELEGRAM = 16384  # bytes; Luxembourg has room for five messages

_HEAD = re.compile(rb"/[A-Za-z]{3}[0-9]")  # maker and speed; "/" stands nowhere else (IEC 62056-21)
_NAME = re.compile(r"/[ -~]+")
_LINE = re.compile(r"(\d{1,2}-\d{1,2}:\d{1,3}\.\d{1,3}\.\d{1,3}(?:\*\d{1,3})?)?((?:\([ -'*-~]*\))+)")
_END = re.compile(rb"!([0-9A-Fa-f]{0,4})\x00?\r?\n")  # some meters leave out leading zeros or add a NUL
_VALUE = re.compile(r"\(([-+]?\d{1,10}(?:\.\d{1,9})?)\*(k?)([a-z]{1,3})\)")

_IMPORT, _EXPORT = (tuple(f"1-0:{code}.8.{tariff}" for tariff in range(1, 10)) for code in (1, 2))
_NETS: Mapping[str, tuple[str, str]] = {  # quantity: what is drawn, what is fed in
    "w": ("1-0:1.7.0", "1-0:2.7.0"),
    "w_l1": ("1-0:21.7.0", "1-0:22.7.0"),
    "w_l2": ("1-0:41.7.0", "1-0:42.7.0"),
    "w_l3": ("1-0:61.7.0", "1-0:62.7.0"),
    "var": ("1-0:3.7.0", "1-0:4.7.0"),
}
_SINGLE: Mapping[str, tuple[str, str]] = {  # quantity: code, unit
    **{f"v_l{phase}": (f"1-0:{code}.7.0", "v") for phase, code in ((1, 32), (2, 52), (3, 72))},
    **{f"a_l{phase}": (f"1-0:{code}.7.0", "a") for phase, code in ((1, 31), (2, 51), (3, 71))},
    "hz": ("1-0:14.7.0", "hz"),
}
_UNITS: Mapping[str, str] = {
    **{code: "var" if name == "var" else "w" for name, codes in _NETS.items() for code in codes},
    **dict(_SINGLE.values()),
    **{code: "wh" for code in ("1-0:1.8.0", "1-0:2.8.0", *_IMPORT, *_EXPORT)},
    "1-0:16.7.0": "w",
}
# Whoever sends one of these sends a CRC: version of DSMR 4 and later, version of Fluvius, clock of the meter.
_WITH_CRC = ("1-3:0.2.8", "0-0:96.1.4", "0-0:1.0.0")
# What a meter without CRC sends all of, in one form, or none of; the first two are DSMR 2.2 and 3.
_TOGETHER = (
    ("1-0:1.7.0", "1-0:2.7.0"),
    ("1-0:1.8.1", "1-0:1.8.2", "1-0:2.8.1", "1-0:2.8.2"),
    ("1-0:21.7.0*255", "1-0:41.7.0*255", "1-0:61.7.0*255"),
)


class _Line(NamedTuple):
    code: str  # "" continues the line before
    value: str  # with its parentheses


def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    """CRC-16/ARC, from "/" to "!" with both (DSMR 5.0.2 P1, 5.2)."""
    crc, table = 0, _CRC
    for byte in data:
        crc = crc >> 8 ^ table[crc & 0xFF ^ byte]
    return crc


class P1:
    """Reads a P1 line. w is + drawn from the grid: 1.7.0 less 2.7.0, or the signed 1.7.0 or 16.7.0 of German meters.

    A telegram with CRC is believed by its CRC. One without (DSMR 2.2 and 3, Q3D; 9600 7E1) has nothing but the parity of each byte:
    the port must check it and put NUL for a byte that fails (INPCK without PARMRK). It is then believed when every byte is
    printable, every line has its form, what belongs together is there, and its lines are those of the telegram before.
    Two flipped bits in one byte remain unseen there. After one CRC a telegram without is never taken again.
    """

    def __init__(self) -> None:
        self.damaged = 0  # telegrams begun and thrown away
        self._line = b""  # what has come of the next line
        self._telegram = b""  # its lines until now; empty between two
        self._has_crc = False
        self._codes: Sequence[str] = ()  # the lines of the telegram before, if that was without CRC

    def feed(self, data: bytes) -> list[Reading]:
        """One reading for each intact telegram that these bytes complete; never raises."""
        readings: list[Reading] = []
        *ended, begun = data.split(b"\n")
        for line in ended:
            readings += self._take(self._line + line + b"\n")
            self._line = b""
        self._line = (self._line + begun)[: MOST_LINE + 1]
        return readings

    def _take(self, line: bytes) -> list[Reading]:
        heads = [head.start() for head in _HEAD.finditer(line)]
        if len(line) > MOST_LINE:
            self._throw_away()
        elif heads:
            self._throw_away()
            self._telegram = line[heads[-1] :]
        elif self._telegram and line.startswith(b"!"):
            reading = self._end(self._telegram, line)
            if reading is None:
                self._throw_away()
            self._telegram = b""
            return [] if reading is None else [reading]
        elif self._telegram:
            self._telegram += line
            if len(self._telegram) > MOST_TELEGRAM:
                self._throw_away()
        return []

    def _throw_away(self) -> None:
        self.damaged += bool(self._telegram)
        self._telegram = b""

    def _end(self, telegram: bytes, line: bytes) -> Reading | None:
        """The reading of a telegram whose last line has come; None if it is damaged."""
        end = _END.fullmatch(line)
        if end is None:
            return None
        if end[1] and int(end[1], 16) != crc16(telegram + b"!"):
            return None
        lines, wrong = _lines(telegram)
        if not end[1]:
            return None if wrong or not lines or line != b"!\r\n" else self._unchecked(lines)
        self._has_crc = True
        if wrong:
            return Reading("absent", f"{wrong}; is this a P1 meter? If so, its form is new: report this line", {})
        return _reading(lines)

    def _unchecked(self, lines: Sequence[_Line]) -> Reading | None:
        codes = tuple(line.code for line in lines)
        before, self._codes = self._codes or codes, codes
        if self._has_crc or codes != before or any(code in codes for code in _WITH_CRC):
            return None
        for group in _TOGETHER:
            values = [line.value for line in lines if line.code in group]
            forms = {re.sub("[0-9]", "0", value) for value in values if value[1] not in "+-"}
            if values and (len(values) < len(group) or len(forms) > 1):
                return None
        reading = _reading(lines)
        phases = [reading.values[name] for name in ("w_l1", "w_l2", "w_l3") if name in reading.values]
        total_w = reading.values.get("w", 0)
        if reading.quality == "good" and len(phases) == 3 and abs(total_w - sum(phases)) > max(10, 0.02 * abs(total_w)):
            why = f"w reads {total_w}, but its phases make {sum(phases)}, and this telegram has no checksum"
            return Reading("suspect", f"{why}; if it stays, clean and seat the optical head", reading.values)
        return reading


def _lines(telegram: bytes) -> tuple[list[_Line], str]:
    """The lines after the name, and what is wrong with the first that is not of the form."""
    name, *rest = telegram.decode("ascii", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")
    lines: list[_Line] = []
    seen: set[str] = set()
    wrong = "" if _NAME.fullmatch(name) else f"the telegram's name is {name!r}"
    for text in filter(None, rest):
        line = _LINE.fullmatch(text)
        if line is None:
            wrong = wrong or f"the telegram holds the line {text!r}"
            continue
        lines.append(_Line(line[1] or "", line[2]))
        code = lines[-1].code.removesuffix("*255")
        if code in seen:
            wrong = wrong or f"the telegram holds {code} twice"
        seen |= {code} & _UNITS.keys()
    return lines, wrong


def _reading(lines: Sequence[_Line]) -> Reading:
    told = {code: line.value for line in lines if (code := line.code.removesuffix("*255")) in _UNITS}
    fields = {code: _exact(code, value) for code, value in told.items()}
    nets = {**_NETS, "w": _NETS["w"] if "1-0:1.7.0" in told else ("1-0:16.7.0", "")}
    exact = {
        **{name: _sum(fields, plus, minus) for name, (plus, minus) in nets.items()},
        **{name: fields.get(code) for name, (code, _) in _SINGLE.items()},
        "import_wh": _counted(fields, "1-0:1.8.0", _IMPORT),
        "export_wh": _counted(fields, "1-0:2.8.0", _EXPORT),
    }
    values = {name: rounded(name, value) for name, value in exact.items() if value is not None}
    if "w" in values:
        return Reading("good", "", values)
    power = {code: value for code, value in told.items() if code in (*_NETS["w"], "1-0:16.7.0")}
    if power:
        shown = ", ".join(f"{code}{value}" for code, value in power.items())
        return Reading("absent", f"the meter gives its power as {shown}, which cannot be used; ask the grid operator why", values)
    return Reading("absent", "the meter sends no power (1-0:1.7.0); ask the grid operator to enable it on this output", values)


def _exact(code: str, value: str) -> Fraction | None:
    """In watts, var, watt-hours, volts, amps or hertz; None when it is no number in a unit of its quantity."""
    number = _VALUE.fullmatch(value.lower())
    if number is None or number[3] != _UNITS[code] or (number[1][0] in "+-" and _UNITS[code] not in ("w", "var")):
        return None
    return Fraction(number[1]) * (1000 if number[2] else 1)


def _sum(fields: Mapping[str, Fraction | None], plus: str, minus: str) -> Fraction | None:
    drawn, fed = fields.get(plus), fields.get(minus, Fraction(0))
    if drawn is None or fed is None or (drawn < 0 and fed):  # a signed one beside the other: which is meant?
        return None
    return drawn - fed


def _counted(fields: Mapping[str, Fraction | None], total: str, tariffs: Sequence[str]) -> Fraction | None:
    """The total counter, else the sum of the tariffs': of all of them or none."""
    if total in fields:
        return fields[total]
    parts = [fields[code] for code in tariffs if code in fields]
    known = [part for part in parts if part is not None]
    return sum(known, Fraction(0)) if known and len(known) == len(parts) else None
