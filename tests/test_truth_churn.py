"""Siblings stay siblings at both ends: joins, leaves, removals and crashes in every order, and what both disks say then."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import pytest
from conftest import Survived
from fleet import Card
from graphs import Pairs, full, line, names, ring
from judged import Judged, join

from agent import gone
from agent.events import Event, Forget, Join, Leave
from agent.siblings import GRACE_S, REDIAL_S, Edge, Kept, Siblings
from agent.upkeep import REPAIR_S, SWEEP_S

# 6. a small model: two nodes, up to three operations each in every order, a message or a limit of time at every moment between

Disk = tuple[int, bool, bool]  # counter, dials, knows the other's address


class Word(NamedTuple):
    """What an info record says of the edge."""

    counter: int
    dials: bool
    address: bool


class End(NamedTuple):
    """One of the two. `grace`: parted, and the link still up; `coming`: words under way to it; `word`: the last that it heard."""

    edge: Disk | None = None
    grace: bool = False
    local: bool = False  # knows its own address, from a dial in this run
    disk: Disk | None = None
    before: Disk | None = None  # what the disk held before the last save
    coming: tuple[Word, ...] = ()
    word: Word | None = None
    left: int = 3
    lost: bool = False  # a save was lost here

    @property
    def joined(self) -> bool:
        return self.edge is not None and self.edge[0] % 2 == 1

    @property
    def links(self) -> bool:
        return self.edge is not None and self.edge[1] and self.edge[2] and (self.joined or self.grace)

    @property
    def says(self) -> Word:
        counter, dials, _ = self.edge or (0, False, False)
        return Word(counter, dials and self.joined, self.local)


Ends = tuple[End, End]
IDS = "ab"


def real(end: End, other: str) -> Siblings:
    """The program's own table for this end: nothing of its rules is repeated here."""
    table = Siblings("b" if other == "a" else "a")
    if end.edge is not None:
        counter, dial, address = end.edge
        table.edges[other] = Edge(counter, dial, f"{other}:1" if address else None, 0.0 if end.grace else None, 0.0)
    return table


def step(ends: Ends, at: int, what: str) -> Ends:
    end, other = ends[at], IDS[1 - at]
    linked = ends[0].links or ends[1].links
    table, moved, again = real(end, other), False, False
    match what:
        case "join":
            moved = table.join(other, f"{other}:1", 0.0)
            end = end._replace(local=True)
        case "part":
            moved = table.part(other, 0.0)
        case "crash" | "lose":  # what the last words of the other said lies in the broker, and is heard again
            disk = end.disk if what == "crash" else end.before
            heard = (end.word, *end.coming) if end.word is not None else end.coming
            end = end._replace(edge=disk, local=end.local and what == "crash", disk=disk, before=disk, coming=heard)
            table, again = real(end, other), True
            table.load(table.dump(), 0.0)
        case "hear":
            word, end = end.coming[0], end._replace(coming=end.coming[1:])
            if linked:
                end = end._replace(word=word)
                says = {table.me: word.counter} if word.counter else {}
                moved = table.told(other, says, [table.me] if word.dials else [], f"{other}:1" if word.address else None, 0.0)
        case _:  # time goes by; a link that is up is never silent
            moved = table.tick((GRACE_S if linked else REDIAL_S) + 1.0)
    edge = table.edges.get(other)
    if edge is not None:
        end = end._replace(edge=(edge.counter, edge.dial, edge.address is not None), grace=edge.parted_s is not None)
    if moved:
        end = end._replace(before=end.disk, disk=end.edge)
    if what in ("join", "part", "crash", "lose"):
        end = end._replace(left=end.left - 1, lost=end.lost or what == "lose")
    there = ends[1 - at]
    up = end.links or there.links
    if up and (moved or again or not linked):
        there = there._replace(coming=(*there.coming, end.says))
    if up and not linked:
        end = end._replace(coming=(*end.coming, there.says))
    return (end, there) if at == 0 else (there, end)


