"""The price: a table by hand, then what must hold for every supply, demand and tariff."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.price import RULES, VERSIONS, Prices, mmr, rule_name

# (supply, demand, import, export), buy, sell. m is the middle of the two rates.
BY_HAND = [
    ((0, 0, 30, 8), 30, 8),  # nobody: the outside rates
    ((100, 100, 30, 8), 19, 19),  # all matched: m = 19
    ((100, 200, 30, 8), 25, 19),  # buyers: (19*100 + 30*100) / 200 = 24.5, up
    ((200, 100, 30, 8), 19, 13),  # sellers: (19*100 + 8*100) / 200 = 13.5, down
    ((0, 50, 30, 8), 30, 19),  # nothing to sell: buyers pay the import rate, a seller would get m
    ((50, 0, 30, 8), 19, 8),  # nobody buys: sellers get the export rate, a buyer would pay m
    ((0, 50, 31, 8), 31, 19),  # m = 19.5: the sell limit goes down ...
    ((50, 0, 31, 8), 20, 8),  # ... and the buy limit up
    ((100, 100, 31, 8), 20, 19),  # m = 19.5 on both sides: the half stays in the pool
    ((1, 3, 10, 0), 9, 5),  # buyers: (5*1 + 10*2) / 3 = 8.33, up
    ((3, 1, 10, 0), 5, 1),  # sellers: 5*1 / 3 = 1.67, down
    ((100, 200, 30, -10), 20, 10),  # the grid takes money for what is fed in: m = 10, (10*100 + 30*100) / 200
    ((200, 100, 30, -10), 10, 0),  # (10*100 - 10*100) / 200
    ((3, 1, 0, -10), -5, -9),  # (-5 - 20) / 3 = -8.33, down
    ((1, 3, -10, -20), -11, -15),  # (-15 - 20) / 3 = -11.67, up
    ((7, 9, 20, 20), 20, 20),  # one rate for both
    ((585, 2160, 330_000, 80_000), 296_146, 205_000),  # (205000*585 + 330000*1575) / 2160 = 296145.8
]


@pytest.mark.parametrize(("case", "buy_u", "sell_u"), BY_HAND)
def test_by_hand(case, buy_u, sell_u):
    assert mmr(*case) == Prices(buy_u, sell_u)


watts = st.integers(0, 10**12)
rates = st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 10**9)).map(lambda pair: (pair[0] + pair[1], pair[0]))


@given(watts, watts, rates)
def test_nobody_does_worse_than_with_the_outside_grid_alone(supply, demand, pair):
    import_u, export_u = pair
    buy_u, sell_u = mmr(supply, demand, import_u, export_u)
    assert export_u <= sell_u <= buy_u <= import_u


@given(watts, watts, rates)
def test_buyers_pay_what_sellers_and_the_grid_get_and_the_pool_keeps_less_than_a_unit_each(supply, demand, pair):
    import_u, export_u = pair
    buy_u, sell_u = mmr(supply, demand, import_u, export_u)
    grid = max(demand - supply, 0) * import_u - max(supply - demand, 0) * export_u
    pool = demand * buy_u - supply * sell_u - grid
    assert 0 <= pool <= demand + supply
    if demand and supply:
        assert pool < demand + supply


@given(watts, watts, rates, st.integers(1, 10**6))
def test_only_the_ratio_counts(supply, demand, pair, times):
    assert mmr(supply, demand, *pair) == mmr(times * supply, times * demand, *pair)


@given(watts, watts, st.integers(1, 10**6), rates)
def test_more_supply_makes_nothing_dearer_and_more_demand_nothing_cheaper(supply, demand, more, pair):
    before = mmr(supply, demand + 1, *pair)
    after = mmr(supply + more, demand + 1, *pair)
    assert after.buy_u <= before.buy_u
    if supply:
        assert after.sell_u <= before.sell_u
        assert mmr(supply, demand + more, *pair).sell_u >= mmr(supply, demand, *pair).sell_u


@given(watts, watts, rates)
def test_the_two_sides_mirror_each_other(supply, demand, pair):
    """Turn supply and demand and the sign of the money about: what was paid is earned."""
    import_u, export_u = pair
    there, back = mmr(supply, demand, import_u, export_u), mmr(demand, supply, -export_u, -import_u)
    assert there == Prices(-back.sell_u, -back.buy_u)


def test_integers_only():
    assert all(type(price_u) is int for price_u in mmr(3, 7, 299_999, 79_999))


def test_every_rule_has_a_version():
    assert RULES.keys() == VERSIONS.keys()
    assert rule_name("mmr") == "mmr/1"
    assert RULES["mmr"] is mmr
