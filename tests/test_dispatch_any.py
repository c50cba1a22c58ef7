"""The plan of any table: what holds whoever wants and offers whatever, and that nothing swings."""

import random
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dispatch import NONE, Flex, Settings, Share, dispatch, fill

PLAIN = Settings(bias_pm=1000)
DAY = 20_000


def plan(nodes, mode="island", rules=PLAIN, closure_w=0, day=DAY, age_s=0.0):
    return dispatch({node: (flex, age_s) for node, flex in nodes.items()}, day, mode, rules, closure_w)


def shed_w(nodes, shares, each):
    return sum(nodes[node].load[each] for node, share in shares.items() if share.open[each])


watts = st.integers(0, 10_000)


@st.composite
def flexes(draw):
    cap_wh = draw(st.sampled_from([0, 0, 1, 5000, 20_000]))
    soc_wh = draw(st.integers(0, cap_wh))
    power = watts if cap_wh else st.just(0)
    return Flex(
        load=draw(st.tuples(watts, watts, watts, watts)),
        pv_w=draw(watts),
        dis_w=draw(power),
        chg_w=draw(power),
        ttg_s=draw(st.integers(0, 20_000)),
        soc_wh=soc_wh,
        cap_wh=cap_wh,
        firm_w=draw(st.sampled_from([0, 0, 10_000, 60_000])),
    )


tables = st.dictionaries(
    st.sampled_from([f"n{number}" for number in range(9)]),
    st.tuples(flexes(), st.sampled_from([0.0, 3.7, 40.0, 99.0])),
    max_size=6,
)
modes = st.sampled_from(["island", "tied"])
closures = st.integers(-20_000, 20_000)
days = st.integers(0, 10**6)


@given(tables, days, modes, closures, st.randoms(use_true_random=False))
def test_the_same_table_in_any_order_gives_the_same_plan(table, day, mode, closure_w, chance):
    rows = list(table.items())
    chance.shuffle(rows)
    assert dispatch(dict(rows), day, mode, Settings(), closure_w) == dispatch(table, day, mode, Settings(), closure_w)
    assert list(dispatch(dict(rows), day, mode, Settings(), closure_w)) == sorted(table)


@given(tables, days, modes, closures)
def test_whole_watts_within_what_each_can_do(table, day, mode, closure_w):
    for node, share in dispatch(table, day, mode, Settings(), closure_w).items():
        flex, age_s = table[node]
        assert type(share.battery_w) is int
        assert -flex.chg_w <= share.battery_w <= flex.dis_w
        assert share.pv_limit_w is None
        assert all(kept for opened, kept in zip(share.open, share.hold, strict=True) if opened)
        assert all(load_w for load_w, kept in zip(flex.load, share.hold, strict=True) if kept)
        if age_s > 60:
            assert share == Share(NONE, 0, None)


@given(tables, days, closures)
def test_sheds_what_the_deficit_needs_to_half_a_block(table, day, closure_w):
    heard = {node: flex for node, (flex, age_s) in table.items() if age_s <= 60}
    lost = [flex for flex, age_s in table.values() if age_s > 60]
    shares = dispatch(table, day, "island", Settings(), closure_w)
    supply_w = sum(flex.pv_w + flex.dis_w + flex.firm_w for flex in heard.values()) + sum(flex.pv_w for flex in lost)
    short_w = sum(sum(flex.load) for flex in [*heard.values(), *lost]) + closure_w - supply_w
    for each in (3, 2, 1, 0):
        there_w = sum(flex.load[each] for flex in heard.values())
        must_w = min(there_w, max(0, short_w))
        most_w = max((flex.load[each] for flex in heard.values()), default=0)
        assert 2 * abs(shed_w(heard, {node: shares[node] for node in heard}, each) - must_w) <= most_w
        if must_w in (0, there_w):
            assert shed_w(heard, {node: shares[node] for node in heard}, each) == must_w
        short_w -= must_w


@given(tables, days, closures)
def test_supply_and_what_is_served_balance_but_for_what_firm_power_takes(table, day, closure_w):
    nodes = {node: flex for node, (flex, _) in table.items()}
    shares = plan(nodes, closure_w=closure_w, day=day)
    wanted_w = sum(sum(flex.load) for flex in nodes.values()) + closure_w - sum(flex.pv_w for flex in nodes.values())
    firm_w, most_w = (sum(getattr(flex, name) for flex in nodes.values()) for name in ("firm_w", "dis_w"))
    battery_w = sum(share.battery_w for share in shares.values())
    need_w = min(wanted_w, firm_w + most_w) - firm_w  # what remains after shedding exactly the deficit
    if need_w > 0:
        shedable_w = sum(sum(flex.load) for flex in nodes.values())
        assert battery_w == (need_w if wanted_w - firm_w - most_w <= shedable_w else most_w)
    else:
        low = [flex for flex in nodes.values() if flex.soc_wh < flex.cap_wh]
        full = [flex for flex in nodes.values() if flex.soc_wh >= flex.cap_wh]
        given_w = min(-need_w, sum(flex.chg_w for flex in low))
        sun_w = max(0, min(-need_w, -wanted_w) - given_w)
        assert battery_w == -(given_w + min(sun_w, sum(flex.chg_w for flex in full)))


