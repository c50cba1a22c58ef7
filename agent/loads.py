"""Loads: the node's relays, what a person says of them, and what the broker is told. Nothing but a fresh command switches one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent import mend
from agent.dispatch import NONE
from agent.events import Complain, Save, SetLoad, Switch
from agent.own import iso
from agent.switches import Manual, Switches, Turn

if TYPE_CHECKING:
    from agent.node import Node

FOR_S = 2 * 3600.0  # a person's word holds so long, unless it says how long
KEPT_S = 300.0  # ages are written to the card again after so long, and at each turn
COMMANDS: dict[bytes, Manual] = {b"ON": "on", b"OFF": "off", b"AUTO": "auto"}


def restore(node: Node, now: float) -> None:
    """The relays as they are to be at the start: in their safe state, or as a minimum time of before demands."""
    node.switches = Switches.of(node.settings.loads, now)
    node.switches.load(node.relays, int(node.unix_s(now)), now)
    node.relays = {}
    node.out += [Switch(name, on) for name, on in node.switches.outputs.items()]
    _show(node)


def tick(node: Node, now: float) -> None:
    """What time and people ask for. Without a plan nothing is shed: who is not told otherwise is on."""
    _turned(node, node.switches.step(NONE, NONE, NONE, now), now)
    _show(node)


def stop(node: Node, now: float) -> None:
    """The last word: every relay into its safe state."""
    _turned(node, node.switches.safe(now), now)
    _show(node)


def _turned(node: Node, turns: list[Turn], now: float) -> None:
    for turn in turns:
        node.out += [Switch(turn.name, turn.on), Complain(f"load {turn.name} {'on' if turn.on else 'off'}: {turn.why}")]
    if turns or (node.switches.switches and now - node.relays_s >= KEPT_S):
        _keep(node, now)


def _keep(node: Node, now: float) -> None:
    node.relays_s = now
    node.out.append(Save("switches", msgspec.json.encode(node.switches.dump(int(node.unix_s(now)), now))))


def asked(node: Node, wanted: SetLoad, now: float) -> dict[str, Any]:
    """What the command line is answered."""
    if wanted.name not in node.switches.switches:
        there = ", ".join(node.switches.switches) or "none"
        return {"error": f"no load {wanted.name!r} in this node's configuration; there are: {there}"}
    if not node.switches.override(wanted.name, wanted.manual, FOR_S if wanted.for_s is None else wanted.for_s, now):
        return {"error": "a person's word holds for some seconds to a week"}
    _keep(node, now)
    tick(node, now)
    return {"load": wanted.name, **rows(node, now)[wanted.name]}


def command(node: Node, topic: str, payload: bytes, retained: bool, now: float) -> None:
    """A message to `grid/load/NAME/set`. One that the broker kept is nobody's wish now, and is taken off it."""
    name, manual = topic.split("/")[-2], COMMANDS.get(payload.strip().upper())
    if retained:
        node.show.refusals.add("a command that was retained", f"topic {topic[:80]!r}", now)
        mend.write(node, topic, b"", now)
    elif manual is None or name not in node.switches.switches:
        why = "a load that is not there" if manual is not None else "no command: ON, OFF or AUTO"
        node.show.refusals.add(why, f"topic {topic[:80]!r}", now)
    else:
        asked(node, SetLoad(name, manual), now)


def rows(node: Node, now: float) -> dict[str, dict[str, Any]]:
    """All relays, for the command line; `mode` "manual" until a moment, `waits_s` for a minimum time."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in node.switches.switches.items():
        manual = one.manual is not None and now < one.until_s
        found[name] = {
            "on": one.on,
            "mode": "manual" if manual else "auto",
            "until": iso(node.unix_s(now) + one.until_s - now) if manual else None,
            "wanted": one.manual if manual else True,
            "waits_s": max(0, round(one.load.least_s(one.on) - (now - one.since_s))),
            "class": one.load.each,
            "rated_w": one.load.rated_w,
            "turns": one.turns,
        }
    return found


def _show(node: Node) -> None:
    for name, one in node.switches.switches.items():
        node.out += node.show.put(node.show.view.load(name), b"ON" if one.on else b"OFF")
        node.out += node.show.put(node.show.view.load(name) + "/mode", b"auto" if one.manual is None else b"manual")