def futures(ends: Ends) -> Iterator[Ends]:
    for at, end in enumerate(ends):
        if end.left:
            yield from (step(ends, at, what) for what in ("join", "part", "crash"))
            if not (end.lost or ends[1 - at].lost):
                yield step(ends, at, "lose")
        if end.coming:
            yield step(ends, at, "hear")
        elif not ends[1 - at].coming:
            yield step(ends, at, "time")


def calm(ends: Ends) -> Ends:
    """Nobody does anything any more: all that is under way arrives, and time goes by."""
    for _ in range(40):
        before = ends
        for at in (0, 1):
            while ends[at].coming:
                ends = step(ends, at, "hear")
        if not (ends[0].coming or ends[1].coming):
            ends = step(step(ends, 0, "time"), 1, "time")
        if ends == before:
            return ends
    raise AssertionError(f"it does not end: {ends}")


def every_order(start: Ends) -> int:
    """Walk through all that can happen from here, and see that each end of it is the same at both ends. How many states."""
    ways: dict[Ends, Ends | None] = {start: None}
    todo, ended = [start], set()
    while todo:
        assert len(ways) < 500_000
        ends = todo.pop()
        bare = ends[0]._replace(left=0), ends[1]._replace(left=0)
        if bare not in ended:
            ended.add(bare)
            one, other = calm(bare)
            alike = one.edge is None or other.edge is None or one.edge[0] == other.edge[0]
            same = (one.joined == other.joined and alike) or any(end.lost and stranded(end) for end in (one, other))
            assert same, [*path(ways, ends), (one, other)]
            assert (one.disk, other.disk) == (one.edge, other.edge)
        for after in futures(ends):
            if after not in ways:
                ways[after] = ends
                todo.append(after)
    return len(ways)


def stranded(end: End) -> bool:
    """It lost a save, and with it an address that the other never tells, as it never dialled: a parting later cannot reach it."""
    return end.joined and end.edge is not None and not end.edge[2]


def path(ways: dict[Ends, Ends | None], ends: Ends | None) -> list[Ends]:
    steps: list[Ends] = []
    while ends is not None:
        steps.insert(0, ends)
        ends = ways[ends]
    return steps


def test_every_order_of_three_operations_at_each_end(survived):
    """Joins, partings and crashes: in the end both have the same edge, and their disks say so."""
    states = every_order((End(lost=True), End(lost=True)))
    survived(Survived("pretend: two nodes, all orders of 3 and 3", 2, states, 0, 0))


def test_every_order_of_two_operations_at_each_end_with_a_lost_save(survived):
    """The disk that lies: once, at any moment, one end comes back without its last save."""
    states = every_order((End(left=2), End(left=2)))
    survived(Survived("pretend: two nodes, all orders, a save lost", 2, states, 0, 0))


# 6. again, with whole nodes


@dataclass
class Fragile(Judged):
    """Nodes in `traps` die in the very step that changes their siblings: its saves lost ('lose') or its words ('mute')."""

    traps: dict[str, str] = field(default_factory=dict)
    held: list[tuple[Card, str, bytes]] | None = None
    fell: int = 0

    def _publish(self, card: Card, topic: str, payload: bytes) -> None:
        if self.held is None:
            super()._publish(card, topic, payload)
        else:
            self.held.append((card, topic, payload))

    def step(self, card: Card, event: Event) -> None:
        trap = self.traps.get(card.key)
        if trap is None or card.node is None:
            return super().step(card, event)
        before, self.held = dict(card.kept), [] if trap == "mute" else None
        super().step(card, event)
        held, self.held = self.held or [], None
        if card.kept.get("siblings") == before.get("siblings"):
            for words in held:
                self._publish(*words)
            return None
        del self.traps[card.key]
        if trap == "lose":
            card.kept = before
        self.fell += 1
        self.crash(card.key)
        return self.after(self.dice.uniform(0.3, 3.0), self.start, card.key)


