"""A thin pretend network for months of slots: real registers, records and settlements; only the messages between are a model."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from bench_month_parts import DAY_0, SLOT_S, TARIFF, ZONE, Fault, House, Member, Rec, Shared, plan
from graphs import chords

from agent import slots, tariffs, wire
from agent.accounts import Settled, entries, posted, replay
from agent.decode import decode
from agent.edges import Edges
from agent.records import digest
from agent.settlement import Settlement
from agent.wire import DAY_S, Energy, Record, Tariff
from drivers.curves import Household

STEP_S = 5  # a heartbeat: tables are compared and settlements looked at on this grid
DELAY_S = (0.02, 0.5)  # one hop: broker, bridge, agent
LOSS = 0.01  # of the messages on one link, for good
LAST_S = 15.0  # the tariff comes so long after all else that a link brings when it is up again: any order is possible
REPAIR_S, SWEEP_S = 30.0, 10.0  # as agent/upkeep.py
SEEN_S = 2.0  # an edge is noticed within agent/slots.py's SAMPLE_S
WRONG_S = -70.0  # what one node's clock is off, from 65 % to 85 % of the run
RATED_W = 17_250


class World:
    """All nodes and links of one run; `run` drives it slot by slot and calls `look_at` at the marks after each slot's end."""

    def __init__(self, nodes: int, days: int, seed: int, step_s: int) -> None:
        self.dice = random.Random(f"{seed} {nodes}")
        self.days, self.shared, self.now = days, Shared(min(0.05, 2 / nodes)), float(DAY_0 * DAY_S)
        self.begin_s, self.end_s = DAY_0 * DAY_S, (DAY_0 + days) * DAY_S
        ids = [f"n{number:03d}" for number in range(nodes)]
        self.members = [self._member(id_, number, nodes, seed, step_s) for number, id_ in enumerate(ids)]
        self.links = [(int(a[1:]), int(b[1:])) for a, b in chords(ids, seed, nodes // 2)]
        self.ways: list[list[int]] = [[] for _ in ids]
        for a, b in self.links:
            self.ways[a].append(b)
            self.ways[b].append(a)
        self.ids, self.side = frozenset(ids), [0] * nodes
        self.parts, self.whole = [0] * nodes, True  # by node the part of the network that it hears, -1: it is down
        self.parts_s = self.apart_s = 0.0  # when parts last changed, when there last was more than one
        self.busy: set[int] = set()
        self.sums = self.revisions = self.corrections = self.repairs = self.bad = 0
        self.seen: dict[str, Settled] = {}
        self.sound: dict[tuple[str, str], int] = {}
        self.bodies: dict[bytes, bytes] = {}
        self.faults = plan(self.dice, nodes, days)
        self.happened: Counter[str] = Counter()

    def _member(self, id_: str, number: int, nodes: int, seed: int, step_s: int) -> Member:
        pv_w = self.dice.randrange(3000, 8000) if number % 5 in (0, 2) else 0
        battery_w = 2500 if number % 7 == 2 else 0
        household = Household(seed * 10_000 + number, self.dice.randrange(1500, 4000), pv_w, battery_w, 4 * battery_w)
        house = House(household, step_s, 0 if number % 10 == 3 else 10 if number % 3 == 1 else 1)
        return Member(id_, number, house, Edges(RATED_W, SLOT_S), Settlement(ZONE), [0] * (2 * nodes + 1))

    # time

    def run(self, look_at: Callable[[int, int], None], told: Callable[[int], None]) -> None:
        """`look_at(slot, seconds)` comes `seconds` after the end of `slot`; `told(slot)` after each slot."""
        for member in self.members:
            self._keep(member, self._rec(2 * len(self.members), "network", TARIFF, b"tariff/1"))
            member.known[-1] = 1
        faults = list(reversed(self.faults))
        for begin_s in range(self.begin_s, self.end_s, SLOT_S):
            for member in self.members:
                member.house.enter(begin_s)
            events = self._samples(begin_s)
            while faults and faults[-1].at_s < begin_s + SLOT_S:
                fault = faults.pop()
                heapq.heappush(events, (fault.at_s, -1, fault))
            slot = begin_s // SLOT_S - 1
            for now in range(begin_s, begin_s + SLOT_S, STEP_S):
                while events and events[0][0] <= now:
                    self._happen(*heapq.heappop(events))
                self.now = float(now)
                self._step()
                if now - begin_s in (0, 30, 120, 300):
                    look_at(slot, now - begin_s)
            while events:
                self._happen(*heapq.heappop(events))
            told(slot)
            self.bodies.clear()
            self.shared.clear()

    def _happen(self, at_s: float, number: int, fault: Fault | None) -> None:
        self.now = at_s
        if fault is not None:
            self._fault(fault)
            self._part()
        else:
            self._sample(self.members[number])

    def _samples(self, begin_s: int) -> list[tuple[float, int, Fault | None]]:
        """Looks at the meters: close around the edge, and more between where counters do not carry what happens there."""
        events: list[tuple[float, int, Fault | None]] = []
        for member in self.members:
            often = len(self.members) <= 4 or not member.house.wh_step or member.off_s
            between = range(9, SLOT_S - 9, 9) if often else (SLOT_S // 2,)
            offsets = [self.dice.uniform(0.1, SEEN_S), *between, SLOT_S - 3.0]
            events += [(begin_s + offset_s, member.number, None) for offset_s in offsets]
        heapq.heapify(events)
        return events

    def _step(self) -> None:
        now = self.now
        for number in list(self.busy):
            member = self.members[number]
            if member.inbox:
                due = [item for item in member.inbox if item[0] <= now]
                member.inbox = [item for item in member.inbox if item[0] > now]
                for _, rec in sorted(due, key=lambda item: item[0]):
                    self._keep(member, rec)
            if member.up and member.settlement.due(now):
                self._look(member)
            if not member.inbox and not member.settlement.dirty:
                self.busy.discard(number)
        if len({member.key for member in self.members if member.up}) > 1:
            self._compare()
        elif any(member.differs for member in self.members):
            for member in self.members:
                member.differs.clear()

    def _compare(self) -> None:
        """Heartbeats carry the table's hash; where a sibling's differs for REPAIR_S all is told again."""
        for a, b in self.links:
            one, other = self.members[a], self.members[b]
            if not self._open(a, b) or one.key == other.key:
                one.differs.pop(b, None)
                other.differs.pop(a, None)
            else:
                one.differs.setdefault(b, self.now)
                other.differs.setdefault(a, self.now)
        for member in self.members:
            behind = any(self.now - since_s > REPAIR_S for since_s in member.differs.values())
            if behind and self.now % SWEEP_S == member.number % 2 * 5 and self.now - member.repaired_s > REPAIR_S:
                member.repaired_s = self.now
                self.repairs += 1
                for number in self.ways[member.number]:
                    self._resend(member, number)

    def _open(self, a: int, b: int) -> bool:
        return self.side[a] == self.side[b] and self.members[a].up and self.members[b].up

    def _resend(self, member: Member, other: int) -> None:
        if self._open(member.number, other):
            known = self.members[other].known
            for rec in [rec for rec in member.held.values() if known[rec.topic] < rec.version]:
                self._flood(rec, member.number, [other], LAST_S if rec.owner == "network" else 0.0)

    def _flood(self, rec: Rec, at: int, first: list[int] | None = None, late_s: float = 0.0) -> None:
        """Every node gives a newer record to all of its siblings; the quickest way counts, a lost message only on its link."""
        chance, members, topic, version = self.dice.random, self.members, rec.topic, rec.version
        low_s, span_s = DELAY_S[0], DELAY_S[1] - DELAY_S[0]
        queue = [(self.now + late_s + low_s + chance() * span_s, other) for other in first or () if chance() >= LOSS]
        if first is None:
            queue = [(self.now, at)]
        while queue:
            at_s, number = heapq.heappop(queue)
            member = members[number]
            if member.known[topic] >= version and number != at:
                continue
            if number != at:
                member.known[topic] = version
                member.inbox.append((at_s, rec))
                self.busy.add(number)
            side = self.side[number]
            for other in self.ways[number]:
                there = members[other]
                if there.known[topic] < version and there.up and self.side[other] == side and chance() >= LOSS:
                    heapq.heappush(queue, (at_s + low_s + chance() * span_s, other))

    # what a node does

    def _rec(self, topic: int, owner: str, record: Record, payload: bytes) -> Rec:
        return Rec(topic, record.version, int.from_bytes(digest(payload)), owner, record, payload)

    def _keep(self, member: Member, rec: Rec) -> None:
        old = member.held.get(rec.topic)
        if old is not None and old.version >= rec.version:
            return
        member.held[rec.topic] = rec
        member.key ^= rec.hash ^ (old.hash if old is not None else 0)
        if isinstance(rec.record, Energy):
            before = old.record if old is not None else None
            member.settlement.heard(before if isinstance(before, Energy) else None, rec.record)
        elif isinstance(rec.record, Tariff):
            told: Any = member  # of a node this asks only for its settlement and the length of its slots
            slots.retariff(told, member.tariff, rec.record)
            member.tariff = rec.record
            self.busy.add(member.number)

    def _sample(self, member: Member) -> None:
        if not member.up:
            return
        counted = member.house.counters(self.now) if member.house.wh_step and not member.silent else None
        net_w = member.house.net_w(self.now) if not member.silent else None
        for day in member.edges.sample(counted, net_w, self.now + member.off_s, not member.off_s, self.now):
            member.saved = member.edges.dump()
            keys = member.edges.keys(day, ZONE)
            if keys is not None:
                member.version += 1
                kind = wire.energy_kind(day)
                payload = wire.encode(keys | {"instance": "0badcafe", "version": member.version})
                record = decode(wire.place(wire.node_topic(member.id, kind)), payload)
                rec = self._rec(2 * member.number + day % 2, member.id, record, payload)
                self._keep(member, rec)
                member.known[rec.topic] = rec.version
                self.busy.add(member.number)
                self._flood(rec, member.number)

    def _look(self, member: Member) -> None:
        kept = member.settlement
        before = {slot: kept.heads[slot].digest for slot in kept.dirty if slot in kept.heads}
        rows = kept.look(
            member.records(),
            self.ids,
            lambda slot: tariffs.rates_at(member.tariff, slot * SLOT_S),
            self.now + member.off_s,
            self.now,
        )
        for row in rows:
            body = kept._bodies[row.slot]
            kept._bodies[row.slot] = self.bodies.setdefault(body, body)  # equal bytes once in this process's memory
            member.final[row.slot] = row.digest, row.buy_u, row.sell_u
            self.revisions += 1
            self.corrections += row.revision > 0
            old = before.get(row.slot, "")
            self.seen.setdefault(row.digest, row)
            if (old, row.digest) not in self.sound:
                entry = posted(self.seen[old] if old else None, row)
                self.sound[old, row.digest] = sum(entry.values())
                self.bad += replay(row) != "" or sum(entries(row).values()) != 0
            self.sums += self.sound[old, row.digest]

    # faults

    def _fault(self, fault: Fault) -> None:
        member = self.members[fault.node]
        self.happened[fault.what] += 1
        match fault.what:
            case "down":
                member.up = False
                if fault.how == 3:
                    member.house.cut(self.now, True)
                member.saved = member.edges.dump() if fault.how == 0 else member.saved
                member.inbox.clear()
                member.differs.clear()
                for topic in range(len(member.known)):
                    member.known[topic] = member.held[topic].version if topic in member.held else 0
            case "up":
                self._up(member)
            case "silent" | "speaking":
                member.silent = fault.what == "silent"
            case "wrong" | "right":
                member.off_s = WRONG_S if fault.what == "wrong" else 0.0
            case "split":
                self._split()
            case "heal":
                cut = [(a, b) for a, b in self.links if self.side[a] != self.side[b]]
                self.side = [0] * len(self.members)
                self._link(cut)
            case "tariff":
                now = TARIFF.rates
                begins = int(self.now) // SLOT_S + 2
                new = msgspec.structs.replace(TARIFF, version=2, import_u=340_000, export_u=95_000, from_slot=begins, past=[now])
                rec = self._rec(2 * len(self.members), "network", new, b"tariff/2")
                self._keep(self.members[0], rec)
                self.members[0].known[-1] = 2
                self._flood(rec, 0)

    def _split(self) -> None:
        """A half that hangs together goes; the rest may fall into several parts."""
        many = len(self.members)
        part: set[int] = set()
        queue = [self.dice.randrange(many)]
        while queue and len(part) < many // 2:
            number = queue.pop(0)
            part.add(number)
            queue += [other for other in self.ways[number] if other not in part and other not in queue]
        self.side = [int(number in part) for number in range(many)]

    def _part(self) -> None:
        """Who hears whom now: a node that is down can part those that it joined."""
        parts = [-1] * len(self.members)
        for first, member in enumerate(self.members):
            queue = [first] if member.up and parts[first] < 0 else []
            while queue:
                number = queue.pop()
                parts[number] = first
                queue += [other for other in self.ways[number] if parts[other] < 0 and self._open(number, other)]
        before, self.whole = self.whole, len(set(parts) - {-1}) == 1
        if not (before and self.whole):
            self.apart_s = self.now
        if parts != self.parts:
            self.parts, self.parts_s = parts, self.now

    def _up(self, member: Member) -> None:
        """The agent starts: what was kept is loaded, and every sibling's broker tells what it holds."""
        past = [msgspec.json.decode(body, type=Settled) for body in member.settlement._bodies.values()]
        member.edges, member.settlement = Edges(RATED_W, SLOT_S), Settlement(ZONE)
        if member.saved:
            member.edges.load(member.saved)
        member.settlement.load(past)
        for rec in member.held.values():
            if isinstance(rec.record, Energy):
                member.settlement.heard(None, rec.record)
                if rec.owner == member.id:
                    member.edges.learn(rec.record)
        member.up, member.since_s = True, self.now
        if member.house.dark:
            member.house.cut(self.now, False)
        self.busy.add(member.number)
        self._sample(member)
        self._link([(member.number, other) for other in self.ways[member.number]])

    def _link(self, links: list[tuple[int, int]]) -> None:
        for a, b in links:
            self._resend(self.members[a], b)
            self._resend(self.members[b], a)
