"""What this node wanted and could have made, added up to registers at the slot edges: they price an electrical island."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from agent import energy
from agent.growth import WMS
from agent.retold import Pair, merge
from agent.wire import DAY_S, Energy, Fed

CLOCK_S = 600.0  # so long after a boot a clock not known good may still become so; then edges are taken by it as it is
JUMP_S = 60.0  # a clock set forward over an edge by no more than this: the edge is taken at that moment
FLAGS = frozenset({"shed", "unseen"})  # of slots, in a record's `flags`
UNSEEN = 10  # a slot of which more than one part of so many was not watched is no slot to reckon with


class Kept(msgspec.Struct, frozen=True):
    """What a restart needs."""

    registers_wms: tuple[int, int]
    edges: dict[int, Pair]
    feeder: dict[int, Fed]
    shed: list[int]
    seen_ms: dict[int, int]


class Look(NamedTuple):
    """What was wanted and could have been made at a moment, W."""

    wanted_w: int
    avail_w: int
    unix_s: float
    now: float


@dataclass(slots=True)
class Wants:
    """Two registers that only ever grow, from power held until the next look, and what they were at the edges of two days.

    No counter knows of them: what was while nobody looked for longer than `gap_s` is in neither, and an edge in such a gap is
    not known. By slot: `feeder`, what this node's own was ("" where it changed); `shed`, something here was kept from running;
    `seen_ms`, how long the registers were watched.
    """

    slot_s: int
    gap_s: float
    wanted_wms: int = 0
    avail_wms: int = 0
    edges: dict[int, Pair] = field(default_factory=dict)
    feeder: dict[int, Fed] = field(default_factory=dict)
    shed: set[int] = field(default_factory=set)
    seen_ms: dict[int, int] = field(default_factory=dict)
    _last: Look | None = None

    def sample(self, watts: Pair | None, fed: Fed, shed: bool, unix_s: float, clock_good: bool, now: float) -> None:
        """Take in W wanted and W that could be made now (None: not known, or no island), and this node's feeder ("": none).

        Call it every few seconds, before `Edges.sample`; `now` counts from the machine's boot.
        """
        last, self._last = self._last, None if watts is None else Look(*watts, unix_s, now)
        told = clock_good or now >= CLOCK_S
        slot = int(unix_s // self.slot_s)
        if told and last is not None and unix_s < last.unix_s:
            self._keep(lambda number: number <= slot)
        if last is not None and now - last.now <= self.gap_s:
            before, past_ms = (self.wanted_wms, self.avail_wms), round((now - last.now) * 1000)
            self.wanted_wms += last.wanted_w * past_ms
            self.avail_wms += last.avail_w * past_ms
            if told:
                self._cross(last, before, past_ms, unix_s, clock_good)
        if told and (fed or slot in self.feeder):
            self.feeder[slot] = fed if self.feeder.get(slot, fed) == fed else ""
        if told and shed:
            self.shed.add(slot)

    def _cross(self, last: Look, before: Pair, past_ms: int, unix_s: float, clock_good: bool) -> None:
        """Note the edges passed since the last look, on the straight line."""
        slot, from_s = int(unix_s // self.slot_s), unix_s - past_ms / 1000
        middle = int((unix_s + from_s) / 2 // self.slot_s)
        self.seen_ms[middle] = self.seen_ms.get(middle, 0) + past_ms
        first = int((last.unix_s if 0 <= from_s - last.unix_s <= JUMP_S else from_s) // self.slot_s)
        fresh = set(range(first + 1, slot + 1)) - self.edges.keys()
        for edge in fresh:
            part_ms = min(max(0, edge * self.slot_s * 1000 - round(from_s * 1000)), past_ms)
            wanted_wms = before[0] + (self.wanted_wms - before[0]) * part_ms // max(1, past_ms)
            avail_wms = before[1] + (self.avail_wms - before[1]) * part_ms // max(1, past_ms)
            self.edges[edge] = wanted_wms // WMS, avail_wms // WMS
        if fresh and (clock_good or len(self.edges) > 4 * DAY_S // self.slot_s):
            least = (slot * self.slot_s // DAY_S - 1) * (DAY_S // self.slot_s)
            self._keep(lambda number: number >= least)

    def _keep(self, ours: Callable[[int], bool]) -> None:
        self.edges = {edge: at for edge, at in self.edges.items() if ours(edge)}
        self.feeder = {slot: fed for slot, fed in self.feeder.items() if ours(slot)}
        self.shed = {slot for slot in self.shed if ours(slot)}
        self.seen_ms = {slot: ms for slot, ms in self.seen_ms.items() if ours(slot)}

    # what others and a later run are told

    def keys(self, first: int, numbers: range) -> dict[str, Any]:
        """What the energy record has of this: at the edges with these numbers of a day whose edge 0 is `first`."""
        at = [self.edges.get(first + number) for number in numbers]
        said: dict[str, Any] = {}
        if any(both is not None for both in at):
            said = {"wanted_wh": [both and both[0] for both in at], "avail_wh": [both and both[1] for both in at]}
        runs: dict[int, Fed] = {}
        before: Fed = ""
        for number in numbers[:-1]:
            fed = self.feeder.get(first + number, "")
            if fed != before:
                runs[number] = before = fed
        return said | ({"feeder": runs} if runs else {})

    def flags(self, first: int, numbers: range) -> dict[int, list[str]]:
        """Between the same edges by slot: what is wanted there is not known well enough, and something was shed."""
        flags: dict[int, list[str]] = {}
        for number in numbers[:-1] if self.edges or self.shed else ():
            slot = first + number
            why = ["shed"] if slot in self.shed else []
            if slot in self.edges and slot + 1 in self.edges and not self._seen(slot):
                why.append("unseen")
            if why:
                flags[number] = why
        return flags

    def _seen(self, slot: int) -> bool:
        return self.seen_ms.get(slot, 0) * UNSEEN >= self.slot_s * 1000 * (UNSEEN - 1)

    def kept(self) -> Kept:
        return Kept((self.wanted_wms, self.avail_wms), self.edges, self.feeder, sorted(self.shed), self.seen_ms)

    def load(self, kept: Kept) -> None:
        """Go on where `kept` was taken."""
        (self.wanted_wms, self.avail_wms), self.edges = kept.registers_wms, kept.edges
        self.feeder, self.shed, self.seen_ms = kept.feeder, set(kept.shed), kept.seen_ms

    def reslot(self, slot_s: int) -> None:
        """From now on slots have another length. Edges that both lengths have stay."""
        old, self.slot_s = self.slot_s, slot_s
        self.edges = {edge * old // slot_s: at for edge, at in self.edges.items() if edge * old % slot_s == 0}
        self.shed = {new for slot in self.shed for new in _over(slot, old, slot_s)}
        feeder, self.feeder = self.feeder, {}
        for slot, fed in feeder.items():
            for new in _over(slot, old, slot_s):
                self.feeder[new] = fed if self.feeder.get(new, fed) == fed else ""
        seen_ms, self.seen_ms = self.seen_ms, {}
        for slot, ms in seen_ms.items():
            for new in _over(slot, old, slot_s):
                self.seen_ms[new] = self.seen_ms.get(new, 0) + ms * min(old, slot_s) // old

    def learn(self, record: Energy) -> set[int]:
        """Take edges back from a record of this node that an earlier life told, as `Edges.learn`: those that are new."""
        first = record.day * (DAY_S // record.slot_s)
        at = enumerate(zip(record.wanted_wh, record.avail_wh, strict=True), first + record.edges)
        told = {edge: (a, b) for edge, (a, b) in at if a is not None and b is not None and edge not in self.edges}
        if record.slot_s != self.slot_s or not told:
            return set()
        found = merge(self.edges, told, (self.wanted_wms // WMS, self.avail_wms // WMS))
        self.edges = found.edges
        self.wanted_wms, self.avail_wms = self.wanted_wms + found.lift[0] * WMS, self.avail_wms + found.lift[1] * WMS
        for slot in range(first + record.edges, first + record.edges + len(record.wanted_wh) - 1):
            number = slot - first
            why = record.flags.get(number, "").split()
            if not {slot, slot + 1} & found.taken:
                continue
            if fed := energy.feeder(record, number):
                self.feeder.setdefault(slot, fed)
            if "shed" in why:
                self.shed.add(slot)
            if "unseen" not in why:
                self.seen_ms[slot] = self.slot_s * 1000
        for slot in found.open:
            self.seen_ms.pop(slot, None)
        return found.taken


def _over(slot: int, old_s: int, new_s: int) -> range:
    """The slots of the new length that lie over an old one."""
    return range(slot * old_s // new_s, ((slot + 1) * old_s - 1) // new_s + 1)
