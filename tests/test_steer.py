"""A battery's set-points: what is written when, and one that does not listen is left alone."""

from agent.events import PointSet, SetPoint
from agent.offer import Battery
from agent.steer import ANSWER_S, Steer

BATTERY = Battery("cellar", 3000, 10_000, written=True)


def point(watts: int) -> SetPoint:
    return SetPoint("cellar", watts, 60)


def good(watts: int) -> PointSet:
    return PointSet("cellar", watts, "")


BAD = PointSet("cellar", 0, "it holds 5 W")


def test_written_read_back_and_renewed_in_time():
    steer = Steer(BATTERY)
    assert steer.step(1000, 0.0) == point(1000)
    assert steer.applied_w == 0  # not before it is read back
    assert steer.step(2000, 1.0) is None  # one at a time
    assert steer.answer(good(1000), 1.2) == ""
    assert steer.applied_w == 1000
    assert steer.step(1049, 1.3) is None  # within the deadband of 50 W
    assert steer.step(1050, 1.4) == point(1050)
    steer.answer(good(1050), 1.5)
    assert steer.step(1050, 21.3) is None
    assert steer.step(1050, 21.4) == point(1050)  # a third of the 60 s after which it would lapse
    assert steer.step(0, 21.5) is None  # no answer so far ...
    assert steer.step(0, 21.4 + ANSWER_S) == point(0)  # ... and none will come


def test_one_that_fails_once_is_told_again_and_one_that_fails_twice_left_alone():
    steer = Steer(BATTERY)
    steer.step(1000, 0.0)
    steer.answer(good(1000), 0.1)
    steer.step(2000, 1.0)
    assert steer.answer(BAD, 1.1) == ""
    assert (steer.trusted, steer.applied_w) == (True, 0)
    assert steer.step(2000, 1.2) == point(2000)
    assert steer.answer(BAD, 1.3) == "battery cellar: it holds 5 W. It is left to itself and tried again every 60 s"
    assert not steer.trusted
    assert [steer.step(2000, 1.3 + wait_s) for wait_s in (0.1, 30.0, 59.9)] == [None] * 3
    assert steer.step(2000, 61.3) == point(0)  # a trial with nothing
    steer.answer(BAD, 61.4)
    assert steer.step(2000, 100.0) is None
    assert steer.step(2000, 121.5) == point(0)
    assert steer.answer(good(0), 121.6) == ""
    assert steer.trusted
    assert steer.step(0, 121.7) == point(0)  # what it held was a trial
    steer.answer(good(0), 121.8)
    assert steer.step(2000, 121.9) == point(2000)


def test_fewer_watts_than_asked_for_is_no_disobedience():
    steer = Steer(BATTERY)
    steer.step(3000, 0.0)
    assert steer.answer(PointSet("cellar", 2500, "2500 W are all it can"), 0.1) == "battery cellar: 2500 W are all it can"
    assert (steer.trusted, steer.applied_w) == (True, 2500)


def test_how_full_it_is_nobody_knows():
    steer = Steer(BATTERY)
    steer.step(1000, 0.0)
    steer.answer(good(1000), 0.1)
    assert steer.step(None, 1.0) is None
    assert steer.applied_w == 0
    assert steer.stop() is None  # its own timer lets go
    assert steer.step(1000, 2.0) == point(1000)
    assert steer.stop() == point(0)
    steer.answer(good(1000), 2.1)
    steer.step(0, 3.0)
    assert steer.stop() is None
