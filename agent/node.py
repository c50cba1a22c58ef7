"""The node itself: events in, effects out; no I/O, no clock, no thread."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from agent import admit, asks, balance, gone, hear, kept, loads, renewal, slots, summary, upkeep, wire
from agent.accounts import Settled
from agent.balance import Balance
from agent.bucket import Bucket
from agent.cuts import Cuts
from agent.edges import GAP_S, Edges
from agent.events import (
    Asked,
    Bridges,
    Complain,
    Connected,
    Dialled,
    Disconnected,
    Effect,
    Event,
    Heard,
    Hertz,
    Issued,
    Metered,
    PointSet,
    Publish,
    Pulsed,
    Quiet,
    Save,
    Started,
    Stopping,
    Tick,
    Warned,
)
from agent.life import Life
from agent.net import Net, Share, mark
from agent.offer import possible
from agent.own import Own, Settings
from agent.records import Book
from agent.refute import Refute
from agent.renewal import Renewal
from agent.settlement import Settlement
from agent.show import Show
from agent.siblings import Siblings
from agent.switches import Switches
from agent.trust import Trust
from agent.wire import INFO, STATE, Place, Rates, State, Tariff
from drivers.reading import Lamp, Reading

MEND_S, MEND_BURST = 100.0, 200.0  # canonical topics rewritten a second, at the most


@dataclass(slots=True)
class Node:
    """Everything one node knows. One thread owns it; `step` is its one door."""

    settings: Settings
    instance: str
    trust: Trust | None = None  # None: an open network
    cuts: Cuts = field(default_factory=Cuts)
    renewal: Renewal = field(default_factory=Renewal)
    book: Book = field(default_factory=Book)
    life: Life = field(default_factory=Life)
    net: Net = field(default_factory=Net)
    refute: Refute = field(default_factory=Refute)
    own: Own = field(init=False)
    siblings: Siblings = field(init=False)
    show: Show = field(init=False)
    edges: Edges = field(init=False)
    settlement: Settlement = field(init=False)
    balance: Balance = field(init=False)
    connected: bool = False
    left: bool = False
    purged: bool = False
    stopping: bool = False
    unix_less_now: float = 0.0
    local: str | None = None  # our own address as a dial found it
    transport: dict[str, bool] = field(default_factory=dict)  # what the broker says of its links; a hint
    seeds: dict[str, float] = field(default_factory=dict)  # addresses of [network] join still to be tried, and when
    met: list[str] = field(default_factory=list)  # those that were reached once and need no other try
    metered: dict[str, Reading] = field(default_factory=dict)
    past: Sequence[Settled] = ()
    clock_good: bool = True
    slot: int | None = None  # the present one
    rates: Rates | None = None  # in force now
    sampled_s: float = 0.0
    reclaimed_s: float | None = None
    pulses: dict[str, int] = field(default_factory=dict)  # counts of S0 meters, as last kept
    unsaved: bool = False
    changed: bool = True  # the summary is behind
    lamp: Lamp = "off"
    switches: Switches = field(default_factory=Switches)
    relays: dict[str, dict[str, int | bool | None]] = field(default_factory=dict)  # as kept by the run before
    relays_s: float = 0.0
    whys: dict[str, str] = field(default_factory=dict)  # why each relay is as it is
    idle_s: float = 0.0
    summed_s: float = 0.0
    looked_s: float = 0.0
    swept_s: float = 0.0
    differs: dict[str, float] = field(default_factory=dict)
    repaired_s: float = 0.0
    unmended: int = 0
    mends: Bucket = field(default_factory=lambda: Bucket(MEND_S, MEND_BURST, MEND_BURST))
    repairs: Bucket = field(default_factory=lambda: Bucket(MEND_S, MEND_BURST, MEND_BURST))
    owed: dict[str, None] = field(default_factory=dict)  # topics to be repaired, the oldest first
    out: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.own = Own(self.settings, self.instance)
        self.siblings = Siblings(self.me)
        self.show = Show(wire.View(self.me, self.settings.shared))
        slowest_s = max((meter.every_s for meter in self.settings.meters), default=0.0)
        self.edges = Edges(self.settings.rated_w, self.settings.tariff.slot_s, max(GAP_S, 3 * slowest_s))
        self.settlement = Settlement(self.settings.zone)
        self.balance = Balance(self.settings)

    @property
    def me(self) -> str:
        return self.settings.id

    @property
    def tariff(self) -> Tariff | None:
        held = self.book.get("network", wire.TARIFF)
        if held is None and self.trust is not None:
            return self.settings.tariff  # only an operator may tell the network a tariff: until one is heard, that of the file
        return held.record if held is not None and isinstance(held.record, Tariff) else None

    @property
    def operator(self) -> bool:
        """May this node change what is common to the network?"""
        return self.trust is None or self.trust.me.operator

    def unix_s(self, now: float) -> float:
        return now + self.unix_less_now

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take one event in; return what is now to be done, in order."""
        match event:
            case Heard():
                hear.hear(self, event.topic, event.payload, event.retained, now)
            case Quiet():
                self.idle_s = now if event.idle else self.idle_s
                summary.publish(self, now)
            case Metered():
                self._metered(event, now)
            case Pulsed(name, count):
                self.pulses[name] = count
                self.out.append(kept.pulses(self))
            case Hertz(hz):
                balance.hertz(self, hz, now)
            case PointSet():
                balance.point_set(self, event, now)
            case Tick():
                self.unix_less_now, self.clock_good = event.unix_s - now, event.clock_good
                upkeep.tick(self, now)
            case Connected():
                self.connected = True
                self._connected(now)
            case Disconnected():
                self.connected = False
                self.transport.clear()
                self.out += self.show.alert(
                    "broker", "this node's broker is unreachable; nothing is heard or told", self.unix_s(now)
                )
            case Started():
                self.unix_less_now, self.past = event.unix_s - now, event.past
                balance.start(self, now)
                kept.restore(self, event.kept, now)
                slots.restore(self)
                loads.restore(self, now)
                admit.bar(self)
                self.link()
            case Dialled():
                asks.dialled(self, event, now)
            case Issued(certs):
                renewal.issued(self, certs, now)
            case Asked():
                asks.asked(self, event, now)
            case Warned():
                known = self.show.alerts.get(event.alert)
                self.out += self.show.alert(event.alert, event.text, self.unix_s(now))
                self.out += [Complain(event.text)] if event.text and (known is None or known.text != event.text) else []
            case Stopping():
                self._stop(now)
            case _:
                assert_never(event)
        out, self.out = self.out, []
        return out if self.connected else [effect for effect in out if not isinstance(effect, Publish)]

    # what this node says

    def _metered(self, event: Metered, now: float) -> None:
        self.own.read(event.name, event.reading, self.unix_s(now), now)
        balance.measured(self, event.name, event.reading, now)
        changed = balance.changed(self, now)
        if (changed or self.own.changed()) and self.own.due(now, changed):
            self.speak(now)
        self.metered[event.name] = event.reading  # its scalars wait for the next tick: the record and the price go first

    def speak(self, now: float) -> None:
        """Publish our next state record."""
        hz, flex = self.balance.hertz(now), balance.told(self, now)
        self.keep_own(STATE, self.own.state(self.book.table(), self.unix_s(now), now, self.refute.conflict, hz, flex))
        self.life.own(self.me, now)
        self.weigh(self.me, now)

    def relate(self, now: float, moved: bool = True) -> None:
        """Publish our next info record; `moved`: the siblings changed, so keep them and link anew."""
        address = self.settings.address or self.local
        counters, dials = self.siblings.counters(), self.siblings.dials()
        self.keep_own(INFO, self.own.info(counters, dials, address, self.left, self.unix_s(now)))
        self.unsaved = True
        if moved:
            self.out.append(Save("siblings", self.siblings.dump()))
            self.link()

    def link(self) -> None:
        if not self.settings.shared:
            self.out.append(Bridges(tuple(link for link in self.siblings.links() if not self.cuts.is_cut(link.sibling))))

    def keep_own(self, kind: str, payload: bytes) -> None:
        if self.own.version > self.own.ceiling:
            self.out.append(kept.reserve(self.own))
        self.keep(wire.place(wire.node_topic(self.me, kind)), payload)

    def keep(self, place: Place, payload: bytes) -> None:
        """Hold and publish a record that this node makes; in a closed network it is signed here."""
        if self.trust is not None:
            payload = self.trust.sign(place.topic, payload, with_cert=place.kind == INFO or place.owner == "network")
        self.book.keep(self.book.made(place, payload))
        self.out.append(Publish(place.topic, payload, sure=True))

    # who counts

    def weigh(self, node: str, now: float) -> None:
        """Decide this node's part in the net: counted, a member whose watts are unknown, or none."""
        held, info = self.book.get(node, STATE), self.book.get(node, INFO)
        state = held.record if held is not None else None
        self.changed = True
        if held is None or not isinstance(state, State) or gone.is_gone(self, node) or state.zone != self.settings.zone:
            self.net.drop(node)
            balance.heard(self, node, None)
            return
        if state.quality == "conflict":
            text = f"two live nodes call themselves {node!r}: give one of them another [node] id, or switch the copied card off"
            self.out += self.show.alert(f"conflict-{node}", text, self.unix_s(now), level="critical")
        elif f"conflict-{node}" in self.show.alerts:
            self.out += self.show.alert(f"conflict-{node}", "", self.unix_s(now))
        if not self.life.proven(node) and info is None:
            self.net.drop(node)  # an id that nobody vouches for
            balance.heard(self, node, None)
            return
        if self.life.fresh(node) and (watts := _counted(state)) is not None:
            self.net.count(node, Share(*watts, mark(node, state.version, held.hash)))
        else:
            self.net.widen(node, state.rated_w)
        balance.heard(self, node, state)

    # the broker comes and goes, and the end

    def _connected(self, now: float) -> None:
        """A broker may have lost everything: tell it all again, records before the view that counts them."""
        self.out += self.show.alert("broker", "", self.unix_s(now))
        self.own.reborn(now)
        for held in self.book.all():
            mine = held.place.owner in (self.me, "network")
            if mine or not self.settings.shared:
                self.out.append(Publish(held.place.topic, held.payload, sure=True))
        self.speak(now)
        self.out += self.show.put(self.show.view.status, b"online")
        summary.publish(self, now)  # or one from before these records would be told again
        self.out += self.show.again()

    def _stop(self, now: float) -> None:
        """Say that we are not measuring any more, and leave nothing unsaved."""
        self.own.stop("the agent was stopped")
        self.speak(now)
        summary.publish(self, now)
        self.out.append(Publish(self.show.view.status, b"offline"))
        balance.stop(self)
        loads.stop(self, now)
        summary.light(self, "off")
        self.out += [Save("edges", self.edges.dump()), kept.records(self)]


def _counted(state: State) -> tuple[int, int] | None:
    """Produced and consumed watts, if they are good and possible."""
    match state.quality, state.produced_w, state.consumed_w:
        case "good", int(produced_w), int(consumed_w) if possible(state):
            return produced_w, consumed_w
    return None
