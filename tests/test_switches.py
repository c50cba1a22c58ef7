"""The relays: each time by hand, then what must hold whoever asks for what, and over restarts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dispatch import NONE
from agent.switches import MIN_OFF_S, MIN_ON_S, STAGE_S, Load, Switches, Turn

OPEN3, OPEN23, ALL = (False, False, False, True), (False, False, True, True), (True, True, True, True)
HEATER = Load("heater", 3, 2000)
FREEZER = Load("freezer", 2, 150, "compressor")
PUMP = Load("pump", 3, 1800, "heat_pump")
LAMPS = Load("lamps", 0, 100)


def made(*loads, now=0.0) -> Switches:
    return Switches.of(loads or (HEATER, FREEZER), now)


def step(switches, open_, now, hold=NONE, urgent=NONE):
    return [(one.name, one.on) for one in switches.step(open_, hold, urgent, now)]


def test_a_plan_opens_at_once_and_minimum_times_are_kept():
    switches = made()
    assert step(switches, OPEN23, 9.9) == []  # since the start nothing is known of before
    assert switches.step(OPEN23, NONE, NONE, 10.0) == [Turn("heater", False, "plan")]
    assert step(switches, OPEN23, 119.9) == []
    assert step(switches, OPEN23, 120.0) == [("freezer", False)]
    assert step(switches, NONE, 19.9 + 100) == [("heater", True)]
    assert step(switches, NONE, 419.9) == []
    assert step(switches, NONE, 420.0) == [("freezer", True)]
    assert switches.outputs == {"heater": True, "freezer": True}
    assert [one.turns for one in switches.switches.values()] == [2, 2]


def test_held_is_neither_opened_nor_closed():
    switches = made()
    assert step(switches, NONE, 50.0, hold=OPEN3) == []
    assert step(switches, OPEN3, 51.0, hold=OPEN3) == [("heater", False)]
    assert step(switches, NONE, 99.0, hold=OPEN3) == []
    assert step(switches, NONE, 99.2) == [("heater", True)]


@pytest.mark.parametrize("kind", MIN_ON_S)
def test_each_kind_keeps_its_own_times(kind):
    switches = made(Load("one", 3, 1, kind))
    on_s, off_s = MIN_ON_S[kind], MIN_OFF_S[kind]
    assert step(switches, OPEN3, on_s - 0.1) == []
    assert step(switches, OPEN3, on_s) == [("one", False)]
    assert step(switches, NONE, on_s + off_s - 0.1) == []
    assert step(switches, NONE, on_s + off_s) == [("one", True)]


def test_times_of_the_configuration_go_first():
    switches = made(Load("one", 3, 1, "compressor", True, 0, 7))
    assert step(switches, OPEN3, 0.0) == [("one", False)]
    assert step(switches, NONE, 6.9) == []
    assert step(switches, NONE, 7.0) == [("one", True)]


def test_the_frequency_opens_at_once_and_everything_the_flexible_first():
    switches = made(LAMPS, FREEZER, HEATER)
    switches.override("lamps", "on", 60, 0.0)
    turns = switches.step(ALL, ALL, ALL, 1.0)
    assert turns == [Turn("heater", False, "frequency"), Turn("freezer", False, "frequency"), Turn("lamps", False, "frequency")]
    assert step(switches, NONE, 10.9) == []  # but nothing comes back before its time
    assert step(switches, NONE, 11.0, urgent=ALL) == []


def test_returning_is_one_after_the_other_the_critical_first():
    loads = [Load(f"l{each}", each, 100) for each in (3, 1, 0, 2)]
    switches = made(*loads)
    switches.step(ALL, ALL, ALL, 20.0)
    back = [(now / 10, one.name) for now in range(200, 500) for one in switches.step(NONE, NONE, NONE, now / 10)]
    assert back == [(30.0 + STAGE_S * each, f"l{each}") for each in range(4)]


def test_in_one_class_the_longest_open_returns_first():
    switches = made(Load("a", 3, 1), Load("b", 3, 1, min_on_s=0))
    assert step(switches, OPEN3, 1.0) == [("b", False)]
    assert step(switches, OPEN3, 10.0) == [("a", False)]
    assert step(switches, NONE, 50.0) == [("b", True)]
    assert step(switches, NONE, 51.9) == []
    assert step(switches, NONE, 52.0) == [("a", True)]


def test_a_persons_word_goes_before_the_plan_and_ends():
    switches = made(HEATER)
    assert switches.override("heater", "off", 100, 20.0)
    assert switches.step(NONE, NONE, NONE, 20.0) == [Turn("heater", False, "manual")]
    assert switches.opened() == NONE  # nobody shed it
    assert step(switches, NONE, 119.9) == []
    assert step(switches, NONE, 120.0) == [("heater", True)]
    assert switches.override("heater", "on", 100, 130.0)
    assert step(switches, OPEN3, 140.0) == []
    assert step(switches, OPEN3, 230.0) == [("heater", False)]
    assert switches.opened() == OPEN3
    assert switches.override("heater", "on", 100, 235.0)
    assert step(switches, OPEN3, 239.9) == []  # it has its times for people too
    assert switches.step(OPEN3, OPEN3, NONE, 240.0) == [Turn("heater", True, "manual")]
    assert switches.override("heater", "auto", 0, 241.0)
    assert step(switches, OPEN3, 250.0) == [("heater", False)]


@pytest.mark.parametrize(
    ("name", "for_s", "taken"),
    [("heater", 1, True), ("heater", 0, False), ("heater", 7 * 86400, True), ("heater", 7 * 86400 + 1, False), ("other", 5, False)],
)
def test_an_override_has_an_end_and_a_relay(name, for_s, taken):
    switches = made(HEATER)
    assert switches.override(name, "off", for_s, 0.0) == taken
    assert (switches.switches["heater"].manual is not None) == taken


def test_what_an_open_block_would_draw_halves_each_half_hour():
    switches = made(HEATER, min_on := Load("bar", 1, 400))
    assert min_on.least_s(True) == 10
    assert switches.wanted(2900, 0.0) == (500, 400, 0, 2000)  # rated, nothing measured yet
    switches.measure("heater", 1600)
    assert switches.wanted(2500, 5.0) == (500, 400, 0, 1600)
    switches.step(OPEN3, OPEN3, NONE, 10.0)
    switches.measure("heater", 0)  # that it draws nothing while open says nothing
    assert switches.wanted(900, 10.0) == (500, 400, 0, 1600)
    assert switches.wanted(900, 1810.0) == (500, 400, 0, 800)
    assert switches.wanted(900, 5410.0) == (500, 400, 0, 200)
    assert switches.wanted(300, 10.0) == (0, 400, 0, 1600)  # what runs is less than rated
    switches.override("bar", "on", 50, 20.0)
    assert switches.wanted(900, 20.0)[:2] == (900, 0)  # cannot be shed
    switches.override("heater", "off", 50, 20.0)
    assert switches.wanted(900, 20.0) == (900, 0, 0, 0)
    assert switches.wanted(900, 70.0)[1] == 400
    switches.measure("bar", -3)
    assert switches.switches["bar"].drawn_w == 0


def test_on_exit_everything_is_safe_whatever_the_times_say():
    switches = made(HEATER, Load("pump", 1, 500, "compressor", safe_on=False))
    assert switches.outputs == {"heater": True, "pump": False}
    switches.step(NONE, NONE, NONE, 300.0)
    switches.step(OPEN3, OPEN3, NONE, 301.0)
    assert sorted(switches.safe(301.1), key=lambda one: one.name) == [Turn("heater", True, "exit"), Turn("pump", False, "exit")]
    assert switches.safe(301.2) == []


# ---- restarts


def test_times_survive_a_restart_by_the_wall_clock():
    switches = made(now=1000.0)
    switches.measure("freezer", 90)
    switches.step(OPEN23, NONE, NONE, 1200.0)
    switches.override("heater", "off", 600, 1200.0)
    kept = switches.dump(5_000_000, 1230.4)
    assert kept["freezer"] == {"on": False, "since": 4_999_970, "manual": None, "until": kept["freezer"]["until"], "drawn_w": 90}
    assert kept["heater"] == {"on": False, "since": 4_999_970, "manual": False, "until": 5_000_570, "drawn_w": None}
    again = made(now=7.0)
    again.load(kept, 5_000_100, 7.0)  # 130 s since they opened
    assert again.outputs == {"heater": True, "freezer": False}  # 10 s are over, 300 s are not
    freezer, heater = again.switches["freezer"], again.switches["heater"]
    assert (freezer.since_s, freezer.drawn_w) == (7.0 - 130, 90)
    assert (heater.since_s, heater.manual, heater.until_s) == (7.0, False, 477.0)
    assert step(again, NONE, 176.9) == [("heater", False)]
    assert step(again, NONE, 177.0) == [("freezer", True)]


def test_what_was_safe_keeps_its_age():
    kept = made(now=0.0).dump(1000, 50.0)
    again = made(now=3.0)
    again.load(kept, 1100, 3.0)
    assert {one.since_s for one in again.switches.values()} == {3.0 - 150}


def test_a_clock_that_went_back_lets_every_time_run_anew():
    switches = made(now=0.0)
    switches.step(OPEN23, NONE, NONE, 500.0)
    again = made(now=3.0)
    again.load(switches.dump(9_000_000, 900.0), 8_000_000, 3.0)
    assert {one.since_s for one in again.switches.values()} == {3.0}
    assert again.outputs == {"heater": False, "freezer": False}


def test_what_is_kept_of_others_or_out_of_time_is_left_alone():
    switches = made(HEATER)
    switches.override("heater", "on", 60, 0.0)
    kept = switches.dump(1000, 0.0) | {"gone": {"on": False, "since": 1, "until": 1}, "freezer": {"on": True}}
    assert switches.dump(1000, 60.0)["heater"]["manual"] is None  # over
    for unix_s, manual in [(1059, True), (1060, None), (400, True), (1060 - 8 * 86400, None)]:
        again = made(HEATER, FREEZER)
        again.load(kept, unix_s, 0.0)
        assert set(again.switches) == {"heater", "freezer"}
        assert again.switches["heater"].manual is manual
        assert again.switches["freezer"].since_s == 0.0


# ---- whoever asks for what

LOADS = (HEATER, FREEZER, PUMP, LAMPS, Load("boiler", 1, 3000, safe_on=False))
classes = st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans())
steps = st.lists(
    st.tuples(
        classes,
        classes,
        st.sampled_from([NONE, NONE, NONE, OPEN3, ALL]),
        st.sampled_from([0.2, 1.0, 9.0, 61.0, 400.0]),
        st.sampled_from(["", "", "on", "off", "auto", "restart"]),
    ),
    max_size=40,
)


@given(steps)
def test_no_relay_switches_before_its_time_but_opened_by_the_frequency(steps):
    switches, now = made(*LOADS, now=0.0), 0.0
    log = {load.name: [(0.0, load.safe_on, "start")] for load in LOADS}
    loads = {load.name: load for load in LOADS}
    for open_, hold, urgent, after_s, what in steps:
        now += after_s
        if what == "restart":
            kept = switches.dump(1_000_000 + round(now), now)
            switches = made(*LOADS, now=now)
            switches.load(kept, 1_000_000 + round(now), now)
            for name, on in switches.outputs.items():
                if on != log[name][-1][1]:
                    log[name].append((now, on, "restart"))
        elif what:
            assert switches.override("freezer", what, 100.0, now)
        turns = switches.step(open_, hold, urgent, now)
        assert sum(one.on for one in turns) <= 1
        for one in turns:
            assert log[one.name][-1][1] != one.on
            assert one.why in ("plan", "manual", "frequency")
            assert one.name == "freezer" or one.why != "manual"
            log[one.name].append((now, one.on, one.why))
        for name, on in switches.outputs.items():
            assert not (on and urgent[loads[name].each])
    for name, turns in log.items():
        for (before, was_on, _), (at, on, why) in pairwise(turns):
            assert on != was_on
            if why != "frequency":
                assert at - before >= loads[name].least_s(was_on) - 1.01  # a restart rounds to seconds
    closings = sorted(at for turns in log.values() for at, on, why in turns if on and why in ("plan", "manual"))
    if all(what != "restart" for *_, what in steps):
        assert all(later - earlier >= STAGE_S for earlier, later in pairwise(closings))
