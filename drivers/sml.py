"""SML: what German meters send of their own accord, from bytes to readings (SML 1.04, BSI TR-03109-1)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from drivers.reading import QUANTITIES, MeterError, Quality, Reading
from drivers.registers import rounded
from drivers.sml_list import HZ, A, Entries, Entry, Told, V, W, energy, listed, number
from drivers.sml_wire import Telegrams

LOCKED = (
    'the meter shows no power without its PIN: unlock it (PIN from the metering company) and switch on the full data set ("InF on")'
)
_ALIKE = "this DZG meter sends some import and export alike, and its counters do not tell which one this is"

# OBIS C.D.E (IEC 62056-61) of medium 1, channel 0.
_SIGNED, _ABSOLUTE, _IN, _OUT, _TARIFF_IN = b"\x10\7\0", b"\x0f\7\0", b"\1\7\0", b"\2\7\0", b"\1\7\1"
_PHASES: Mapping[str, bytes] = {"w_l1": bytes((36, 7, 0)), "w_l2": bytes((56, 7, 0)), "w_l3": bytes((76, 7, 0))}
_MAGNITUDES: Mapping[str, tuple[bytes, int]] = {
    **{f"v_l{phase}": (bytes((12 + 20 * phase, 7, 0)), V) for phase in (1, 2, 3)},
    **{f"a_l{phase}": (bytes((11 + 20 * phase, 7, 0)), A) for phase in (1, 2, 3)},
    "hz": (bytes((14, 7, 0)), HZ),
}
_RANGES: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("w", *_PHASES), (-1_000_000, 1_000_000)),  # a low-voltage connection
    **dict.fromkeys(("v_l1", "v_l2", "v_l3"), (0, 500)),
    **dict.fromkeys(("a_l1", "a_l2", "a_l3"), (-2000, 2000)),
    "hz": (40, 70),
    **dict.fromkeys(("import_wh", "export_wh"), (0, 10**14)),
}

# Status of the energy entries, 1 is export: bit 11 of the form of today, known by its low byte 0x04 (seen: 0x1C0104 at import,
# 0x1C7904 at export, 0x1C0004 below the starting current, bit 8); bit 5 of FNN Lastenheft EDL 1.0 (EMH: 0x182 and 0x1A2).
_NEW, _STARTED, _EXPORTS_NEW, _EXPORTS_OLD = 0x04, 1 << 8, 1 << 11, 1 << 5

# DZG DVS74 meters of these serial numbers may send positive power in a signed field without room for the sign: 328.05 W as
# 53 80 25, which is also -327.31 W. The maker names 42 to 48.9 and 55 to 58.9 million; one of 50.0 million was seen with it
# (libsml issues 59, 105, 132 and pull request 136; vzlogger issue 544). DWSB, 40.0 million, sends its sign.
_DZG, _DZG_ALIKE = b"DZG", range(42_000_000, 60_000_000)
_DZG_MOST_W = 80_000  # above the 69 kW of a 100 A connection: whoever reads more reads it wrong
_KINDS = 4  # of telegram remembered: what the meter sends now and then, or a head makes of it in bad light
_MOVED_S = 3  # a counter of 0.1 Wh moves every 1.1 s at 328 W, the least watts that two bytes can turn negative


class Sml:
    """The ear of one optical head. Bytes may come in any pieces, from the middle of a telegram on.

    A telegram counts only when its own CRC, that of each message, and the whole structure are right; else it is thrown away.
    Both CRCs have one polynomial, so that they miss the same 1 in 32,768 of even numbers of flipped bits in one message. Hence
    it must also follow one of the last few: same meter, same entries, counters moved no farther than a connection can move
    them. What does not is held back until another follows it: the first telegram, and one after each lasting change. With 1 to
    8 flips anywhere that leaves fewer than one wrong value in a billion damaged telegrams.
    """

    def __init__(self, trusting: bool = False) -> None:
        """`trusting` believes what follows nothing, too: of a recording, which may hold a single telegram."""
        self._telegrams = Telegrams()
        self._refused = 0
        self._moves = _Moves()
        self._trusting = trusting
        self._heard: tuple[Told, ...] = ()  # one of each kind, newest first

    @property
    def damaged(self) -> int:
        """Telegrams begun and thrown away; of those held back all but the first."""
        return self._telegrams.dropped + self._refused

    def feed(self, data: bytes) -> list[Reading]:
        """One reading for each telegram that `data` completes.

        w is + for import. "absent" with the counters when the meter keeps its power behind a PIN, "suspect" without w when it does
        not tell the direction. A total that is not listed is the sum of the tariffs that are.
        """
        self._telegrams.add(data)
        readings = []
        while (telegram := self._telegrams.next()) is not None:
            try:
                told = listed(telegram)
            except MeterError:
                self._refused += 1
                self._telegrams.back(telegram)
                continue
            if self._believes(told):
                moves = self._moves.told(told.server, told.second, *told.counters)
                readings.append(_finished(told, moves))
        return readings

    def _believes(self, told: Told) -> bool:
        others = tuple(one for one in self._heard if not told.follows(one))
        follows, first = len(others) < len(self._heard), not self._heard
        self._heard = (told, *others)[:_KINDS]
        self._refused += not (follows or first or self._trusting)
        return follows or self._trusting


class _Moves:
    """Which counter moved of late, on the meter's own clock."""

    def __init__(self) -> None:
        self._last: tuple[bytes, int, Fraction | None, Fraction | None] | None = None
        self._in_at = self._out_at = 0

    def told(self, server: bytes, second: int | None, import_wh: Fraction | None, export_wh: Fraction | None) -> int:
        """1 when only the counter of import rose within _MOVED_S up to now, -1 when only that of export did, else 0."""
        if second is None:
            return 0
        last, self._last = self._last, (server, second, import_wh, export_wh)
        if last is None or last[0] != server or not 0 <= second - last[1] <= _MOVED_S:
            self._in_at = self._out_at = second - _MOVED_S - 1
            return 0
        if _rose(last[2], import_wh):
            self._in_at = second
        if _rose(last[3], export_wh):
            self._out_at = second
        return int(second - self._in_at <= _MOVED_S) - int(second - self._out_at <= _MOVED_S)


