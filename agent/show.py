"""This node's own view, as local readers see it: retained scalars, one summary, alerts; published when they change."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from agent import wire
from agent.events import Effect, Publish
from agent.own import iso

REFUSED_S = 5.0  # the refusals alert is rewritten at most this often, however fast the rubbish comes
CALM_S = 600.0  # and cleared when nothing was refused this long


@dataclass(slots=True)
class Alert:
    level: str
    text: str
    since: str


@dataclass(slots=True)
class Refusals:
    """What was dropped: how often, why, and where it last came from."""

    total: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    last: str = ""
    last_s: float = 0.0
    shown_s: float | None = None
    shown_total: int = 0

    def add(self, reason: str, source: str, now: float) -> None:
        self.total += 1
        self.reasons[reason] += 1
        self.last, self.last_s = source, now

    @property
    def text(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common(5))
        return f"{self.total} messages refused: {reasons}; the last from {self.last}. They changed nothing; find who sends them"


@dataclass(slots=True)
class Show:
    """Remembers what the broker was told last; tells it only what differs."""

    view: wire.View
    told: dict[str, bytes] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)

    def put(self, topic: str, payload: bytes) -> list[Effect]:
        if self.told.get(topic, b"") == payload:
            return []
        if payload:
            self.told[topic] = payload
        else:
            self.told.pop(topic, None)
        return [Publish(topic, payload)]

    def again(self) -> list[Effect]:
        """Everything, for a broker that may have lost it."""
        return [Publish(topic, payload) for topic, payload in self.told.items()]

    def alert(self, name: str, text: str, unix_s: float, level: str = "warning") -> list[Effect]:
        """Raise an alert, change its text, or (empty text) clear it."""
        if not text:
            return self.put(self.view.alert(name), b"") if self.alerts.pop(name, None) else []
        old = self.alerts.get(name)
        if old is not None and (old.level, old.text) == (level, text):
            return []
        new = self.alerts[name] = Alert(level, text, old.since if old else iso(unix_s))
        return self.put(self.view.alert(name), wire.encode({"level": new.level, "text": new.text, "since": new.since}))

    def refused(self, unix_s: float, now: float) -> list[Effect]:
        """Show what was refused since the last time; forget it when the rubbish has stopped for long."""
        seen = self.refusals
        if seen.total and now - seen.last_s > CALM_S:
            self.refusals = Refusals()
            return self.alert("refused", "", unix_s)
        if seen.total == seen.shown_total or (seen.shown_s is not None and now - seen.shown_s < REFUSED_S):
            return []
        seen.shown_s, seen.shown_total = now, seen.total
        return self.alert("refused", seen.text, unix_s)

    def alert_rows(self) -> list[dict[str, Any]]:
        return [{"id": n, "level": a.level, "text": a.text, "since": a.since} for n, a in sorted(self.alerts.items())]
