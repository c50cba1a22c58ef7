"""The accounts of one slot: what every node owes or is owed, in integers that sum to zero, and what a revision of it changes."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from agent.isle import Island, Want, isle
from agent.price import POOLED, RULES, Prices, island, rule_name
from agent.wire import Rates

GRID, POOL = "grid", "pool"
VERSION = 1  # of the accounts and the digest; a rule's own version stands beside its name
HORIZON_S = 86_400  # a slot is final so long after its end; what comes later is booked in the slot then open


class Settled(msgspec.Struct, frozen=True):
    """One revision of one slot of one zone: everything its price and accounts are made of, and the price.

    `uses` is (import, export) in Wh by node; rates and prices in micro-currency per kWh. `digest` stands for all that
    enters the money: the same digest means the same prices and accounts, on any machine. `missing` (why a node that is known
    does not count) and `flags` (why a part is less than exact) are what this node saw, `revision` how often it changed
    here, `booked` the slot in which what it changes is paid. `island`, of an electrical island, comes of `wants` and `uses`.
    """

    slot: int
    slot_s: int
    zone: str
    revision: int
    booked: int
    digest: str
    rule: str
    currency: str
    import_u: int
    export_u: int
    floor_u: int
    cap_u: int
    buy_u: int
    sell_u: int
    uses: dict[str, tuple[int, int]]
    missing: dict[str, str] = {}
    flags: dict[str, str] = {}
    island: Island | None = None
    wants: dict[str, Want] = {}


def settle(
    slot: int, zone: str, uses: Mapping[str, tuple[int, int]], tariff: Rates, wants: Mapping[str, Want] | None = None
) -> Settled | None:
    """Revision 0 of a slot: a pure function of its arguments, in whatever order the nodes come.

    `uses` is (import, export) in Wh by node, both >= 0; with `wants` it may be an island's, which has one price for both sides.
    None when this version does not know the tariff's rule.
    """
    if tariff.rule not in RULES:
        return None
    ordered = {node: uses[node] for node in sorted(uses)}
    wanted = {node: wants[node] for node in sorted(wants) if node in uses} if wants else {}
    demand, supply = _sums(ordered)
    alone = isle(ordered, wanted)
    if alone is not None:
        price_u = island(*alone, tariff.floor_u, tariff.cap_u)
        prices, rule = Prices(price_u, price_u), "island/1"
    else:
        prices, rule = RULES[tariff.rule](supply, demand, tariff.import_u, tariff.export_u), rule_name(tariff.rule)
    settled = Settled(
        slot=slot,
        slot_s=tariff.slot_s,
        zone=zone,
        revision=0,
        booked=slot,
        digest="",
        rule=rule,
        currency=tariff.currency,
        import_u=tariff.import_u,
        export_u=tariff.export_u,
        floor_u=tariff.floor_u,
        cap_u=tariff.cap_u,
        buy_u=prices.buy_u,
        sell_u=prices.sell_u,
        uses=ordered,
        island=alone,
        wants=wanted,
    )
    return msgspec.structs.replace(settled, digest=digest(settled))


def digest(settled: Settled) -> str:
    """Hash over the sorted parts, the tariff, the rule's version and that of the accounts."""
    s = settled
    tariff = f"{s.import_u} {s.export_u} {s.floor_u} {s.cap_u} {s.currency!r}"
    alone = f"{s.island.wanted} {s.island.available} {s.island.shed:d}" if s.island is not None else "-"
    lines = [f"settlement/{VERSION} {s.zone} {s.slot} {s.slot_s} {s.rule} {tariff} {alone}"]
    lines += [f"{node} {s.uses[node][0]} {s.uses[node][1]}" for node in sorted(s.uses)]
    if s.island is not None:
        wants = ((node, s.wants[node]) for node in sorted(s.wants))
        lines += [f"{node} wants {w.wanted_wh} {w.avail_wh} {w.feeder or '-'} {w.shed:d}" for node, w in wants]
    return blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def account(node: str) -> str:
    """A node's account. Two ids are also the names of the accounts that everybody shares; theirs is written longer."""
    return f"node/{node}" if node in (GRID, POOL) else node


