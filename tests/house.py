"""A house on the desk: a node whose meters read what the test says, with a relay or a battery, and what its neighbours tell."""

import json
from typing import Any

from desk import Desk, state
from fleet import UNIX_S

from agent.dispatch import Settings
from agent.events import Effect, Metered, Quiet, SetPoint, Status, Switch, Tick
from agent.guards import config_digest
from agent.offer import Battery
from agent.own import MeterSlot
from agent.switches import Load
from drivers.reading import Reading

DIGEST = config_digest(Settings(), b"plan/1", b"50")
MAIN, CELLAR, SET = MeterSlot("main", "grid", 1.0), MeterSlot("cellar", "battery", 1.0), MeterSlot("set", "generator", 1.0)
WARM = MeterSlot("warm", "load", 1.0)
HEATER = Load("heater", 3, 2000)
BATTERY = Battery("cellar", 3000, 10_000, written=True)
AT = "2026-11-22T08:34:44Z"


def flex(*load: int, **more: Any) -> dict[str, Any]:
    return {"load": list(load) or [0, 0, 0, 0], "digest": DIGEST, **more}


class House(Desk):
    """A node whose meters read `reads`, by name."""

    def __init__(self, reads: dict[str, dict[str, float]] | None = None, **changes: Any) -> None:
        self.reads = reads if reads is not None else {"main": {"w": 2500}}
        self.versions: dict[str, int] = {}
        changes.setdefault("meters", tuple(slot for slot in (MAIN, CELLAR, SET, WARM) if slot.name in self.reads))
        super().__init__(**changes)

    def live(self, seconds: float, **others: dict[str, Any]) -> list[Effect]:
        """Tick on, read all meters each second; `others` say their state every 2 s, by way of the sibling b."""
        effects: list[Effect] = []
        for count in range(int(seconds * 4)):
            self.now += 0.25
            effects += self.do(Tick(UNIX_S + self.now - 1000.0))
            if count % 4 == 0:
                for name, values in self.reads.items():
                    effects += self.do(Metered(name, Reading("good", "", values)))
            if count % 8 == 0:
                for id_, keys in others.items():
                    self.say(id_, **keys)
            effects += self.do(Quiet())
        return effects

    def say(self, id_: str, **keys: Any) -> None:
        self.versions[id_] = self.versions.get(id_, 0) + 1
        self.hear(f"$grid/in/b/{id_}/state", state(self.versions[id_], **{"at": AT, "rated_w": 20_000, **keys}))

    @property
    def balance(self) -> dict[str, Any]:
        return self.ask(Status())["balance"]


def street(slack_w: int | None, firm_w: int, kind: str = "grid", **more: Any) -> dict[str, Any]:
    """What the node with the feeder says; of a generator its watts are in its account."""
    watts = {} if slack_w is None else {"slack_w": slack_w}
    produced_w = max(0, slack_w or 0) if kind == "generator" else 0
    return {"produced_w": produced_w, "flex": flex(firm_w=firm_w, kind=kind, **watts, **more)}


def switched(effects: list[Effect]) -> list[tuple[str, bool]]:
    return [(effect.name, effect.on) for effect in effects if isinstance(effect, Switch)]


def points(effects: list[Effect]) -> list[int]:
    return [effect.watts for effect in effects if isinstance(effect, SetPoint)]


def own_flex(house: Desk) -> dict[str, Any] | None:
    return json.loads(house.told["grid/node/me/state"]).get("flex")


def cellar(w: float, **more: float) -> dict[str, dict[str, float]]:
    return {"main": {"w": 1000 + w}, "cellar": {"w": w, "soc_pct": 50.0, **more}}
