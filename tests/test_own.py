"""What a node says of itself: never an old value as new, never 0 for unknown, no more often than needed."""

import json
from itertools import pairwise

import pytest
from fleet import UNIX_S, settings

from agent.own import BIRTH_S, BIRTHS, LATE_S, MeterSlot, Own, iso, period_s
from drivers.reading import Account, Reading, absent

PV = MeterSlot("roof", "pv", 1.0)
SLOW = MeterSlot("slow", "grid", 60.0)


def good(w: int) -> Reading:
    return Reading("good", "", {"w": w})


def own(**changes) -> Own:
    made = Own(settings("me", **changes), "1234abcd")
    made.start(0, 0.0)
    return made


def say(made: Own, now: float, **more) -> dict:
    return json.loads(made.state("table", UNIX_S + now, now, **more))


def settled(**changes) -> Own:
    """One that has been read, and has said so; its births are over at 3.0."""
    made = own(**changes)
    for now in (1.0, 2.0, 3.0):
        made.read("main", good(500), UNIX_S + now, now)
        say(made, now)
    return made


def test_the_state_record_by_hand():
    made = own(meters=(MeterSlot("main", "grid", 1.0), PV))
    made.read("main", good(-3674), UNIX_S, 5.0)
    made.read("roof", good(-4870), UNIX_S + 1, 5.0)
    record = made.state("00ff", UNIX_S + 9, 9.0)
    assert record == (
        b'{"net_w":3674,"produced_w":4870,"consumed_w":1196,"quality":"good","zone":"z","rated_w":10000,'
        b'"table":"00ff","at":"2026-11-22T08:34:45Z","instance":"1234abcd","version":1}'
    )


def test_frequency_and_offer_stand_before_the_table():
    made = own()
    made.read("main", good(5), UNIX_S, 5.0)
    said = made.state("00ff", UNIX_S, 9.0, "", 49.987, {"load": [5, 0, 0, 0], "digest": "d"})
    assert b'"rated_w":10000,"hz":49.987,"flex":{"load":[5,0,0,0],"digest":"d"},"table":"00ff"' in said


def test_something_else_worth_telling_is_due_but_not_while_a_read_fails():
    made = own()
    made.read("main", good(5), UNIX_S, 5.0)
    say(made, 5.0)
    say(made, 5.0)
    say(made, 5.0)
    assert not made.due(5.1)
    assert made.due(5.1, other=True)
    made.read("main", absent("late"), UNIX_S, 6.0)
    assert not made.due(6.1, other=True)


def test_the_info_record_by_hand():
    made = own(place="hill", role="farm", agent="0.1")
    assert made.info({"b": 1}, ["b"], "a:1883", False, UNIX_S) == (
        b'{"place":"hill","role":"farm","meters":["main"],"siblings":{"b":1},"dials":["b"],"address":"a:1883","url":null,'
        b'"agent":"0.1","proto":1,"at":"2026-11-22T08:34:44Z","instance":"1234abcd","version":1}'
    )
    assert json.loads(made.info({}, [], None, True, UNIX_S))["left"] is True


def test_before_the_first_reading_nothing_is_known():
    said = say(own(), 0.0)
    assert (said["net_w"], said["produced_w"], said["consumed_w"]) == (None, None, None)
    assert (said["quality"], said["why"]) == ("absent", "meter 'main': not read yet")
    assert say(own(meters=()), 0.0)["why"] == "no meter configured"


def test_versions_grow_by_one_and_begin_above_the_past():
    made = own()
    assert [say(made, 0.0)["version"], made.next_version(), say(made, 0.0)["version"]] == [1, 2, 3]
    made.overtake(2)
    assert made.next_version() == 4
    made.overtake(100)
    assert made.next_version() == 101
    later = Own(settings("me"), "x")
    later.start(100_000, 0.0)
    assert (later.next_version(), later.ceiling) == (100_001, 100_000)


def test_births_then_heartbeats():
    made, said = own(), []
    now = 0.0
    made.read("main", good(5), UNIX_S, 0.0)
    while now < 30.0:
        made.read("main", good(5), UNIX_S, now)
        if made.due(now):
            say(made, now)
            said.append(now)
        now = round(now + 0.05, 2)
    waits = [round(b - a, 2) for a, b in pairwise(said)]
    assert waits[: BIRTHS - 1] == [BIRTH_S] * (BIRTHS - 1)
    assert all(period_s("me") <= wait <= period_s("me") + 0.06 for wait in waits[BIRTHS - 1 :])
    assert len(waits) >= 7


