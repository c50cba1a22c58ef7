"""The plan: watts by hand, then what must hold for any table."""

from dataclasses import replace

import pytest

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
