"""Who is alive: by this node's own clock and versions that grow, and by nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from agent.life import APART_S, OFFLINE_S, STALE_S, Life


def test_the_figures_of_the_design():
    assert (STALE_S, OFFLINE_S) == (15.0, 60.0)


def test_two_growths_within_three_heartbeats():
    life = Life()
    assert not life.grew("a", 1, 100.0)
    assert not life.fresh("a")
    assert life.grew("a", 2, 105.0)
    assert life.fresh("a")
    assert life.proven("a")
    assert not life.grew("a", 3, 110.0)  # it is already
    assert life.fresh("a")


def test_two_growths_too_far_apart_are_two_first_ones():
    life = Life()
    life.grew("a", 1, 100.0)
    assert not life.grew("a", 2, 115.1)
    assert not life.proven("a")
    assert life.grew("a", 3, 130.1)  # 15.0 s after the second


def test_old_copies_that_arrive_together_are_one_growth():
    life = Life()
    life.grew("a", 1, 100.0)
    assert not life.grew("a", 2, 100.49)
    assert not life.fresh("a")
    assert life.grew("a", 3, 100.0 + APART_S)


def test_two_growths_that_are_not_in_a_row_are_two_first_ones():
    life = Life()
    assert not life.grew("a", 7, 100.0)
    assert not life.grew("a", 10, 105.0)  # 8 or 9 would have been the next: an old copy from elsewhere
    assert not life.grew("a", 11, 105.4)  # too soon after 10
    assert life.grew("a", 13, 106.0)  # an info record took version 12


def test_one_whose_records_get_lost_on_the_way_is_alive_all_the_same():
    life = Life()
    assert [life.grew("a", 10 * n, 100.0 + 3 * n) for n in range(5)] == [False, False, False, True, False]
    list(life.expire(200.0))
    assert [life.grew("a", 10 * n, 200.0 + 16 * n) for n in range(5, 10)] == [False] * 5  # too rare


def test_stale_after_three_heartbeats_and_offline_after_a_minute():
    life = Life()
    life.grew("a", 1, 0.0)
    life.grew("a", 2, 5.0)
    assert list(life.expire(20.0)) == []
    assert life.availability("a", 20.0) == "online"
    assert list(life.expire(20.1)) == ["a"]
    assert list(life.expire(20.1)) == []  # told once
    assert not life.fresh("a")
    assert life.proven("a")
    assert life.availability("a", 20.1) == "stale"
    assert life.availability("a", 65.0) == "stale"
    assert life.availability("a", 65.1) == "offline"


def test_one_that_was_stale_has_to_grow_twice_again():
    life = Life()
    life.grew("a", 1, 0.0)
    life.grew("a", 2, 5.0)
    list(life.expire(30.0))
    assert not life.grew("a", 3, 31.0)
    assert life.availability("a", 31.0) == "stale"
    assert life.grew("a", 4, 36.0)
    assert life.availability("a", 36.0) == "online"


def test_one_remembered_is_one_of_us_but_not_alive():
    life = Life()
    life.remember("a")
    assert life.proven("a")
    assert not life.fresh("a")
    assert life.age_s("a", 100.0) is None
    assert life.availability("a", 100.0) == "offline"
    assert list(life.expire(100.0)) == []
    assert not life.grew("a", 1, 100.0)
    assert life.grew("a", 2, 101.0)


def test_remembering_spoils_nothing():
    life = Life()
    life.grew("a", 1, 0.0)
    life.grew("a", 2, 5.0)
    life.remember("a")
    assert life.fresh("a")


def test_our_own_record_needs_no_proof():
    life = Life()
    life.own("me", 7.0)
    assert life.fresh("me")
    assert life.proven("me")
    assert life.age_s("me", 9.0) == 2.0
    assert list(life.expire(22.1)) == ["me"]
    life.own("me", 30.0)
    assert life.availability("me", 30.0) == "online"


def test_strangers_and_dropped_ones():
    life = Life()
    assert not life.fresh("x")
    assert not life.proven("x")
    assert life.age_s("x", 5.0) is None
    life.grew("a", 1, 0.0)
    life.grew("a", 2, 1.0)
    life.drop("a")
    life.drop("a")
    assert life.availability("a", 1.0) == "offline"
    assert not life.grew("a", 3, 2.0)


def test_an_age_is_never_negative():
    life = Life()
    life.own("a", 5.0)
    assert life.age_s("a", 4.0) == 0.0


quarters = st.integers(0, 100).map(lambda count: count / 4)  # exact in binary


@given(st.lists(quarters, max_size=30))
def test_fresh_means_two_growths_apart_and_the_last_not_long_ago(waits):
    life, now, times = Life(), 1000.0, []
    for version, wait in enumerate(waits):
        now += wait
        times.append(now)
        list(life.expire(now))
        life.grew("a", version, now)
        if life.fresh("a"):
            assert any(APART_S <= later - earlier <= STALE_S for earlier in times for later in times if later > earlier)
    list(life.expire(now + STALE_S + 0.1))
    assert not life.fresh("a")


@given(st.lists(quarters.filter(lambda wait: APART_S <= wait <= STALE_S), min_size=2, max_size=30))
def test_a_steady_node_is_fresh_from_the_second_growth_on(waits):
    life, now, fresh = Life(), 0.0, []
    for version, wait in enumerate(waits):
        now += wait
        list(life.expire(now))
        life.grew("a", version, now)
        fresh.append(life.fresh("a"))
    assert fresh == [False, *[True] * (len(waits) - 1)]


def test_who_returns_is_not_back_yet():
    life = Life()
    assert not life.returning("a")
    life.grew("a", 1, 0.0)
    assert life.returning("a")
    life.grew("a", 2, 1.0)
    assert life.fresh("a")
    assert not life.returning("a")
    assert list(life.expire(100.0)) == ["a"]
    assert not life.returning("a")  # gone
    life.grew("a", 3, 200.0)
    assert life.returning("a")
