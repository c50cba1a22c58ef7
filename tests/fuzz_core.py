"""Fuzzed: records and topics, a whole node that hears them, what it kept, and what it is asked."""

import socket
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from fleet import settings
from fuzz import Target
from mutate import ANY, JSON, mutant
from seals import Realm

from agent import wire
from agent.control import Control
from agent.decode import decode
from agent.dial import Named
from agent.events import Asked, Connected, Event, Heard, Metered, Publish, Quiet, Started, Tick
from agent.node import Node
from agent.switches import Load
from agent.wire import WireError
from drivers.reading import Reading

UNIX_S = 1_795_336_484.0

WATTS = {"net_w": -1575, "produced_w": 585, "consumed_w": 2160, "quality": "good", "zone": "z", "rated_w": 9000}
FLEX = {"load": [100, 0, 200, 900], "pv_w": 585, "dis_w": 0, "chg_w": 0, "ttg_s": None, "soc_wh": 0, "cap_wh": 0, "firm_w": 0}
PRICES = {"import_u": 300_000, "export_u": 80_000, "floor_u": 0, "cap_u": 10**6, "currency": "EUR", "slot_s": 900, "rule": "mmr/1"}
UNKNOWN = {"net_w": None, "produced_w": None, "consumed_w": None, "quality": "absent"}
SIG = "A" * 86
DAY = int(UNIX_S // 86_400)
HELD = {"import_wh": [1000, 1007, None, 1019], "export_wh": [9, 9, None, 12], "flags": {"1": "clock partial"}}
RECORDS: dict[str, dict[str, Any]] = {
    "$grid/in/b/b/state": {**WATTS, "hz": 50.01, "flex": FLEX, "table": "01234567", "at": "2026-11-22T08:34:44Z", "version": 12},
    "grid/node/c/state": {**WATTS, **UNKNOWN, "why": "é", "version": 8},
    "$grid/in/b/d/state": {**WATTS, "quality": "conflict", "instance": "b", "version": 5, "sig": SIG},
    "$grid/in/b/b/info": {
        **{"place": "Oak Lane 7", "role": "prosumer", "meters": ["house"], "siblings": {"a": 3, "c": 2}, "dials": ["a"]},
        **{"address": "192.0.2.7:1883", "url": None, "agent": "0.1", "proto": 1, "cert": "AAAA", "left": False, "version": 7},
    },
    f"$grid/in/b/b/{wire.energy_kind(DAY)}": {
        **HELD, "day": DAY, "slot_s": 900, "edges": 90, "zone": "z", "rated_w": 9000, "instance": "b", "version": 3
    },
    f"grid/node/c/{wire.energy_kind(DAY - 1)}": {**HELD, "day": DAY - 1, "slot_s": 60, "edges": 0, "zone": "z", "version": 2},
    "$grid/in/b/network/tariff": {**PRICES, "from": DAY * 96, "past": [{**PRICES, "from": 0}], "by": "b", "version": 4, "sig": SIG},
    "$grid/in/b/network/forgotten/d": {"forgotten": True, "by": "b", "version": 1},
    "$grid/in/b/network/revoked/c": {"by": "b", "serial": 7, "version": 1, "sig": SIG},
    "$grid/in/b/b/forecast": {"hours": [1, 2.5, {"é": None}], "version": 9},
    "$grid/in/b/a/state": {**WATTS, "instance": "other", "version": 700},  # of the node itself
    "$grid/in/b/a/info": {"siblings": {"b": 9}, "version": 800, "left": True},
    f"$grid/in/b/a/{wire.energy_kind(DAY)}": {**HELD, "day": DAY, "slot_s": 900, "edges": 4, "zone": "z", "version": 3},
}  # fmt: skip
REALM = Realm("fuzz", "op", "b")
PLACES = [wire.place(topic) for topic in RECORDS]
TOPICS = [topic.encode() for topic in RECORDS]
SPELLED = [msgspec.json.encode(record) for record in RECORDS.values()]
VIEW = [b"grid/load/boiler/set", b"grid/sibling/b", b"grid/alert/x", b"grid/availability/b", b"grid/meter/m/w", b"grid/net"]
COMMANDS = [b"ON", b"off", b"AUTO", b"1", b"0", b"Client x sent an oversize packet"]


def _decode(data: bytes, dice: Random) -> None:
    decode(dice.choice(PLACES), data)


def _place(data: bytes, dice: Random) -> None:
    wire.place(data.decode("utf-8", "replace"))


def _started(kept: dict[str, bytes], closed: bool = False) -> Node:
    loads = (Load("boiler", 3, 2000, "resistive", True, 10.0, 10.0),)
    node = Node(settings("a", loads=loads), "i", REALM.trust("a") if closed else None)
    for event in (Started(kept, UNIX_S), Connected(), Tick(UNIX_S), Metered("main", Reading("good", "", {"w": 500}))):
        node.step(event, 100.0)
    return node


def _signed(topic: str, data: bytes, dice: Random) -> bytes:
    """Mutated, and then signed well by whose record it is: what a member that turned can make."""
    try:
        place = wire.place(topic)
    except WireError:
        return data
    seal = REALM.seal(place.owner if place.owner != "network" else "op")
    cert = b',"cert":"' + seal.cert.encode() + b'"}' if dice.random() < 0.7 else b"}"
    return seal.sign(place.topic, data[:-1] + cert)


class Heart:
    """A whole node that hears such messages, and goes on through time; a fresh one now and then."""

    LIFE = 500

    def __init__(self, closed: bool) -> None:
        self.closed, self.node, self.heard, self.now = closed, _started({}, closed), 0, 100.0

    def step(self, event: Event) -> None:
        for effect in self.node.step(event, self.now):
            assert not isinstance(effect, Publish) or len(effect.payload) < 1 << 20, "more than the broker takes"

    def one(self, data: bytes, dice: Random) -> None:
        if self.heard == self.LIFE:
            self.__init__(self.closed)  # type: ignore[misc]
        self.heard += 1
        topic = dice.choice(TOPICS) if dice.random() < 0.9 else dice.choice(VIEW)
        if dice.random() < 0.1:
            topic = mutant([topic], dice, ANY)[:200]
        payload = data if topic in TOPICS or dice.random() < 0.5 else dice.choice(COMMANDS)
        name = topic.decode("utf-8", "replace")
        if self.closed and dice.random() < 0.9:
            payload = _signed(name, payload, dice)
        self.step(Heard(name, payload, dice.random() < 0.2))
        if dice.random() < 0.1:
            self.now += dice.choice((0.25, 0.25, 5.0, 31.0))
            self.step(Tick(UNIX_S + self.now))
            self.step(Quiet())
            assert msgspec.json.decode(self.node.show.told["grid/summary"])["nodes"] >= 1


def _kept(data: bytes, dice: Random) -> None:
    """What a store gives at the start, spoiled."""
    _started(_whole() | {dice.choice(list(_whole())): data}).step(Tick(UNIX_S + 1), 101.0)


@cache
def _whole() -> dict[str, bytes]:
    """All that a node with some fellows ever saved."""
    saved: dict[str, bytes] = {}
    node = _started({})
    events: list[Event] = [Heard(topic, payload) for topic, payload in zip(RECORDS, SPELLED, strict=True)]
    for number, event in enumerate([*events, *(Tick(UNIX_S + i) for i in range(0, 1800, 60))]):
        for effect in node.step(event, 100.0 + number):
            if type(effect).__name__ == "Save":
                saved[effect.name] = effect.data  # type: ignore[union-attr]
    return saved | {"pulses": b'{"pump":12}', "seeds": b'["192.0.2.7:1883"]'}


# the control socket

REQUESTS = [
    *(b'{"do":"join","argument":"192.0.2.7:1883"}', b'{"do":"leave","argument":null}', b'{"do":"forget","argument":"b"}'),
    *(b'{"do":"status"}', b'{"do":"load","argument":"{\\"name\\":\\"boiler\\",\\"manual\\":\\"off\\",\\"for_s\\":60}"}'),
    b'{"do":"tariff","argument":"{\\"import_u\\":310000,\\"from_s\\":1795340000}"}',
]


def _control(data: bytes, dice: Random) -> None:
    """One request over a socket; what comes of it goes into a node, and each client gets its end."""
    asked: list[Event] = []
    door = Control(Path("/nowhere"), asked.append)
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(data[:8000] + b"\n")
        door._listen(theirs)
        for event in asked:
            assert isinstance(event, Asked)
            for effect in _started({}).step(event, 101.0):
                if type(effect).__name__ == "Answer":
                    door.answer(effect.request, effect.body)  # type: ignore[union-attr]
        theirs.close()


def _named(data: bytes, dice: Random) -> None:
    """What stands under grid/summary at an address that is dialled; agent/dial.py expects these."""
    msgspec.json.decode(data, type=Named)


NAMED = [b'{"node":"a","net_w":1,"members":["a"]}']
CORE = (
    Target("record", 270, _decode, SPELLED, JSON, (WireError,)),
    Target("topic", 130, _place, TOPICS, ANY, (WireError,)),
    Target("open node", 50, Heart(False).one, SPELLED, JSON),
    Target("closed node", 40, Heart(True).one, SPELLED, JSON),
    Target("kept state", 10, _kept, list(_whole().values()), JSON),
    Target("request", 20, _control, REQUESTS, JSON),
    Target("summary of an address", 30, _named, NAMED, JSON, (ValueError, RecursionError)),
)
