"""The price: a table by hand for each rule, then what must hold for every rule, supply, demand and tariff."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.price import POOLED, RULES, VERSIONS, Prices, fixed, island, mmr, problem, rule_name, sdr, vwm

# (supply, demand, import, export), buy, sell
MMR = [  # m is the middle of the two rates
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
VWM = [  # m = (import * demand + export * supply) / (demand + supply)
    ((0, 0, 30, 8), 30, 8),
    ((100, 100, 30, 8), 19, 19),  # as many of each: the middle
    ((100, 200, 30, 8), 27, 22),  # m = (6000 + 800) / 300 = 22.67; buyers (2266.67 + 3000) / 200 = 26.33, up
    ((200, 100, 30, 8), 16, 11),  # m = (3000 + 1600) / 300 = 15.33, up; sellers (1533.33 + 800) / 200 = 11.67, down
    ((0, 50, 30, 8), 30, 30),  # all want, none offers: a seller would get the import rate
    ((50, 0, 30, 8), 8, 8),  # all offer, none wants: a buyer would pay the export rate
    ((1, 3, 10, 0), 10, 7),  # m = 30/4 = 7.5, down; buyers (7.5 + 20) / 3 = 9.17, up
    ((3, 1, 10, 0), 3, 0),  # m = 10/4 = 2.5, up; sellers 2.5 / 3 = 0.83, down
    ((100, 200, 30, -10), 24, 16),  # m = (6000 - 1000) / 300 = 16.67, down; buyers (1666.67 + 3000) / 200 = 23.33, up
    ((1, 1, -10, -20), -15, -15),
    ((7, 9, 20, 20), 20, 20),
]
SDR = [  # m = export * import * demand / ((import - export) * supply + export * demand) while supply < demand, else export
    ((0, 0, 30, 8), 30, 8),
    ((100, 100, 30, 8), 8, 8),  # 8*30*100 / (2200 + 800) = 8: all the gain is the buyers'
    ((200, 100, 30, 8), 8, 8),
    ((50, 0, 30, 8), 8, 8),
    ((0, 50, 30, 8), 30, 30),  # 8*30*50 / (8*50) = 30
    ((100, 200, 30, 8), 22, 12),  # 48000 / (2200 + 1600) = 12.63, down; buyers (1263.16 + 3000) / 200 = 21.3, up
    ((1, 3, 100, 1), 68, 2),  # 1 % is enough: 300 / (99 + 3) = 2.94, down; buyers (2.94 + 200) / 3 = 67.6, up
    ((1, 3, 101, 1), 85, 51),  # 0.99 % is not: as mmr, m = 51, buyers (51 + 202) / 3 = 84.3, up
    ((1, 3, 10, 0), 9, 5),  # as mmr
    ((3, 1, 0, -10), -5, -9),  # as mmr
    ((1, 3, -10, -20), -11, -15),  # as mmr
    ((7, 9, 20, 20), 20, 20),  # 20*20*9 / (0 + 180) = 20
    ((7, 9, 0, 0), 0, 0),  # as mmr
]
FIXED = [((s, d, 30, -8), 30, -8) for s, d in ((0, 0), (5, 0), (0, 5), (5, 5), (5, 9), (9, 5))]
TABLES = {"mmr": MMR, "vwm": VWM, "sdr": SDR, "fixed": FIXED}


@pytest.mark.parametrize(("rule", "case", "buy_u", "sell_u"), [(rule, *row) for rule, table in TABLES.items() for row in table])
def test_by_hand(rule, case, buy_u, sell_u):
    assert RULES[rule](*case) == Prices(buy_u, sell_u)


def test_every_rule_has_a_version_and_a_table():
    assert RULES.keys() == VERSIONS.keys() == TABLES.keys()
    assert list(RULES.values()) == [mmr, vwm, sdr, fixed]
    assert [rule_name(rule) for rule in RULES] == ["mmr/1", "vwm/1", "sdr/1", "fixed/1"]
    assert RULES.keys() - POOLED == {"fixed"}
    assert all("Source: " in (rule.__doc__ or "") for rule in (*RULES.values(), island))


rules = st.sampled_from(sorted(RULES))
watts = st.one_of(st.integers(0, 5), st.integers(0, 10**6), st.integers(0, 10**30))
rates = st.tuples(st.integers(-(10**12), 10**12), st.integers(0, 10**12)).map(lambda pair: (pair[0] + pair[1], pair[0]))
small = st.tuples(st.integers(-5, 20), st.integers(0, 20)).map(lambda pair: (pair[0] + pair[1], pair[0]))
pairs = st.one_of(small, rates)


@given(rules, watts, watts, pairs)
def test_nobody_does_worse_than_with_the_outside_grid_alone(rule, supply, demand, pair):
    import_u, export_u = pair
    buy_u, sell_u = RULES[rule](supply, demand, import_u, export_u)
    assert export_u <= sell_u <= buy_u <= import_u
    assert type(buy_u) is type(sell_u) is int


@given(st.sampled_from(sorted(POOLED)), watts, watts, pairs)
def test_buyers_pay_what_sellers_and_the_grid_get_and_the_pool_keeps_less_than_a_unit_each(rule, supply, demand, pair):
    import_u, export_u = pair
    buy_u, sell_u = RULES[rule](supply, demand, import_u, export_u)
    grid = max(demand - supply, 0) * import_u - max(supply - demand, 0) * export_u
    pool = demand * buy_u - supply * sell_u - grid
    assert 0 <= pool <= demand + supply
    if demand and supply:
        assert pool < demand + supply


@given(rules, watts, watts, pairs, st.integers(1, 10**6))
def test_only_the_ratio_counts(rule, supply, demand, pair, times):
    assert RULES[rule](supply, demand, *pair) == RULES[rule](times * supply, times * demand, *pair)


@given(rules, watts, watts, st.integers(1, 10**6), pairs)
def test_more_supply_makes_nothing_dearer_and_more_demand_nothing_cheaper(rule, supply, demand, more, pair):
    price = RULES[rule]
    before, after = price(supply, demand + 1, *pair), price(supply + more, demand + 1, *pair)
    assert after.buy_u <= before.buy_u
    if supply:
        assert after.sell_u <= before.sell_u
        assert price(supply, demand + more, *pair).sell_u >= price(supply, demand, *pair).sell_u


@given(st.sampled_from(["mmr", "vwm", "fixed"]), watts, watts, pairs)
def test_the_two_sides_mirror_each_other(rule, supply, demand, pair):
    """Turn supply and demand and the sign of the money about: what was paid is earned. sdr alone takes the buyers' side."""
    import_u, export_u = pair
    there, back = RULES[rule](supply, demand, import_u, export_u), RULES[rule](demand, supply, -export_u, -import_u)
    assert there == Prices(-back.sell_u, -back.buy_u)


