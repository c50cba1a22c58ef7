"""What a node shows of the network: net, prices, the summary, who is there, and its own meters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent import balance, loads, slots, wire
from agent.events import Light
from agent.gone import is_gone
from agent.life import HEARTBEAT_S, STALE_S
from agent.own import iso
from agent.price import RULES, Prices, island, rule_name
from agent.wire import INFO, STATE, TARIFF, Info, Rates, State
from drivers.reading import QUANTITIES, Lamp, Reading

if TYPE_CHECKING:
    from agent.node import Node

LOOK_S = 1.0  # how often availability is looked at; it changes by time as well as by messages


def live(node: Node, rates: Rates | None) -> Prices | None:
    """The live price, or None when the network's tariff names a rule that this version does not know.

    Where a generator forms the grid, what is made is what is used: there the price follows what is wanted and could be made.
    """
    if rates is None or rates.rule not in RULES:
        return None
    if (sums := node.balance.zone.island(node.net.shares)) is not None:
        price_u = island(*sums, shed=sums[0] > sums[1], floor_u=rates.floor_u, cap_u=rates.cap_u)
        return Prices(price_u, price_u)
    return RULES[rates.rule](node.net.supply_w, node.net.demand_w, rates.import_u, rates.export_u)


def digest(node: Node, rates: Rates | None) -> str:
    """Hash over everything that net and price are made of."""
    held, signal = node.book.get("network", TARIFF), slots.signal(node)
    rule = f"{rule_name(rates.rule)} {rates.from_slot}" if rates is not None and rates.rule in RULES else ""
    settled = signal.digest if signal is not None else ""
    seed = wire.digest_of(node.settings.tariff) if node.trust is not None else b""
    return node.net.digest(held.hash if held is not None else seed, rule.encode(), node.settings.zone.encode(), settled.encode())


def build(node: Node, now: float) -> dict[str, Any]:
    """The summary's keys, in the order of the design; watts, micro-currency per kWh, seconds."""
    net, rates, unix_s = node.net, slots.rates(node, now), node.unix_s(now)
    now_live, signal = live(node, rates), slots.signal(node)
    alone = node.balance.zone.island(node.net.shares) is not None
    prices = signal.prices if signal is not None and now_live is not None and signal.island == alone else now_live
    ages = [age for id_ in net.shares if id_ != node.me and (age := node.life.age_s(id_, now)) is not None]
    buy_u, sell_u = prices if prices is not None else (None, None)
    live_u, live_sell_u = now_live if now_live is not None else (None, None)
    return {
        "node": node.me,
        "net_w": net.net_w,
        "low_w": net.low_w,
        "high_w": net.high_w,
        "produced_w": net.produced_w,
        "consumed_w": net.consumed_w,
        "price": msgspec.Raw(wire.price_text(buy_u).encode()) if buy_u is not None else None,
        "price_u": buy_u,
        "sell_u": sell_u,
        "currency": rates.currency if rates is not None else None,
        "nodes": net.nodes,
        "heard": net.heard,
        "digest": digest(node, rates),
        "rule": ("island/1" if alone else rule_name(rates.rule)) if rates is not None and prices is not None else None,
        "zone": node.settings.zone,
        "partial": net.heard < net.nodes,
        "members": sorted(net.shares),
        "oldest_s": round(max(ages, default=0.0), 1),
        "slot": node.slot,
        "live_u": live_u,
        "live_sell_u": live_sell_u,
        "signal_u": signal.prices.buy_u if signal is not None else None,
        "settled": slots.shown(node),
        "at": iso(unix_s),
    }


def publish(node: Node, now: float) -> None:
    """Tell the local broker what changed since the last time."""
    if not node.changed:
        return
    node.changed, node.summed_s = False, now
    keys, view = build(node, now), node.show.view
    node.out += node.show.put(view.net, str(keys["net_w"]).encode())
    for topic, price_u in ((view.price, keys["price_u"]), (view.sell, keys["sell_u"])):
        node.out += node.show.put(topic, wire.price_text(price_u).encode() if price_u is not None else b"")
    node.out += node.show.put(view.summary, wire.encode(keys))


def tick(node: Node, now: float) -> None:
    """What changes by time alone."""
    if now - node.summed_s >= HEARTBEAT_S:
        node.changed = True
    node.out += node.show.refused(node.unix_s(now), now)
    for name, reading in node.metered.items():
        meter(node, name, reading)
    node.metered.clear()
    if now - node.looked_s >= LOOK_S:
        node.looked_s = now
        for id_ in members(node):
            node.out += node.show.put(node.show.view.availability(id_), availability(node, id_, now).encode())
        _look_at_tariff(node, now)
        _look_at_siblings(node, now)
        node.out += node.show.alert("wiring", node.own.wrong_wiring(node.unix_s(now), now), node.unix_s(now))
        light(node, "fast" if node.own.account.quality != "good" else "slow" if node.net.unknown or node.show.alerts else "on")


