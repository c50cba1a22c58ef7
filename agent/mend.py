"""Rubbish: counted, shown, and written over in our own broker, at a bounded rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import admit, gone, wire
from agent.events import Complain, Publish
from agent.wire import Place, WireError

if TYPE_CHECKING:
    from agent.node import Node

OWED = 10_000  # topics that wait for their repair


def broker_said(node: Node, payload: bytes, now: float) -> None:
    """Of its notices one matters: a packet so large that it never reached us."""
    if b"oversize packet" in payload:
        client = payload.partition(b"Client ")[2].partition(b" ")[0].decode(errors="replace")
        node.show.refusals.add("too large for the broker", f"client {client[:80]!r}", now)


def own_view(node: Node, topic: str, payload: bytes, retained: bool, now: float) -> None:
    """In our own view only what we told may stand: no alert of an earlier run, no meter that is no more."""
    told = node.show.told.get(topic, b"")
    if payload != told:
        # in a closed network only a broker that we dial can do that; the status our own last will writes, too
        if node.trust is not None and not retained and topic != node.show.view.status:
            node.show.refusals.add("a topic of our own view", f"topic {topic[:80]!r}", now)
        write(node, topic, told, now)
        admit.wrong(node, None, now)


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
    """What stands under grid/ is read by people and scripts: rubbish elsewhere takes nothing of its rate, and none is given up."""
    read = topic.startswith("grid/")
    if (node.repairs if read else node.mends).take(now):
        node.out.append(Publish(topic, payload, sure=True))
    else:
        node.unmended += 1
        if read and len(node.owed) < OWED:
            node.owed[topic] = None


def tick(node: Node, now: float) -> None:
    """Write what was wrong when there was no time for it."""
    for topic in list(node.owed):
        if not node.repairs.take(now):
            return
        del node.owed[topic]
        node.out.append(Publish(topic, _ours(node, topic), sure=True))


def _ours(node: Node, topic: str) -> bytes:
    """What shall stand there; nothing, where nothing of ours does."""
    try:
        place = wire.place(topic)
    except WireError:
        return node.show.told.get(topic, b"")
    held = node.book.get(place.owner, place.kind)
    return held.payload if held is not None else b""
