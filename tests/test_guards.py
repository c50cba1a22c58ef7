"""When the plan may be applied: each guard by an example, then what no view may ever bring about."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dispatch import NONE, Flex, Settings, Share, dispatch
from agent.doubt import WINDOW_S
from agent.guards import BACK_S, REVERT_S, Closure, Guards, Reversion, View, config_digest

OPEN3 = (False, False, False, True)
DAY = 20_000
SHORT = {
    "a": (Flex((100, 0, 0, 900)), 1.0),
    "b": (Flex((0, 0, 0, 0), dis_w=100, ttg_s=60, soc_wh=1, cap_wh=9), 2.0),
    "f": (Flex((0, 0, 0, 0), firm_w=400, slack_w=390), 0.5),
}  # 1000 W wanted, 500 W there: a's 900 must go
NETS = {"a": -490, "b": 100, "f": 0}


def view(table=SHORT, nets=NETS, digests=None, heard=3, nodes=3, hz=49.9) -> View:
    return View(table, nets, dict.fromkeys(table, "d") if digests is None else digests, heard, nodes, hz)


def aged(node, age_s):
    return {**SHORT, node: (SHORT[node][0], age_s)}


def guards(**given) -> Guards:
    return Guards(Settings(), 50.0, 100.0, **given)


def test_a_complete_table_is_planned_on_at_once():
    verdict = guards().step(view(), "a", DAY, "island", 100.0)
    assert (verdict.share, verdict.why) == (Share(OPEN3, 0, None, OPEN3), "")
    verdict = guards().step(view(), "b", DAY, "island", 100.0)
    # of the deficit of 500 exactly 500 go: 500 - 400 firm - 10 % of b's 100, which is less than 5 % of 400
    assert verdict.share == Share(NONE, 90, None)


def test_the_first_tick_with_half_a_table_sheds_nobody():
    node = guards()
    verdict = node.step(view(heard=3, nodes=4, hz=49.5), "a", DAY, "island", 100.0)
    assert (verdict.share, verdict.why) == (None, "warming up: 3 of 4 nodes heard")
    assert node.step(view(heard=3, nodes=4, hz=49.5), "a", DAY, "island", 159.9).share is None
    missing = node.step(view(heard=3, nodes=4, hz=49.95), "a", DAY, "island", 160.0)
    assert (missing.share, missing.why) == (
        Share(NONE, 0, None, OPEN3),
        "nobody shed: nodes are missing and the frequency does not agree",
    )
    assert node.step(view(heard=3, nodes=4, hz=49.95), "b", DAY, "island", 160.5).why == ""  # batteries are not shed
    agreed = node.step(view(heard=3, nodes=4, hz=49.7), "a", DAY, "island", 161.0)
    assert agreed.share is not None
    assert agreed.share.open == OPEN3
    # from then on it is warm, whatever the frequency says
    again = node.step(view(heard=3, nodes=4, hz=50.0), "a", DAY, "island", 162.0)
    assert again.share is not None
    assert again.share.open == OPEN3


@pytest.mark.parametrize(
    ("mode", "hz", "slack_w", "opens"),
    [
        ("island", 49.81, 400, False),  # the frequency is asked first
        ("island", 49.79, 0, True),
        ("island", None, 399, False),
        ("island", None, 400, True),  # the slack unit gives all it has
        ("tied", 49.0, 399, False),  # the frequency is the whole continent's
        ("tied", 50.0, 400, True),
    ],
)
def test_what_agrees_that_something_is_missing(mode, hz, slack_w, opens):
    table = {**SHORT, "f": (replace(SHORT["f"][0], slack_w=slack_w), 0.0)}
    verdict = guards().step(view(table, heard=3, nodes=4, hz=hz), "a", DAY, mode, 160.0)
    assert verdict.share is not None
    assert verdict.share.open == (OPEN3 if opens else NONE)


def test_never_on_a_partial_sum():
    node = guards()
    assert node.step(view(aged("f", 30.0)), "a", DAY, "island", 100.0).share is not None
    late = node.step(view(aged("f", 30.1)), "a", DAY, "island", 101.0)
    assert (late.share, late.why) == (None, "the slack meter of f is silent for 30 s")
    assert Guards(Settings(lag_s=5), 50.0, 0.0).step(view(aged("f", 35.0)), "a", DAY, "island", 9.0).share is not None
    gone = {name: line for name, line in SHORT.items() if name != "f"}
    lost = node.step(view(gone, heard=2), "a", DAY, "island", 102.0)
    assert (lost.share, lost.why) == (None, "no slack meter (feeder or grid-forming unit) is heard")
    assert node.step(view(gone, heard=2), "z", DAY, "island", 102.0).why == "this node's own record is missing"
    # heard again, it must stay
    back = node.step(view(), "a", DAY, "island", 103.0)
    assert (back.share, back.why) == (None, "the slack meter is heard again; waiting whether it stays")
    assert node.step(view(), "a", DAY, "island", 102.0 + BACK_S).share is not None
    assert node.step(view(aged("f", 99.0)), "a", DAY, "island", 120.0).share is None
    assert node.step(view(), "a", DAY, "island", 120.0 + BACK_S - 0.1).share is None


def test_the_oldest_of_several_slack_meters_counts():
    two = {**SHORT, "g": (Flex((0, 0, 0, 0), slack_w=0), 31.0)}
    assert guards().step(view(two), "a", DAY, "island", 100.0).why == "the slack meter of g is silent for 31 s"


def test_no_plan_is_shared_with_another_configuration():
    node = guards()
    # b has other settings: its 100 W are not planned with, 600 are missing
    verdict = node.step(view(digests={"a": "d", "b": "e", "f": "d"}), "a", DAY, "island", 100.0)
    assert verdict.others == ("b",)
    assert verdict.share == Share(OPEN3, 0, None, OPEN3)
    assert node.step(view(digests={"a": "d", "f": "d"}), "a", DAY, "island", 100.0).others == ("b",)
    # b itself is alone with its settings, and the slack meter is with the others
    alone = node.step(view(digests={"a": "d", "b": "e", "f": "d"}), "b", DAY, "island", 100.0)
    assert alone.share is None
    assert alone.why == "f, which has the slack meter, has another configuration; make them alike"
    assert alone.others == ("a", "f")


def test_the_digest_changes_with_whatever_must_be_alike():
    assert config_digest(Settings(), b"mmr/1") == config_digest(Settings(), b"mmr/1")
    seen = {
        config_digest(Settings()),
        config_digest(Settings(bias_pm=1049)),
        config_digest(Settings(), b"a", b"b"),
        config_digest(Settings(), b"ab"),
        config_digest(Settings(), b"a"),
    }
    assert len(seen) == 5
    assert all(len(one) == 16 for one in seen)


def test_the_closure_comes_slowly_and_is_capped():
    closure = Closure()
    assert closure.step(1000, 500, 0.0) == 0  # nothing is known of how long it has been so
    assert closure.step(1000, 500, 2.0) == 50  # 500 * 2 / 20
    assert closure.step(1000, 500, 4.0) == 95  # 50 + 450 / 10
    assert closure.step(-9999, 500, 6.0) == 36  # 95 - 595 / 10 = 35.5, half to even
    assert closure.step(200, 500, 999.0) == 200
    closure.forget()
    assert closure.step(200, 500, 1000.0) == 0


def test_losses_and_silent_nodes_are_found_by_the_slack_meter():
    node = guards()
    for now in range(100, 400, 2):
        verdict = node.step(view(nets={"a": -490, "b": 80}), "b", DAY, "island", float(now))
    # 390 - 490 + 80 = -20: somebody supplies 20 W
    assert verdict.closure_w == -20
    assert verdict.share == Share(NONE, 90, None)  # the deficit is 480 and all of it goes: 1000 - 480 - 20 - 400 - 10
    silent = {**SHORT, "c": (Flex((300, 0, 0, 0), pv_w=50), 60.5)}
    for now in range(400, 700, 2):
        verdict = node.step(view(silent, nets={"a": -490, "b": 100, "c": 7777}), "b", DAY, "island", float(now))
    # c counts with its last load and sunshine both in the plan and here: 390 - 490 + 100 - 250
    assert verdict.closure_w == -250


def test_who_becomes_known_leaves_the_closure_at_once():
    """A house that joins, or a half of the network that is heard again, was all in the average; twice it would shed others."""
    closure = Closure()
    closure.learn({"f": 0})
    for now in range(200):
        closure.step(2700, 9000, float(now))
    assert closure.step(2700, 9000, 200.0) == 2700
    closure.learn({"f": 0, "a": -2000})
    assert closure.step(700, 9000, 200.0) == 700
    closure.learn({"f": 0, "a": -2000, "b": 500})  # supplies: no less is unknown for it
    assert closure.step(1200, 9000, 200.0) == 700
    closure.learn({"f": 0, "a": -100, "b": 500, "c": -900})  # what the known do is no news of who is known
    assert closure.step(300, 9000, 200.0) == 0  # and it never turns round for it
    closure.learn({"f": 0, "a": -100, "b": 500, "c": -900, "d": -50})
    assert closure.step(-50, 9000, 200.0) == 0


def test_a_dead_house_that_is_forgotten_leaves_the_closure_at_once():
    closure = Closure()
    closure.learn({"f": 0, "a": -2000, "b": -300})
    for now in range(200):
        closure.step(-2300, 9000, float(now))  # neither draws what it said last
    closure.learn({"f": 0, "b": -300})
    assert closure.step(-300, 9000, 199.0) == -300
    closure.learn({"f": 0})
    assert closure.step(0, 9000, 199.0) == 0
    closure.learn({})
    assert closure.watts == 0


def test_a_network_that_comes_together_sheds_nobody_twice():
    """The feeder's owner ran alone for long: all the others were what the slack meter saw beyond it."""
    node = guards()
    alone = {"f": (Flex((0, 0, 0, 0), firm_w=1000, slack_w=950), 0.5)}
    for now in range(100, 400, 2):
        verdict = node.step(view(alone, nets={"f": 0}, heard=1, nodes=1), "f", DAY, "tied", float(now))
    assert verdict.closure_w == 500  # half of the limit: its cap
    whole = {**alone, "a": (Flex((150, 0, 0, 800)), 1.0)}
    verdict = node.step(view(whole, nets={"f": 0, "a": -950}, heard=2, nodes=2), "f", DAY, "tied", 400.0)
    assert verdict.closure_w == 0
    assert dispatch(whole, DAY, "tied", Settings(), 500)["a"].open == OPEN3  # what would have come of it
    assert dispatch(whole, DAY, "tied", Settings(), verdict.closure_w)["a"].open == NONE


