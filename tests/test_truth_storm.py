"""What summaries say stays true in a storm of changes, among several versions of the software, and on one shared broker."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import Survived
from fleet import Card, _retain
from graphs import Pairs, chords, line, names
from judged import Judged, join

from agent.events import Connected, Event, Forget, Heard, Leave, Metered, Status
from agent.own import Own
from agent.wire import NETWORK, NODE, network_topic, node_topic, place
from drivers.reading import Reading

# 5. a storm


@dataclass
class Counted(Judged):
    """Counts what a link that comes up repeats, and how often a node tells its broker everything."""

    ups: int = 0  # one way each
    repeated: int = 0
    told: Counter[str] = field(default_factory=Counter)  # by card: agent or broker new

    def _resync(self, a: Card, b: Card) -> None:
        self.ups += 1
        super()._resync(a, b)

    def _carry(self, a: Card, b: Card, topic: str, payload: bytes, again: bool = False) -> None:
        self.repeated += again
        super()._carry(a, b, topic, payload, again)

    def step(self, card: Card, event: Event) -> None:
        self.told[card.key] += isinstance(event, Connected)
        super().step(card, event)

    def count_anew(self) -> None:
        self.ups = self.repeated = 0
        self.sent.clear()
        self.told.clear()


def storm(fleet: Judged, pairs: Pairs, at_once: int, every_s: int) -> tuple[int, int]:
    """A minute: ten times a second so many nodes change, and every second or so something is cut, healed or restarted."""
    changes = faults = 0
    for second in range(60):
        match "nothing" if second % every_s else fleet.dice.choice(["cut", "cut", "heal", "agent", "power", "broker"]):
            case "cut":
                fleet.cuts.add(frozenset(fleet.dice.choice(pairs)))
            case "heal":
                fleet.heal()
            case "agent" | "power" as what:
                key = fleet.dice.choice(fleet.alive())
                fleet.crash(key, power=what == "power")
                fleet.after(fleet.dice.uniform(0.1, 20.0), fleet.start, key)
            case "broker":
                fleet.broker_restart(fleet.dice.choice(sorted(fleet.cards)))
            case _:
                faults -= 1
        faults += 1
        for _ in range(10):
            for key in fleet.dice.sample(sorted(fleet.cards), at_once):
                card = fleet.cards[key]
                card.w = fleet.dice.randint(-5_000, 5_000)
                fleet.step(card, Metered("main", Reading("good", "", {"w": card.w})))
                changes += 1
            fleet.run(0.1)
    fleet.run(21.0)  # all have started again
    fleet.heal()
    return changes, faults


STORMS = [
    ("8 nodes 12 links", 8, chords(names(8), seed=2, more=5), 8, 1, 1),
    ("8 nodes 12 other links", 8, chords(names(8), seed=5, more=5), 8, 1, 2),
    ("30 nodes", 30, chords(names(30), seed=3, more=6), 1, 4, 3),
]


@pytest.mark.parametrize(("name", "count", "pairs", "at_once", "every_s", "seed"), STORMS, ids=[row[0] for row in STORMS])
def test_a_storm_and_then_calm(name, count, pairs, at_once, every_s, seed, survived):
    """A record crosses each link once each way at the most. Whenever an agent or its broker is new, that node tells its siblings
    all that it holds and may take again what it had lost: its own links once or twice more. What a link repeats that comes up is
    counted apart: what lies in the two brokers, a state and an info of each node and the tariff."""
    fleet = Counted(seed, quiet_s=0.1 if count < 30 else 0.5)
    join(fleet, count, pairs)
    fleet.count_anew()
    changes, faults = storm(fleet, pairs, at_once, every_s)
    agree_s = fleet.until(fleet.agreed, within=15.0)
    lost, wrong = fleet.settled()
    both_ways, topics = 2 * len(pairs), 2 * count + 1
    degree = Counter(key for pair in pairs for key in pair)
    anew = sum(2 * degree[key] * times for key, times in fleet.told.items())
    assert len(fleet.sent) >= 0.5 * changes  # a change within one of its flood is told by the same record
    assert max(fleet.sent.values()) <= both_ways + anew
    assert fleet.sent.total() <= both_ways * len(fleet.sent) + anew * topics
    assert fleet.repeated <= fleet.ups * topics
    survived(Survived(f"pretend: storm, {name}", count, faults, lost, wrong, agree_s))


# 7. several versions of the software


def spoken(settings_agent: str, payload: bytes) -> bytes:
    """What a node of this version makes of the record that ours would make."""
    match settings_agent:
        case "later":  # more keys, odd but allowed spelling
            return payload.replace(b'"proto":1', b'"proto":7')[:-1] + b' , "forecast_w" : [1.50, null, {"\xc3\xa9":"\\u00e9"}] }'
        case "later, of a new quality":
            return payload.replace(b'"quality":"good"', b'"quality":"estimated"')
        case "earlier":
            keys: dict[str, Any] = json.loads(payload)
            return json.dumps({key: keys[key] for key in keys if key not in ("table", "at", "dials", "url", "proto")}).encode()
    return payload


@pytest.fixture
def versions(monkeypatch):
    """Nodes whose `agent` says so speak as other versions do."""
    for name in ("state", "info"):
        ours = getattr(Own, name)
        monkeypatch.setattr(Own, name, lambda own, *about, ours=ours: spoken(own.settings.agent, ours(own, *about)))


ODD = {
    node_topic("n01", "forecast"): b'{ "version" : 3,"w":[1.0,2e3] , "sig" : null}',
    node_topic("n01", "plan/tomorrow"): b'{"version":1,"deep":{"a":[[[]]]}}',
    network_topic("market"): b'{"by":"n01","version":12,"bids":[]}',
    network_topic("tariff"): b'{"import_u":310000,"export_u":90000,"floor_u":0,"cap_u":1000000,"currency":"EUR","slot_s":900,'
    b'"rule":"mmr","from":0,"by":"n01","version":6,"bands":[{"from":22, "import_u" : 250000}]}',
}


@pytest.mark.parametrize(("name", "pairs"), [("line", line(names(10))), ("chords", chords(names(14), seed=2, more=6))])
def test_records_of_other_versions_are_kept_and_given_on_verbatim(name, pairs, versions, survived):
    ids = sorted({key for pair in pairs for key in pair})
    speak = {"n01": "later", "n04": "later", "n02": "later, of a new quality", "n03": "earlier", "n06": "earlier"}
    fleet = Judged(seed=3)
    for number, id_ in enumerate(ids):
        fleet.add(id_, w=fleet.dice.randint(-5_000, 5_000), rated_w=6_000 + 100 * number, agent=speak.get(id_, "ours"))
    fleet.run(2.0)
    fleet.join(pairs)
    for topic, payload in ODD.items():
        fleet.cards["n01"].node.keep(place(topic), payload)
    others = [id_ for id_ in ids if id_ != "n02"]

    def counted() -> bool:
        fleet.drain()
        shown = [card.summary for card in fleet.cards.values()]
        return len({said["digest"] for said in shown}) == 1 and shown[0]["members"] == others

    fleet.until(counted, within=60.0)
    for key in ("n05", ids[-1]):  # they keep it over a power cut
        fleet.crash(key, power=True)
        fleet.run(20.0)
        fleet.start(key)
    agree_s = fleet.until(counted, within=20.0)
    net_w = -sum(fleet.cards[key].w for key in others)
    for card in fleet.cards.values():
        said = card.summary
        assert (said["net_w"], said["high_w"] - net_w, said["nodes"], said["price_u"] <= 310_000) == (net_w, 6_200, len(ids), True)
        assert {topic: card.retained[topic] for topic in ODD} == ODD
        for owner in ids:
            topic = node_topic(owner, "info")
            assert card.retained[topic] == fleet.cards[owner].retained[topic]
            assert speak.get(owner) != "later" or b'"proto":7' in card.retained[topic]
        assert not card.node.show.refusals.total
    far = fleet.cards[ids[-1]]
    rows = far.answers[fleet.ask(far.key, Status())]["nodes"]
    assert [rows[id_]["proto"] for id_ in ("n00", "n01", "n03")] == [1, 7, None]
    assert rows["n02"]["quality"] == "estimated"
    fleet.cards["n02"].w = 0  # its watts are in no sum
    survived(Survived(f"pretend: versions, {name}", len(ids), len(speak) + len(ODD) + 2, *fleet.settled(), agree_s))


# 8. several agents on one broker


@dataclass
class Shared(Judged):
    """One broker for all. `retained` of a card is what its agent has seen of it; `common` is what lies there.

    After the broker was new a summary is judged by what its agent saw before: the others' records are for them to tell again.
    """

    seen: dict[tuple[str, str], bytes] = field(default_factory=dict)
    common: dict[str, bytes] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)

    def _publish(self, card: Card, topic: str, payload: bytes) -> None:
        view = f"grid/view/{card.settings.id}/"
        self.seen[card.key, topic] = payload
        super()._publish(card, topic.replace(view, "grid/"), payload)
        if payload:
            self.common[topic] = payload
        else:
            self.common.pop(topic, None)
        if not topic.startswith((NODE, NETWORK)):
            assert topic.startswith(view)
            return
        if place(topic).owner not in (card.settings.id, "network") and payload:
            self.foreign.append(f"{card.key} wrote {topic}")
        for other in self.cards.values():
            if other is not card:
                at = self._last[card.key, other.key] = max(self.now + self._delay(), self._last[card.key, other.key])
                self.after(at - self.now, self._common, other, other.run, topic, payload)

    def _common(self, card: Card, run: int, topic: str, payload: bytes) -> None:
        if card.run == run and card.node is not None and card.node.connected:
            if place(topic).owner != card.settings.id:  # what a removed node says the others clear
                self.seen[card.key, topic] = payload
            _retain(card, topic, payload)
            self.step(card, Heard(topic, payload))

    def lies(self, card: Card, topic: str) -> bytes:
        return self.seen.get((card.key, topic), b"")

    def _connect(self, card: Card, run: int) -> None:
        card.retained = {topic: said for topic, said in card.retained.items() if not topic.startswith((NODE, NETWORK))}
        for topic, said in self.common.items():
            if topic.startswith((NODE, NETWORK)):
                card.retained[topic] = self.seen[card.key, topic] = said
        super()._connect(card, run)

    def parts(self, keys: Iterable[str]) -> list[list[str]]:
        return [sorted(keys)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ten_agents_on_one_broker(seed, survived):
    fleet = Shared(seed)
    ids = names(10)
    for number, id_ in enumerate(ids):
        fleet.add(id_, w=fleet.dice.randint(-5_000, 5_000), rated_w=6_000 + 100 * number, shared=True)
    fleet.until(fleet.agreed, within=10.0)
    victims = fleet.dice.sample(ids, 4)
    for key in victims:
        fleet.crash(key)
        fleet.run(fleet.dice.uniform(0.0, 9.0))
    fleet.run(16.0)
    rest = fleet.alive()
    assert fleet.agreed(*rest)
    for number, key in enumerate(victims[:3]):
        fleet.start(key, memory=number > 0)
        fleet.cards[key].w = 1_000 * number
    fleet.until(fleet.agreed, within=10.0)
    fleet.common.clear()
    for key in fleet.alive():
        fleet.broker_restart(key)
    agree_s = fleet.until(fleet.agreed, within=15.0)
    for key in fleet.alive():
        own = {topic: said for topic, said in fleet.common.items() if topic.startswith(f"{NODE}{key}/")}
        assert own == {held.place.topic: held.payload for held in fleet.cards[key].node.book.nodes[key].values()}
    assert not fleet.foreign
    fleet.ask(victims[0], Forget(victims[3]))
    assert "error" in fleet.cards[victims[1]].answers[fleet.ask(victims[1], Leave(None))]
    fleet.run(5.0)
    assert not [topic for topic in fleet.common if topic.startswith(f"{NODE}{victims[3]}/")]
    stay = fleet.alive()
    assert fleet.agreed(*stay)
    steps = fleet.steps
    fleet.start(victims[3])  # it is told that it was removed, and nobody counts it
    fleet.run(20.0)
    assert fleet.steps - steps < 20_000  # of it and the others clearing what it says: they do not fight
    assert fleet.agreed(*stay)
    assert "forgotten" in fleet.cards[victims[3]].node.show.alerts
    fleet.stop(victims[3])
    assert not fleet.foreign
    survived(Survived(f"pretend: one broker, seed {seed}", 10, 7, *fleet.settled(*stay), agree_s))