def light(node: Node, lamp: Lamp) -> None:
    if lamp != node.lamp:
        node.lamp = lamp
        node.out.append(Light(lamp))


def members(node: Node) -> list[str]:
    """Everybody who counts or could, in any zone."""
    return sorted(
        id_
        for id_, kinds in node.book.nodes.items()
        if id_ != "network" and STATE in kinds and not is_gone(node, id_) and (INFO in kinds or node.life.proven(id_))
    )


def availability(node: Node, id_: str, now: float) -> str:
    state = node.book.get(id_, STATE)
    said = node.life.availability(id_, now)
    conflict = state is not None and isinstance(state.record, State) and state.record.quality == "conflict"
    return "conflict" if conflict and said == "online" else said


def linked(node: Node, id_: str, now: float) -> str:
    """'linked' only if the transport is up and the inbox is moving; both can lie alone."""
    if node.cuts.is_cut(id_):
        return "cut"
    silent_s = node.siblings.silent_s(id_, now)
    moving = silent_s is not None and silent_s <= STALE_S
    if node.transport.get(id_, moving):
        return "linked" if moving else "silent"
    return "down"


def _look_at_tariff(node: Node, now: float) -> None:
    tariff, mine = node.tariff, node.settings.tariff
    text = ""
    if tariff is not None and tariff.rule not in RULES:
        text = f"the network's tariff names the price rule {tariff.rule!r}, which this version does not know: update this node"
    elif tariff is not None:
        differ = [key for name, key in node.settings.tariff_keys.items() if getattr(tariff, name) != getattr(mine, name)]
        if differ:
            text = f"[tariff] of this node's file differs from the network's in {', '.join(differ)} and is ignored"
    node.out += node.show.alert("tariff", text, node.unix_s(now))


def _look_at_siblings(node: Node, now: float) -> None:
    """The broker reports the links that it keeps itself; those that the siblings keep are ours to report."""
    for id_, edge in node.siblings.edges.items():
        topic = node.show.view.sibling(id_)
        if not edge.joined:
            node.out += node.show.put(topic, b"")
        elif not edge.dial:
            node.out += node.show.put(topic, b"1" if linked(node, id_, now) == "linked" else b"0")


def meter(node: Node, name: str, reading: Reading) -> None:
    """One meter's scalars. What it does not say now is cleared: an old value must not look alive."""
    values = {**reading.values, "quality": reading.quality}
    for quantity in (*QUANTITIES, "quality"):
        said = str(values[quantity]).encode() if quantity in values else b""
        node.out += node.show.put(node.show.view.meter(name, quantity), said)


def status(node: Node, now: float) -> dict[str, Any]:
    """Everything this node knows, for the command line."""
    rows: dict[str, Any] = {}
    for id_ in members(node):
        held, info = node.book.get(id_, STATE), node.book.get(id_, INFO)
        assert held is not None
        assert isinstance(held.record, State)
        state, age_s = held.record, node.life.age_s(id_, now)
        about = info.record if info is not None and isinstance(info.record, Info) else None
        rows[id_] = {
            "net_w": state.net_w,
            "produced_w": state.produced_w,
            "consumed_w": state.consumed_w,
            "quality": state.quality,
            "availability": availability(node, id_, now),
            "age_s": round(age_s, 1) if age_s is not None else None,
            "siblings": sorted(s for s, n in about.siblings.items() if n % 2) if about is not None else [],
            "version": state.version,
            "zone": state.zone,
            "why": state.why,
            "agent": about.agent if about is not None else None,
            "proto": about.proto if about is not None else None,
        }
    edges = {
        id_: {"link": linked(node, id_, now), "address": edge.address, "dials": edge.dial, "counter": edge.counter}
        for id_, edge in sorted(node.siblings.edges.items())
        if edge.joined
    }
    meters = [
        {
            "name": line.slot.name,
            "quality": line.reading.quality,
            "why": line.reading.why,
            **line.reading.values,
            "age_s": round(now - line.good_s, 1) if line.good_s is not None else None,
        }
        for line in node.own.lines.values()
    ]
    return {
        "summary": build(node, now),
        "tariff": msgspec.Raw(tariff.payload) if (tariff := node.book.get("network", TARIFF)) is not None else None,
        "nodes": rows,
        "alerts": node.show.alert_rows(),
        "loads": loads.rows(node, now),
        "balance": balance.status(node, now),
        "siblings": edges,
        "meters": meters,
        "refused": node.show.refusals.total,
        "connected": node.connected,
        "left": node.left,
        "mode": "open" if node.trust is None else "closed",
        "network": node.trust.seal.network if node.trust is not None else None,
        "cut": node.cuts.cut(),
    }