def test_after_a_silence_the_closure_starts_anew():
    node = guards()
    for now in range(100, 200, 2):
        node.step(view(nets={}), "b", DAY, "island", float(now))
    assert node.closure.watts > 380
    node.step(view(aged("f", 99.0)), "b", DAY, "island", 200.0)
    assert node.closure == Closure()


def test_a_set_point_is_renewed_long_before_it_lapses():
    timer = Reversion(deadband_w=50)
    assert timer.step(1000, 0.0) == 1000
    assert timer.step(1049, 1.0) is None
    assert timer.step(1050, 2.0) == 1050
    assert timer.step(1049, 3.0) is None
    assert timer.step(1049, 2.0 + REVERT_S / 3) == 1049
    assert timer.step(1049, 23.0) is None
    timer.failed()
    assert timer.step(1049, 24.0) == 1049
    assert timer.step(0, 25.0) == 0  # nothing is nothing, also inside the deadband
    assert timer.step(0, 26.0) is None
    assert Reversion(50).step(0, 0.0) == 0


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 4)), max_size=60))
def test_whoever_is_served_each_few_seconds_never_lapses(steps):
    timer, now, written_s = Reversion(deadband_w=100), 0.0, 0.0
    timer.step(0, now)
    for battery_w, after_s in steps:
        now += after_s
        if timer.step(battery_w, now) is not None:
            written_s = now
        assert now - written_s < REVERT_S / 2
        assert timer.written_w is not None
        assert abs(timer.written_w - battery_w) < 100


