"""The node's relays as data: minimum on and off times that survive a restart, staged return, a person's override with expiry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Literal

from agent.dispatch import CLASSES, Classes

Kind = Literal["resistive", "charger", "compressor", "heat_pump"]
Manual = Literal["on", "off", "auto"]

MIN_ON_S: dict[Kind, int] = {
    "resistive": 10,  # spares the contacts
    "charger": 60,  # cars take some ten seconds to start (IEC 61851-1), and some give up when that comes often
    "compressor": 120,  # so that oil comes back
    "heat_pump": 600,  # SG Ready: a state is kept for 10 min
}
MIN_OFF_S: dict[Kind, int] = {
    "resistive": 10,
    "charger": 60,
    "compressor": 300,  # pressures must level out before a motor can start again
    "heat_pump": 600,
}
STAGE_S = 2.0  # between two relays of a node that close: inrush passes within a second
HALF_S = 1800.0  # an open block is taken for half as many watts after so long: what was wanted then need not be wanted now
MANUAL_S = 7 * 86400.0  # the longest override


@dataclass(frozen=True, slots=True)
class Load:
    """One relay of the configuration. The times are the kind's unless given."""

    name: str
    each: int  # class, 0 critical ... 3 flexible
    rated_w: int  # taken for the measured power where no meter is
    kind: Kind = "resistive"
    safe_on: bool = True  # at boot, on exit, and where nobody decides
    min_on_s: int | None = None
    min_off_s: int | None = None

    def least_s(self, on: bool) -> int:
        """How long it stays on, or off, before it may be switched again."""
        given = self.min_on_s if on else self.min_off_s
        return given if given is not None else (MIN_ON_S if on else MIN_OFF_S)[self.kind]


@dataclass(frozen=True, slots=True)
class Turn:
    """Let this relay switch."""

    name: str
    on: bool
    why: str


@dataclass(slots=True)
class Switch:
    """One relay: what it is, since when, and what a person said."""

    load: Load
    on: bool
    since_s: float
    manual: bool | None = None  # on or off by a person; None = auto
    until_s: float = 0.0
    drawn_w: int | None = None  # last measured while on
    turns: int = 0

    def word(self, now: float) -> bool | None:
        """On or off by a person, while that holds."""
        return self.manual if now < self.until_s else None

    def may(self, now: float) -> bool:
        """Whether its minimum time is over."""
        return now - self.since_s >= self.load.least_s(self.on)

    def wanted_w(self, now: float) -> int:
        """What it draws, or would: an open block keeps its last measured W and halves each half hour, rounded down."""
        known_w = self.load.rated_w if self.drawn_w is None else self.drawn_w
        return known_w if self.on else floor(known_w * 0.5 ** (max(0.0, now - self.since_s) / HALF_S))

    def turn(self, on: bool, why: str, now: float) -> Turn:
        self.on, self.since_s = on, now
        self.turns += 1
        return Turn(self.load.name, on, why)


