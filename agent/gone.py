"""Nodes that left or were removed: they count nowhere, and nothing of them stays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import wire
from agent.events import Publish
from agent.records import Held
from agent.wire import INFO, Forgotten, Info, Place

if TYPE_CHECKING:
    from agent.node import Node


def forgotten(node: Node, id_: str, record: Forgotten, now: float) -> None:
    if id_ == node.me:
        text = f"{record.by or 'somebody'} removed this node from the network; 'grid join HOST:PORT' brings it back"
        node.out += node.show.alert("forgotten", text if record.forgotten else "", node.unix_s(now))
    elif record.forgotten:
        bury(node, id_, keep_info=False, now=now)
        if node.siblings.part(id_, now):
            node.relate(now)


def removed(node: Node, id_: str) -> bool:
    """Did an operator take this node out, another than ourselves?"""
    return id_ != node.me and _taken_out(node, id_)


def outcast(node: Node) -> bool:
    """Did an operator take us out?"""
    return _taken_out(node, node.me)


def _taken_out(node: Node, id_: str) -> bool:
    held = node.book.get("network", wire.FORGOTTEN + id_)
    return held is not None and isinstance(held.record, Forgotten) and held.record.forgotten


def is_gone(node: Node, id_: str) -> bool:
    """Has this node left, or was it removed?"""
    info = node.book.get(id_, INFO)
    left = info is not None and isinstance(info.record, Info) and info.record.left and id_ != node.me
    return left or removed(node, id_)


def barred(node: Node, place: Place) -> bool:
    """Of one that left only a newer info is of interest, of one that was removed nothing."""
    return is_gone(node, place.owner) and (place.kind != INFO or removed(node, place.owner))


def bury(node: Node, id_: str, keep_info: bool, now: float) -> None:
    """Nothing of this node stays: not in the net, not in a canonical topic, not in an inbox."""
    for held in list(node.book.nodes.get(id_, {}).values()):
        if held.place.kind != INFO or not keep_info:
            clear(node, held)
    node.life.drop(id_)
    if node.trust is not None and not keep_info:
        node.trust.forget(id_)
    node.differs.pop(id_, None)
    node.weigh(id_, now)
    node.out += node.show.put(node.show.view.availability(id_), b"")
    node.out += node.show.alert(f"conflict-{id_}", "", node.unix_s(now))


def empty_inbox(node: Node, sibling: str) -> None:
    """The link is gone: what it brought us stays in no topic. Where we dialled, the broker's fresh start does it as well."""
    node.out += [Publish(wire.inbox_topic(sibling, held.place.topic), b"", sure=True) for held in node.book.all()]


def clear(node: Node, held: Held) -> None:
    node.book.drop(held.place.owner, held.place.kind)
    topics = [held.place.topic, *(wire.inbox_topic(id_, held.place.topic) for id_ in node.siblings.edges)]
    node.out += [Publish(topic, b"", sure=True) for topic in topics]