@given(watts.map(lambda n: n + 1), watts.map(lambda n: n + 1), st.tuples(st.integers(1, 10**9), st.integers(0, 99)))
def test_sdr_is_the_paper_s_two_formulas(supply, demand, pair):
    """Written as in the paper, with the ratio, and exact."""
    export_u, import_u = pair[0], pair[0] * (1 + pair[1])
    ratio = Fraction(supply, demand)
    if ratio <= 1:
        sell = Fraction(export_u * import_u) / ((import_u - export_u) * ratio + export_u)
        buy = sell * ratio + import_u * (1 - ratio)
    else:
        sell = buy = Fraction(export_u)
    assert sdr(supply, demand, import_u, export_u) == Prices(
        -(-buy.numerator // buy.denominator), sell.numerator // sell.denominator
    )


@pytest.mark.parametrize(
    ("rule", "import_u", "export_u", "says"),
    [
        ("mmr", 300_000, 80_000, ""),
        ("mmr", -1, -2, ""),
        ("vwm", 5, 5, ""),
        ("fixed", 5, -5, ""),
        ("sdr", 300_000, 80_000, ""),
        ("sdr", 300_000, 3_000, ""),
        ("sdr", 300_000, 2_999, "1 %"),
        ("sdr", 300_000, 0, "1 %"),
        ("sdr", 300_000, -1, "1 %"),
        ("sdr", -1, -2, "1 %"),
        ("mmr", 7, 8, "above the import rate"),
        ("sdr", 7, 8, "above the import rate"),
        ("auction", 8, 7, "no rule 'auction'. Take one of mmr, vwm, sdr, fixed"),
    ],
)
def test_what_no_tariff_may_be_made_of(rule, import_u, export_u, says):
    found = problem(rule, import_u, export_u)
    assert says in found
    assert bool(found) == bool(says)


@pytest.mark.parametrize(
    ("wanted", "available", "shed", "price_u"),
    [
        (0, 0, False, 10),
        (0, 100, False, 10),
        (60, 100, False, 10),  # up to 60 % the floor
        (70, 100, False, 20),  # a quarter of the way: 10 + 40 * 0.1 / 0.4
        (80, 100, False, 30),
        (99, 100, False, 49),
        (100, 100, False, 50),
        (150, 100, False, 50),
        (5, 0, False, 50),  # nothing to be had
        (0, 100, True, 50),  # something is shed: whoever wants it back wants it at the cap
        (61, 100, False, 11),  # 10 + 40 * 0.025
        (6001, 10_000, False, 11),  # 10.01, up
    ],
)
def test_an_island_by_hand(wanted, available, shed, price_u):
    assert island(wanted, available, shed, 10, 50) == price_u


@given(watts, watts, watts, pairs)
def test_an_island_s_price_lies_between_floor_and_cap_and_follows_scarcity(wanted, available, more, pair):
    cap_u, floor_u = pair
    price_u = island(wanted, available, False, floor_u, cap_u)
    assert floor_u <= price_u <= cap_u
    assert type(price_u) is int
    assert island(wanted + more, available, False, floor_u, cap_u) >= price_u
    assert island(wanted, available + more, False, floor_u, cap_u) <= price_u
