"""One real node at a desk: events in, effects out and time on, all by hand."""

import json
from typing import Any

from fleet import UNIX_S, settings

from agent.accounts import Settled
from agent.events import Answer, Ask, Asked, Connected, Effect, Event, Heard, Metered, Publish, Quiet, Save, Started, Tick
from agent.node import Node
from agent.trust import Trust
from drivers.reading import Reading, absent


def state(version: int, produced_w: int | None = 0, consumed_w: int | None = 0, **more: Any) -> bytes:
    net_w = None if produced_w is None or consumed_w is None else produced_w - consumed_w
    watts = {"net_w": net_w, "produced_w": produced_w, "consumed_w": consumed_w}
    return json.dumps(watts | {"quality": "good", "zone": "z", "rated_w": 10_000, "version": version} | more).encode()


def info(version: int, **more: Any) -> bytes:
    return json.dumps({"siblings": {}, "version": version} | more).encode()


class Desk:
    """A node that is started and (unless `connected` is False) has its broker; `told` is what that broker retains."""

    def __init__(
        self,
        id_: str = "me",
        kept: dict[str, bytes] | None = None,
        connected: bool = True,
        past: tuple[Settled, ...] = (),
        trust: Trust | None = None,
        **changes: Any,
    ) -> None:
        self.now = 1000.0
        self.node = Node(settings(id_, **changes), "aaaaaaaa", trust)
        self.told: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = dict(kept or {})
        self.first = self.do(Started(dict(self.kept), UNIX_S, past))
        if connected:
            self.first += self.do(Connected())

    def do(self, event: Event) -> list[Effect]:
        effects = self.node.step(event, self.now)
        for effect in effects:
            match effect:
                case Publish(topic, payload) if payload:
                    self.told[topic] = payload
                case Publish(topic, _):
                    self.told.pop(topic, None)
                case Save(name, data):
                    self.kept[name] = data
                case _:
                    pass
        return effects

    def hear(self, topic: str, payload: bytes) -> list[Effect]:
        return self.do(Heard(topic, payload))

    def wait(self, seconds: float, w: int | None = 0) -> list[Effect]:
        """Tick on, with a reading of the grid meter each second (None: it does not answer)."""
        effects: list[Effect] = []
        for count in range(1, int(seconds * 4) + 1):
            self.now += 0.25
            effects += self.do(Tick(UNIX_S + self.now - 1000.0))
            if count % 4 == 0:
                effects += self.do(Metered("main", absent("timeout") if w is None else Reading("good", "", {"w": w})))
            effects += self.do(Quiet())
        return effects

    def meet(self, id_: str, produced_w: int = 0, consumed_w: int = 0, version: int = 1, **more: Any) -> None:
        """A node is heard by way of the sibling b until it counts: an info and two states."""
        self.hear(f"$grid/in/b/{id_}/info", info(version))
        for growth in (1, 2):
            self.hear(f"$grid/in/b/{id_}/state", state(version + growth, produced_w, consumed_w, **more))
            self.now += 0.75

    def ask(self, ask: Ask) -> dict[str, Any]:
        (answer,) = [effect for effect in self.do(Asked(7, ask)) if isinstance(effect, Answer)]
        assert answer.request == 7
        return json.loads(answer.body)

    @property
    def summary(self) -> dict[str, Any]:
        self.do(Quiet())
        return json.loads(self.told["grid/summary"])

    @property
    def alerts(self) -> dict[str, str]:
        return {name: alert.text for name, alert in self.node.show.alerts.items()}


def published(effects: list[Effect], prefix: str = "") -> dict[str, bytes]:
    return {e.topic: e.payload for e in effects if isinstance(e, Publish) and e.topic.startswith(prefix)}
