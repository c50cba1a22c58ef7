"""What this node says of itself: its account from its meters, its versions, its state and info records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

from agent import wire
from agent.dispatch import Settings as Rules
from agent.life import HEARTBEAT_S
from agent.offer import Battery, Feeder
from agent.switches import Load
from drivers.reading import Account, Reading, Role, absent, account
from drivers.wiring import Wiring

BIRTHS, BIRTH_S = 3, 0.7  # beats at start: receivers want two growths before they count a node, and nobody likes to wait
LATE_S = 3.0  # a meter may miss a read or two (0.04 % errors are normal on a healthy line) before its node says absent
RESERVE = 100_000  # versions set aside by one write: none is ever used twice, and the card is written once in hours


@dataclass(frozen=True, slots=True)
class MeterSlot:
    name: str
    role: Role
    every_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    """What a node must know of its configuration; watts and seconds. `tariff` is the seed, with version 0."""

    id: str
    zone: str
    rated_w: int
    deadband_w: int
    tariff: wire.Tariff
    tariff_keys: Mapping[str, str] = field(default_factory=dict)  # of its fields those that the file states -> as it calls them
    meters: tuple[MeterSlot, ...] = ()
    loads: tuple[Load, ...] = ()
    place: str = ""
    role: str = ""
    address: str | None = None
    join: tuple[str, ...] = ()
    shared: bool = False
    agent: str = ""
    utc_offset_s: int = 0  # of the local clock, to know the night
    battery: Battery | None = None
    feeder: Feeder | None = None
    nominal_hz: int = 50
    hertz_meter: str | None = None  # whose frequency is looked at several times a second
    load_meters: Mapping[str, str] = field(default_factory=dict)  # a load's own meter -> the load
    rules: Rules = field(default_factory=Rules)


@dataclass(slots=True)
class Line:
    """One meter as last heard; `good_s` and `heard_s` monotonic."""

    slot: MeterSlot
    reading: Reading
    heard_s: float
    good_s: float | None = None
    failing: bool = False
    new: bool = False  # read since the account was last made up


@cache
def period_s(node: str) -> float:
    """This node's heartbeat: 4 to 5 s by its id, so that a thousand nodes started by one power cut do not beat as one."""
    return HEARTBEAT_S - int.from_bytes(blake2b(node.encode(), digest_size=2).digest(), "big") / 2**16


def iso(unix_s: float) -> str:
    return _iso(int(unix_s))