def test_the_heartbeats_of_a_thousand_nodes_spread_over_a_second():
    periods = sorted(period_s(f"n{number}") for number in range(1000))
    assert 4.0 < periods[0] < 4.01
    assert 4.99 < periods[-1] <= 5.0
    assert max(b - a for a, b in pairwise(periods)) < 0.02


def test_a_change_beyond_the_deadband_is_said_at_once():
    made = settled(deadband_w=50)
    assert not made.due(3.0)
    made.read("main", good(550), UNIX_S, 3.1)
    assert not made.changed()
    made.read("main", good(551), UNIX_S, 3.2)
    assert made.changed()
    assert made.due(3.2)
    assert say(made, 3.2)["net_w"] == -551
    assert not made.due(3.2)


@pytest.mark.parametrize(
    ("grid_w", "roof_w", "changed"),
    [
        (1000, -2050, False),  # 50 more made and used
        (1050, -2000, False),  # 50 more used
        (1000, -2051, True),  # 51 more made and used, the net unchanged
        (1051, -2000, True),  # 51 more used
        (949, -2051, True),  # 51 more made, used the same
        (1060, -1970, True),  # 30 less made and 30 more used: the net is 60 less
        (940, -2030, True),  # ... 60 more
        (949, -2000, True),
        (1000, -1949, True),
    ],
)
def test_the_deadband_is_on_all_three(grid_w, roof_w, changed):
    made = own(meters=(MeterSlot("main", "grid", 1.0), PV), deadband_w=50)
    for grid, roof in ((1000, -2000), (grid_w, roof_w)):
        made.said = made.account
        made.read("main", good(grid), UNIX_S, 1.0)
        made.read("roof", good(roof), UNIX_S, 1.0)
    assert (made.said.produced_w, made.said.consumed_w) == (2000, 3000)
    assert made.changed() is changed


def test_quality_and_reason_are_changes_too():
    made = own()
    made.read("main", absent("timeout"), UNIX_S, 1.0)
    say(made, 1.0)
    assert not made.changed()
    made.read("main", absent("no route"), UNIX_S, 2.0)
    assert made.changed()
    say(made, 2.0)
    made.read("main", Reading("suspect", "no route", {"w": 5}), UNIX_S, 3.0)
    assert made.changed()
    assert say(made, 3.0)["net_w"] is None
    made.said = Account(None, None, "good", "")
    made.read("main", good(5), UNIX_S, 4.0)
    assert made.changed()


def test_a_failed_read_is_not_told_and_no_old_value_is_told_as_new():
    made = settled()
    made.read("main", absent("timeout"), UNIX_S, 4.0)
    assert not made.due(60.0)  # not even a heartbeat, while it may yet be good again
    made.read("main", good(700), UNIX_S + 5, 5.0)
    assert made.due(5.0)
    assert say(made, 5.0)["at"] == "2026-11-22T08:34:49Z"


def test_after_three_seconds_of_failures_it_is_absent():
    made = settled()  # good at 3.0
    made.read("main", absent("timeout"), UNIX_S, 3.0 + LATE_S)
    assert made.account.consumed_w == 500
    made.read("main", absent("timeout"), UNIX_S, 3.1 + LATE_S)
    assert made.due(3.1 + LATE_S)
    said = say(made, 3.1 + LATE_S)
    assert (said["net_w"], said["quality"], said["why"]) == (None, "absent", "meter 'main': timeout")
    assert said["at"] == iso(UNIX_S + 3.1 + LATE_S)


def test_a_first_read_that_fails_is_absent_at_once():
    made = own()
    made.read("main", absent("timeout"), UNIX_S, 0.5)
    assert made.account.why == "meter 'main': timeout"


def test_a_meter_that_falls_silent_is_late_then_absent():
    made = settled()
    made.tick(6.0)
    assert made.account.quality == "good"
    made.tick(6.1)
    assert (made.account.quality, made.account.produced_w) == ("late", None)
    assert made.account.why == "meter 'main': no answer for more than 3 s"
    assert made.due(6.1)
    say(made, 6.1)
    made.tick(7.9)
    assert not made.changed()  # the same words: no message for each second of silence
    made.tick(9.0)
    assert made.account.quality == "late"
    made.tick(9.1)
    assert made.account.quality == "absent"
    say(made, 9.1)
    made.tick(500.0)
    assert not made.changed()
    made.read("main", good(5), UNIX_S, 501.0)
    assert made.account.consumed_w == 5