def relation(fleet: Judged) -> list[str]:
    """Pairs that are not the same at both ends, and disks that do not say what their node knows. The removed have no say."""
    found, out = [], removed(fleet)
    for key, card in fleet.cards.items():
        on_disk = msgspec.json.decode(card.kept["siblings"], type=dict[str, Kept]) if "siblings" in card.kept else {}
        if {id_: edge.counter for id_, edge in on_disk.items()} != card.node.siblings.counters():
            found.append(f"the disk of {key}: {on_disk}")
        for id_, edge in card.node.siblings.edges.items():
            there = fleet.cards[id_].node.siblings.edges.get(key)
            if edge.joined and not {key, id_} & out and (there is None or there.counter != edge.counter):
                found.append(f"{key}: {id_} {edge}, and there {there}")
    return found


def removed(fleet: Judged) -> set[str]:
    return {id_ for card in fleet.cards.values() for id_ in fleet.cards if gone.removed(card.node, id_)}


def churn(fleet: Fragile, ids: list[str]) -> int:
    """Forty times one to three things at once."""
    faults = 0
    for _ in range(40):
        for _ in range(fleet.dice.choice([1, 1, 2, 3])):
            faults += 1
            here, there = fleet.dice.sample(ids, 2)
            if fleet.dice.random() < 0.2:
                fleet.traps[here] = fleet.dice.choice(["lose", "mute"])
            match fleet.dice.choice(["join", "join", "both", "against", "leave", "leave", "all", "forget", "self", "dead"]):
                case "join":
                    fleet.ask(here, Join(fleet.cards[there].address))
                case "both":
                    fleet.ask(here, Join(fleet.cards[there].address))
                    fleet.ask(there, Join(fleet.cards[here].address))
                case "against":
                    fleet.ask(here, Join(fleet.cards[there].address))
                    fleet.ask(there, Leave(here))
                case "leave":
                    fleet.ask(here, Leave(there))
                case "all":
                    fleet.ask(here, Leave(None))
                case "forget":
                    fleet.ask(here, Forget(there))
                case "self":
                    fleet.ask(here, Join(fleet.cards[here].address))
                case _:
                    fleet.ask(here, Join("nowhere.test:1883"))
        fleet.run(fleet.dice.choice([0.0, 0.01, 0.3, 3.0, 20.0]))
    return faults


CHURNS: list[tuple[str, int, Pairs, int]] = [
    ("line", 8, line(names(8)), 4),
    ("ring", 8, ring(names(8)), 4),
    ("star", 9, [("n00", id_) for id_ in names(9)[1:]], 2),
    ("full", 6, full(names(6)), 1),
    ("full", 6, full(names(6)), 4),
]


@pytest.mark.parametrize(("name", "count", "pairs", "seed"), CHURNS)
def test_joins_leaves_and_removals_in_any_order(name, count, pairs, seed, survived):
    fleet = Fragile(seed, quiet_s=0.5, tick_s=0.5)
    join(fleet, count, pairs)
    faults = churn(fleet, names(count))
    fleet.traps.clear()
    fleet.run(2 * REDIAL_S + 60.0)
    assert not relation(fleet)
    for _ in range(3):  # all are asked in again, and it is one network; to some it is news then that they were removed
        out = removed(fleet) | {key for key, card in fleet.cards.items() if card.node.left}
        for key in names(count):
            if key in out or key not in fleet.cards["n00"].summary["members"]:
                fleet.ask(key, Join(fleet.cards["n01" if key == "n00" else "n00"].address))
        fleet.run(20.0)
    agree_s = fleet.until(fleet.agreed, within=60.0)
    fleet.run(REPAIR_S + 2 * SWEEP_S)
    assert not relation(fleet)
    survived(Survived(f"pretend: churn, {name}, seed {seed}", count, faults + fleet.fell, *fleet.settled(), agree_s))


@pytest.mark.parametrize("key", ["n00", "n03", "n09"])
def test_a_lost_list_of_siblings_is_made_again_from_what_they_say(key, survived):
    fleet = Judged(seed=4)
    join(fleet, 10, ring(names(10)))
    fleet.run(12.0)
    fleet.crash(key, power=True)
    del fleet.cards[key].kept["siblings"]
    fleet.run(20.0)
    fleet.start(key)
    agree_s = fleet.until(fleet.agreed, within=15.0)
    assert not relation(fleet)
    survived(Survived(f"pretend: siblings lost, {key}", 10, 1, *fleet.settled(), agree_s))