def _rose(before: Fraction | None, after: Fraction | None) -> bool:
    return before is not None and after is not None and after > before


def _status(entries: Entries) -> int | None:
    """The status of the first counter that has one."""
    for key in (bytes((direction, 8, tariff)) for direction in (1, 2) for tariff in range(3)):
        entry = entries.get(key)
        if entry is not None and entry.status is not None:
            return entry.status
    return None


def _ambiguous(entry: Entry) -> bool:
    """Whether a DZG's negative number can be a positive one without room for its sign."""
    return entry.value.signed and entry.value.value < 0 and entry.unsigned < _DZG_MOST_W


def _power(entries: Entries, doubtful: bool, moves: int) -> tuple[Fraction | None, str]:
    """(watts, ""), or (None, why not); (None, "") when the meter lists no power at all."""
    status = _status(entries)
    word = status or 0
    new = word & 0xFF == _NEW
    exports = bool(word & (_EXPORTS_NEW if new else _EXPORTS_OLD))
    phases = [entries[key] for key in _PHASES.values() if number(entries, key, W) is not None]
    powers = [key for key in (_SIGNED, _ABSOLUTE, _IN, _OUT, _TARIFF_IN) if number(entries, key, W) is not None]
    signed = entries[_SIGNED] if _SIGNED in powers else None
    if not powers and len(phases) == 1:  # single-phase meters of DZG list nothing else
        signed = phases[0]
    absolute = number(entries, _ABSOLUTE, W)
    if signed is not None:
        if doubtful and _ambiguous(signed) and not (new and exports):
            if new and moves > 0:
                return signed.unsigned, ""
            return None, _ALIKE
        if new and exports and word & _STARTED and signed.number > 0:
            return None, "the meter says that it exports, but its power has no sign; can it be set to signed power?"
        return signed.number, ""
    if absolute is not None:
        if status is None:
            return None, "the meter shows its power without direction"
        if moves == (1 if exports else -1):
            return None, "the meter's status says the other direction than its moving counter"
        return -absolute if exports else absolute, ""
    if powers:
        return _halves(entries)
    if doubtful and any(_ambiguous(entry) for entry in phases):
        return None, _ALIKE
    return (sum((entry.number for entry in phases), Fraction(0)) if phases else None), ""


def _halves(entries: Entries) -> tuple[Fraction | None, str]:
    """Power out of its two directions, of one of them, or of the first tariff."""
    power_in, power_out = number(entries, _IN, W), number(entries, _OUT, W)
    if power_in is None and power_out is None:
        return number(entries, _TARIFF_IN, W), ""
    if power_out is None and not power_in and energy(entries, 2) is not None:
        return None, "the meter shows the power of import only, and that is 0: it may be exporting"
    if power_in is None and not power_out and energy(entries, 1) is not None:
        return None, "the meter shows the power of export only, and that is 0: it may be importing"
    return (power_in or 0) - (power_out or Fraction(0)), ""


def _finished(told: Told, moves: int) -> Reading:
    entries, server = told.entries, told.server
    doubtful = server[2:5] == _DZG and int.from_bytes(server[6:10], "big") in _DZG_ALIKE
    watts, why = _power(entries, doubtful, moves)
    exact: dict[str, Fraction | None] = {"w": watts, "import_wh": told.counters[0], "export_wh": told.counters[1]}
    for name, key in _PHASES.items():
        exact[name] = None if doubtful and key in entries and _ambiguous(entries[key]) else number(entries, key, W)
    for name, (key, unit) in _MAGNITUDES.items():
        exact[name] = number(entries, key, unit)
    values = {name: value for name in QUANTITIES if (value := exact.get(name)) is not None}
    reasons = [why] if why else []
    for name, (low, high) in _RANGES.items():
        if name in values and not low <= values[name] <= high:
            reasons.append(f"{name} reads {float(values[name]):.6g}, outside {low} to {high}")
    quality: Quality = "suspect" if reasons else "good"
    if watts is None and not why:
        quality, reasons = "absent", [LOCKED]
    return Reading(quality, "; ".join(reasons), {name: rounded(name, value) for name, value in values.items()})