def test_whoever_is_doubted_is_planned_with_the_part_that_the_slack_meter_sees():
    node = guards()
    node.doubt.unseen["a"] = 900_000
    verdict = node.step(view(), "a", DAY, "island", 100.0)
    assert verdict.doubted == {"a": 100_000}
    assert verdict.share == Share(NONE, 0, None)  # 10 + 90 W wanted instead of 1000
    assert verdict.closure_w == 0
    # the slack meter gives 390 and b 100, and a takes 49 by this: the rest somebody else does
    for second in range(101, 158):  # inside one window
        verdict = node.step(view(), "a", DAY, "island", float(second))
    assert 180 < verdict.closure_w <= 200  # at most half of what is known
    silent = node.step(view(aged("a", 61.0)), "a", DAY, "island", 158.0)
    assert silent.doubted == {}


def test_a_node_whose_account_comes_and_goes_is_not_doubted_for_it():
    node = guards()
    for second in range(100, 100 + 30 * WINDOW_S):
        known = second // WINDOW_S % 2
        verdict = node.step(view(nets=NETS if known else {"b": 100, "f": 0}), "a", DAY, "island", float(second))
        assert verdict.doubted == {}


def test_what_is_no_longer_believed_leaves_the_closure_at_once_and_never_turns_it_round():
    node = guards()
    node.doubt.unseen["a"] = 599_999
    closures = []
    for second in range(100, 101 + 2 * WINDOW_S):
        told = {"a": -4900 if second <= 100 + WINDOW_S else -9800, "b": 100, "f": 0}  # ten times 490, and more
        verdict = node.step(view(nets=told), "a", DAY, "island", float(second))
        closures.append((verdict.closure_w, *verdict.doubted.values()))
    assert closures[-2][0] < -490  # at most half of what is known
    closure_w, part = closures[-1]
    assert 300_000 < part < 400_000
    assert -60 < closure_w <= 0  # and one step of its average anew


