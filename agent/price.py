"""What a kWh costs: pure integer rules over the network's supply and demand.

A rule is one function, one line in RULES and VERSIONS, and one table of worked examples in its test.
"""

from collections.abc import Callable
from typing import NamedTuple


class Prices(NamedTuple):
    """Micro-currency per kWh: what a kWh taken costs (`buy_u`) and a kWh given earns (`sell_u`)."""

    buy_u: int
    sell_u: int


Rule = Callable[[int, int, int, int], Prices]
"""(supply, demand, import_u, export_u) -> Prices. The sums are over nodes in one unit (W now, Wh of a slot), both >= 0 and of
any size; the rates in micro-currency per kWh, export_u <= import_u, either may be negative.

Whatever the rule: export_u <= sell_u <= buy_u <= import_u, so that nobody does worse than with the outside grid alone."""


def mmr(supply: int, demand: int, import_u: int, export_u: int) -> Prices:
    """Mid-market rate: what is matched inside trades at m = (import + export) / 2, the rest at the outside grid's rates.

    Source: Long et al., "Peer-to-peer energy trading in a community microgrid", IEEE PES General Meeting 2017.
    """
    return _pool(import_u + export_u, 2, supply, demand, import_u, export_u)


def vwm(supply: int, demand: int, import_u: int, export_u: int) -> Prices:
    """Volume-weighted mid: m = (import * demand + export * supply) / (demand + supply), so that scarcity shows on both sides.

    Source: ours, the mean of the two rates weighted with what is wanted and what is offered, in the pool of `mmr`.
    """
    return _pool(import_u * demand + export_u * supply, demand + supply, supply, demand, import_u, export_u)


def sdr(supply: int, demand: int, import_u: int, export_u: int) -> Prices:
    """Supply-demand ratio: m = export * import * demand / ((import - export) * supply + export * demand) while supply is short.

    From supply = demand on m is the export rate: all that is gained is the buyers'.

    As export goes to 0 the price falls off a cliff at the first kWh: `problem` refuses tariffs with export below 1 % of import.
    Should one be in force all the same (rates are nobody's to check but the operators'), m is that of `mmr`.
    Source: Liu et al., "Energy-sharing model with price-based demand response for microgrids of peer-to-peer prosumers",
    IEEE Transactions on Power Systems 32(5), 2017.
    """
    if not _ratio_holds(import_u, export_u):
        return mmr(supply, demand, import_u, export_u)
    if supply >= demand:
        return _pool(export_u, 1, supply, demand, import_u, export_u)
    below = (import_u - export_u) * supply + export_u * demand
    return _pool(export_u * import_u * demand, below, supply, demand, import_u, export_u)


def fixed(supply: int, demand: int, import_u: int, export_u: int) -> Prices:
    """Fixed tariff: everybody trades with the outside grid alone, whatever the neighbours do.

    Source: the tariff itself; what the other rules are measured against.
    """
    return Prices(import_u, export_u)


def _pool(m: int, per: int, supply: int, demand: int, import_u: int, export_u: int) -> Prices:
    """The prices at which a budget-balanced pool trades what is matched inside for m / per, and the rest at the outside rates.

    Buying rounds up and selling down on the undivided fraction, so that the pool is never short. Where a side has nobody its
    price is the limit m; with neither side the outside rates hold. Needs export_u <= m / per <= import_u, and per > 0 unless
    supply and demand are both 0.
    """
    if not supply and not demand:
        return Prices(import_u, export_u)
    matched = min(supply, demand)
    short, over = demand - matched, supply - matched
    buy = (m * matched + per * import_u * short, per * demand) if demand else (m, per)
    sell = (m * matched + per * export_u * over, per * supply) if supply else (m, per)
    return Prices(-(-buy[0] // buy[1]), sell[0] // sell[1])


def _ratio_holds(import_u: int, export_u: int) -> bool:
    return export_u > 0 and 100 * export_u >= import_u


def island(wanted: int, available: int, shed: bool, floor_u: int, cap_u: int) -> int:
    """The one price for both sides in an electrical island, in micro-currency per kWh, rounded up.

    There metered production equals consumption, so that every rule above is constant: the price follows what is wanted and
    what could be made, both >= 0 in one unit. It is the floor up to 60 % of what is available, the cap from 100 % on and
    while anything is shed, and a straight line between. With nothing wanted it is the floor.
    Source: ours, floor + (cap - floor) * clip((wanted / available - 0.6) / 0.4, 0, 1).
    """
    if shed:
        return cap_u
    if not wanted:
        return floor_u
    part = min(max(5 * wanted - 3 * available, 0), 2 * available)  # of 2 * available
    return floor_u - (floor_u - cap_u) * part // (2 * available) if available else cap_u


RULES: dict[str, Rule] = {"mmr": mmr, "vwm": vwm, "sdr": sdr, "fixed": fixed}
"""By the tariff's `rule`. The version after the slash in `rule_name` changes with the arithmetic."""

VERSIONS = {"mmr": 1, "vwm": 1, "sdr": 1, "fixed": 1}
POOLED = frozenset(RULES) - {"fixed"}  # where what is matched inside does not go through the outside grid's account


def rule_name(rule: str) -> str:
    """The rule and its version as messages carry it: 'mmr/1'."""
    return f"{rule}/{VERSIONS[rule]}"


def problem(rule: str, import_u: int, export_u: int) -> str:
    """Why no tariff may be made of these, or ""."""
    if rule not in RULES:
        return f"there is no rule {rule[:40]!r}. Take one of {', '.join(RULES)}"
    if export_u > import_u:
        return "the export rate is above the import rate, so that buying to sell would pay. Lower it"
    if rule == "sdr" and not _ratio_holds(import_u, export_u):
        return "sdr needs an export rate above 0 and of 1 % of the import rate or more. Raise it, or take mmr"
    return ""
