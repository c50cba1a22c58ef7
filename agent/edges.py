"""A node's own registers at the slot edges: they only grow, through restarts, power cuts and meters that fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from agent import wire
from agent.wire import DAY_S, Energy
from drivers.reading import Reading, Role

GAP_S = 10.0  # readings further apart leave open what was between: power is not held longer, an edge between is flagged
BRIDGE_S = 86_400.0  # counters that were silent for longer put no edges on a line: those slots are final by now
CONFIRM_S, CONFIRM = 300.0, 10  # a counter that fell or leapt is believed when it goes on from there so long and often
HANDOVER_S = 3600.0  # counters that are gone for so long, while power is there, are not coming back
CLOCK_S = 600.0  # so long after a boot a clock not known good may still become so; then edges are taken by it as it is
JUMP_S = 60.0  # a clock set forward over an edge by no more than this: the edge is taken at that moment, and flagged
LOST_S = 30 * 86_400.0  # the longest power cut whose energy is believed when the clock cannot tell how long it was
STEP_WH = 1000  # some counters count whole kWh
WMS = 3_600_000  # watt-milliseconds in a watt-hour
ROOM = wire.MAX_PAYLOAD - 1024  # of one day's registers; the rest is for signature and what else a record has

Counters = Mapping[str, tuple[int, int]]
"""By meter's name its own counters (import, export) in Wh."""


def counters(readings: Sequence[tuple[str, Role, Reading]]) -> Counters | None:
    """The counters of all grid meters; None when there is no such meter, or one did not tell both of its counters.

    Other meters do not count: what flows between a node's own meters never passed the grid.
    """
    grid = [(name, reading) for name, role, reading in readings if role == "grid"]
    if not grid or any(r.quality != "good" or not {"import_wh", "export_wh"} <= r.values.keys() for _, r in grid):
        return None
    return {name: (int(reading.values["import_wh"]), int(reading.values["export_wh"])) for name, reading in grid}


class Mark(NamedTuple):
    """A moment at which registers and wall clock were both known; `now` None: in an earlier run."""

    unix_s: float
    import_wms: int
    export_wms: int
    now: float | None


class Odd(NamedTuple):
    """Counters that fell or leapt: since when and how often they went on steadily from there, and where they were last."""

    since_s: float
    times: int
    counters: Counters
    now: float


class Kept(msgspec.Struct, frozen=True):
    """What a restart needs; taken at an edge, so that counters bridge the rest."""

    slot_s: int
    unix_s: float | None
    registers_wms: tuple[int, int]
    counters: dict[str, tuple[int, int]]
    edges: dict[int, tuple[int, int]]
    flags: dict[int, list[str]]


