"""The tests' own patience: seconds that this machine had."""

import time

import pytest
from live import share, ticks, wait_until


def test_what_the_hypervisor_took_is_not_counted():
    assert share((100, 10), (200, 10)) == 1.0
    assert share((100, 10), (200, 60)) == 0.5
    assert share((100, 10), (200, 110)) == 0.1  # however starved, it ends
    assert share((0, 0), (0, 0)) == 1.0  # where nobody tells


def test_ticks_go_on():
    before = ticks()
    time.sleep(0.2)
    assert before == (0, 0) or ticks()[0] > before[0]


def test_patience_ends():
    began_s = time.monotonic()
    with pytest.raises(AssertionError, match=r"not within 0\.2 s: nothing"):
        wait_until(lambda: False, 0.2, "nothing")
    assert time.monotonic() - began_s >= 0.2
    assert wait_until(lambda: 7, 0) == 7