@dataclass(slots=True)
class Switches:
    """All relays of the node. Made in their safe state, as if switched at `now`: what was before is not known, so every minimum
    time runs anew unless `load` knows better."""

    switches: dict[str, Switch] = field(default_factory=dict)
    closed_s: float | None = None  # when the last one closed

    @classmethod
    def of(cls, loads: Sequence[Load], now: float) -> "Switches":
        return cls({each.name: Switch(each, each.safe_on, now) for each in loads})

    @property
    def outputs(self) -> dict[str, bool]:
        """What every relay must be now, for the start."""
        return {name: switch.on for name, switch in self.switches.items()}

    def step(self, open_: Classes, hold: Classes, urgent: Classes, now: float) -> list[Turn]:
        """What to switch: the classes that open, that stay open if they are, and that the frequency opens.

        Opening is at once, the flexible first, closing one relay after the other, the critical first. A minimum time is kept by
        everybody but the frequency, which opens before a minimum on time is over, and a person's "on" as well: otherwise all go
        dark. Whoever was opened stays so for the minimum off time, whoever asks.
        """
        turns = []
        by_class = sorted(self.switches.values(), key=lambda switch: (-switch.load.each, switch.load.name))
        for switch in by_class:
            switch.manual = switch.word(now)
            each = switch.load.each
            if switch.on and urgent[each]:
                turns.append(switch.turn(False, "frequency", now))
            elif switch.on and switch.may(now) and (open_[each] if switch.manual is None else not switch.manual):
                turns.append(switch.turn(False, "plan" if switch.manual is None else "manual", now))
        if self.closed_s is not None and now - self.closed_s < STAGE_S:
            return turns
        for switch in sorted(by_class, key=lambda switch: (switch.load.each, switch.since_s, switch.load.name)):
            each = switch.load.each
            wanted = not (open_[each] or hold[each]) if switch.manual is None else switch.manual
            if not switch.on and wanted and not urgent[each] and switch.may(now):
                self.closed_s = now
                turns.append(switch.turn(True, "plan" if switch.manual is None else "manual", now))
                break
        return turns

    def override(self, name: str, manual: Manual, for_s: float, now: float) -> bool:
        """A person's word for this relay, for so long (up to a week; "auto" at once). False: no such relay, or no such time."""
        switch = self.switches.get(name)
        if switch is None or (manual != "auto" and not 0 < for_s <= MANUAL_S):
            return False
        switch.manual, switch.until_s = (None, now) if manual == "auto" else (manual == "on", now + for_s)
        return True

    def measure(self, name: str, watts: int) -> None:
        """What the relay's own meter reads; counts while it is on."""
        switch = self.switches[name]
        if switch.on:
            switch.drawn_w = max(0, watts)

    def opened(self) -> Classes:
        """In which classes something is open that no person opened, as agent/local.py needs it."""
        off = {one.load.each for one in self.switches.values() if not one.on and one.manual is None}
        flags = [each in off for each in range(CLASSES)]
        return flags[0], flags[1], flags[2], flags[3]

    def wanted(self, consumed_w: int, now: float) -> tuple[int, int, int, int]:
        """W by class for the record's `load`: what the node would draw if everything ran, given what it measures now.

        What no relay switches is class 0. Off by a person's word wants nothing, on by it cannot be shed and is class 0 too.
        """
        sums = [0] * CLASSES
        sums[0] = max(0, consumed_w - sum(one.wanted_w(now) for one in self.switches.values() if one.on))
        for switch in self.switches.values():
            if (word := switch.word(now)) is None:
                sums[switch.load.each] += switch.wanted_w(now)
            elif word:
                sums[0] += switch.wanted_w(now)
        return sums[0], sums[1], sums[2], sums[3]

    def safe(self, now: float) -> list[Turn]:
        """On exit: everything to its safe state, whatever the times say; nobody watches afterwards."""
        unsafe = [switch for switch in self.switches.values() if switch.on != switch.load.safe_on]
        return [switch.turn(switch.load.safe_on, "exit", now) for switch in unsafe]

    def dump(self, unix_s: int, now: float) -> dict[str, dict[str, int | bool | None]]:
        """For the store: ages as wall clock seconds, since a monotonic clock does not survive a restart."""
        return {
            name: {
                "on": one.on,
                "since": unix_s - int(now - one.since_s),
                "manual": one.word(now),
                "until": unix_s + round(one.until_s - now),
                "drawn_w": one.drawn_w,
            }
            for name, one in self.switches.items()
        }

    def load(self, kept: Mapping[str, Mapping[str, int | bool | None]], unix_s: int, now: float) -> None:
        """Take up what `dump` left. Unknown names are left alone; a clock that went back counts as no time gone.

        A relay whose minimum time is not over stays what it was, otherwise it takes its safe state anew (`step` decides next).
        """
        for name, one in kept.items():
            switch = self.switches.get(name)
            since, until = one.get("since"), one.get("until")
            if switch is None or since is None or until is None:
                continue
            drawn_w, manual = one.get("drawn_w"), one.get("manual")
            switch.drawn_w = drawn_w
            gone_s = float(max(0, unix_s - since))
            if bool(one.get("on")) == switch.load.safe_on or gone_s < switch.load.least_s(bool(one.get("on"))):
                switch.on, switch.since_s = bool(one.get("on")), now - gone_s
            if manual is not None and 0 < until - unix_s <= MANUAL_S:
                switch.manual, switch.until_s = bool(manual), now + until - unix_s