@dataclass(slots=True)
class Edges:
    """Registers that only ever grow, and what they were at the slot edges of yesterday and today.

    Registers go on from the node's meters' own counters, and start at them, so that a person can compare. Without counters
    power is added up. Edges and slots are numbered from 1970: slot k begins at edge k.
    Why a slot is less than exact: "integrated" (from power), "partial" (energy of a part is not known, or an edge lies on a
    line between readings far apart), "clock" (an edge by a clock not known good), "counter" (one fell or leapt and was held).
    """

    rated_w: int
    slot_s: int
    gap_s: float = GAP_S
    import_wms: int = 0
    export_wms: int = 0
    edges: dict[int, tuple[int, int]] = field(default_factory=dict)
    flags: dict[int, set[str]] = field(default_factory=dict)
    _counters: dict[str, tuple[int, int]] = field(default_factory=dict)
    _mark: Mark | None = None
    _heard_s: float | None = None  # when the counters last counted, in this run
    _silent_s: float | None = None  # since when they do not
    _odd: Odd | None = None
    _power: tuple[int, float] | None = None
    _lost: bool = False  # what flowed since the mark is not all in the registers
    _why: set[str] = field(default_factory=set)  # for the slots from the mark on

    def sample(self, counted: Counters | None, net_w: int | None, unix_s: float, clock_good: bool, now: float) -> list[int]:
        """Take one look at the meters in: all counters or None, and the node's net (W, + = surplus) or None.

        Returns the days whose records are new: publish those `keys` that are not None, and keep `dump`. Call it every few
        seconds, with two Nones as well; time that passes without a call is a gap. `now` counts from the machine's boot.
        """
        if not self._advance(counted, net_w, unix_s, clock_good, now):
            return []
        mark, new = self._mark, Mark(unix_s, self.import_wms, self.export_wms, now)
        if mark is None:
            self._mark, self._lost = new, False
            return self._days({int(unix_s // self.slot_s)})
        if not clock_good and (unix_s < mark.unix_s or (mark.now is None and now < CLOCK_S)):
            return []  # a time before one already seen is no time
        if unix_s < mark.unix_s:
            open_slot = int(unix_s // self.slot_s)
            self.edges = {edge: at for edge, at in self.edges.items() if edge <= open_slot}
            self.flags = {slot: why for slot, why in self.flags.items() if slot <= open_slot}
        self._mark = new
        return self._cross(mark, min(unix_s, mark.unix_s) if mark.now is None else unix_s - (now - mark.now), new, clock_good)

    def _advance(self, counted: Counters | None, net_w: int | None, unix_s: float, clock_good: bool, now: float) -> bool:
        """Let the registers grow; False when nothing new is known."""
        if counted is not None:
            self._power = self._silent_s = None
            return self._count(counted, unix_s, clock_good, now)
        if self._counters:
            self._silent_s = now if self._silent_s is None else self._silent_s
            if net_w is None or now - self._silent_s < HANDOVER_S:
                return False
            self._counters.clear()
        if net_w is None:
            return False
        self._why.add("integrated")
        last, self._power = self._power, (net_w, now)
        if last is None or now - last[1] > self.gap_s:
            self._lost = True
            return True
        wms = last[0] * round((now - last[1]) * 1000)
        self.import_wms += max(0, -wms)
        self.export_wms += max(0, wms)
        return True

    def _count(self, counted: Counters, unix_s: float, clock_good: bool, now: float) -> bool:
        if self._mark is None:
            self.import_wms = max(self.import_wms, WMS * sum(import_wh for import_wh, _ in counted.values()))
            self.export_wms = max(self.export_wms, WMS * sum(export_wh for _, export_wh in counted.values()))
            self._counters, self._heard_s = dict(counted), now
            return True
        if self._heard_s is not None:
            past_s = now - self._heard_s
        else:
            past_s = max(0.0, unix_s - self._mark.unix_s) if clock_good else LOST_S
        steady = self._steady(self._counters, counted, past_s)
        if not all(steady.values()):
            self._why.add("counter")
            odd = self._odd
            goes_on = odd is not None and all(self._steady(odd.counters, counted, now - odd.now).values())
            since_s, times = (odd.since_s, odd.times + 1) if odd is not None and goes_on else (now, 1)
            self._odd = Odd(since_s, times, counted, now)
            if now - since_s < CONFIRM_S or times < CONFIRM:
                return False
        whole = all(steady.values()) and counted.keys() == self._counters.keys()
        for name in self._counters.keys() & counted.keys():
            if steady[name]:
                self.import_wms += WMS * (counted[name][0] - self._counters[name][0])
                self.export_wms += WMS * (counted[name][1] - self._counters[name][1])
        if not whole:
            self._why.add("counter")
            self._lost = True
        self._counters, self._heard_s, self._odd = dict(counted), now, None
        return True

    def _steady(self, old: Counters, new: Counters, past_s: float) -> dict[str, bool]:
        """By meter known before: could its counters have gone from the old to the new in this time?"""
        most = int(self.rated_w * 1.2 * past_s / 3600) + STEP_WH
        return {
            name: all(0 <= after - before <= most for before, after in zip(old[name], new[name], strict=True))
            for name in old.keys() & new.keys()
        }

    def _cross(self, mark: Mark, from_s: float, new: Mark, clock_good: bool) -> list[int]:
        """Note the edges passed between two marks, on the straight line."""
        as_it_was = mark.unix_s < from_s <= mark.unix_s + JUMP_S or (not clock_good and from_s < mark.unix_s)
        from_slot, open_slot = int((mark.unix_s if as_it_was else from_s) // self.slot_s), int(new.unix_s // self.slot_s)
        past_s = new.unix_s - from_s
        why, self._why, lost, self._lost = self._why, set(), self._lost, False
        if past_s > BRIDGE_S:
            from_slot, lost = open_slot, True
        if lost and past_s > self.gap_s:
            why.add("partial")
        for slot in range(from_slot, open_slot + 1) if why else ():
            self.flags.setdefault(slot, set()).update(why)
        passed = set(range(from_slot + 1, open_slot + 1)) if past_s <= self.gap_s or not lost else set()
        fresh = passed - self.edges.keys()
        from_ms, past_ms = round(from_s * 1000), max(1, round(past_s * 1000))
        for edge in fresh:
            part_ms = min(max(0, edge * self.slot_s * 1000 - from_ms), past_ms)
            import_wms = mark.import_wms + (new.import_wms - mark.import_wms) * part_ms // past_ms
            export_wms = mark.export_wms + (new.export_wms - mark.export_wms) * part_ms // past_ms
            self.edges[edge] = import_wms // WMS, export_wms // WMS
            doubts = {"partial"} if past_s > self.gap_s else set()
            doubts |= {"clock"} if not clock_good or edge * self.slot_s < from_s else set()
            for slot in (edge - 1, edge) if doubts else ():
                self.flags.setdefault(slot, set()).update(doubts)
        if fresh and (clock_good or len(self.edges) > 4 * DAY_S // self.slot_s):
            first = (open_slot * self.slot_s // DAY_S - 1) * (DAY_S // self.slot_s)
            self.edges = {edge: at for edge, at in self.edges.items() if edge >= first}
            self.flags = {slot: why for slot, why in self.flags.items() if slot >= first}
        return self._days(fresh)

    def _days(self, edges: Iterable[int]) -> list[int]:
        """The days in whose records these edges stand: midnight is in two."""
        day = DAY_S // self.slot_s
        return sorted({edge // day for edge in edges} | {(edge - 1) // day for edge in edges})

    # what others and a later run are told

    def keys(self, day: int, zone: str) -> dict[str, Any] | None:
        """The energy record of a day but for instance and version; None when no edge of it is known.

        Edge 0 is the day's midnight and the last the next one, so that each slot stands in one record. Where a day of short
        slots has no room in a message its oldest edges are left out.
        """
        slots = DAY_S // self.slot_s
        known = [edge - day * slots for edge in self.edges if 0 <= edge - day * slots <= slots]
        if not known:
            return None
        first, last = min(known), max(known)
        while True:
            numbers = range(first, last + 1)
            at = [self.edges.get(day * slots + number) for number in numbers]
            flags = {n: " ".join(sorted(self.flags[day * slots + n])) for n in numbers[:-1] if day * slots + n in self.flags}
            keys: dict[str, Any] = {
                "day": day,
                "slot_s": self.slot_s,
                "edges": first,
                "import_wh": [both and both[0] for both in at],
                "export_wh": [both and both[1] for both in at],
                "flags": flags,
                "zone": zone,
                "rated_w": self.rated_w,
            }
            if len(wire.encode(keys)) <= ROOM:
                return keys
            first += max(1, slots // 24)

    def dump(self) -> bytes:
        """For `load`, after a restart."""
        flags = {slot: sorted(why) for slot, why in self.flags.items()}
        unix_s = self._mark.unix_s if self._mark is not None else None
        registers = self.import_wms, self.export_wms
        return msgspec.json.encode(Kept(self.slot_s, unix_s, registers, self._counters, self.edges, flags))

    def load(self, data: bytes) -> None:
        """Go on where `dump` was taken. Raises msgspec.DecodeError when it is no dump."""
        kept = msgspec.json.decode(data, type=Kept)
        slot_s, self.slot_s = self.slot_s, kept.slot_s
        self.import_wms, self.export_wms = kept.registers_wms
        self._counters, self.edges = kept.counters, kept.edges
        self.flags = {slot: set(why) for slot, why in kept.flags.items()}
        self._mark = Mark(kept.unix_s, *kept.registers_wms, None) if kept.unix_s is not None else None
        self.reslot(slot_s)

    def reslot(self, slot_s: int) -> None:
        """From now on slots have another length. Edges that both lengths have stay; at a midnight nothing is lost."""
        old, self.slot_s = self.slot_s, slot_s
        if old == slot_s:
            return
        self.edges = {edge * old // slot_s: at for edge, at in self.edges.items() if edge * old % slot_s == 0}
        flags, self.flags = self.flags, {}
        for slot, why in flags.items():
            for new in range(slot * old // slot_s, ((slot + 1) * old - 1) // slot_s + 1):
                self.flags.setdefault(new, set()).update(why)

    def learn(self, record: Energy) -> list[int]:
        """Take edges back from a record of this node that an earlier life told, when its own memory was lost.

        Our registers are lifted above it where they would fall. Returns the days whose records are new, as `sample`.
        """
        first = record.day * (DAY_S // record.slot_s) + record.edges
        told = {
            first + i: (import_wh, export_wh)
            for i, (import_wh, export_wh) in enumerate(zip(record.import_wh, record.export_wh, strict=True))
            if import_wh is not None and export_wh is not None and first + i not in self.edges
        }
        if record.slot_s != self.slot_s or not told:
            return []
        lift, high, taken = (0, 0), (0, 0), set()
        merged: dict[int, tuple[int, int]] = {}
        for edge in sorted(self.edges.keys() | told.keys()):
            own = self.edges.get(edge)
            if own is not None:
                lift = self._lift(own, lift, high, edge - 1)
                merged[edge] = high = own[0] + lift[0], own[1] + lift[1]
            elif all(now >= before for now, before in zip(told[edge], high, strict=True)):
                merged[edge] = high = told[edge]
                taken.add(edge)
        lift = self._lift((self.import_wms // WMS, self.export_wms // WMS), lift, high, max(merged))
        self.edges = merged
        self.import_wms, self.export_wms = self.import_wms + lift[0] * WMS, self.export_wms + lift[1] * WMS
        if self._mark is not None:
            mark = self._mark
            self._mark = mark._replace(import_wms=mark.import_wms + lift[0] * WMS, export_wms=mark.export_wms + lift[1] * WMS)
        for number, why in record.flags.items():
            self.flags.setdefault(first - record.edges + number, set()).update(why.split())
        return self._days(taken)

    def _lift(self, own: tuple[int, int], lift: tuple[int, int], high: tuple[int, int], slot: int) -> tuple[int, int]:
        """The lift that keeps `own` from falling below `high`; a larger one than before leaves this slot's energy open."""
        new = max(lift[0], high[0] - own[0]), max(lift[1], high[1] - own[1])
        if new != lift:
            self.flags.setdefault(slot, set()).add("partial")
        return new
