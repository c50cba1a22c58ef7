"""Slots: this node's own energy record, and what all energy records make of every slot: its price and its accounts."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent import balance, loads, tariffs, wire
from agent.events import Post, Save
from agent.growth import counters
from agent.own import iso
from agent.settlement import Head
from agent.wire import ENERGY, STATE, Energy, Fed, Rates, State, Tariff

if TYPE_CHECKING:
    from agent.node import Node

SAMPLE_S = 2.0  # between looks at our own registers
RECLAIM_S = 30.0  # between answers to records of ours that we did not make
CLOCK_S = 60.0  # clocks further apart put energy into wrong slots to an amount that matters
CHECK_CLOCK = "Check the time server: grid doctor"
YEARS_S = 1_700_000_000  # before it nothing was settled: a clock that was never set


def restore(node: Node) -> None:
    """Take up what the last run settled and told."""
    node.settlement.load(node.past)
    node.past = ()
    for id_, record in records(node):
        node.settlement.heard(None, record)
        if id_ == node.me:
            node.edges.learn(record)


def records(node: Node) -> list[tuple[str, Energy]]:
    """All energy records held, as (node, record)."""
    held = [(id_, kinds.get(kind)) for id_, kinds in node.book.nodes.items() for kind in ENERGY if kind in kinds]
    return [(id_, one.record) for id_, one in held if one is not None and isinstance(one.record, Energy)]


def rates(node: Node, now: float) -> Rates | None:
    """The rates in force now."""
    return tariffs.rates_at(node.tariff, node.unix_s(now))


def heard(node: Node, old: object, new: Energy) -> None:
    """An energy record was taken, of this node or another."""
    node.settlement.heard(old if isinstance(old, Energy) else None, new)


def retariff(node: Node, old: object, new: Tariff) -> None:
    """Another tariff is shared now: slots that it prices otherwise are settled anew, as when this node was cut off meanwhile."""
    before = old if isinstance(old, Tariff) else None
    for slot in node.settlement.heads:
        unix_s = slot * node.edges.slot_s
        if tariffs.rates_at(before, unix_s) != tariffs.rates_at(new, unix_s):
            node.settlement.dirty.add(slot)


def reclaim(node: Node, record: Energy, now: float) -> None:
    """A record of ours is about that this run did not make: go on from what an earlier life told, and stand above it.

    It may be a forgery, or a clone's: one answer in a while is enough for the first, and none helps against the second.
    """
    days = node.edges.learn(record)
    if not node.refute.conflict and (node.reclaimed_s is None or now - node.reclaimed_s >= RECLAIM_S):
        node.reclaimed_s = now
        _publish(node, sorted({record.day, *days}), now)


def tick(node: Node, now: float) -> None:
    """What time brings: our own edges, slots to be settled, signals that begin."""
    if now - node.sampled_s >= SAMPLE_S:
        node.sampled_s = now
        _sample(node, now)
    unix_s = node.unix_s(now)
    if node.settlement.due(now):
        members = [
            id_ for id_, kinds in node.book.nodes.items() if STATE in kinds and (id_ in node.net.shares or id_ in node.net.unknown)
        ]
        rows = node.settlement.look(records(node), members, lambda slot: _rates_of(node, slot), unix_s, now)
        if rows:
            # by a clock that may be years ahead nothing is too old to keep
            node.out.append(Post(tuple(rows), unix_s if node.clock_good else 0.0))
            node.changed = True
    held = rates(node, now)
    before, node.slot = (signal(node), node.rates), int(unix_s // held.slot_s) if held is not None else None
    node.rates = held
    node.changed |= before != (signal(node), held)


def _sample(node: Node, now: float) -> None:
    held = rates(node, now)
    if held is not None and held.slot_s != node.edges.slot_s:
        node.edges.reslot(held.slot_s)
    lines = node.own.lines.values()
    counted = None if any(line.failing for line in lines) else counters(node.own.readings())
    account = node.own.account
    net_w = account.produced_w - account.consumed_w if account.produced_w is not None and account.consumed_w is not None else None
    unix_s = node.unix_s(now)
    clock_good = node.clock_good and unix_s > YEARS_S
    feeder, alone = node.settings.feeder, node.balance.zone.mode == "island"
    fed: Fed = feeder.kind if feeder is not None else ""
    node.edges.wants.sample(_wants(node, now) if alone else None, fed, alone and loads.shed(node, now), unix_s, clock_good, now)
    days = node.edges.sample(counted, net_w, unix_s, clock_good, now)
    if days:
        node.out.append(Save("edges", node.edges.dump()))
    _publish(node, days, now)


def _wants(node: Node, now: float) -> tuple[int, int] | None:
    """What this node wants and what it could make now, W: as the live price of an island takes it from its record."""
    if node.own.account.consumed_w is None:
        return None
    flex = balance.look(node, now)
    return sum(flex.load), flex.pv_w + flex.dis_w + flex.firm_w


def _publish(node: Node, days: list[int], now: float) -> None:
    for day in days:
        keys = node.edges.keys(day, node.settings.zone)
        if keys is None:
            continue
        stamp = {"at": iso(node.unix_s(now)), "instance": node.instance, "version": node.own.next_version()}
        kind = wire.energy_kind(day)
        before = node.book.get(node.me, kind)
        node.keep_own(kind, wire.encode(keys | stamp))
        new = node.book.get(node.me, kind)
        if new is not None and isinstance(new.record, Energy):
            heard(node, before.record if before is not None else None, new.record)


def _rates_of(node: Node, slot: int) -> Rates | None:
    """The rates of a slot, numbered by the length of slots that holds now."""
    newest = node.tariff
    return tariffs.rates_at(newest, slot * node.edges.slot_s) if newest is not None else None


def clocks(node: Node, now: float) -> str:
    """Whose wall clock differs from ours, by what it says of itself: its slots would not be ours."""
    unix_s = node.unix_s(now)
    off: dict[str, float] = {}
    for id_ in node.net.shares:
        held = node.book.get(id_, STATE)
        if held is not None and isinstance(held.record, State) and held.record.at and id_ != node.me:
            with suppress(ValueError):
                off[id_] = datetime.fromisoformat(held.record.at).timestamp() - unix_s
    wrong = {id_: off_s for id_, off_s in off.items() if abs(off_s) > CLOCK_S}
    if not wrong:
        return ""
    if 2 * len(wrong) > len(off) > 1:
        return f"this node's clock differs from that of most others: its slots count elsewhere. {CHECK_CLOCK}"
    said = ", ".join(f"{id_} by {_about(off_s)}" for id_, off_s in sorted(wrong.items())[:10])
    return f"clocks differ from ours: {said}; what those nodes take and give counts in other slots. {CHECK_CLOCK}"


def _about(seconds: float) -> str:
    """In round numbers: each change of the text is a message."""
    for name, unit_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * unit_s:
            return f"{seconds / unit_s:+.0f} {name}"
    return "a minute or two"


def signal(node: Node) -> Head | None:
    """What the price of the present slot is: the slot two before it, as far as it is settled."""
    return node.settlement.signal(node.slot) if node.slot is not None else None


def shown(node: Node) -> dict[str, Any] | None:
    """The newest settled slot, as the summary tells of it."""
    if not node.settlement.heads:
        return None
    slot = max(node.settlement.heads)
    head = node.settlement.heads[slot]
    return {
        "slot": slot,
        "revision": head.revision,
        "digest": head.digest,
        "buy_u": head.prices.buy_u,
        "sell_u": head.prices.sell_u,
        "rule": head.rule,
        "nodes": head.nodes,
        "missing": head.missing,
    }
