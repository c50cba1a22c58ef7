"""The tests' own patience: seconds that this machine had, and gave to what wanted to run."""

import subprocess
import sys
import time

import patience
import pytest
from patience import Turns, had, share, spend, turns, wait_until, within

NONE = Turns(100, 10, {})


def test_what_the_hypervisor_took_is_not_counted():
    assert share(NONE, Turns(200, 10, {})) == 1.0
    assert share(NONE, Turns(200, 60, {})) == 0.5
    assert share(NONE, Turns(200, 110, {})) == 0.25  # however starved, it ends
    assert share(Turns(0, 0, {}), Turns(0, 0, {})) == 1.0  # where nobody tells


def test_what_threads_waited_for_their_turn_is_not_counted():
    before = Turns(100, 10, {"1": (500, 50), "2": (7, 7), "3": (900, 900), "ended": (5, 5)})
    after = {"1": (800, 150), "2": (7, 7), "3": (10, 10), "new": (100, 100)}  # "3" is another
    assert share(before, Turns(200, 10, after)) == 400 / 600
    assert share(before, Turns(200, 60, after)) == 0.5 * (400 / 600)
    assert share(before, Turns(200, 10, {"1": (501, 5000)})) == 0.25


def test_turns_are_of_all_that_runs():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            before, began_s = turns(), time.monotonic()
            wait_until(lambda: time.monotonic() - began_s > 0.3, 5)
            after = turns()
        finally:
            busy.kill()
    if before.ticks == 0:
        pytest.skip("no /proc here")
    assert after.ticks > before.ticks
    ran_before, ran_after = (sum(one.threads.get(str(busy.pid), (0, 0))) for one in (before, after))
    assert ran_after > ran_before > 0


def test_patience_ends():
    began_s = time.monotonic()
    with pytest.raises(AssertionError, match=r"not within 0\.2 s: nothing"):
        wait_until(lambda: False, 0.2, "nothing")
    assert time.monotonic() - began_s >= 0.2
    assert wait_until(lambda: 7, 0) == 7


def test_of_a_window_counts_what_its_own_threads_could_go_on_for():
    before = Turns(100, 10, {"1": (0, 10**9), "other": (0, 0)})
    after = {"1": (5, 15 * 10**8), "2": (0, 25 * 10**7), "other": (0, 10**10)}  # 0.5 s and 0.25 s waited
    assert had(4.0, before, Turns(200, 10, after), ["1", "2", "ended"]) == 4.0 - 0.75
    assert had(4.0, before, Turns(200, 60, after), ["1", "2"]) == 2.0 - 0.75
    assert had(4.0, before, Turns(200, 60, after), ["1", "other"]) == 1.0  # a quarter
    assert had(4.0, Turns(0, 0, {}), Turns(0, 0, {}), []) == 4.0


def test_a_window_is_never_shorter():
    began_s = time.monotonic()
    spend(0.3)
    assert time.monotonic() - began_s >= 0.3


def test_a_bound_goes_by_the_clock(monkeypatch):
    monkeypatch.setattr(patience, "share", lambda before, after: 0.25)
    began_s = time.monotonic()
    with pytest.raises(AssertionError, match=r"not within 0\.4 s"):
        within(0.4, lambda: False)
    clock_s = time.monotonic() - began_s
    with pytest.raises(AssertionError, match=r"not within 0\.4 s"):
        wait_until(lambda: False, 0.4)
    assert clock_s < 1.6 <= time.monotonic() - began_s - clock_s
    assert within(1, lambda: True) < 1
