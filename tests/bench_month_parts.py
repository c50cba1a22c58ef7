"""What a month of slots is made of: houses with their meters, nodes, records as they travel, and results that nodes share."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import msgspec

from agent import accounts, energy, settlement
from agent.accounts import Settled, entries
from agent.edges import Edges
from agent.isle import Want
from agent.price import RULES
from agent.settlement import Settlement
from agent.wire import DAY_S, Energy, Rates, Record, Tariff
from drivers.curves import Household

SLOT_S, SLOTS, DAY_0, ZONE = 900, 96, 20_000, "main"
TARIFF = Tariff(version=1, import_u=300_000, export_u=80_000, floor_u=0, cap_u=1_000_000, currency="EUR", slot_s=SLOT_S, rule="mmr")
EVERY_DAYS = 10  # a node's mean time between two faults of one kind
SPLIT_DAYS = 3  # the network's, between two partitions
CALM_S = 7200  # without faults, at the end
T = TypeVar("T")


class Rec(NamedTuple):
    """A record as it travels: `topic` numbers it, `hash` is a set's member by exclusive or."""

    topic: int
    version: int
    hash: int
    owner: str
    record: Record
    payload: bytes


class Fault(NamedTuple):
    at_s: float
    what: str  # down, up, silent, speaking, split, heal, wrong, right, tariff
    node: int
    how: int


