"""A pretend battery with its inverter: SunSpec registers that are obeyed, a state of charge, limits, a timer, faults."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping
from typing import Final

from drivers.faults import Request, Send, frame
from drivers.setpoint import (
    BOTH,
    ENA,
    ENA_REVERT,
    IN_RATE,
    MOD,
    OUT_RATE,
    RATE_REVERT,
    SET_REVERT,
    STOR_CTL,
    W_CHA_MAX,
    W_SET,
    Control,
)
from drivers.sunspec_image import Part, common, image
from drivers.sunspec_models import LAYOUTS

DELAY_S = 0.8  # of the fault "delays"
FAULTS: Mapping[str, str] = {
    "refuses": "answers each write with exception 4",
    "ignores": "says that it wrote, and did not",
    "clips": "holds half of the watts that were written",
    "delays": f"holds what was written only {DELAY_S} s later",
    "lies": "holds other watts than those that were written",
    "no-timer": "holds no reversion timer",
    "mute": "does what is written and does not say so",
    "disobeys": "holds what was written and gives nothing",
    "dead": "answers nothing any more, and goes on as it was told",
}
PERCENT_SF: Final = -2
_WRITABLE: Mapping[Control, frozenset[int]] = {
    "sunspec-124": frozenset({STOR_CTL, OUT_RATE, IN_RATE, RATE_REVERT}),
    "sunspec-704": frozenset({ENA, MOD, W_SET, W_SET + 1, ENA_REVERT, SET_REVERT, SET_REVERT + 1}),
}


class PretendBattery:
    """One unit. `answer` may be called in one thread, the rest in any; `now` is of one clock, whichever, in seconds.

    + watts discharge. Its own register W, and a reading of it, follow their models' signs.
    """

    def __init__(
        self,
        control: Control = "sunspec-124",
        unit: int = 1,
        power_w: int = 5000,
        energy_wh: int = 10_000,
        soc_wh: float | None = None,
        hz: Callable[[float], float] = lambda now: 50.0,
        droop_w_per_hz: int = 0,
        scale: int = 0,
    ) -> None:
        """`power_w` is its rating; `hz` the frequency that it sees; with droop it gives more below 49.8 and less above 50.2.

        `scale`: the power of ten of watts written to a 704.
        """
        self.control, self.unit, self.power_w, self.energy_wh = control, unit, power_w, energy_wh
        self.hz, self.droop_w_per_hz, self.scale = hz, droop_w_per_hz, scale
        self.fault = ""  # one of FAULTS; may be changed at any time
        self.writes: list[tuple[int, tuple[int, ...]]] = []  # (offset in the control model, words) of those that it accepted
        self._soc_wh = energy_wh / 2 if soc_wh is None else soc_wh
        self._given_wh = self._taken_wh = 0.0
        self._now: float | None = None
        self._ends_s = float("inf")  # when the set-point in force reverts
        self._words = self._begin()
        self._later: list[tuple[float, dict[int, int]]] = []
        self._lock = threading.Lock()

    def watts(self, now: float) -> float:
        """What it gives now, after everything that time has done."""
        with self._lock:
            self._advance(now)
            return self._w(now)

    def soc_wh(self, now: float) -> float:
        with self._lock:
            self._advance(now)
            return self._soc_wh

    def answer(self, request: Request, now: float) -> list[Send]:
        """What to send for this request; another unit's is met with silence, over TCP with a gateway's exception 11."""
        if request.unit != self.unit:
            missed = frame(request.unit, bytes([request.pdu[0] | 0x80, 11]), request.transaction)
            return [] if request.transaction is None else [Send(0.0, missed)]
        with self._lock:
            self._advance(now)
            fault = self.fault
            writes = request.pdu[0] in (6, 16)
            if fault == "dead":
                return []
            pdu = self._write(request.pdu, now) if writes else self._read(request.pdu, now)
        silent = fault == "mute" and writes
        return [] if silent else [Send(0.0, frame(self.unit, pdu, request.transaction))]

    # what it is asked

    def _read(self, pdu: bytes, now: float) -> bytes:
        if pdu[0] != 3 or len(pdu) != 5:
            return bytes([pdu[0] | 0x80, 1])
        address, count = struct.unpack(">HH", pdu[1:])
        held, _ = self._image(now)
        words = [held.get(address + i, -1) for i in range(count)]
        if not 1 <= count <= 125 or -1 in words:
            return bytes([0x83, 2 if 1 <= count <= 125 else 3])
        return struct.pack(f">BB{count}H", 3, 2 * count, *words)

    def _write(self, pdu: bytes, now: float) -> bytes:
        single = pdu[0] == 6
        address, count = struct.unpack(">H", pdu[1:3])[0], 1 if single else int.from_bytes(pdu[3:5], "big")
        words = struct.unpack(f">{count}H", pdu[3:5] if single else pdu[6 : 6 + 2 * count])
        _, base = self._image(now)
        at = address - base
        if self.fault == "refuses":
            return bytes([pdu[0] | 0x80, 4])
        if not set(range(at, at + count)) <= _WRITABLE[self.control]:
            return bytes([pdu[0] | 0x80, 2])
        self.writes.append((at, words))
        new = dict(enumerate(words, at))
        if self.fault == "delays":
            self._later.append((now + DELAY_S, new))
        elif self.fault != "ignores":
            self._take(self._spoiled(new), now)
        return pdu[:5]  # function, address, and the count or the one value

    def _spoiled(self, new: dict[int, int]) -> dict[int, int]:
        if self.fault in ("clips", "lies"):
            change = (lambda number: int(number / 2)) if self.fault == "clips" else (lambda number: -number)
            for at in (OUT_RATE, IN_RATE) if self.control == "sunspec-124" else ():
                if at in new:
                    new[at] = change(_signed(new[at])) & 0xFFFF
            if self.control == "sunspec-704" and W_SET in new:
                number = change(_signed32(new[W_SET], new[W_SET + 1])) & 0xFFFF_FFFF
                new[W_SET], new[W_SET + 1] = number >> 16, number & 0xFFFF
        if self.fault == "no-timer":
            timer = {RATE_REVERT} if self.control == "sunspec-124" else {SET_REVERT, SET_REVERT + 1}
            new |= dict.fromkeys(timer & set(new), 0)
        return new

    def _take(self, new: Mapping[int, int], now: float) -> None:
        """What is written is in force, and the timer begins anew."""
        self._words |= new
        timer_s = self._timer_s()
        self._ends_s = now + timer_s if self._on() and timer_s else float("inf")

    # what it does

    def _on(self) -> bool:
        return self._words[STOR_CTL] == BOTH if self.control == "sunspec-124" else self._words[ENA] == 1

    def _timer_s(self) -> int:
        words = self._words
        return words[RATE_REVERT] if self.control == "sunspec-124" else words[SET_REVERT] << 16 | words[SET_REVERT + 1]

    def _asked_w(self) -> float:
        if not self._on() or self.fault == "disobeys":
            return 0.0
        words = self._words
        if self.control == "sunspec-704":
            return _signed32(words[W_SET], words[W_SET + 1]) * 10.0**self.scale
        most, least = (
            _signed(word) * 10.0**PERCENT_SF / 100 * self.power_w for word in (words[OUT_RATE], -words[IN_RATE] & 0xFFFF)
        )
        return min(max(0.0, least), most) if least <= most else 0.0

    def _w(self, now: float) -> float:
        hz = self.hz(now)
        w = self._asked_w() + self.droop_w_per_hz * (max(0.0, 49.8 - hz) - max(0.0, hz - 50.2))
        w = max(-float(self.power_w), min(float(self.power_w), w))
        if (w > 0 and self._soc_wh <= 0) or (w < 0 and self._soc_wh >= self.energy_wh):
            return 0.0
        return w

    def _advance(self, now: float) -> None:
        """Everything that has happened since, in order: late writes, the end of the timer, energy."""
        at = self._now = now if self._now is None else self._now
        while True:
            first = min([now, self._ends_s, *(due for due, _ in self._later)])
            self._flow(at, max(at, first))
            at = max(at, first)
            late = [entry for entry in self._later if entry[0] <= at]
            self._later = [entry for entry in self._later if entry[0] > at]
            for due, new in late:
                self._take(new, due)
            if self._ends_s <= at:
                self._ends_s = float("inf")
                self._words[STOR_CTL if self.control == "sunspec-124" else ENA] = 0
            elif not late:
                break
        self._now = max(at, now)

    def _flow(self, start: float, end: float) -> None:
        wh = self._w(start) * (end - start) / 3600
        wh = min(wh, self._soc_wh) if wh > 0 else max(wh, self._soc_wh - self.energy_wh)
        self._soc_wh -= wh
        self._given_wh += max(wh, 0.0)
        self._taken_wh += max(-wh, 0.0)

    # its registers

    def _begin(self) -> dict[int, int]:
        """The control model's own words; rates stand at 100 % both ways, as they leave the factory."""
        if self.control == "sunspec-124":
            full = 100 * 10**-PERCENT_SF
            return {
                W_CHA_MAX: self.power_w,
                3: 100,
                4: 100,
                STOR_CTL: 0,
                OUT_RATE: full,
                IN_RATE: full,
                14: 0xFFFF,
                RATE_REVERT: 0,
                16: 0xFFFF,
                17: 1,
                18: 0,
                19: 0,
                25: PERCENT_SF & 0xFFFF,
            }
        off = {at: 0xFFFF for at in range(2, 67)} | {24: 0, 25: 0, 53: 0x8000, 54: 0x8000, 55: self.scale & 0xFFFF, 56: 0x8000}
        return off | {ENA: 0, MOD: 1, ENA_REVERT: 0, SET_REVERT: 0, SET_REVERT + 1: 0}

    def _image(self, now: float) -> tuple[dict[int, int], int]:
        """Address -> word, and where the control model begins."""
        w, soc_pct = -round(self._w(now)), round(100 * self._soc_wh / self.energy_wh, 1)
        shown = {"w": w, "hz": round(self.hz(now), 2), "v_l1": 230.0, "va": abs(w), "var": 0, "export_wh": int(self._given_wh) + 1}
        soc = {"soc_pct": soc_pct}
        if self.control == "sunspec-124":
            rated = {2: 82, 3: self.power_w, 4: 0, 23: self.power_w, 24: 0, 25: self.power_w, 26: 0}
            nothing = {at: 0xFFFF for at in range(2, 28)}
            parts = [common("Grid"), Part(103, shown), Part(120, length=26, words=nothing | rated)]
            parts.append(Part(124, soc, words=self._words))
            before, own = parts[:-1], 124
        else:
            rated = {2: self.power_w, 10: self.power_w, 11: self.power_w, 45: 0}
            nothing = {at: 0xFFFF for at in range(2, 45)} | {at: 0x8000 for at in range(45, 52)}
            shown |= {"import_wh": int(self._taken_wh)}
            parts = [common("Grid"), Part(701, shown), Part(702, length=50, words=nothing | rated)]
            parts += [Part(704, length=65, words=self._words), Part(713, soc)]
            before, own = parts[:3], 704
        base = 40002 + sum(2 + (part.length or LAYOUTS[part.id].length) for part in before)
        held = image(parts)
        assert held[base] == own
        return held, base


def _signed(word: int) -> int:
    return word - 0x10000 if word > 0x7FFF else word


def _signed32(high: int, low: int) -> int:
    number = high << 16 | low
    return number - 0x1_0000_0000 if number > 0x7FFF_FFFF else number
