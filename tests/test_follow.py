"""Whether a battery does what it holds: by hand what counts against it and what does not, and how it is believed again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.follow import AGAIN_S, HIGH_PCT, LOW_PCT, OFF_S, PROOF_S, RAMP_S, TRIAL_S, Follow, Look

WAIT_S = RAMP_S + 2 * 1.0  # its ramp and two readings of its meter


class Cellar:
    """A battery of 3000 W: 300 W are near enough."""

    def __init__(self, droop=True):
        self.follow, self.now = Follow(3000, 50, droop), 0.0

    def run(self, seconds, held_w, given_w, soc_pct=50.0, hz=50.0, island=False):
        for _ in range(int(seconds)):
            self.now += 1.0
            self.follow.point(held_w, self.now)
            self.follow.look(Look(given_w, soc_pct, hz, 50, island), self.now)
        return self

    @property
    def astray(self):
        return self.follow.astray


LONG_S = WAIT_S + OFF_S + 5

JUDGED = [  # it holds, it gives, its charge, the frequency, in an island; is it astray in the end?
    (2000, 2000, 50, 50.0, False, False),
    (2000, 1700, 50, 50.0, False, False),  # 300 W are near enough
    (2000, 1699, 50, 50.0, False, True),
    (2000, 2300, 50, 50.0, False, False),
    (2000, 2301, 50, 50.0, False, True),
    (2000, 0, 50, 50.0, False, True),
    (-2000, 0, 50, 50.0, False, True),
    (-2000, 2000, 50, 50.0, False, True),  # the wrong way round
    (0, 300, 50, 50.0, False, False),
    (0, 301, 50, 50.0, False, True),  # it goes on by itself
    (2000, 0, LOW_PCT, 50.0, False, False),  # a reserve of its own
    (2000, 0, LOW_PCT + 1, 50.0, False, True),
    (2000, -301, LOW_PCT, 50.0, False, True),  # not why it should charge
    (2000, 2301, LOW_PCT, 50.0, False, True),  # nor why it should give more
    (-2000, 0, HIGH_PCT, 50.0, False, False),
    (-2000, 0, HIGH_PCT - 1, 50.0, False, True),
    (-2000, 301, HIGH_PCT, 50.0, False, True),
    (2000, 0, HIGH_PCT, 50.0, False, True),
    (0, 301, 0, 50.0, False, True),
    (2000, 0, 50, 50.16, False, False),  # its own droop
    (2000, 0, 50, 49.84, False, False),
    (2000, 0, 50, 50.14, False, True),
    (2000, 0, 50, 50.0, True, True),
    (2000, 0, 50, None, False, True),  # a large grid is near 50 Hz
    (2000, 0, 50, None, True, False),  # an island may be anywhere
    (2000, None, 50, 50.0, False, False),  # its meter says nothing
    (2000, 0, None, 50.0, False, False),
    (None, 2000, 50, 50.0, False, False),  # nothing is in force
]


@pytest.mark.parametrize(("held_w", "given_w", "soc_pct", "hz", "island", "astray"), JUDGED)
def test_by_hand(held_w, given_w, soc_pct, hz, island, astray):
    cellar = Cellar().run(LONG_S, held_w, given_w, soc_pct, hz, island)
    assert cellar.astray == astray
    assert cellar.follow.why == (f"it holds {held_w} W, and {given_w} W is what its meter shows" if astray else "")


@pytest.mark.parametrize(("hz", "island"), [(50.16, False), (None, True)])
def test_without_a_droop_of_its_own_the_frequency_is_no_reason(hz, island):
    assert Cellar(droop=False).run(LONG_S, 2000, 0, hz=hz, island=island).astray


def test_some_minutes_after_its_ramp():
    cellar = Cellar().run(1 + WAIT_S + OFF_S - 1, 2000, 0)
    assert not cellar.astray
    assert cellar.run(1, 2000, 0).astray


def test_a_set_point_that_moves_is_followed_by_whoever_comes_after():
    cellar = Cellar()
    for number in range(60):
        cellar.run(10, 100 * number % 3000, 100 * (number - 2) % 3000)  # 20 s behind
    assert not cellar.astray
    for _ in range(30):
        cellar.run(30, 2500, 0).run(30, 500, 0)  # never
    assert cellar.astray


def test_doing_nothing_when_told_so_proves_nothing():
    cellar = Cellar()
    for _ in range(20):
        cellar.run(60, 2000, 0).run(60, 0, 0)
    assert cellar.astray


def test_having_followed_in_between_clears_what_was():
    cellar = Cellar()
    for _ in range(10):
        cellar.run(WAIT_S + OFF_S - 10, 2000, 0).run(PROOF_S + 1, 2000, 2000)
    assert not cellar.astray


def test_looks_far_apart_tell_nothing():
    cellar = Cellar()
    for _ in range(500):
        cellar.now += 10.0
        cellar.follow.point(2000, cellar.now)
        cellar.follow.look(Look(0, 50.0, 50.0, 50, False), cellar.now)
    assert not cellar.astray


@pytest.mark.parametrize(("soc_pct", "watts"), [(50, -900), (55, -900), (56, 900), (None, None)])
def test_it_is_tried_anew_with_what_tells_the_difference(soc_pct, watts):
    cellar = Cellar().run(WAIT_S + OFF_S + 1, 2000, 0)
    assert cellar.astray
    went_s = cellar.now
    tried = [cellar.follow.trial_w(soc_pct, went_s + second) for second in range(int(2 * (AGAIN_S + TRIAL_S)))]
    assert set(tried[: int(AGAIN_S)]) == {None}
    assert set(tried[int(AGAIN_S) : int(AGAIN_S + TRIAL_S)]) == {watts}
    assert set(tried[int(AGAIN_S + TRIAL_S) : int(2 * AGAIN_S + TRIAL_S)]) == {None}
    assert set(tried[int(2 * AGAIN_S + TRIAL_S) :]) == {watts}


def test_one_that_follows_a_trial_is_believed_again():
    cellar = Cellar().run(LONG_S, 2000, 0).run(AGAIN_S, None, 0)
    cellar.run(WAIT_S + PROOF_S, 900, 900)
    assert cellar.astray
    cellar.run(1, 900, 900)
    assert (cellar.astray, cellar.follow.why) == (False, "")
    assert not cellar.run(OFF_S - 1, 2000, 0).astray  # from the beginning
    assert cellar.run(1, 2000, 0).astray


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(-3000, 3000), st.integers(-300, 300)), max_size=30))
def test_who_follows_is_never_astray_however_the_set_point_moves(steps):
    cellar = Cellar()
    for seconds, held_w, error_w in steps:
        cellar.run(seconds, held_w, held_w + error_w)
    assert not cellar.astray
    assert len(cellar.follow._points) <= WAIT_S + 2