@lru_cache(maxsize=4)  # asked for several times a second, and slower than all the rest of a record
def _iso(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class Own:
    """This node's account and its voice. Nothing here knows the network."""

    settings: Settings
    instance: str
    version: int = 0
    ceiling: int = 0
    lines: dict[str, Line] = field(default_factory=dict)
    account: Account = field(default_factory=lambda: account([]))
    read_at: float | None = None  # wall clock of the newest good reading
    beat_s: float | None = None
    births: int = BIRTHS
    said: Account | None = None
    wiring: Wiring = field(default_factory=Wiring)

    def start(self, ceiling: int, now: float) -> None:
        """Begin above every version an earlier run can have used."""
        self.version = self.ceiling = ceiling
        self.lines = {slot.name: Line(slot, absent("not read yet"), now) for slot in self.settings.meters}
        self._sum_up()

    def reborn(self, now: float) -> None:
        """Speak up a few times in short order: someone may not know us (any more)."""
        self.births = BIRTHS
        self.beat_s = now if self.beat_s is None else min(self.beat_s, now + BIRTH_S)

    def read(self, name: str, reading: Reading, unix_s: float, now: float) -> None:
        """A meter spoke, or failed to."""
        line = self.lines.get(name)
        if line is None:
            return
        line.heard_s = now
        if reading.quality == "absent" and line.good_s is not None and now - line.good_s <= LATE_S:
            line.failing = True
            return
        line.failing, line.new = False, True
        line.reading = reading
        if reading.quality == "good":
            line.good_s, self.read_at = now, unix_s
        if all(line.new for line in self.lines.values()):
            self._sum_up()

    def tick(self, now: float) -> None:
        """A meter that says nothing at all, not even that it failed, is late and then absent.

        Meters are read at one moment and reach us together; what has come alone by now is not going to be completed.
        """
        late = any(line.new for line in self.lines.values())
        for line in self.lines.values():
            limit_s = max(LATE_S, 3 * line.slot.every_s)
            silent_s = now - line.heard_s
            if silent_s > limit_s and line.reading.quality != "absent":
                why = f"no answer for more than {limit_s:.0f} s"  # the same words each time: each change is a message
                line.reading = absent(why) if silent_s > 2 * limit_s else Reading("late", why, {})
                line.failing, late = False, True
        if late:
            self._sum_up()

    def wrong_wiring(self, unix_s: float, now: float) -> str:
        """What the meters' readings say of their wiring, "" while there is nothing to say."""
        hour = (unix_s + self.settings.utc_offset_s) % 86_400 / 3600
        return "; ".join(self.wiring.look(self.readings(), hour, now))

    def stop(self, why: str) -> None:
        """No meter is read any more."""
        for line in self.lines.values():
            line.reading = absent(why)
        self._sum_up()

    def _sum_up(self) -> None:
        for line in self.lines.values():
            line.new = False
        readings = self.readings()
        # a node that only looks after the feeder takes and gives nothing itself
        self.account = account(readings) if readings or not self.lines else Account(0, 0, "good", "")

    def readings(self) -> list[tuple[str, Role, Reading]]:
        """The meters of this node's own account: the coupling to an outside grid is everybody's."""
        feeder = self.settings.feeder
        common = feeder.meter if feeder is not None and feeder.kind == "grid" else None
        return [(name, line.slot.role, line.reading) for name, line in self.lines.items() if name != common]

    def due(self, now: float, other: bool = False) -> bool:
        """Is there something to say: a change beyond the deadband (or of `other` things), or a heartbeat?

        Not while a read has just failed.
        """
        if any(line.failing for line in self.lines.values()):
            return False
        return other or self.changed() or self.beat_s is None or now >= self.beat_s

    def changed(self) -> bool:
        new, old = self.account, self.said
        if old is None or new.quality != old.quality or (new.produced_w is None and new.why != old.why):
            return True
        if new.produced_w is None or new.consumed_w is None or old.produced_w is None or old.consumed_w is None:
            return new.produced_w != old.produced_w
        produced, consumed = new.produced_w - old.produced_w, new.consumed_w - old.consumed_w
        return max(abs(produced), abs(consumed), abs(produced - consumed)) > self.settings.deadband_w

    def next_version(self) -> int:
        self.version += 1
        return self.version

    def overtake(self, version: int) -> None:
        self.version = max(self.version, version)

    def state(
        self,
        table: str,
        unix_s: float,
        now: float,
        conflict: str = "",
        hz: float | None = None,
        flex: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The next state record; counts as said."""
        self.said = self.account
        self.births = max(0, self.births - 1)
        self.beat_s = now + (BIRTH_S if self.births else period_s(self.settings.id))
        produced_w, consumed_w = self.account.produced_w, self.account.consumed_w
        known = produced_w is not None and consumed_w is not None
        quality, why = ("conflict", conflict) if conflict else (self.account.quality, self.account.why)
        keys: dict[str, Any] = {
            "net_w": produced_w - consumed_w if produced_w is not None and consumed_w is not None else None,
            "produced_w": produced_w,
            "consumed_w": consumed_w,
            "quality": quality,
            **({"why": why} if why else {}),
            "zone": self.settings.zone,
            "rated_w": self.settings.rated_w,
            **({"hz": hz} if hz is not None else {}),
            **({"flex": flex} if flex is not None else {}),
            "table": table,
            "at": iso(self.read_at if known and self.read_at is not None else unix_s),
            "instance": self.instance,
            "version": self.next_version(),
        }
        return wire.encode(keys)

    def info(self, siblings: Mapping[str, int], dials: list[str], address: str | None, left: bool, unix_s: float) -> bytes:
        """The next info record."""
        settings = self.settings
        keys: dict[str, Any] = {
            "place": settings.place,
            "role": settings.role,
            "meters": [slot.name for slot in settings.meters],
            "siblings": dict(siblings),
            "dials": dials,
            "address": address,
            "url": None,
            "agent": settings.agent,
            "proto": wire.PROTOCOL,
            **({"left": True} if left else {}),
            "at": iso(unix_s),
            "instance": self.instance,
            "version": self.next_version(),
        }
        return wire.encode(keys)
