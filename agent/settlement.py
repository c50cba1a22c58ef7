"""Settlement: which slots are to be reckoned, when, from which records, and what a late record changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from agent import energy
from agent.accounts import Settled, revise, settle
from agent.energy import Slot
from agent.price import RULES, Prices
from agent.wire import Energy, Rates

LATE_S = 20.0  # after a slot's end until it is settled first: most records are there by then, and one row does
AGAIN_S = 10.0  # between looks: a storm of late records makes few revisions
MOST = 20_000  # records read at one look, after at least one slot: some hundredths of a second
KEEP_S = 3 * 86_400  # no record in the air tells of an older slot


class Head(NamedTuple):
    """What is shown of a settled slot."""

    revision: int
    digest: str
    prices: Prices
    rule: str
    nodes: int
    missing: int
    island: bool


@dataclass(slots=True)
class Settlement:
    """The newest revision of every slot of one zone that can still change, and which of them are to be reckoned again."""

    zone: str
    heads: dict[int, Head] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    _bodies: dict[int, bytes] = field(default_factory=dict)  # a tenth of what the objects would take
    _looked_s: float | None = None

    def load(self, rows: Iterable[Settled]) -> None:
        """Take up the revisions stored, older ones before newer ones."""
        for settled in rows:
            if settled.zone == self.zone:
                self._keep(settled)

    def heard(self, old: Energy | None, new: Energy) -> None:
        """An energy record took the place of another (None: of none) in its topic."""
        if self.zone in (new.zone, old.zone if old is not None else None):
            self.dirty |= energy.changed(old, new)

    def due(self, now: float) -> bool:
        """Is there anything to look at? Cheap enough for every tick."""
        return bool(self.dirty) and (self._looked_s is None or now - self._looked_s >= AGAIN_S)

    def look(
        self,
        records: Sequence[tuple[str, Energy]],
        members: Collection[str],
        tariff_at: Callable[[int], Rates | None],
        unix_s: float,
        now: float,
    ) -> list[Settled]:
        """Settle what is due: the new revisions, to be stored, newest slots first.

        `records` are all energy records held, in any order, `members` the ids from which one is expected, `tariff_at`
        gives the tariff of a slot. A part told earlier stays when its record has made room for another day's.
        """
        if not self.due(now):
            return []
        self._looked_s = now
        done: list[Settled] = []
        left = MOST
        for slot in sorted(self.dirty, reverse=True):
            tariff = tariff_at(slot)
            if tariff is not None and slot * tariff.slot_s > unix_s + KEEP_S:
                self.dirty.discard(slot)  # of slots of another length, or of a clock that is years ahead
                continue
            if tariff is None or tariff.rule not in RULES or (slot + 1) * tariff.slot_s + LATE_S > unix_s:
                continue
            self.dirty.discard(slot)
            open_slot = int(unix_s // tariff.slot_s)
            if (open_slot - slot) * tariff.slot_s > KEEP_S:
                continue
            new = self._reckon(energy.read(records, slot, tariff.slot_s, self.zone), slot, members, tariff, open_slot)
            done += [new] if new is not None else []
            left -= len(records)
            if left <= 0:
                break
        return done

    def _reckon(self, found: Slot, slot: int, members: Collection[str], tariff: Rates, open_slot: int) -> Settled | None:
        before = msgspec.json.decode(self._bodies[slot], type=Settled) if slot in self._bodies else None
        earlier = before.uses if before is not None else {}
        uses = {node: both for node, both in earlier.items() if node not in found.uncounted}
        uses |= {node: (use.import_wh, use.export_wh) for node, use in found.uses.items()}
        if not uses and before is None:
            return None  # nobody told anything: there is nothing to settle, and no price
        missing = found.uncounted | {node: "no record" for node in members if node not in uses and node not in found.uncounted}
        wants = {node: use.want for node, use in found.uses.items() if use.want is not None}
        if before is not None:
            wants |= {node: want for node, want in before.wants.items() if node not in found.uses}
        flags = {node: why for node, why in (before.flags if before is not None else {}).items() if node in uses}
        flags |= {node: use.why for node, use in found.uses.items()}
        after = settle(slot, self.zone, uses, tariff, wants)
        assert after is not None  # `look` leaves slots of unknown rules alone
        after = msgspec.structs.replace(
            after,
            missing=dict(sorted(missing.items())),
            flags={node: flags[node] for node in sorted(flags) if flags[node]},
        )
        new = revise(before, after, open_slot)
        if new is not None:
            self._keep(new)
            for old in [old for old in self.heads if (open_slot - old) * tariff.slot_s > KEEP_S]:
                del self.heads[old], self._bodies[old]
        return new

    def _keep(self, settled: Settled) -> None:
        prices = Prices(settled.buy_u, settled.sell_u)
        counts = len(settled.uses), len(settled.missing), settled.island is not None
        self.heads[settled.slot] = Head(settled.revision, settled.digest, prices, settled.rule, *counts)
        self._bodies[settled.slot] = msgspec.json.encode(settled)

    def signal(self, slot: int) -> Head | None:
        """What the signal of a slot is made of, the prices too: the slot two before it, as it is settled now."""
        return self.heads.get(slot - 2)
