"""Loads: the node's relays, what a person says of them, and what the broker is told. Nothing but a fresh command switches one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent import mend, wire
from agent.dispatch import NONE, Classes
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


def turn(node: Node, now: float) -> None:
    """What the plan, the frequency, time and people ask for."""
    _turned(node, node.switches.step(*asks(node), now), now)
    _show(node)


def asks(node: Node) -> tuple[Classes, Classes, Classes]:
    """Which classes open, which stay open and which the frequency opens. Where nobody plans and no frequency is known, none:
    who is not told otherwise is on."""
    applied = node.balance.applied
    if applied is None or (not node.balance.zone.feeders and node.settings.hertz_meter is None):
        return NONE, NONE, NONE
    return applied.open, applied.hold, applied.urgent


def shed(node: Node, now: float) -> bool:
    """Whether something that would draw is off because the plan or the frequency opened it, and no person."""
    off = ((name, one) for name, one in node.switches.switches.items() if not one.on and one.manual is None)
    return any(node.whys.get(name) in ("plan", "frequency") and one.wanted_w(now) > 0 for name, one in off)


def stop(node: Node, now: float) -> None:
    """The last word: every relay into its safe state."""
    _turned(node, node.switches.safe(now), now)
    _show(node)


def _turned(node: Node, turns: list[Turn], now: float) -> None:
    for one in turns:
        why = node.whys[one.name] = _why(node, one.why)
        node.out += [Switch(one.name, one.on), Complain(f"load {one.name} {'on' if one.on else 'off'}: {why}")]
    if turns:
        node.balance.settle(now)
    if turns or (node.switches.switches and now - node.relays_s >= KEPT_S):
        _keep(node, now)


def _why(node: Node, said: str) -> str:
    """Without a plan nothing happens by it: then it is the frequency's, or time's."""
    if said != "plan" or node.balance.verdict.share is not None:
        return said
    return "frequency" if node.settings.hertz_meter is not None else "no plan"


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
    turn(node, now)
    return {"load": wanted.name, **rows(node, now)[wanted.name]}


def command(node: Node, topic: str, payload: bytes, retained: bool, now: float) -> None:
    """A message to `grid/load/NAME/set`, in a closed network to `$grid/set/TOKEN/NAME` only, for any broker linked to ours
    could write the first. One that the broker kept is nobody's wish now, and is taken off it.
    """
    whole, manual = topic, COMMANDS.get(payload.strip().upper())
    name = topic.split("/")[-2] if node.trust is None else node.trust.command(topic)
    if topic.startswith(wire.COMMAND):
        topic = f"{wire.COMMAND}.../{topic.rpartition('/')[2][:32]}"  # what is shown to everybody holds no token
    if retained:
        node.show.refusals.add("a command that was retained", f"topic {topic[:80]!r}", now)
        mend.write(node, whole, b"", now)
    elif name is None or topic.startswith(wire.COMMAND) != (node.trust is not None):
        node.show.refusals.add("a command without this node's token", f"topic {topic[:80]!r}", now)
        mend.write(node, whole, b"", now)
    elif manual is None or name not in node.switches.switches:
        why = "a load that is not there" if manual is not None else "no command: ON, OFF or AUTO"
        node.show.refusals.add(why, f"topic {topic[:80]!r}", now)
    else:
        asked(node, SetLoad(name, manual), now)


def rows(node: Node, now: float) -> dict[str, dict[str, Any]]:
    """All relays, for the command line; `mode` "manual" until a moment, `waits_s` for a minimum time."""
    found: dict[str, dict[str, Any]] = {}
    shed, held, urgent = asks(node)
    for name, one in node.switches.switches.items():
        word, each = one.word(now), one.load.each
        found[name] = {
            "on": one.on,
            "mode": "auto" if word is None else "manual",
            "until": None if word is None else iso(node.unix_s(now) + one.until_s - now),
            "wanted": not (shed[each] or urgent[each] or (held[each] and not one.on)) if word is None else word,
            "why": node.whys.get(name, "start"),
            "waits_s": max(0, round(one.load.least_s(one.on) - (now - one.since_s))),
            "class": each,
            "rated_w": one.load.rated_w,
            "turns": one.turns,
        }
    return found


def _show(node: Node) -> None:
    for name, one in node.switches.switches.items():
        node.out += node.show.put(node.show.view.load(name), b"ON" if one.on else b"OFF")
        node.out += node.show.put(node.show.view.load(name) + "/mode", b"auto" if one.manual is None else b"manual")
