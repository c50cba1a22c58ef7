"""What befalls nodes: silence, power cuts, lost memories, clones, leaving and being removed; it mends itself."""

import pytest
from graphs import built, chords, exact, full, line, names, ring

from agent.events import Forget, Join, Leave
from agent.wire import INBOX, NODE, place


@pytest.mark.parametrize("pairs", [line(names(9)), ring(names(12)), full(names(8)), chords(names(15), seed=3, more=8)])
def test_a_silent_node_leaves_the_net_everywhere_within_16_s_and_returns_by_itself(pairs):
    fleet = built(len(set(sum(pairs, ()))), pairs)
    last = max(fleet.cards)
    fleet.crash(last)
    rest = [key for key in fleet.cards if key != last]
    gone = lambda: all(last not in fleet.cards[key].summary["members"] for key in rest)  # noqa: E731
    assert fleet.until(gone, within=17.0) <= 16.0
    fleet.run(2.0)
    for key in rest:
        said = fleet.cards[key].summary
        assert (said["net_w"], said["partial"]) == (-sum(fleet.cards[k].w for k in rest), True)
        assert fleet.cards[key].retained[f"grid/availability/{last}"] == b"stale"
    fleet.start(last)
    fleet.until(fleet.agreed, within=10.0)
    exact(fleet)


def test_a_power_cut_of_all_and_everybody_comes_back():
    fleet = built(8, ring(names(8)))
    for key in fleet.cards:
        fleet.crash(key, power=True)
    fleet.run(30.0)
    for key in fleet.cards:
        fleet.start(key)
    assert fleet.until(fleet.agreed, within=20.0) < 8.0
    exact(fleet)
    assert all(not card.node.show.alerts for card in fleet.cards.values())


@pytest.mark.parametrize("power", [False, True])
def test_a_node_without_memory_overtakes_its_own_past(power):
    fleet = built(6, ring(names(6)))
    fleet.run(30.0)
    past = fleet.cards["n00"].node.book.get("n03", "state").record.version
    fleet.crash("n03", power)
    fleet.run(5.0)
    fleet.start("n03", memory=False)
    assert fleet.until(fleet.agreed, within=20.0) < 10.0
    assert fleet.cards["n00"].node.book.get("n03", "state").record.version > past
    fleet.run(60.0)
    assert not any("conflict" in name for card in fleet.cards.values() for name in card.node.show.alerts)
    exact(fleet)


def test_the_dialler_that_lost_its_memory_is_dialled():
    fleet = built(2, [("n00", "n01")])
    fleet.crash("n00", power=True)
    fleet.start("n00", memory=False)
    fleet.run(30.0)
    assert fleet.cards["n00"].node.siblings.joined() == []
    fleet.until(fleet.agreed, within=320.0)
    assert fleet.cards["n00"].node.siblings.joined() == ["n01"]
    fleet.crash("n00", power=True)
    fleet.start("n00")
    fleet.run(1.0)
    assert fleet.cards["n00"].node.siblings.joined() == ["n01"]


@pytest.mark.parametrize("key", ["n00", "n02"])
def test_a_broker_that_restarts_empty_is_told_everything_again(key):
    fleet = built(6, ring(names(6)))
    before = set(fleet.cards[key].retained)
    fleet.broker_restart(key)
    fleet.run(0.01)
    assert fleet.cards[key].retained == {}
    fleet.until(fleet.agreed, within=15.0)
    assert {topic for topic in before if not topic.startswith("grid/sibling")} <= fleet.cards[key].retained.keys()
    exact(fleet)


def test_brokers_that_restart_for_each_new_bridge():
    fleet = built(6, full(names(6)), restarts=True)
    exact(fleet)