@given(tables, days, modes, closures, closures)
def test_set_points_move_no_more_than_what_moved_them(table, day, mode, closure_w, other_w):
    """Lipschitz 1, in the sum over all nodes: nothing is amplified, whatever the delay."""
    one, other = (dispatch(table, day, mode, Settings(), each) for each in (closure_w, other_w))
    assert sum(abs(one[node].battery_w - other[node].battery_w) for node in table) <= abs(closure_w - other_w)


@given(tables, days, modes, st.sampled_from(["load", "pv_w"]), st.integers(1, 3000))
def test_one_node_alone_moves_the_others_no_more_than_it_moved(table, day, mode, what, more_w):
    for node, (flex, age_s) in table.items():
        load = (flex.load[0] + more_w, *flex.load[1:])
        moved = {**table, node: (replace(flex, load=load) if what == "load" else replace(flex, pv_w=flex.pv_w + more_w), age_s)}
        one, other = (dispatch(each, day, mode, Settings()) for each in (table, moved))
        assert sum(abs(one[each].battery_w - other[each].battery_w) for each in table) <= more_w


@given(tables, days, closures)
def test_less_firm_power_sheds_no_less(table, day, closure_w):
    less = {node: (replace(flex, firm_w=flex.firm_w // 2), age_s) for node, (flex, age_s) in table.items()}
    one, other = (dispatch(each, day, "island", Settings(), closure_w) for each in (table, less))
    for node in table:
        assert all(more or not opened for opened, more in zip(one[node].open, other[node].open, strict=True))


@given(tables, days, st.sampled_from([0.0, 5.0, 20.0, 60.0]), st.floats(0, 60))
def test_older_records_leave_more_headroom_and_shed_no_less(table, day, age_s, older_s):
    nodes = {node: flex for node, (flex, _) in table.items()}
    old_s = min(60.0, age_s + older_s)
    one, other = (plan(nodes, "tied", Settings(), day=day, age_s=each) for each in (age_s, old_s))
    for node in nodes:
        assert all(more or not opened for opened, more in zip(one[node].open, other[node].open, strict=True))
        assert other[node].battery_w >= one[node].battery_w


@given(tables, days, modes)
def test_ages_below_the_limit_change_nothing_in_an_island(table, day, mode):
    nodes = {node: flex for node, (flex, _) in table.items()}
    if mode == "island":
        assert plan(nodes, age_s=0.0, day=day) == plan(nodes, age_s=60.0, day=day)
    else:
        assert plan(nodes, mode, age_s=0.0, day=day) == plan(nodes, mode, age_s=10.9, day=day)


offers = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(0, 9000), st.integers(-50_000, 50_000)), max_size=8)


@settings(max_examples=200)
@given(offers, st.integers(-10, 80_000))
def test_a_watt_more_of_need_is_a_watt_more_of_one_node(rows, need_w):
    table = [(node, cap_w, key_s) for node, (cap_w, key_s) in rows.items()]
    one, other = fill(need_w, table, 900), fill(need_w + 1, table, 900)
    assert sum(one.values()) == max(0, min(need_w, sum(cap_w for _, cap_w, _ in table)))
    moves = [other[node] - one[node] for node in one]
    assert all(move in (0, 1) for move in moves)
    assert sum(moves) <= 1


@given(offers, st.integers(0, 80_000))
def test_the_highest_key_gets_the_greater_part(rows, need_w):
    filled = fill(need_w, [(node, cap_w, key_s) for node, (cap_w, key_s) in rows.items()], 900)
    ranked = sorted(rows, key=lambda node: -rows[node][1])
    for high, low in pairwise(ranked):
        if rows[low][1] + 901 <= rows[high][1] and filled[low]:
            assert filled[high] == rows[high][0]


def test_fifty_nodes_shuffled_fifty_times():
    chance = random.Random(5)
    nodes = {
        f"node{number:02d}": Flex(
            load=(chance.randrange(900), chance.randrange(900), chance.randrange(900), chance.randrange(900)),
            pv_w=chance.randrange(2000),
            dis_w=(battery := chance.random() < 0.3) * 5000,
            chg_w=battery * 5000,
            ttg_s=battery * chance.randrange(8000),
            soc_wh=battery * 4000,
            cap_wh=battery * 10_000,
        )
        for number in range(50)
    }
    want = plan(nodes)
    for _ in range(50):
        rows = list(nodes.items())
        chance.shuffle(rows)
        assert plan(dict(rows)) == want
