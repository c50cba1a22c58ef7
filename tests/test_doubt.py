"""What the slack meter does not see: who is doubted, who is not, and what becomes of the closure."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.doubt import DOUBT, WHOLE, WINDOW_S, Doubt, part_of

IDS = tuple("abcdefgh")


class World:
    """Houses whose loads jump and drift, a slack meter that gives what is missing, and records that come late."""

    def __init__(self, seed, nodes=4, lag_s=0):
        self.random, self.ids = random.Random(seed), IDS[:nodes]
        self.loads_w, self.past, self.lag_s = dict.fromkeys(self.ids, 1000), [], lag_s
        self.doubt, self.now, self.moved = Doubt(lag_s), 0.0, []

    def true(self):
        """What everybody really takes, two seconds later."""
        for id_ in self.ids:
            if self.random.random() < 0.04:
                self.loads_w[id_] = self.random.choice((300, 1000, 2500))
        self.past.append({id_: -w - self.random.randrange(50) for id_, w in self.loads_w.items()})
        return self.past[-1]

    def run(self, minutes, tell=lambda nets: nets, slack=lambda slack_w: slack_w, away=()):
        """`tell` makes what is told of what is true."""
        for _ in range(minutes * 30):
            self.true()
            late = {id_: self.past[-1 - min(len(self.past) - 1, k * self.lag_s // 4)][id_] for k, id_ in enumerate(self.ids)}
            nets = {id_: w for id_, w in tell(late).items() if id_ not in away}
            self.moved.append(self.doubt.step(nets, slack(-sum(self.past[-1].values())), self.ids, self.now))
            self.now += 2.0
        return self

    @property
    def unseen(self):
        return {id_: self.doubt.unseen.get(id_, 0) for id_ in self.ids}

    @property
    def doubted(self):
        return self.doubt.believed(self.ids)


def tenfold(id_):
    return lambda nets: {**nets, id_: 10 * nets[id_]}


@pytest.mark.parametrize("seed", range(5))
def test_a_tenfold_meter_counts_with_a_tenth_and_nobody_else_less(seed):
    world = World(seed).run(120, tenfold("c"))
    assert world.doubted.keys() == {"c"}
    assert world.doubted["c"] == pytest.approx(WHOLE / 10, rel=0.3)
    assert max(part for id_, part in world.unseen.items() if id_ != "c") < DOUBT // 2


def test_it_is_mended_and_believed_again():
    world = World(1).run(120, tenfold("c"))
    assert world.doubted
    assert world.run(240).doubted == {}
    assert world.unseen["c"] < DOUBT // 2


def test_a_meter_wired_backwards_counts_nothing():
    world = World(2).run(240, lambda nets: {**nets, "b": -nets["b"]})
    assert world.doubted.keys() == {"b"}
    assert 0 <= world.doubted["b"] < WHOLE // 20


@pytest.mark.parametrize("lag_s", [0, 6, 20])
@pytest.mark.parametrize("seed", range(5))
def test_honest_nodes_are_believed_however_late_their_records_come(seed, lag_s):
    world = World(seed, lag_s=lag_s)
    for _ in range(24):
        assert world.run(30).doubted == {}


@pytest.mark.parametrize(("late_s", "who"), [(40, set()), (90, {"c"})])
@pytest.mark.parametrize("seed", range(4))
def test_a_meter_two_thirds_of_a_minute_late_is_believed_and_one_and_a_half_is_not(seed, late_s, who):
    world = World(seed)
    doubted = set()
    for _ in range(10):
        doubted |= world.run(
            30, lambda nets: {**nets, "c": world.past[-1 - min(len(world.past) - 1, late_s // 2)]["c"]}
        ).doubted.keys()
    assert doubted == who


@pytest.mark.parametrize(("windows", "learns"), [(1.5, True), (2.0, True), (2.5, False)])
def test_after_a_pause_of_more_than_two_windows_nothing_is_compared(windows, learns):
    doubt = Doubt(0)
    for now, w in ((0.0, 1000), (WINDOW_S, 1000), ((1 + windows) * WINDOW_S, 2000)):
        doubt.step({"a": -10 * w, "b": -500}, w + 500, ("a", "b"), now)  # a tells ten times what it takes
    assert (doubt.unseen.get("a", 0) > 0) is learns


@pytest.mark.parametrize("times", [-3, -1, 1, 2, 10])
def test_one_that_tells_a_neighbours_changes_too_drags_at_most_that_neighbour_along(times):
    """By the sums alone nobody can say which of the two tells twice what is there once."""
    world = World(3)
    for _ in range(24):
        world.run(10, lambda nets: {**nets, "b": nets["b"] + times * nets["a"]})
        assert world.doubted.keys() <= {"a", "b"}


def test_where_most_are_doubted_it_is_the_slack_meter():
    world = World(4).run(360, slack=lambda slack_w: -slack_w)
    assert min(world.unseen.values()) > DOUBT
    assert world.doubted == {}
    world = World(4, nodes=3).run(360, slack=lambda slack_w: 0)
    assert min(world.unseen.values()) > DOUBT
    assert world.doubted == {}


def test_of_two_one_may_be_doubted():
    assert World(5, nodes=2).run(120, tenfold("b")).doubted.keys() == {"b"}


def test_constant_loads_that_nobody_knows_are_no_lie():
    assert World(6).run(120, slack=lambda slack_w: slack_w + 3000).doubted == {}


def test_noise_of_somebody_unknown_is_nobodys():
    """A workshop without an agent, with loads ten times as large as all others'."""
    world, more = World(7), random.Random(8)
    for _ in range(240):
        unknown_w = more.choice((0, 20_000, 40_000))
        assert world.run(1, slack=lambda slack_w, w=unknown_w: slack_w + w).doubted == {}


