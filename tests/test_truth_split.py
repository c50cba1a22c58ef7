"""What summaries say stays true over a long partition with removals, and with two live nodes of one id."""

import pytest
from conftest import Survived
from fleet import UNIX_S
from graphs import Pairs, chords, line, names, ring
from judged import Judged, built

from agent import life, own, summary
from agent.events import Forget, Join, Leave
from agent.wire import FORGOTTEN, INBOX, INFO, NETWORK, NODE, place

# 2. a partition of 30 hours, with removals on both sides


def two_halves(count: int, seed: int, cross: int) -> tuple[list[str], list[str], Pairs]:
    """Two graphs that hold together without any one node, and some edges between them."""
    ids = names(count)
    one, other = ids[: count // 2], ids[count // 2 :]
    inner = ring(one) + ring(other)
    return one, other, inner + [(one[number], other[-1 - number]) for number in range(cross)]


def thinned(fleet: Judged, hours: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hours pass with a heartbeat every 8 minutes instead of every 5 seconds, and its limit as many times longer.

    A node compares an age with a number of heartbeats and versions with each other; it never counts them. So the same decisions
    fall, 96 times more seldom, while clocks, dates and all other limits go through the full time. The way back is one stretch in
    which the beats are frequent again and the old patience still holds, as the next beats are up to 8 minutes away.
    """
    end = fleet.now + hours * 3600.0
    with monkeypatch.context() as patience:
        patience.setattr(life, "STALE_S", 1440.0)
        patience.setattr(summary, "STALE_S", 1440.0)
        patience.setattr(own, "LATE_S", 400.0)  # meters are read with the tick
        with monkeypatch.context() as pace:
            pace.setattr(own, "HEARTBEAT_S", 480.0)
            pace.setattr(summary, "HEARTBEAT_S", 480.0)
            fleet.tick_s = fleet.read_s = 120.0
            fleet.run(end - fleet.now - 770.0)
        fleet.tick_s, fleet.read_s = 5.0, 5.0
        fleet.run(740.0)
        fleet.tick_s, fleet.read_s = 0.25, 1.0
        fleet.run(30.0)
    assert fleet.now == pytest.approx(end)


def ghosts(fleet: Judged, keys: list[str], left: str, forgotten: str) -> list[tuple[str, str]]:
    """What lies of the removed in these brokers: canonical, in an inbox, or in the view."""
    found = []
    for key in keys:
        for topic, payload in fleet.cards[key].retained.items():
            if topic.startswith((NODE, NETWORK, INBOX)):
                there = place(topic)
                if there.owner == forgotten or (there.owner == left and not (there.kind == INFO and b'"left":true' in payload)):
                    found.append((key, topic))
            elif topic in (f"grid/availability/{left}", f"grid/availability/{forgotten}"):
                found.append((key, topic))
    return found


def removals(fleet: Judged, one: list[str], other: list[str], far: bool) -> tuple[list[str], str, str, int]:
    """One leaves, another is forgotten (in its own half or in the other), all brokers restart. The rest, the two, the faults."""
    left, forgotten = one[1], (other if far else one)[2]
    fleet.partition(one, other)
    fleet.run(20.0)
    fleet.ask(left, Leave(None))
    fleet.run(20.0)
    if not far:
        fleet.crash(forgotten, power=True)
        fleet.run(20.0)
    fleet.ask(one[0], Forget(forgotten))
    fleet.run(20.0)
    for key in one:  # one broker after the other
        if fleet.cards[key].node:
            fleet.broker_restart(key)
            fleet.run(1.0)
    for key in other:  # all at once
        fleet.broker_restart(key)
    fleet.run(30.0)
    rest = [key for key in [*one, *other] if key not in (left, forgotten)]
    links = sum(frozenset((here, there)) in fleet.cuts for here, others in fleet.wires.items() for there in others) // 2
    return rest, left, forgotten, links + len(fleet.alive()) + 2


def exact_and_partial(fleet: Judged, half: list[str], known: int, unknown_w: int) -> None:
    net_w = -sum(fleet.cards[key].w for key in half)
    for key in half:
        said = fleet.cards[key].summary
        assert (said["members"], said["net_w"]) == (half, net_w)
        assert (said["heard"], said["nodes"], said["partial"]) == (len(half), known, True)
        assert (said["low_w"], said["high_w"]) == (net_w - unknown_w, net_w + unknown_w)


def healed(fleet: Judged, one: list[str], other: list[str], far: bool, rest: list[str], left: str, forgotten: str) -> float:
    """Each half is exact by itself; then they are united and nothing of the removed is left. The seconds to agree."""
    in_one = [key for key in one if key not in (left, forgotten)]
    rated = {key: card.settings.rated_w for key, card in fleet.cards.items()}
    beyond = [key for key in other if key != forgotten]
    exact_and_partial(fleet, in_one, len(in_one) + len(beyond), sum(rated[key] for key in beyond))
    exact_and_partial(fleet, other, len(fleet.cards), sum(rated[key] for key in one))
    assert not ghosts(fleet, in_one, left, forgotten)
    if not far:
        fleet.start(forgotten)  # it comes back with its memory, and is told that it was removed
    fleet.heal()
    agree_s = fleet.until(lambda: fleet.agreed(*rest), within=30.0)
    fleet.run(70.0)
    fleet.drain()
    assert fleet.agreed(*rest)
    assert not ghosts(fleet, rest, left, forgotten)
    assert all(fleet.cards[key].summary["nodes"] == len(rest) for key in rest)
    assert all(f"grid/network/{FORGOTTEN}{forgotten}" in fleet.cards[key].retained for key in rest)
    assert "forgotten" in fleet.cards[forgotten].node.show.alerts
    return agree_s


def test_thirty_hours_apart(monkeypatch, survived):
    """The one that is forgotten lives on beyond the cut all the time."""
    one, other, pairs = two_halves(10, seed=1, cross=3)
    fleet = built(10, pairs, seed=2)
    rest, left, forgotten, faults = removals(fleet, one, other, far=True)
    thinned(fleet, 30.0 - fleet.now / 3600.0, monkeypatch)
    for key in rest:
        fleet.cards[key].w = fleet.dice.randint(-5_000, 5_000)
    fleet.run(20.0)
    agree_s = healed(fleet, one, other, True, rest, left, forgotten)
    assert agree_s < 12.0
    assert min(fleet.cards[key].summary["at"] for key in rest) > own.iso(UNIX_S + 29.5 * 3600)
    survived(Survived("pretend: 30 hours apart", 10, faults, *fleet.settled(*rest), agree_s))


APART = [(8, 1, 1, False), (8, 4, 2, True), (8, 3, 5, False), (14, 5, 3, False), (14, 2, 6, True), (20, 2, 4, True)]


@pytest.mark.parametrize(("count", "cross", "seed", "far"), APART)
def test_minutes_apart(count, cross, seed, far, survived):
    one, other, pairs = two_halves(count, seed, cross)
    fleet = built(count, pairs, seed, quiet_s=0.2)
    rest, left, forgotten, faults = removals(fleet, one, other, far)
    agree_s = healed(fleet, one, other, far, rest, left, forgotten)
    assert agree_s < 12.0
    survived(Survived(f"pretend: minutes apart, {count} nodes, seed {seed}", count, faults, *fleet.settled(*rest), agree_s))


# 4. two live nodes with one id

CLONES = [
    ("far on a line", 10, line(names(10)), "n00", "n09", "copy"),
    ("near in a ring", 12, ring(names(12)), "n03", "n04", "n03"),
    ("far in a ring", 12, ring(names(12)), "n03", "n09", "copy"),
    ("among 20", 20, chords(names(20), seed=3, more=10), "n05", "n17", "n05"),
    ("among 50", 50, chords(names(50), seed=8, more=0), "n07", "n44", "copy"),
]


@pytest.mark.parametrize(("name", "count", "pairs", "twin", "at", "off"), CLONES, ids=[row[0] for row in CLONES])
def test_two_live_nodes_of_one_id(name, count, pairs, twin, at, off, survived):
    fleet = built(count, pairs, seed=count, **({"quiet_s": 0.25} if count < 50 else {"quiet_s": 1.0, "tick_s": 0.5}))
    fleet.add(twin, key="copy", w=4_321, rated_w=8_000)
    fleet.run(1.0)
    fleet.ask("copy", Join(fleet.cards[at].address))

    def told() -> bool:
        return all(
            card.retained.get(f"grid/availability/{twin}") == b"conflict" and f"grid/alert/conflict-{twin}" in card.retained
            for card in fleet.cards.values()
        )

    assert fleet.until(told, within=30.0) < 15.0
    fleet.run(12.0)  # the copy counts its neighbours only when their versions, busy with the conflict, grow in a row
    others = sorted(fleet.cards.keys() - {twin, "copy"})
    fleet.shown = {}
    version = fleet.cards[others[0]].node.book.get(twin, "state").record.version
    span_s = 150.0 if count < 20 else 15.0
    fleet.run(span_s)
    assert told()
    assert fleet.shown.keys() == fleet.cards.keys()
    shown = {(said.net_w, *said.members) for rows in fleet.shown.values() for _, said in rows}
    assert shown == {(-sum(fleet.cards[key].w for key in others), *others)}
    assert fleet.cards[others[0]].node.book.get(twin, "state").record.version - version < 2 * span_s
    fleet.crash(off, power=True)
    stays = [*others, "copy" if off == twin else twin]
    agree_s = fleet.until(lambda: fleet.agreed(*stays), within=120.0)
    fleet.run(1.5)
    for key in stays:
        assert not [alert for alert in fleet.cards[key].node.show.alerts if alert.startswith("conflict")]
    fleet.shown = None
    survived(Survived(f"pretend: clone, {name}", count + 1, 1, *fleet.settled(*stays), agree_s))