def entries(settled: Settled) -> dict[str, int]:
    """By account what it gets (+) or pays (-), in nano-currency (Wh * micro-currency per kWh); the sum is exactly 0.

    `grid` is the outside grid: it gets the import rate for what the slot lacked and pays the export rate for what it had
    over; under the rule `fixed` every node deals with it alone. `pool` keeps what rounding left, at least 0 and less than
    1 micro-currency per kWh of all that was taken and given.

    In an island no grid is there to be paid, so `grid` is 0, and with one price for both sides nothing is rounded: `pool` has
    that price for what was metered as given and not as taken (losses in the wires, then it owes) or the other way round, and a
    node's late record takes its part out of it. The price is no share of a grid's rates, so nothing keeps it between them:
    whoever takes may pay more, or who gives earn less, than a grid would have charged or paid.
    """
    books = {account(node): export * settled.sell_u - import_ * settled.buy_u for node, (import_, export) in settled.uses.items()}
    demand, supply = _sums(settled.uses)
    if settled.island is not None:
        grid = 0
    elif settled.rule.partition("/")[0] in POOLED:
        grid = max(demand - supply, 0) * settled.import_u - max(supply - demand, 0) * settled.export_u
    else:
        grid = demand * settled.import_u - supply * settled.export_u
    return books | {GRID: grid, POOL: -grid - sum(books.values())}


def posted(before: Settled | None, after: Settled) -> dict[str, int]:
    """What a revision changes against the one before it, as an entry of its own, in the slot `after.booked`; sums to 0, too."""
    old, new = entries(before) if before is not None else {}, entries(after)
    accounts = [*new, *(name for name in old if name not in new)]
    change = {name: new.get(name, 0) - old.get(name, 0) for name in accounts}
    return {name: nano for name, nano in change.items() if nano}


def revise(before: Settled | None, after: Settled, open_slot: int) -> Settled | None:
    """The next revision; None when nothing that enters the money is different.

    Within the horizon it is booked in its own slot, later in the slot that is open: what was final is not changed.
    """
    if before is None:
        return after
    if before.digest == after.digest:
        return None
    booked = open_slot if is_final(after.slot, after.slot_s, open_slot) else after.slot
    return msgspec.structs.replace(after, revision=before.revision + 1, booked=booked)


def is_final(slot: int, slot_s: int, open_slot: int) -> bool:
    return (open_slot - slot - 1) * slot_s >= HORIZON_S


def replay(settled: Settled) -> str:
    """Reckon a stored revision again: "" or what does not come out as it stands there."""
    if digest(settled) != settled.digest:
        return "its parts do not give its digest"
    rule, _, version = settled.rule.partition("/")
    if isle(settled.uses, settled.wants) != settled.island:
        return "its parts do not give its island"
    if settled.island is not None:
        price_u = island(*settled.island, settled.floor_u, settled.cap_u)
        right = Prices(price_u, price_u)
    elif rule not in RULES or rule_name(rule) != settled.rule:
        return f"this version does not know the rule {rule[:40]!r} in its version {version[:10]!r}"
    else:
        demand, supply = _sums(settled.uses)
        right = RULES[rule](supply, demand, settled.import_u, settled.export_u)
    return "" if right == (settled.buy_u, settled.sell_u) else f"its parts give the prices {right.buy_u} and {right.sell_u}"


def differ(one: Settled, other: Settled) -> dict[str, tuple[Any, Any]]:
    """Where two nodes' stores of one slot differ: by node both parts, and by name what else enters the digest."""
    names = ("rule", "currency", "import_u", "export_u", "floor_u", "cap_u", "slot_s", "island")
    found = {name: (getattr(one, name), getattr(other, name)) for name in names}
    found |= {account(node): (one.uses.get(node), other.uses.get(node)) for node in sorted(one.uses.keys() | other.uses.keys())}
    if one.island != other.island:
        wanting = sorted(one.wants.keys() | other.wants.keys())
        found |= {f"{account(node)}, island": (one.wants.get(node), other.wants.get(node)) for node in wanting}
    return {name: both for name, both in found.items() if both[0] != both[1]}


def _sums(uses: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Demand and supply, Wh."""
    return sum(import_wh for import_wh, _ in uses.values()), sum(export_wh for _, export_wh in uses.values())
