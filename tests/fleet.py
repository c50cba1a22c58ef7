"""A pretend network: real nodes, and pretend brokers, bridges and meters under one virtual clock. Nothing sleeps, all is seeded."""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from agent.accounts import Settled
from agent.events import (
    Answer,
    Ask,
    Asked,
    Bar,
    Bridges,
    Complain,
    Connected,
    Dial,
    Dialled,
    Disconnected,
    Event,
    Heard,
    Join,
    Metered,
    PointSet,
    Post,
    Publish,
    Quiet,
    Renew,
    Save,
    SetPoint,
    Started,
    Stopping,
    Switch,
    Tick,
)
from agent.node import Node
from agent.own import MeterSlot, Settings
from agent.trust import Trust
from agent.wire import NETWORK, NODE, Tariff, inbox_topic
from drivers.reading import Reading, absent

TICK_S, QUIET_S, READ_S = 0.25, 0.05, 1.0  # as agent/loop.py; a meter is read with the tick
UNIX_S = 1_795_336_484.0
TARIFF = Tariff(version=0, import_u=300_000, export_u=80_000, floor_u=0, cap_u=1_000_000, currency="EUR", slot_s=900, rule="mmr")
METER = MeterSlot("main", "grid", 1.0)


def settings(id_: str, **changes: Any) -> Settings:
    first = Settings(id=id_, zone="z", rated_w=10_000, deadband_w=50, tariff=TARIFF, meters=(METER,), agent="0")
    return replace(first, **changes)


@dataclass(slots=True)
class Card:
    """One Pi. `key` is its id but for a clone; `w` is what its grid meter reads (+ takes), None: no answer."""

    key: str
    settings: Settings
    clock: float  # its monotonic clock less the fleet's
    wall: float  # its wall clock less the right one
    w: int | None = 0
    node: Node | None = None
    broker: bool = True
    quiet: bool = False
    run: int = 0
    retained: dict[str, bytes] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    bridges: dict[str, str] = field(default_factory=dict)  # the other card, and as whom this broker links to it
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    read_s: float = 0.0
    ledger: list[Settled] = field(default_factory=list)
    more: dict[str, dict[str, float]] = field(default_factory=dict)  # what its other meters read
    relays: dict[str, bool] = field(default_factory=dict)  # by load
    point_w: int = 0  # of its battery
    barred: tuple[str, ...] = ()  # ids that its broker lets neither read nor write

    @property
    def address(self) -> str:
        return f"{self.key}.test:1883"

    @property
    def summary(self) -> dict[str, Any]:
        return msgspec.json.decode(self.retained["grid/summary"])


