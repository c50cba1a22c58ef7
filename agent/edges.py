"""A node's own registers at the slot edges: they only grow, through restarts, power cuts and meters that fail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from agent import wants, wire
from agent.growth import WMS, Counters, Growth
from agent.retold import merge
from agent.wants import Wants
from agent.wire import DAY_S, Energy

GAP_S = 10.0  # readings further apart leave open what was between: power is not held longer, an edge between is flagged
BRIDGE_S = 86_400.0  # counters that were silent for longer put no edges on a line: those slots are final by now
CLOCK_S = 600.0  # so long after a boot a clock not known good may still become so; then edges are taken by it as it is
JUMP_S = 60.0  # a clock set forward over an edge by no more than this: the edge is taken at that moment, and flagged
ROOM = wire.MAX_PAYLOAD - 1024  # of one day's registers; the rest is for signature and what else a record has


class Mark(NamedTuple):
    """A moment at which registers and wall clock were both known; `now` None: in an earlier run."""

    unix_s: float
    import_wms: int
    export_wms: int
    now: float | None


class Kept(msgspec.Struct, frozen=True):
    """What a restart needs; taken at an edge, so that counters bridge the rest."""

    slot_s: int
    unix_s: float | None
    registers_wms: tuple[int, int]
    counters: dict[str, tuple[int, int]]
    edges: dict[int, tuple[int, int]]
    flags: dict[int, list[str]]
    wants: wants.Kept | None = None


@dataclass(slots=True)
class Edges:
    """Registers that only ever grow, and what they were at the slot edges of yesterday and today.

    Edges and slots are numbered from 1970: slot k begins at edge k.
    Why a slot is less than exact: "integrated" (from power), "partial" (energy of a part is not known, or an edge lies on a
    line between readings far apart), "clock" (an edge by a clock not known good), "counter" (one fell or leapt and was held).
    """

    rated_w: int
    slot_s: int
    gap_s: float = GAP_S
    growth: Growth = field(init=False)
    wants: Wants = field(init=False)
    edges: dict[int, tuple[int, int]] = field(default_factory=dict)
    flags: dict[int, set[str]] = field(default_factory=dict)
    _mark: Mark | None = None

    def __post_init__(self) -> None:
        self.growth, self.wants = Growth(self.rated_w, self.gap_s), Wants(self.slot_s, self.gap_s)

    def sample(self, counted: Counters | None, net_w: int | None, unix_s: float, clock_good: bool, now: float) -> list[int]:
        """Take one look at the meters in: all counters or None, and the node's net (W, + = surplus) or None.

        Returns the days whose records are new: publish those `keys` that are not None, and keep `dump`. Call it every few
        seconds, with two Nones as well; time that passes without a call is a gap. `now` counts from the machine's boot.
        """
        growth, mark = self.growth, self._mark
        if not growth.advance(counted, net_w, mark.unix_s if mark is not None else None, unix_s, clock_good, now):
            return []
        new = Mark(unix_s, growth.import_wms, growth.export_wms, now)
        if mark is None:
            self._mark, growth.lost = new, False
            return self._days({int(unix_s // self.slot_s)})
        if not clock_good and (unix_s < mark.unix_s or (mark.now is None and now < CLOCK_S)):
            return []  # a time before one already seen is no time
        if unix_s < mark.unix_s:
            open_slot = int(unix_s // self.slot_s)
            self.edges = {edge: at for edge, at in self.edges.items() if edge <= open_slot}
            self.flags = {slot: why for slot, why in self.flags.items() if slot <= open_slot}
        self._mark = new
        return self._cross(mark, min(unix_s, mark.unix_s) if mark.now is None else unix_s - (now - mark.now), new, clock_good)

    def _cross(self, mark: Mark, from_s: float, new: Mark, clock_good: bool) -> list[int]:
        """Note the edges passed between two marks, on the straight line."""
        as_it_was = mark.unix_s < from_s <= mark.unix_s + JUMP_S or (not clock_good and from_s < mark.unix_s)
        from_slot, open_slot = int((mark.unix_s if as_it_was else from_s) // self.slot_s), int(new.unix_s // self.slot_s)
        past_s = new.unix_s - from_s
        why, lost = self.growth.take()
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
            for n, why in self.wants.flags(day * slots, numbers).items():
                flags[n] = " ".join(sorted((*flags.get(n, "").split(), *why)))
            keys: dict[str, Any] = {
                "day": day,
                "slot_s": self.slot_s,
                "edges": first,
                "import_wh": [both and both[0] for both in at],
                "export_wh": [both and both[1] for both in at],
                **self.wants.keys(day * slots, numbers),
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
        registers = self.growth.import_wms, self.growth.export_wms
        kept = Kept(self.slot_s, unix_s, registers, self.growth.counters, self.edges, flags, self.wants.kept())
        return msgspec.json.encode(kept)

    def load(self, data: bytes) -> None:
        """Go on where `dump` was taken. Raises msgspec.DecodeError when it is no dump."""
        kept = msgspec.json.decode(data, type=Kept)
        slot_s, self.slot_s = self.slot_s, kept.slot_s
        self.growth.import_wms, self.growth.export_wms = kept.registers_wms
        self.growth.counters, self.edges = kept.counters, kept.edges
        if kept.wants is not None:
            self.wants.slot_s = kept.slot_s
            self.wants.load(kept.wants)
        self.flags = {slot: set(why) for slot, why in kept.flags.items()}
        self._mark = Mark(kept.unix_s, *kept.registers_wms, None) if kept.unix_s is not None else None
        self.reslot(slot_s)

    def reslot(self, slot_s: int) -> None:
        """From now on slots have another length. Edges that both lengths have stay; at a midnight nothing is lost."""
        old, self.slot_s = self.slot_s, slot_s
        if old == slot_s:
            return
        self.wants.reslot(slot_s)
        self.edges = {edge * old // slot_s: at for edge, at in self.edges.items() if edge * old % slot_s == 0}
        flags, self.flags = self.flags, {}
        for slot, why in flags.items():
            for new in range(slot * old // slot_s, ((slot + 1) * old - 1) // slot_s + 1):
                self.flags.setdefault(new, set()).update(why)

    def learn(self, record: Energy) -> list[int]:
        """Take edges back from a record of this node that an earlier life told, when its own memory was lost.

        Our registers are lifted above it where they would fall. Returns the days whose records are new, as `sample`.
        """
        wanted = self.wants.learn(record)
        first = record.day * (DAY_S // record.slot_s) + record.edges
        told = {
            first + i: (import_wh, export_wh)
            for i, (import_wh, export_wh) in enumerate(zip(record.import_wh, record.export_wh, strict=True))
            if import_wh is not None and export_wh is not None and first + i not in self.edges
        }
        if record.slot_s != self.slot_s or not told:
            return self._days(wanted)
        growth = self.growth
        found = merge(self.edges, told, (growth.import_wms // WMS, growth.export_wms // WMS))
        import_wms, export_wms = found.lift[0] * WMS, found.lift[1] * WMS
        self.edges = found.edges
        growth.import_wms, growth.export_wms = growth.import_wms + import_wms, growth.export_wms + export_wms
        if (mark := self._mark) is not None:
            self._mark = mark._replace(import_wms=mark.import_wms + import_wms, export_wms=mark.export_wms + export_wms)
        for slot in found.open:
            self.flags.setdefault(slot, set()).add("partial")
        for number, why in record.flags.items():
            self.flags.setdefault(first - record.edges + number, set()).update(set(why.split()) - wants.FLAGS)
        return self._days(found.taken | wanted)