def test_a_meter_that_fails_once_and_then_falls_silent_is_absent_all_the_same():
    made = settled()
    made.read("main", absent("timeout"), UNIX_S, 4.0)
    made.tick(7.1)
    assert made.due(7.1)
    assert say(made, 7.1)["quality"] == "late"
    made.tick(10.1)
    assert say(made, 10.1)["quality"] == "absent"
    assert made.due(10.1 + period_s("me"))


def test_a_slow_meter_has_three_of_its_own_periods():
    made = own(meters=(SLOW,))
    made.read("slow", good(5), UNIX_S, 0.0)
    made.tick(180.0)
    assert made.account.quality == "good"
    made.tick(180.1)
    assert made.account.quality == "late"
    made.tick(360.1)
    assert made.account.quality == "absent"


def test_several_meters_make_one_account():
    made = own(meters=(MeterSlot("main", "grid", 1.0), PV))
    made.read("main", good(100), UNIX_S, 1.0)
    assert made.account.produced_w is None  # half a sum is no sum
    made.read("roof", good(-900), UNIX_S, 1.0)
    assert (made.account.produced_w, made.account.consumed_w) == (900, 1000)
    made.read("main", good(-1000), UNIX_S, 2.0)  # never the new grid with the old roof
    assert (made.account.produced_w, made.account.consumed_w) == (900, 1000)
    made.read("roof", good(-2000), UNIX_S, 2.0)
    assert (made.account.produced_w, made.account.consumed_w) == (2000, 1000)
    made.read("main", good(-1500), UNIX_S, 3.0)
    made.tick(3.2)  # the roof is slower than the grid
    assert (made.account.produced_w, made.account.consumed_w) == (2000, 500)
    made.read("main", good(-1700), UNIX_S, 4.0)
    made.read("roof", absent("timeout"), UNIX_S, 4.0)
    assert not made.due(60.0)
    made.read("nobody", good(5), UNIX_S, 4.0)


def test_a_stopped_agent_measures_nothing():
    made = settled()
    made.stop("the agent was stopped")
    assert say(made, 4.0)["why"] == "meter 'main': the agent was stopped"


def test_reborn_speaks_up_soon_but_never_later_than_it_would_have():
    made = own()
    made.reborn(5.0)
    assert made.beat_s == 5.0
    made = settled()
    made.reborn(3.5)
    assert made.due(3.5 + BIRTH_S)
    say(made, 4.2)
    made.reborn(4.8)
    assert made.beat_s == pytest.approx(4.2 + BIRTH_S)


def test_a_conflict_is_said_instead_of_the_quality():
    made = settled()
    said = say(made, 4.0, conflict="another live node uses this id")
    assert (said["quality"], said["why"], said["net_w"]) == ("conflict", "another live node uses this id", -500)


def test_a_backward_load_is_explained_though_it_counts():
    made = own(meters=(MeterSlot("kitchen", "load", 1.0),))
    made.read("kitchen", good(-60), UNIX_S, 1.0)
    said = say(made, 1.0)
    assert said["quality"] == "good"
    assert "wired the other way" in said["why"]


def test_a_meter_mounted_the_wrong_way_round_is_told_of():
    made = own(meters=(PV,), utc_offset_s=3600)
    made.read("roof", good(700), UNIX_S, 5.0)
    assert made.wrong_wiring(UNIX_S, 5.0) == ""
    assert "pv meter 'roof' uses power all the time" in made.wrong_wiring(UNIX_S + 600, 605.0)
    made.read("roof", good(-700), UNIX_S + 600, 605.0)
    midnight = UNIX_S - UNIX_S % 86_400 - 1800  # 23:30 in UTC, half past midnight an hour to the east
    assert made.wrong_wiring(midnight, 700.0) == ""
    assert "produces in the middle of the night" in made.wrong_wiring(midnight + 600, 1300.0)
    assert made.wrong_wiring(midnight + 4 * 3600, 1400.0) == ""
