"""What a local person can ask of a node: join, leave, forget, tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from agent import admit, gone, kept, loads, renewal, summary, tariffs, wire
from agent.address import MQTT_PORT, TLS_PORT, to_address
from agent.events import (
    Answer,
    Asked,
    Complain,
    Dial,
    Dialled,
    Forget,
    Join,
    Leave,
    Members,
    Renew,
    Revoke,
    Save,
    SetLoad,
    SetTariff,
    Status,
    Tell,
)
from agent.own import iso
from agent.trust import spelled
from agent.wire import FORGOTTEN, TARIFF, Forgotten, Tariff, WireError

if TYPE_CHECKING:
    from agent.node import Node

NO_OPERATOR = "in a closed network only an operator's node may do that; this one is none. Ask who admitted it"
PROBE = -1  # the request number of a dial that nobody asked for


def _answer(node: Node, request: int | None, **body: Any) -> None:
    if request is not None:
        node.out.append(Answer(request, wire.encode(body)))


def asked(node: Node, event: Asked, now: float) -> None:
    match event.ask:
        case Join(address):
            _join(node, address, event.request, now)
        case Leave(id_):
            _leave(node, id_, event.request, now)
        case Forget(id_):
            _forget(node, id_, event.request, now)
        case Status():
            _answer(node, event.request, **summary.status(node, now))
        case SetTariff():
            _set_tariff(node, event.ask, event.request, now)
        case SetLoad():
            _answer(node, event.request, **loads.asked(node, event.ask, now))
        case Members() | Revoke() | Tell():
            _of_the_closed(node, event.ask, event.request, now)
        case _:
            assert_never(event.ask)


def _of_the_closed(node: Node, ask: Members | Revoke | Tell, request: int, now: float) -> None:
    """What only an operator's node of a closed network does, but for telling who is in it."""
    if node.trust is None:
        _answer(node, request, error="this node is in an open network. To make a closed one: grid network init NAME")
    elif isinstance(ask, Members):
        _answer(node, request, **renewal.members(node, now))
    elif not node.operator:
        _answer(node, request, error=NO_OPERATOR)
    else:
        try:
            told = _revoke(node, ask, now) if isinstance(ask, Revoke) else {"told": renewal.certified(node, ask.cert, now)}
        except WireError as error:
            told = {"error": str(error)}
        _answer(node, request, **told)


def _revoke(node: Node, ask: Revoke, now: float) -> dict[str, Any]:
    """Raises WireError when no key of that node is known, or its versions are used up."""
    assert node.trust is not None
    if not wire.is_id(ask.node):
        raise WireError(f"{ask.node[:40]!r} is no node's id")
    if ask.node == node.me:
        raise WireError("that is this node itself: revoke it at another operator's node")
    shown = node.trust.known.get(ask.node)
    keys = {*ask.keys, *([spelled(shown.key)] if shown is not None and not ask.admitted else [])}
    if not keys and not renewal.revoked(node, ask.node):
        raise WireError(f"no key of {ask.node!r} is known here; the authority's node knows all that it admitted")
    admit.revoke(node, ask.node, sorted(keys), ask.admitted, now)
    return {"revoked": ask.node, "keys": renewal.revoked(node, ask.node), "admitted": ask.admitted}


def _join(node: Node, address: str, request: int, now: float) -> None:
    if node.settings.shared:
        try:
            back = _come_back(node, now)
        except WireError as error:  # somebody used up its versions
            _answer(node, request, error=str(error))
            return
        if back:
            node.relate(now)
            node.out.append(kept.records(node))
            _answer(node, request, joined=node.me, known=True)
            return
        _answer(node, request, error="this node shares its broker ([mqtt] shared = true): all nodes there are joined already")
        return
    where = to_address(address, MQTT_PORT if node.trust is None else TLS_PORT)
    if where is None:
        _answer(node, request, error=f"not an address: {address!r}. Write HOST:PORT, as 192.0.2.7:1883")
        return
    node.out.append(Dial(str(where), request))


def _probed(node: Node, id_: str | None) -> None:
    """A link is down. If that sibling's broker answers all the same, ours has lost it: Mosquitto 2.1 may, after quick changes."""
    if id_ in node.siblings.joined() and not node.transport.get(id_ or ""):
        node.out += [Complain(f"the link to {id_} stays down though its broker answers: ours is started afresh"), Renew()]


