"""Rubbish: counted, shown, and written over in our own broker, at a bounded rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import gone
from agent.events import Complain, Publish
from agent.wire import Place

if TYPE_CHECKING:
    from agent.node import Node


def broker_said(node: Node, payload: bytes, now: float) -> None:
    """Of its notices one matters: a packet so large that it never reached us."""
    if b"oversize packet" in payload:
        client = payload.partition(b"Client ")[2].partition(b" ")[0].decode(errors="replace")
        node.show.refusals.add("too large for the broker", f"client {client[:80]!r}", now)


def own_view(node: Node, topic: str, payload: bytes, now: float) -> None:
    """In our own view only what we told may stand: no alert of an earlier run, no meter that is no more."""
    told = node.show.told.get(topic, b"")
    if payload != told:
        write(node, topic, told, now)


def refuse(node: Node, topic: str, place: Place | None, payload: bytes, reason: str, now: float) -> None:
    source = f"topic {topic[:80]!r}"
    first = node.show.refusals.total == 0
    node.show.refusals.add(reason, source, now)
    if first:
        node.out.append(Complain(f"refused a message: {reason}; {source}"))
    if place is not None and place.sibling is None:
        emptied(node, place, now, wrong=True)
    elif payload:
        write(node, topic, b"", now)


def emptied(node: Node, place: Place, now: float, wrong: bool = False) -> None:
    """A canonical topic does not hold what we hold: write it again. On a shared broker its owner does that."""
    held = node.book.get(place.owner, place.kind)
    if place.sibling is not None or (node.settings.shared and place.owner not in (node.me, "network")):
        return
    if node.settings.shared and place.owner == node.me and gone.outcast(node):
        return  # the others clear what is ours: no war of writing and clearing
    if held is not None or wrong:
        write(node, place.topic, held.payload if held is not None else b"", now)


def write(node: Node, topic: str, payload: bytes, now: float) -> None:
    if node.mends.take(now):
        node.out.append(Publish(topic, payload, sure=True))
    else:
        node.unmended += 1