@dataclass
class Fleet:
    """All cards, and the wires between them. `delay` in seconds, `loss` and `double` are chances of one message."""

    seed: int = 0
    delay: tuple[float, float] = (0.002, 0.02)
    loss: float = 0.0
    double: float = 0.0
    reorder: bool = False  # overtaking on one link
    restarts: bool = False  # a broker restarts to take a changed bridge, as Mosquitto 2.0 does
    limit: int = 3_000_000
    tick_s: float = TICK_S
    read_s: float = READ_S
    quiet_s: float = QUIET_S  # a summary is published this long after what changed it
    now: float = 0.0
    steps: int = 0
    frozen: bool = False
    cards: dict[str, Card] = field(default_factory=dict)
    trust: Callable[[str], Trust | None] = field(default=lambda id_: None)  # of a closed network: by id, for each start
    cuts: set[frozenset[str]] = field(default_factory=set)
    wires: dict[str, dict[str, str]] = field(default_factory=dict)  # from card to card: the inbox it writes there
    sent: Counter[tuple[str, bytes]] = field(default_factory=Counter)  # inbox messages by canonical topic and payload
    wired: Callable[[], None] = field(default=lambda: None)  # what flows now: sets what all meters read
    worth: dict[str, tuple[int, Any, Any]] = field(default_factory=dict)  # digest -> net and prices: must be a function

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._last: dict[tuple[str, str], float] = defaultdict(float)

    # building

    def add(self, id_: str, key: str = "", w: int | None = 0, offset: float | None = None, **changes: Any) -> Card:
        """One more card, started. Clocks differ: monotonic ones begin anywhere, wall clocks are off by half a minute."""
        clock = self.dice.uniform(0, 1e6) if offset is None else offset
        card = Card(key or id_, settings(id_, **changes), clock, self.dice.uniform(-25, 25), w)
        self.cards[card.key] = card
        self.start(card.key)
        return card

    def join(self, pairs: Iterable[tuple[str, str]]) -> None:
        for here, there in pairs:
            self.ask(here, Join(self.cards[there].address))

    def ask(self, key: str, ask: Ask) -> int:
        self._count += 1
        request = self._count
        self.step(self.cards[key], Asked(request, ask))
        return request

    # time

    def after(self, delay_s: float, work: Callable[..., None], *about: Any) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now + delay_s, self._count, work, about))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, work, about = heapq.heappop(self._due)
            work(*about)
        self.now = end

    def until(self, done: Callable[[], bool], within: float) -> float:
        """Run until this holds; the seconds it took."""
        began = self.now
        while not done():
            assert self.now - began <= within, f"not within {within} s"
            self.run(TICK_S)
        return self.now - began

    def drain(self, seconds: float = 1.0) -> None:
        """Let what is under way arrive, and let nothing new begin."""
        self.frozen = True
        self.run(seconds)
        self.frozen = False

    def agreed(self, *keys: str) -> bool:
        """Do these (all that run) show one digest, with everybody among them heard and nobody else?"""
        among = [self.cards[key] for key in keys] or [card for card in self.cards.values() if card.node]
        self.drain()
        shown = [card.summary for card in among if "grid/summary" in card.retained]
        ids = sorted({card.settings.id for card in among})
        return len(shown) == len(among) and len({s["digest"] for s in shown}) == 1 and shown[0]["members"] == ids

    # faults

    def partition(self, *groups: Iterable[str]) -> None:
        side = {key: number for number, group in enumerate(groups) for key in group}
        self.cuts |= {frozenset((a, b)) for a in side for b in side if side[a] != side[b]}
        self._notify(b"0")

    def heal(self) -> None:
        healed, self.cuts = self.cuts, set()
        ways = [(here, there) for here, others in self.wires.items() for there in others if frozenset((here, there)) in healed]
        for here, there in sorted(ways):
            self._resync(self.cards[here], self.cards[there])
        self._notify(b"1")

    def crash(self, key: str, power: bool = False) -> None:
        """The agent dies; with `power` its broker too. What was saved stays."""
        card = self.cards[key]
        card.node, card.run = None, card.run + 1
        if power:
            card.broker = False
            card.retained.clear()

    def start(self, key: str, memory: bool = True) -> None:
        card = self.cards[key]
        if not memory:
            card.kept.clear()
            card.ledger.clear()
        instance = f"{self.dice.getrandbits(32):08x}"
        card.node, card.quiet, card.run = Node(card.settings, instance, self.trust(card.settings.id)), False, card.run + 1
        if not card.broker:
            self._broker_up(card, card.run, connect=False)
        self.step(card, Started(dict(card.kept), self.unix_s(card), tuple(card.ledger)))
        self.after(0.01, self._connect, card, card.run)
        self.after(self.dice.uniform(0.05, TICK_S), self._tick, card, card.run)

    def stop(self, key: str) -> None:
        self.step(self.cards[key], Stopping())
        self.crash(key)

    def broker_restart(self, key: str) -> None:
        card = self.cards[key]
        if card.broker:
            card.broker = False
            card.retained.clear()
            self.step(card, Disconnected())
            self.after(0.05, self._broker_up, card, card.run)

    # what happens by itself

    def step(self, card: Card, event: Event) -> None:
        if card.node is None:
            return
        self.steps += 1
        assert self.steps < self.limit, "it does not end"
        for effect in card.node.step(event, self.now + card.clock):
            match effect:
                case Publish(topic, payload):
                    self._publish(card, topic, payload)
                case Bridges(links):
                    by_address = {other.address: other.key for other in self.cards.values()}
                    where = {by_address.get(f"{link.host}:{link.port}"): link.sibling for link in links}
                    self._bridge(card, {key: sibling for key, sibling in where.items() if key is not None})
                case Dial():
                    self.after(self._delay(), self._dialled, card, effect)
                case Save(name, data):
                    card.kept[name] = data
                case Post(rows, _):
                    card.ledger += rows
                case Renew():
                    self.broker_restart(card.key)
                case Answer(request, body):
                    card.answers[request] = msgspec.json.decode(body)
                case Complain(text):
                    card.log.append(text)
                case Bar(ids):
                    card.barred = ids
                case Switch(name, on):
                    card.relays[name] = on
                case SetPoint(battery, watts):
                    card.point_w = watts
                    self.after(0.1, self.step, card, PointSet(battery, watts, ""))
        if not card.quiet and not isinstance(event, Quiet):
            card.quiet = True
            self.after(self.quiet_s, self._quiet, card, card.run)

    def unix_s(self, card: Card) -> float:
        return UNIX_S + self.now + card.wall

    def _quiet(self, card: Card, run: int) -> None:
        if run == card.run:
            card.quiet = False
            self.step(card, Quiet())

    def _tick(self, card: Card, run: int) -> None:
        if run != card.run:
            return
        self.after(self.tick_s, self._tick, card, run)
        if self.frozen:
            return
        self.step(card, Tick(self.unix_s(card)))
        if self.now - card.read_s >= self.read_s:
            card.read_s = self.now
            self.wired()
            for name, values in card.more.items():
                self.step(card, Metered(name, Reading("good", "", values)))
            reading = absent("no answer") if card.w is None else Reading("good", "", {"w": card.w})
            self.step(card, Metered("main", reading))

    def _publish(self, card: Card, topic: str, payload: bytes) -> None:
        if not card.broker:
            return
        _retain(card, topic, payload)
        if topic.startswith((NODE, NETWORK)):
            for key in self.wires.get(card.key, ()):
                self._carry(card, self.cards[key], topic, payload)
        elif topic == "grid/summary":
            said = msgspec.json.decode(payload)
            worth = said["net_w"], said["price_u"], said["sell_u"]
            assert self.worth.setdefault(said["digest"], worth) == worth, "equal digest, other net or price"

    def _up(self, a: Card, b: Card) -> bool:
        if a.settings.id in b.barred or b.settings.id in a.barred:
            return False
        return a.broker and b.broker and b.key in self.wires.get(a.key, ()) and frozenset((a.key, b.key)) not in self.cuts

    def _delay(self) -> float:
        return self.dice.uniform(*self.delay)

    def _carry(self, a: Card, b: Card, topic: str, payload: bytes, again: bool = False) -> None:
        if not self._up(a, b) or self.dice.random() < self.loss:
            return
        for _ in range(2 if self.dice.random() < self.double else 1):
            at = self.now + self._delay()
            if not self.reorder:
                at = self._last[a.key, b.key] = max(at, self._last[a.key, b.key])
            self.after(at - self.now, self._arrive, a, b, inbox_topic(self.wires[a.key][b.key], topic), payload)
            if payload and not again:
                self.sent[topic, payload] += 1

    def _arrive(self, a: Card, b: Card, topic: str, payload: bytes) -> None:
        if self._up(a, b):
            _retain(b, topic, payload)
            if b.node is not None and b.node.connected:
                self.step(b, Heard(topic, payload))

    def _resync(self, a: Card, b: Card) -> None:
        """A link came up: all that a retains of the shared tree arrives at b once more."""
        for topic, payload in list(a.retained.items()):
            if topic.startswith((NODE, NETWORK)):
                self._carry(a, b, topic, payload, again=True)

    def _bridge(self, card: Card, bridges: dict[str, str]) -> None:
        if bridges == card.bridges:
            return
        new = bridges.keys() - card.bridges.keys()
        card.bridges = bridges
        self.wires = defaultdict(dict)
        for here in self.cards.values():
            for key, sibling in here.bridges.items():
                self.wires[here.key][key] = here.settings.id
                self.wires[key].setdefault(here.key, sibling)
        if self.restarts:
            self.broker_restart(card.key)
        else:
            for key in sorted(new):
                self.after(self._delay(), self._link_up, card, self.cards[key])

    def _link_up(self, a: Card, b: Card) -> None:
        self._resync(a, b)
        self._resync(b, a)
        self._notify(b"1")

    def _notify(self, state: bytes) -> None:
        """What brokers say of the bridges that they keep themselves."""
        for card in list(self.cards.values()):
            for key, sibling in card.bridges.items():
                if self._up(card, self.cards[key]) == (state == b"1"):
                    self.step(card, Heard(f"grid/sibling/{sibling}", state))

    def _dialled(self, card: Card, dial: Dial) -> None:
        found = next((other for other in self.cards.values() if other.address == dial.address), None)
        if found is None or "grid/summary" not in found.retained or frozenset((card.key, found.key)) in self.cuts:
            self.step(card, Dialled(dial.address, None, "no broker answers there", None, dial.request))
        else:
            self.step(card, Dialled(dial.address, found.summary["node"], "", card.address, dial.request))

    def _connect(self, card: Card, run: int) -> None:
        """The agent subscribes and gets what is retained, then what it does itself."""
        if run == card.run and card.node is not None and card.broker:
            before = list(card.retained.items())
            self.step(card, Connected())
            for topic, payload in before:
                if not topic.startswith("grid/") or topic.startswith((NODE, NETWORK)):
                    self.step(card, Heard(topic, payload))

    def _broker_up(self, card: Card, run: int, connect: bool = True) -> None:
        card.broker = True
        for key in sorted(self.wires.get(card.key, ())):
            self._resync(self.cards[key], card)
        self._notify(b"1")
        if connect:
            self.after(0.02, self._connect, card, run)


def _retain(card: Card, topic: str, payload: bytes) -> None:
    if payload:
        card.retained[topic] = payload
    else:
        card.retained.pop(topic, None)