def dialled(node: Node, event: Dialled, now: float) -> None:
    """Somebody answered at the address of a join, or nobody did."""
    if event.request == PROBE:
        _probed(node, event.node)
        return
    if event.node is None:
        text = f"cannot join {event.address}: {event.why}"
        if event.request is None:
            node.out += node.show.alert("join", f"{text}; trying again", node.unix_s(now))
        _answer(node, event.request, error=text)
        return
    if event.request is None:
        node.seeds.pop(event.address, None)
        node.met.append(event.address)
        node.out.append(Save("seeds", wire.encode_list(node.met)))
        if not node.seeds:
            node.out += node.show.alert("join", "", node.unix_s(now))
    if event.node == node.me:
        text = f"{event.address} is this node itself, or a copy with the same [node] id"
        if event.request is None:
            node.out.append(Complain(text))
        _answer(node, event.request, error=text)
        return
    if event.local:
        node.local = event.local
    _yield_tariff(node)
    known = event.node in node.siblings.joined()
    try:
        back = _come_back(node, now)
        changed = node.siblings.join(event.node, event.address, now)
    except WireError as error:
        _answer(node, event.request, error=str(error))
        return
    if changed or back:
        node.relate(now)
        node.out.append(Complain(f"joined {event.node} at {event.address}"))
    if back:
        node.out.append(kept.records(node))  # at once: a restart must not find us gone, and linked
    # the link is made all the same: by it that node hears that it was removed
    _answer(node, event.request, joined=event.node, known=known, **({"removed": True} if gone.removed(node, event.node) else {}))


def _come_back(node: Node, now: float) -> bool:
    """Joining undoes that we left, or were removed: True when there was something to undo."""
    back, node.left, node.purged = node.left, False, False
    if gone.outcast(node):
        _forgotten_record(node, node.me, False, now)
        node.out += node.show.alert("forgotten", "", node.unix_s(now))
        back = True
    return back


def _yield_tariff(node: Node) -> None:
    """A lone node that joins others gives its own seed up for theirs."""
    held = node.book.get("network", TARIFF)
    record = held.record if held is not None else None
    if not node.siblings.joined() and isinstance(record, Tariff) and record.by == node.me and record.version == 1:
        kept.keep_tariff(node, record, version=0)


def _leave(node: Node, id_: str | None, request: int, now: float) -> None:
    if node.settings.shared:
        text = "this node shares its broker ([mqtt] shared = true): stop its agent, then write 'grid forget' at another node"
        _answer(node, request, error=text)
        return
    if id_ is not None and id_ not in node.siblings.joined():
        names = ", ".join(node.siblings.joined()) or "none"
        _answer(node, request, error=f"{id_!r} is no sibling of this node; its siblings: {names}")
        return
    parted = [id_] if id_ is not None else node.siblings.joined()
    for sibling in parted:
        node.siblings.part(sibling, now)
    node.left = node.left or id_ is None
    if node.left:
        node.seeds.clear()
    node.relate(now)
    if node.left:
        node.out.append(kept.records(node))
    node.out.append(Complain(f"left {', '.join(parted) or 'the network'}"))
    _answer(node, request, left=parted, network=id_ is None)


def _forget(node: Node, id_: str, request: int, now: float) -> None:
    if id_ == node.me:
        _answer(node, request, error="that is this node itself; to take it out of the network use 'grid leave'")
    elif not node.operator:
        _answer(node, request, error=f"{NO_OPERATOR} (to part from {id_} alone: grid leave {id_})")
    elif id_ not in summary.members(node):
        _answer(node, request, error=f"no node {id_!r} is known; known: {', '.join(summary.members(node))}")
    else:
        try:
            _forgotten_record(node, id_, True, now)
        except WireError as error:  # somebody used up its versions
            _answer(node, request, error=f"{id_!r} cannot be removed: {error}")
        else:
            _answer(node, request, forgotten=id_)


def _set_tariff(node: Node, wanted: SetTariff, request: int, now: float) -> None:
    tariff = node.tariff
    assert tariff is not None  # the configuration's, if no other, since the start
    if not node.operator:
        _answer(node, request, error=f"the tariff stays: {NO_OPERATOR}")
        return
    try:
        keys = tariffs.change(tariff, wanted, node.me, node.unix_s(now))
        node.keep(wire.place(wire.network_topic(TARIFF)), wire.encode(keys))
    except ValueError as error:  # a WireError, too: somebody used up its versions
        _answer(node, request, error=f"the tariff stays: {error}")
        return
    node.unsaved = node.changed = True
    _answer(node, request, **keys)


def _forgotten_record(node: Node, id_: str, forgotten: bool, now: float) -> None:
    held = node.book.get("network", FORGOTTEN + id_)
    keys = {
        "forgotten": forgotten,
        "by": node.me,
        "at": iso(node.unix_s(now)),
        "version": held.record.version + 1 if held is not None else 1,
    }
    place = wire.place(wire.network_topic(FORGOTTEN + id_))
    node.keep(place, wire.encode(keys))
    node.unsaved = True
    gone.forgotten(node, id_, Forgotten(version=0, forgotten=forgotten, by=node.me), now)
