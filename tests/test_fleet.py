"""Many nodes and bad links: all come to the same exact net and price, and nobody has to lift a hand."""

import json

import pytest
from fleet import Fleet
from graphs import Pairs, built, chords, exact, full, line, names, ring

from agent.events import Forget, Heard
from agent.gone import removed

# name, nodes, edges
GRAPHS: list[tuple[str, int, Pairs]] = [
    ("pair", 2, line(names(2))),
    ("line", 9, line(names(9))),
    ("ring", 12, ring(names(12))),
    ("full", 8, full(names(8))),
    ("chords", 15, chords(names(15), seed=3, more=8)),
    ("tree", 20, chords(names(20), seed=4, more=0)),
    ("large", 30, chords(names(30), seed=5, more=15)),
]
graphs = pytest.mark.parametrize(("count", "pairs"), [g[1:] for g in GRAPHS], ids=[g[0] for g in GRAPHS])
small = pytest.mark.parametrize(("count", "pairs"), [g[1:] for g in GRAPHS[:5]], ids=[g[0] for g in GRAPHS[:5]])


@graphs
def test_joining_ends_in_one_digest_and_the_exact_sum(count, pairs):
    fleet = built(count, pairs)
    exact(fleet)
    assert not any(card.summary["partial"] for card in fleet.cards.values())
    for here, there in pairs:
        assert there in fleet.cards[here].node.siblings.joined()
        assert here in fleet.cards[there].node.siblings.joined()


@graphs
def test_an_update_costs_at_most_two_messages_an_edge_and_the_flood_ends(count, pairs):
    fleet = built(count, pairs)
    fleet.sent.clear()
    steps = fleet.steps
    fleet.run(10.0)
    assert len(fleet.sent) >= count  # each node's heartbeat
    assert max(fleet.sent.values()) <= 2 * len(pairs)
    fleet.drain(2.0)
    steps = fleet.steps
    fleet.drain(60.0)
    assert fleet.steps == steps  # nothing goes on by itself
    exact(fleet)


@small
@pytest.mark.parametrize("seed", [1, 2])
def test_after_loss_doubling_and_reordering_all_agree(count, pairs, seed):
    fleet = built(count, pairs, seed)
    fleet.delay, fleet.loss, fleet.double, fleet.reorder = (0.01, 1.5), 0.2, 0.3, True
    for _ in range(15):
        for card in fleet.cards.values():
            card.w = fleet.dice.randint(-9_000, 9_000)
        fleet.run(2.0)
    fleet.delay, fleet.loss, fleet.double, fleet.reorder = (0.002, 0.02), 0.0, 0.0, False
    fleet.until(fleet.agreed, within=20.0)
    fleet.run(6.0)
    fleet.drain()
    exact(fleet)
    assert len(fleet.worth) > 30  # so many digests were shown, and each had one net and one price


def test_a_slow_record_that_was_lost_is_repaired():
    fleet = built(5, line(names(5)))
    fleet.loss = 1.0
    fleet.ask("n00", Forget("n04"))  # nobody hears it
    fleet.run(0.5)
    fleet.loss = 0.0
    assert "grid/network/forgotten/n04" not in fleet.cards["n01"].retained
    fleet.run(60.0)
    assert all(removed(card.node, "n04") for key, card in fleet.cards.items() if key != "n04")
    assert len({card.node.book.table() for key, card in fleet.cards.items() if key != "n04"}) == 1


def test_a_new_tariff_reaches_everybody_and_no_digest_has_two_prices():
    fleet = built(8, ring(names(8)), delay=(0.2, 0.4))
    held = json.loads(fleet.cards["n00"].retained["grid/network/tariff"])
    dearer = held | {"version": held["version"] + 1, "import_u": 400_000}
    fleet.step(fleet.cards["n04"], Heard("$grid/in/x/network/tariff", json.dumps(dearer).encode()))
    fleet.run(4.0)
    assert {card.node.tariff.import_u for card in fleet.cards.values()} == {400_000}
    fleet.drain(4.0)
    exact(fleet)


@pytest.mark.parametrize("seed", range(4))
def test_a_partition_computes_in_parts_and_healing_unites_them(seed):
    ids = names(10)
    fleet = built(10, chords(ids, seed, more=6), seed)
    whole = exact(fleet)
    halves = [id_ for id_ in ids if fleet.dice.random() < 0.5] or ids[:1]
    others = [id_ for id_ in ids if id_ not in halves] or [halves.pop()]
    fleet.partition(halves, others)
    fleet.run(25.0)
    parts = components(fleet, ids)
    assert len(parts) >= 2
    for part in parts:
        assert fleet.agreed(*part)
        exact(fleet, *part)
        for key in part:
            said = fleet.cards[key].summary
            assert (said["partial"], said["heard"], said["nodes"]) == (True, len(part), 10)
            assert said["low_w"] == said["net_w"] - 10_000 * (10 - len(part))
            assert said["low_w"] <= whole <= said["high_w"]
    fleet.cards[ids[0]].w = 4_321
    fleet.run(10.0)
    fleet.heal()
    assert fleet.until(fleet.agreed, within=20.0) < 12.0
    exact(fleet)


def components(fleet: Fleet, ids: list[str]) -> list[list[str]]:
    """The parts of the graph that still hear each other."""
    left, parts = set(ids), []
    while left:
        part, todo = set(), [min(left)]
        while todo:
            key = todo.pop()
            if key not in part:
                part.add(key)
                todo += [k for k in fleet.wires[key] if frozenset((key, k)) not in fleet.cuts]
        left -= part
        parts.append(sorted(part))
    return parts


def test_fifty_nodes():
    fleet = built(50, chords(names(50), seed=7, more=25))
    fleet.run(10.0)
    fleet.drain()
    exact(fleet)


def test_the_fleet_repeats_itself():
    runs = []
    for _ in range(2):
        fleet = built(5, ring(names(5)), seed=9)
        fleet.run(5.0)
        runs.append((fleet.steps, fleet.now, sorted(fleet.worth.items()), sorted(fleet.sent.items())))
    assert runs[0] == runs[1]
