"""What a node makes of the messages it hears: whose record, is it newer, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import admit, gone, loads, mend, slots, wire
from agent.events import Complain, Publish
from agent.records import MAX_JUMP, Held, Verdict
from agent.refute import Do
from agent.wire import INFO, STATE, Energy, Forgotten, Info, Revoked, State, Tariff, WireError

if TYPE_CHECKING:
    from agent.node import Node

GREET = 64  # up to so many nodes a newcomer is greeted with a few early heartbeats; with more it waits for two


def hear(node: Node, topic: str, payload: bytes, retained: bool, now: float) -> None:
    if topic.startswith(node.show.view.sibling("")):
        sibling = topic.rpartition("/")[2]
        if sibling in node.siblings.edges:
            node.transport[sibling] = payload == b"1"
        return
    if node.show.view.command(topic) or topic.startswith(wire.COMMAND):
        if payload:
            loads.command(node, topic, payload, retained, now)
        return
    if topic.startswith(node.show.view.lists) or topic in node.show.view.ours:
        mend.own_view(node, topic, payload, retained, now)
        return
    if topic == wire.BROKER_LOG:
        mend.broker_said(node, payload, now)
        return
    try:
        place = wire.place(topic)
    except WireError as error:
        mend.refuse(node, topic, None, payload, str(error), now)
        return
    if admit.cut_off(node, place, now):
        return
    if place.sibling is not None:
        node.siblings.heard(place.sibling, now)
    if not payload:
        mend.emptied(node, place, now)
        return
    try:
        verdict, held = node.book.judge(place, payload)
        if verdict is Verdict.SAME:
            return
        if place.owner == node.me:
            _heard_own(node, topic, held, verdict, now)
        elif gone.barred(node, place):
            mend.write(node, topic, b"", now)
        elif node.left and place.sibling is not None and place.kind != INFO:
            return  # the links are about to go, and we count alone already
        elif verdict is Verdict.NEWER:
            if admit.admitted(node, topic, held, now):
                take(node, held, now)
        elif place.sibling is None:
            mend.emptied(node, place, now)
    except WireError as error:
        mend.refuse(node, topic, place, payload, str(error), now)
        admit.wrong(node, place.sibling, now)


def take(node: Node, held: Held, now: float) -> None:
    """Keep a newer record, give it on, and draw what follows from it."""
    place, record = held.place, held.record
    before = node.book.get(place.owner, place.kind)
    node.book.keep(held)
    # in our own tree: written there before a restart, and written over with the older one that was kept when we connected
    if place.sibling is not None or (before is not None and not node.settings.shared):
        node.out.append(Publish(place.topic, held.payload, sure=True))
    match record:
        case State():
            _lives(node, place.owner, record, before is None or record.version > before.record.version, now)
        case Info():
            admit.learnt(node, held)
            told(node, place.owner, record, now)
            for topic, payload in node.trust.release(place.owner) if node.trust is not None else ():
                hear(node, topic, payload, False, now)
        case Energy():
            slots.heard(node, before.record if before is not None else None, record)
        case Tariff():
            slots.retariff(node, before.record if before is not None else None, record)
        case Forgotten() if place.kind.startswith(wire.FORGOTTEN):
            gone.forgotten(node, place.kind.removeprefix(wire.FORGOTTEN), record, now)
        case Revoked():
            admit.revoked(node, place.kind.removeprefix(wire.REVOKED), record, now)
        case _:
            pass
    node.unsaved |= place.kind != STATE
    node.changed |= place.owner == "network"


def _lives(node: Node, id_: str, state: State, grew: bool, now: float) -> None:
    if grew and node.life.grew(id_, state.version, now):
        node.out.append(Complain(f"{id_} is heard"))
    elif not node.life.fresh(id_) and len(node.book.nodes) <= GREET:
        node.own.reborn(now)
    if id_ in node.siblings.edges:
        if state.table == node.book.table():
            node.differs.pop(id_, None)
        else:
            node.differs.setdefault(id_, now)
    node.weigh(id_, now)


def told(node: Node, id_: str, info: Info, now: float) -> None:
    """What a node says of itself and of its siblings, us perhaps among them."""
    if info.left:
        gone.bury(node, id_, keep_info=True, now=now)
    if not node.settings.shared:
        joined = node.siblings.joined()
        if node.siblings.told(id_, info.siblings, info.dials, info.address, now):
            if node.left and id_ in node.siblings.joined():
                node.siblings.part(id_, now)
            node.relate(now)
        if joined != node.siblings.joined():
            node.out.append(Complain(f"siblings are now {', '.join(node.siblings.joined()) or 'none'}"))
    node.weigh(id_, now)


def _heard_own(node: Node, topic: str, held: Held, verdict: Verdict, now: float) -> None:
    """Somebody holds a record of us that we did not make in this run: jump above it, or see that we are two."""
    place = held.place
    if verdict is not Verdict.NEWER:
        if place.sibling is None:
            mend.emptied(node, place, now)
        return
    if held.record.version - node.own.version > MAX_JUMP:  # the topics of a node share one count
        raise WireError("version jumped more than 2^32")
    if not admit.admitted(node, topic, held, now):
        return
    if place.kind not in (STATE, INFO):
        take(node, held, now)  # our own past, kept by the others while we lost it
        if isinstance(held.record, Energy):
            node.own.overtake(held.record.version)
            slots.reclaim(node, held.record, now)
        return
    answer(node, node.refute.heard(held.record.version, now), now)


def answer(node: Node, do: Do, now: float) -> None:
    if do is Do.NOTHING:
        return
    node.own.overtake(node.refute.top)
    node.own.reborn(now)
    node.relate(now, moved=False)
    node.speak(now)
