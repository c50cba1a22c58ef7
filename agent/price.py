"""What a kWh costs: pure integer rules over the network's supply and demand."""

from collections.abc import Callable
from typing import NamedTuple


class Prices(NamedTuple):
    """Micro-currency per kWh: what a kWh taken costs (`buy_u`) and a kWh given earns (`sell_u`)."""

    buy_u: int
    sell_u: int


Rule = Callable[[int, int, int, int], Prices]


def mmr(supply: int, demand: int, import_u: int, export_u: int) -> Prices:
    """Mid-market rate: what is matched inside trades at m = (import + export) / 2, the rest at the outside grid's rates.

    `supply` and `demand` are sums over nodes in one unit (W now, Wh of a slot), both >= 0; rates in micro-currency per kWh,
    export_u <= import_u, either may be negative. Buying rounds up and selling down on the undivided fraction, so that the
    remainder is never short. Where a side has nobody its price is the limit m; with neither side the outside rates hold.
    Source: Long et al., "Peer-to-peer energy trading in a community microgrid", IEEE PES General Meeting 2017.
    """
    if not supply and not demand:
        return Prices(import_u, export_u)
    twice_m = import_u + export_u
    matched = min(supply, demand)
    short, over = demand - matched, supply - matched
    buy = (twice_m * matched + 2 * import_u * short, 2 * demand) if demand else (twice_m, 2)
    sell = (twice_m * matched + 2 * export_u * over, 2 * supply) if supply else (twice_m, 2)
    return Prices(-(-buy[0] // buy[1]), sell[0] // sell[1])


RULES: dict[str, Rule] = {"mmr": mmr}
"""By the tariff's `rule`. The version after the slash in `rule_name` changes with the arithmetic."""

VERSIONS = {"mmr": 1}


def rule_name(rule: str) -> str:
    """The rule and its version as messages carry it: 'mmr/1'."""
    return f"{rule}/{VERSIONS[rule]}"
