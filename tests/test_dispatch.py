"""The plan: watts by hand, then what must hold for any table."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dispatch import NONE, Flex, Settings, Share, bias_w, dispatch, fill, headroom_pm, turn

PLAIN = Settings(bias_pm=1000)
DAY = 20_000


def plan(nodes, mode="island", rules=PLAIN, closure_w=0, day=DAY, age_s=0.0):
    return dispatch({node: (flex, age_s) for node, flex in nodes.items()}, day, mode, rules, closure_w)


def shed_w(nodes, shares, each):
    return sum(nodes[node].load[each] for node, share in shares.items() if share.open[each])


# ---- by hand


def test_enough_for_all_charges_what_is_left():
    nodes = {"a": Flex((300, 0, 0, 500), pv_w=2000, firm_w=400), "b": Flex((200, 0, 0, 0), chg_w=3000, cap_wh=5000)}
    # 2000 + 400 - 1000 = 1400 left
    assert plan(nodes) == {"a": Share(NONE, 0, None), "b": Share(NONE, -1400, None)}


def test_an_island_counts_on_five_percent_more_for_set_points_and_on_nothing_more_for_shedding():
    nodes = {"a": Flex((0, 0, 0, 3000), firm_w=2000), "b": Flex((0, 0, 0, 0), dis_w=1000, ttg_s=3600, soc_wh=1000, cap_wh=2000)}
    # 3000 wanted = 2000 + 1000: nothing shed; the battery gives 3000 - 2100
    assert plan(nodes, rules=Settings()) == {"a": Share(NONE, 0, None), "b": Share(NONE, 900, None)}
    assert plan(nodes)["b"].battery_w == 1000
    assert plan(nodes, mode="tied", rules=Settings())["b"].battery_w == 1000
    nodes["a"] = Flex((0, 0, 0, 3001), firm_w=2000)
    # short by 1 W, and half of the block of 3001 is more than that
    assert plan(nodes, rules=Settings())["a"].open == NONE


def test_the_flexible_go_first_and_the_critical_last():
    nodes = {f"n{number}": Flex((100, 100, 100, 100)) for number in range(10)}  # 1000 W a class
    for firm_w, gone in [
        (4000, (0, 0, 0, 0)),
        (3500, (0, 0, 0, 5)),
        (2700, (0, 0, 3, 10)),
        (1000, (0, 10, 10, 10)),
        (0, (10,) * 4),
    ]:
        shares = plan({**nodes, "f": Flex((0, 0, 0, 0), firm_w=firm_w)})
        assert tuple(sum(share.open[each] for share in shares.values()) for each in range(4)) == gone


def test_exact_to_half_a_block():
    one = {"a": Flex((0, 0, 0, 1000)), "f": Flex((0, 0, 0, 0), firm_w=500)}
    assert plan(one)["a"].open == NONE  # 500 short: half of 1000 is not below it
    assert plan({**one, "f": Flex((0, 0, 0, 0), firm_w=499)})["a"].open == (False, False, False, True)


def test_back_only_with_the_margin():
    # hand: 0.4 % of 1000 is 4 W, half a block 50 W
    nodes = {f"n{number}": Flex((0, 0, 0, 100)) for number in range(10)}
    first = min(nodes, key=lambda node: turn(node, DAY))
    for firm_w, opened, held in [(949, True, True), (950, False, True), (953, False, True), (954, False, False)]:
        share = plan({**nodes, "f": Flex((0, 0, 0, 0), firm_w=firm_w)})[first]
        assert (share.open[3], share.hold[3]) == (opened, held)


@pytest.mark.parametrize(("dis_w", "battery_w"), [(1000, 500 - 50), (500, 500 - 50), (400, 400 - 40), (0, 0)])
def test_the_bias_is_no_more_than_droop_can_give(dis_w, battery_w):
    # 1500 W on 1000 W firm: 5 % of them are 50 W, a tenth of 400 W are 40
    nodes = {
        "a": Flex((1500, 0, 0, 0), dis_w=dis_w, ttg_s=3600, soc_wh=1000, cap_wh=1000),
        "f": Flex((0, 0, 0, 0), firm_w=1000),
    }
    assert dispatch({node: (flex, 0.0) for node, flex in nodes.items()}, DAY, "island", Settings())["a"].battery_w == battery_w
    assert dispatch({node: (flex, 0.0) for node, flex in nodes.items()}, DAY, "island", PLAIN)["a"].battery_w == min(500, dis_w)


@pytest.mark.parametrize(
    ("need_w", "batteries_w"),
    [
        (2000, [950, 950]),  # all of both is called upon: the whole bias
        (2500, [950, 950]),  # ... and no more of it for those who are shed
        (1600, [760, 760]),  # four fifths of it
        (1000, [475, 475]),  # half; no less than the larger battery's part
        (400, [175, 175]),
    ],
)
def test_the_bias_grows_with_what_is_called_upon(need_w, batteries_w):
    # hand: 5 % of 2000 W are 100, a tenth of 2 * 1000 W are 200; one time-to-go, so each gives half
    nodes = {name: Flex((0, 0, 0, 0), dis_w=1000, ttg_s=3600, soc_wh=1000, cap_wh=1000) for name in "ab"}
    nodes |= {"f": Flex((2000 + need_w, 0, 0, 0), firm_w=2000)}
    shares = dispatch({node: (flex, 0.0) for node, flex in nodes.items()}, DAY, "island", Settings())
    assert [shares[name].battery_w for name in "ab"] == batteries_w


@pytest.mark.parametrize(
    ("most_w", "watts"), [(0, 50), (50, 50), (60, 40), (75, 25), (90, 10), (100, 10), (400, 40), (500, 50), (9000, 50)]
)
def test_the_last_of_the_batteries_is_kept_to_regulate(most_w, watts):
    # 5 % of 1000 W; set-points are what batteries can give less the bias, so that they come to rest where both are 50 W
    assert bias_w(1000, most_w, Settings()) == watts


def test_the_longest_time_to_go_first():
    def nodes(need_w):
        return {
            "a": Flex((need_w, 0, 0, 0), dis_w=1000, ttg_s=9000, soc_wh=2500, cap_wh=9000),
            "b": Flex((0, 0, 0, 0), dis_w=1000, ttg_s=8100, soc_wh=2250, cap_wh=9000),
            "c": Flex((0, 0, 0, 0), dis_w=1000, ttg_s=900, soc_wh=250, cap_wh=9000),
        }

    def watts(need_w):
        return [share.battery_w for share in plan(nodes(need_w)).values()]

    assert watts(500) == [500, 0, 0]
    assert watts(1000) == [1000, 0, 0]  # z = 8100
    assert watts(1500) == [1000, 500, 0]
    assert watts(2000) == [1000, 1000, 0]
    assert watts(2500) == [1000, 1000, 500]
    assert watts(3000) == [1000, 1000, 1000]
    nodes_near = nodes(1000) | {"b": Flex((0, 0, 0, 0), dis_w=1000, ttg_s=8550, soc_wh=2375, cap_wh=9000)}
    # (9000 - z) + (8550 - z) = 900 gives z = 8325: 750 and 250 W
    assert [share.battery_w for share in plan(nodes_near).values()] == [750, 250, 0]


def test_the_emptiest_charges_first_and_the_target_is_kept_from_firm_power():
    def nodes(pv_w, firm_w):
        return {
            "a": Flex((100, 0, 0, 0), pv_w, chg_w=1000, ttg_s=3600, soc_wh=8000, cap_wh=10_000, firm_w=firm_w),
            "b": Flex((0, 0, 0, 0), chg_w=1000, ttg_s=900, soc_wh=2000, cap_wh=10_000),
        }

    def watts(pv_w, firm_w, target_pm):
        return [share.battery_w for share in plan(nodes(pv_w, firm_w), rules=replace(PLAIN, target_pm=target_pm)).values()]

    assert watts(0, 600, 1000) == [0, -500]
    assert watts(0, 1600, 1000) == [-500, -1000]
    assert watts(0, 1600, 500) == [0, -1000]  # a is above 50 %: firm power is not for it
    assert watts(600, 1000, 500) == [0, -1000]  # 500 W of sunshine are left over, b takes them
    assert watts(1400, 200, 500) == [-300, -1000]  # 1300 W of sunshine are left over, b takes 1000 of them


def test_what_nobody_known_wants_or_supplies():
    nodes = {"a": Flex((0, 0, 0, 1000), firm_w=1000), "b": Flex((0, 0, 0, 0), dis_w=500, ttg_s=60)}
    assert plan(nodes, closure_w=300)["b"].battery_w == 300
    assert plan(nodes, closure_w=-300)["b"].battery_w == 0
    assert plan(nodes, closure_w=1001)["a"].open[3]  # 501 short of a block of 1000


def test_who_is_silent_counts_but_follows_no_plan():
    silent = Flex((0, 0, 0, 1000), pv_w=200, dis_w=5000, ttg_s=9999, firm_w=5000, soc_wh=1, cap_wh=2)
    heard = Flex((0, 0, 0, 1000), firm_w=1000)
    table = {"a": (silent, 60.1), "b": (heard, 0.0)}
    # 2000 wanted, 1200 there: 800 short, only b's 1000 can go
    shares = dispatch(table, DAY, "island", PLAIN)
    assert shares == {"a": Share(NONE, 0, None), "b": Share((False, False, False, True), 0, None, (False, False, False, True))}
    assert dispatch(table, DAY, "island", replace(PLAIN, lag_s=10))["b"].open == NONE  # the delay is known


def test_tied_keeps_the_import_limit_and_the_export_limit():
    nodes = {
        "a": Flex((500, 0, 0, 0), pv_w=3000),
        "b": Flex((500, 0, 0, 0), pv_w=1000, chg_w=400, cap_wh=1000),
        "f": Flex((0, 0, 0, 0), firm_w=5000, slack_w=0, export_w=1600),
    }
    shares = plan(nodes, mode="tied")
    # 4000 - 1000 - 400 = 2600 would flow out, 1000 too many: 3000 of 4000 are allowed, three quarters for each
    assert [(share.battery_w, share.pv_limit_w) for share in shares.values()] == [(0, 2250), (-400, 750), (0, None)]
    nodes["f"] = replace(nodes["f"], export_w=2600)
    assert [share.pv_limit_w for share in plan(nodes, mode="tied").values()] == [None] * 3
    nodes["f"] = replace(nodes["f"], export_w=None)
    assert [share.pv_limit_w for share in plan(nodes, mode="tied").values()] == [None] * 3
    assert [share.pv_limit_w for share in plan({**nodes, "f": replace(nodes["f"], export_w=0)}).values()] == [None] * 3  # by droop


def test_tied_without_a_known_limit_sheds_nobody_and_uses_its_own_sunshine():
    nodes = {"a": Flex((100, 0, 0, 900)), "b": Flex((0, 0, 0, 0), dis_w=700, ttg_s=3600, soc_wh=700, cap_wh=700)}
    assert [(share.open, share.battery_w) for share in plan(nodes, mode="tied").values()] == [(NONE, 0), (NONE, 700)]
    # but a feeder that gives nothing is a limit: 500 short, half a block is 450
    out = {"a": nodes["a"], "b": replace(nodes["b"], dis_w=500), "f": Flex((0, 0, 0, 0), slack_w=0)}
    assert plan(out, mode="tied")["a"].open == (False, False, False, True)


def test_headroom_grows_with_the_age_of_the_records():
    rules = Settings()
    assert [headroom_pm([age_s] * 3, rules) for age_s in (0, 10, 11, 40, 5000)] == [0, 0, 1, 30, 100]
    assert headroom_pm([0.0, 40.9, 80.0], rules) == 30
    assert headroom_pm([], rules) == 0
    nodes = {"f": Flex((0, 0, 0, 10_000), firm_w=10_000, slack_w=0), "b": Flex((0, 0, 0, 0), dis_w=900, ttg_s=60)}
    assert [plan(nodes, mode="tied", age_s=age_s)["b"].battery_w for age_s in (0.0, 20.0, 40.0)] == [0, 100, 300]
    assert plan(nodes, age_s=40.0)["b"].battery_w == 0  # an island has the bias instead


def test_the_order_is_another_one_each_day_and_fair():
    nodes = {f"n{number}": Flex((0, 0, 0, 100)) for number in range(10)} | {"f": Flex((0, 0, 0, 0), firm_w=900)}
    victims = [next(node for node, share in plan(nodes, day=day).items() if share.open[3]) for day in range(300)]
    assert {victims.count(node) for node in nodes if node != "f"} <= set(range(15, 50))  # 30 expected
    assert turn("a", 7).hex()[:16] == "175cba46a556a912"  # sha256 of "a|7"


def test_nobody_and_nothing():
    assert dispatch({}, DAY, "island", Settings()) == {}
    assert dispatch({}, DAY, "tied", Settings(), 500) == {}
    assert plan({"a": Flex((0, 0, 0, 0))}) == {"a": Share(NONE, 0, None)}


@pytest.mark.parametrize(
    ("need_w", "watts"), [(-5, [0, 0]), (0, [0, 0]), (1, [1, 0]), (3, [2, 1]), (2000, [1000, 1000]), (9**9, [1000] * 2)]
)
def test_fill_by_hand(need_w, watts):
    # within the second just below 3600 s a battery of 1000 W has 1 W, in the next again 1: in id order
    assert list(fill(need_w, [("b", 1000, 3600), ("a", 1000, 3600)], 900).values()) == watts


# ---- for any table

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