@dataclass(slots=True)
class House:
    """What a node's grid meter measures. `wh_step`: the resolution of its counters, 0 when it has none."""

    household: Household
    step_s: int
    wh_step: int
    dark: bool = False  # a power cut: nothing flows
    watts: list[int] = field(default_factory=list)  # + takes; by step of the slot
    begin_s: int = 0
    sums: tuple[int, int] = (0, 0)  # Wh * 3600 taken and given before the slot
    past: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])  # the same before each slot

    def enter(self, begin_s: int) -> None:
        """Go to a slot; the one before is over."""
        if self.watts:
            self.sums = self._at(begin_s)
            self.past.append(self.sums)
        self.begin_s = begin_s
        since_s = begin_s - DAY_0 * DAY_S
        steps = range(0, SLOT_S, self.step_s)
        self.watts = [0 if self.dark else self.household.at(since_s + s + self.step_s / 2).grid_w for s in steps]

    def _at(self, at_s: float) -> tuple[int, int]:
        taken, given = self.sums
        left_s = round(at_s) - self.begin_s
        for watts in self.watts:
            if left_s <= 0:
                break
            part_s = min(left_s, self.step_s)
            left_s -= part_s
            taken, given = taken + max(watts, 0) * part_s, given + max(-watts, 0) * part_s
        return taken, given

    def cut(self, at_s: float, dark: bool) -> None:
        """The house's power goes, or comes back, with the next step."""
        self.dark = dark
        since_s = self.begin_s - DAY_0 * DAY_S
        for step in range(int(at_s - self.begin_s) // self.step_s + 1, len(self.watts)):
            self.watts[step] = 0 if dark else self.household.at(since_s + (step + 0.5) * self.step_s).grid_w

    def net_w(self, at_s: float) -> int:
        return -self.watts[min(int(at_s - self.begin_s) // self.step_s, len(self.watts) - 1)]

    def counters(self, at_s: float) -> dict[str, tuple[int, int]]:
        taken, given = (one // 3600 // self.wh_step * self.wh_step for one in self._at(at_s))
        return {"main": (taken, given)}


@dataclass(slots=True)
class Member:
    """One node: its registers, its settlement, the records it holds, and what of it the model keeps."""

    id: str
    number: int
    house: House
    edges: Edges
    settlement: Settlement
    known: list[int]  # by topic the newest version held or under way
    held: dict[int, Rec] = field(default_factory=dict)
    key: int = 0  # stands for the set of records held
    inbox: list[tuple[float, Rec]] = field(default_factory=list)
    differs: dict[int, float] = field(default_factory=dict)
    repaired_s: float = 0.0
    up: bool = True
    since_s: float = 0.0
    silent: bool = False
    off_s: float = 0.0
    version: int = 0
    saved: bytes = b""
    tariff: Tariff = TARIFF
    final: dict[int, tuple[str, int, int]] = field(default_factory=dict)  # the ledger: by slot digest and prices

    def records(self) -> Table:
        return Table(self.key, self.held)


class Table(Sequence[tuple[str, Energy]]):
    """The energy records held, as `look` wants them, walked only when nobody else has the same."""

    def __init__(self, key: int, held: dict[int, Rec]) -> None:
        self.key, self._held = key, held

    def __getitem__(self, number: Any) -> Any:
        return list(self)[number]

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[str, Energy]]:
        return ((rec.owner, rec.record) for rec in self._held.values() if isinstance(rec.record, Energy))


class Shared:
    """Pure functions of the price layer, worked out once for all nodes that ask the same of the same set of records.

    `check`: how often the answer is worked out all the same, and compared.
    """

    def __init__(self, check: float) -> None:
        self.check = check
        self.read, self.settle, self.changed = energy.read, accounts.settle, energy.changed
        self.dice, self.checks, self.calls, self.wrong = random.Random(1), 0, 0, 0
        self.clear()

    def clear(self) -> None:
        self._read: dict[Any, energy.Slot] = {}
        self._settle: dict[Any, Settled | None] = {}
        self._changed: dict[tuple[int, int], tuple[set[int], Any, Any]] = {}

    def patch(self) -> Callable[[], None]:
        """Put the shared functions in place; returns what takes them out again."""
        reading: Any = energy
        settling: Any = settlement
        reading.read, reading.changed, settling.settle = self._do_read, self._do_changed, self._do_settle

        def undo() -> None:
            reading.read, reading.changed, settling.settle = self.read, self.changed, self.settle

        return undo

    def _do_read(self, records: Any, slot: int, slot_s: int, zone: str) -> energy.Slot:
        key = records.key, len(records), slot, slot_s, zone
        return self._once(self._read, key, lambda: self.read(records, slot, slot_s, zone))

    def _do_settle(
        self, slot: int, zone: str, uses: Mapping[str, tuple[int, int]], tariff: Rates, wants: Mapping[str, Want]
    ) -> Settled | None:
        key = slot, zone, frozenset(uses.items()), tariff, frozenset(wants.items())
        return self._once(self._settle, key, lambda: self.settle(slot, zone, uses, tariff, wants))

    def _do_changed(self, old: Energy | None, new: Energy) -> set[int]:
        key = id(old), id(new)
        if key not in self._changed:
            self._changed[key] = self.changed(old, new), old, new  # held, so that ids stay theirs
        return self._changed[key][0]

    def _once(self, cache: dict[Any, T], key: Any, work: Callable[[], T]) -> T:
        self.calls += 1
        if key not in cache:
            cache[key] = work()
        elif self.dice.random() < self.check:
            self.checks += 1
            self.wrong += cache[key] != work()
        return cache[key]


def plan(dice: random.Random, nodes: int, days: int) -> list[Fault]:
    """Every node's restarts, power cuts and silent meters; the network's partitions; one wrong clock; one new tariff."""
    begin_s, calm_s = DAY_0 * DAY_S, (DAY_0 + days) * DAY_S - CALM_S
    planned: list[Fault] = []

    def lasts(at_s: float, for_s: float, on: str, off: str, node: int, how: int = 0) -> None:
        if at_s + for_s < calm_s:
            planned.extend((Fault(at_s, on, node, how), Fault(at_s + for_s, off, node, how)))

    for number in range(nodes):
        at_s = begin_s + 3600.0
        while (at_s := at_s + dice.expovariate(2 / (EVERY_DAYS * DAY_S))) < calm_s:
            how = dice.randrange(4)  # 0: stopped, 1: killed, 2: the Pi alone without power, 3: the house, too
            for_s = dice.uniform(5, 40) if how < 2 else dice.uniform(60, 4 * 3600)
            lasts(at_s, for_s, "down", "up", number, how)
            at_s += for_s
        at_s = begin_s + 0.0
        while (at_s := at_s + dice.expovariate(1 / (EVERY_DAYS * DAY_S))) < calm_s:
            for_s = dice.choice((90.0, 900.0, 3 * 3600.0))
            lasts(at_s, for_s, "silent", "speaking", number)
            at_s += for_s
    middle_s = begin_s + days // 2 * DAY_S + DAY_S // 2  # noon
    lasts(middle_s - 3600, 3 * 3600 + 321, "split", "heal", 0)  # the new tariff cannot reach everybody in time
    planned.append(Fault(middle_s - 2 * SLOT_S, "tariff", 0, 0))
    at_s = begin_s + 3600.0
    while (at_s := at_s + dice.expovariate(1 / (SPLIT_DAYS * DAY_S))) < calm_s:
        for_s = dice.uniform(3600, 8 * 3600)
        if not middle_s - 12 * 3600 < at_s < middle_s + 4 * 3600:
            lasts(at_s, for_s, "split", "heal", 0)
        at_s += for_s
    lasts(begin_s + 0.65 * days * DAY_S, 0.2 * days * DAY_S, "wrong", "right", 1)
    return sorted(planned)


def slot_bytes(records: Sequence[tuple[str, Energy]], slot: int, rates: Rates) -> bytes:
    """Revision 0 of a slot and its accounts."""
    parts = energy.read(records, slot, SLOT_S, ZONE).uses
    settled = accounts.settle(slot, ZONE, {node: (use.import_wh, use.export_wh) for node, use in parts.items()}, rates)
    assert settled is not None
    return msgspec.json.encode((settled, entries(settled)))


def accounts_of(records: Sequence[tuple[str, Energy]]) -> str:
    """Hash over revision 0 and the accounts of every slot of the last day told, under each rule."""
    found = hashlib.blake2b(digest_size=16)
    last = max(record.day for _, record in records)
    for slot in range(last * SLOTS, (last + 1) * SLOTS):
        for rule in RULES:
            found.update(slot_bytes(records, slot, msgspec.structs.replace(TARIFF.rates, rule=rule)))
    return found.hexdigest()