def test_a_clone_is_a_conflict_while_it_lives_and_no_race():
    fleet = built(5, ring(names(5)))
    fleet.add("n01", key="copy", w=5_000)
    fleet.run(1.0)
    fleet.ask("copy", Join(fleet.cards["n03"].address))
    fleet.run(10.0)
    rest = ["n00", "n02", "n03", "n04"]
    before = fleet.cards["n00"].node.book.get("n01", "state").record.version
    for _ in range(30):
        fleet.run(10.0)
        for key in [*rest, "n01", "copy"]:
            card = fleet.cards[key]
            assert card.retained["grid/availability/n01"] == b"conflict"
            assert "conflict-n01" in card.node.show.alerts
            assert "n01" not in card.summary["members"]
    assert fleet.cards["n00"].node.book.get("n01", "state").record.version - before < 300  # of 300 s
    fleet.crash("copy", power=True)
    fleet.run(90.0)
    assert fleet.agreed("n01", *rest)
    exact(fleet, "n01", *rest)
    assert not any(name.startswith("conflict") for key in rest for name in fleet.cards[key].node.show.alerts)


def test_leaving_and_coming_back_during_a_partition():
    ids = names(8)
    fleet = built(8, ring(ids))
    fleet.partition(ids[:4], ids[4:])
    fleet.run(20.0)
    fleet.ask("n06", Leave(None))
    fleet.ask("n01", Forget("n02"))
    fleet.run(30.0)
    assert fleet.cards["n06"].summary["members"] == ["n06"]
    assert fleet.cards["n05"].summary["members"] == ["n04", "n05"]  # the ring is open at both ends of n06
    fleet.heal()
    rest = [id_ for id_ in ids if id_ not in ("n02", "n06")]
    fleet.run(70.0)
    fleet.drain()
    for key in rest:
        card = fleet.cards[key]
        left = [place(topic) for topic in card.retained if topic.startswith((NODE, INBOX))]
        assert "n02" not in {record.owner for record in left}
        assert {record.kind for record in left if record.owner == "n06"} == {"info"}
        assert not {"n02", "n06"} & set(card.summary["members"])
        assert card.summary["nodes"] == 6
    fleet.ask("n06", Join(fleet.cards["n05"].address))
    fleet.ask("n02", Join(fleet.cards["n00"].address))
    fleet.run(5.0)
    fleet.ask("n06", Join(fleet.cards["n07"].address))
    fleet.until(fleet.agreed, within=60.0)
    exact(fleet)


def test_a_node_forgotten_while_away_is_told_so_when_it_returns():
    fleet = built(4, ring(names(4)))
    fleet.crash("n02", power=True)
    fleet.run(20.0)
    fleet.ask("n00", Forget("n02"))
    fleet.run(20.0)
    assert fleet.agreed("n00", "n01", "n03")
    fleet.start("n02")
    fleet.run(40.0)
    assert fleet.agreed("n00", "n01", "n03")
    assert "forgotten" in fleet.cards["n02"].node.show.alerts
    fleet.ask("n02", Join(fleet.cards["n03"].address))
    fleet.until(fleet.agreed, within=40.0)


@pytest.mark.parametrize("seed", range(3))
def test_everything_at_once_and_then_calm(seed):
    """Crashes, power cuts, lost memories, restarted brokers and changing partitions, on links that lose and double."""
    ids = names(9)
    fleet = built(9, chords(ids, seed, more=5), seed)
    fleet.delay, fleet.loss, fleet.double, fleet.reorder = (0.005, 0.8), 0.1, 0.1, True
    for _ in range(30):
        key = fleet.dice.choice(ids)
        match fleet.dice.choice(["meter", "crash", "power", "amnesia", "broker", "cut", "heal"]):
            case "meter":
                fleet.cards[key].w = fleet.dice.choice([None, fleet.dice.randint(-9_000, 9_000)])
            case "crash" | "power" as what if fleet.cards[key].node:
                fleet.crash(key, what == "power")
            case "amnesia" if not fleet.cards[key].node:
                fleet.start(key, memory=False)
            case "broker":
                fleet.broker_restart(key)
            case "cut":
                some = fleet.dice.sample(ids, 4)
                fleet.partition(some, [id_ for id_ in ids if id_ not in some])
            case "heal":
                fleet.heal()
            case _:
                pass
        fleet.run(fleet.dice.uniform(0.5, 6.0))
    fleet.delay, fleet.loss, fleet.double, fleet.reorder = (0.002, 0.02), 0.0, 0.0, False
    for key, card in fleet.cards.items():
        card.w = card.w or 100
        if card.node is None:
            fleet.start(key)
    fleet.heal()
    fleet.until(fleet.agreed, within=330.0)
    fleet.run(6.0)
    fleet.drain()
    exact(fleet)