def test_who_was_not_there_all_the_time_is_not_judged():
    doubt = Doubt(0)
    for second in range(10 * WINDOW_S):
        there = second % WINDOW_S not in (30, 31)
        doubt.step(
            {"a": -1000 * (second // WINDOW_S % 2), **({"b": -50_000 * (second % 120)} if there else {})}, 0, ("a", "b"), second
        )
    assert doubt.unseen.keys() == {"a"}


def test_who_comes_or_returns_has_not_changed():
    doubt = Doubt(0)
    for second in range(8 * WINDOW_S):
        window = second // WINDOW_S
        there = {"b": -50_000 if window < 5 else -9000} if window in (2, 3, 6, 7) else {}
        doubt.step({"a": -1000, **there}, 1000, ("a", "b"), second)
    assert doubt.unseen == {}


def test_what_is_finer_than_the_slack_meter_tells_is_believed():
    doubt = Doubt(0)
    for second in range(60 * WINDOW_S):
        doubt.step({"a": -40 * (second // WINDOW_S % 2), "b": -1000}, 1000, ("a", "b"), second)
    assert doubt.believed("ab") == {}


def test_little_changes_teach_little():
    """A slack meter with a class: 1 % of 20 kW is no house's fault."""
    doubt, more = Doubt(0), random.Random(1)
    for window in range(200):
        house_w, error_w = more.choice((-25, 25)), more.choice((-100, 100))
        for second in range(WINDOW_S):
            doubt.step({"a": house_w, "b": -1000}, 20_000 - house_w + error_w, ("a", "b"), window * WINDOW_S + second)
    assert doubt.believed("ab") == {}


def test_what_is_known_to_come_late_makes_the_windows_longer():
    for lag_s in (0, 45):
        doubt = Doubt(lag_s)
        window_s = WINDOW_S + 2 * lag_s
        for second in range(3 * window_s):
            doubt.step({"a": -1000}, 0, "a", second)
        assert doubt.begun_s == 2 * window_s


def test_after_a_silence_the_windows_begin_anew():
    doubt = Doubt(0)
    for second in [*range(2 * WINDOW_S + 10), *range(1000, 1000 + 2 * WINDOW_S)]:
        doubt.step({"a": -1000 if second > 500 else 0}, 0, ("a",), second)
    assert doubt.unseen == {}
    assert doubt.before is not None
    for second in range(1000 + 2 * WINDOW_S, 1010 + 3 * WINDOW_S):
        doubt.step({"a": -5000}, 0, ("a",), second)
    assert doubt.unseen["a"] > 0


def test_what_is_believed_less_is_told_once_and_exactly():
    world = World(9).run(120, tenfold("c"))
    last = world.past[-1]["c"] * 10
    assert 0 < len([w for w in world.moved if w]) < 60  # once a window of two minutes
    crossing = next(w for w in world.moved if w)
    assert crossing > 0  # a load of which less is believed
    told = {id_: w * (10 if id_ == "c" else 1) for id_, w in world.past[-1].items()}
    part = world.doubted["c"]
    before = dict(world.doubt.unseen)
    world.doubt.unseen["c"] = 0
    assert world.doubt._left_w(told) == 0
    world.doubt.unseen = before
    assert world.doubt._left_w(told) == part_of(last, part) - last


def test_who_left_is_forgotten():
    world = World(10).run(120, tenfold("c"))
    world.run(5, away="c")
    assert "c" in world.doubt.unseen  # silent, and known still
    world.ids = ("a", "b", "d")
    world.run(5)
    assert "c" not in world.doubt.unseen


watts = st.integers(-(10**7), 10**7)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from(IDS), watts, max_size=8), watts, st.sampled_from([1, 30, 200])), max_size=40)
)
def test_whatever_is_told_parts_stay_parts(steps):
    doubt, now = Doubt(0), 0
    for nets, slack_w, after_s in steps:
        now += after_s
        doubt.step(nets, slack_w, IDS, now)
        assert all(0 < part <= WHOLE for part in doubt.unseen.values())
        assert 2 * len(doubt.believed(nets)) <= len(nets)
