"""Our own id in another's mouth: an old copy is outdone once, a living clone is owned up to."""

from agent.refute import CONFLICT, GROWTHS, QUIET_S, Do, Refute


def test_an_old_copy_costs_one_jump():
    refute = Refute()
    assert refute.heard(1200, 100.0) is Do.JUMP
    assert refute.heard(1200, 100.1) is Do.NOTHING
    assert refute.heard(900, 100.2) is Do.NOTHING
    assert [refute.tick(100.0 + second) for second in range(1, 200)] == [Do.NOTHING] * 199
    assert (refute.conflict, refute.top, refute.jumped_s) == ("", 1200, None)


def test_old_copies_that_arrive_together_cost_one_jump_more():
    refute = Refute()
    assert refute.heard(1200, 100.0) is Do.JUMP
    for number in range(10):
        assert refute.heard(1300 + number, 100.1 + number / 100) is Do.NOTHING
    assert refute.tick(100.9) is Do.NOTHING
    assert refute.tick(101.0) is Do.JUMP
    assert refute.top == 1309
    assert refute.tick(102.0) is Do.NOTHING
    assert not refute.conflict


def clone(refute: Refute, start: float, version: int) -> tuple[float, int, list[Do]]:
    """Another one that jumps above us as often as we let it."""
    now, done = start, []
    while not refute.conflict and now < start + 30.0:
        done.append(refute.heard(version, now))
        done.append(refute.tick(now))
        now, version = now + 0.25, version + 1
    return now, version, [do for do in done if do is not Do.NOTHING]


def test_three_growths_after_a_jump_are_a_living_clone():
    refute = Refute()
    now, _, done = clone(refute, 100.0, 50)
    assert done == [Do.JUMP] + [Do.JUMP] * (GROWTHS - 1) + [Do.YIELD]
    assert refute.conflict == CONFLICT
    assert now - 100.0 < 5.0


def test_a_conflict_lasts_as_long_as_the_clone_and_is_no_race():
    refute = Refute()
    now, version, _ = clone(refute, 100.0, 50)
    done = []
    for _ in range(600):
        now, version = now + 0.5, version + 1
        done += [refute.heard(version, now), refute.tick(now)]
        assert refute.conflict
    # 300 s: a word now and then, so that the other one hears of us too
    assert set(done) == {Do.NOTHING, Do.JUMP}
    assert 10 <= done.count(Do.JUMP) <= 15
    assert refute.tick(now + QUIET_S) is Do.NOTHING
    assert refute.conflict
    assert refute.tick(now + QUIET_S + 0.1) is Do.RESUME
    assert not refute.conflict
    assert refute.tick(now + QUIET_S + 0.2) is Do.NOTHING


def test_after_a_conflict_it_begins_anew():
    refute = Refute()
    now, version, _ = clone(refute, 100.0, 50)
    refute.tick(now + QUIET_S + 1.0)
    later = now + QUIET_S + 2.0
    assert refute.heard(version - 10, later) is Do.NOTHING  # an old copy of what it said
    _, _, done = clone(refute, later, version)
    assert done == [Do.JUMP] * GROWTHS + [Do.YIELD]


def test_growths_far_apart_are_no_clone():
    refute = Refute()
    now = 100.0
    for version in range(10):
        assert refute.heard(1000 + version, now) is Do.JUMP
        for _ in range(3):
            now += 30.0
            refute.tick(now)
    assert not refute.conflict


def test_nothing_heard_nothing_done():
    refute = Refute()
    assert refute.tick(1e6) is Do.NOTHING