watts = st.integers(0, 9000)


@st.composite
def views(draw):
    names = draw(st.lists(st.sampled_from("abcdefg"), unique=True, max_size=7))
    table = {}
    for name in names:
        slack = draw(st.sampled_from([None, None, 0, 5000]))
        flex = Flex(
            draw(st.tuples(watts, watts, watts, watts)), draw(watts), firm_w=draw(watts) if slack is not None else 0, slack_w=slack
        )
        table[name] = (flex, draw(st.sampled_from([0.0, 3.0, 29.0, 31.0, 61.0])))
    digests = {name: draw(st.sampled_from("ddde")) for name in names}
    nets = {name: draw(st.integers(-9000, 9000)) for name in names}
    heard = draw(st.integers(0, 7))
    return View(table, nets, digests, heard, heard + draw(st.integers(0, 3)), draw(st.sampled_from([None, 49.5, 50.0])))


@given(st.lists(st.tuples(views(), st.sampled_from([0.2, 5.0, 40.0])), max_size=5), st.sampled_from(["island", "tied"]))
def test_what_never_happens(steps, mode):
    node, now = Guards(Settings(), 50.0, 0.0), 0.0
    warm = False
    for seen, after_s in steps:
        now += after_s
        verdict = node.step(seen, "a", DAY, mode, now)
        warm = warm or seen.heard >= seen.nodes or (now >= 60 and (seen.hz != 50.0 or mode == "tied"))
        if verdict.share is None:
            assert verdict.why
            assert verdict.closure_w == 0
            continue
        slack = {name for name, (flex, age_s) in seen.table.items() if flex.slack_w is not None and age_s <= 30}
        assert slack
        assert all(seen.digests[name] == seen.digests["a"] for name in slack)
        assert not slack & set(verdict.others)
        if verdict.share.open != NONE:
            assert warm
        alike = {name: line if seen.digests[name] == seen.digests["a"] else (line[0], 1e9) for name, line in seen.table.items()}
        planned = dispatch(alike, DAY, mode, Settings(), verdict.closure_w)["a"]
        assert verdict.share in (planned, replace(planned, open=NONE))
