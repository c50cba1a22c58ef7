"""What a closed network adds to hearing: records are checked before they count, floods are cut off, keys are revoked."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from agent import gone, wire
from agent.events import Bar, Complain
from agent.own import iso
from agent.records import Held
from agent.trust import spelled
from agent.wire import ENERGY, INFO, REVOKED, Place, Revoked, WireError

if TYPE_CHECKING:
    from agent.node import Node


def admitted(node: Node, topic: str, held: Held, now: float) -> bool:
    """May this newer record change anything? Not yet, when its maker's info must come first. Raises WireError when not at all."""
    if node.trust is None:
        return True
    place = held.place
    if node.trust.admits(held, node.unix_s(now) if node.clock_good else None, now):
        return True
    if place.sibling is None and not node.settings.shared:
        raise WireError("of a node not known")  # in our own tree stands what we wrote there, and nothing else
    if not node.trust.wait(place.sibling, topic, place.owner, held.payload):
        wrong(node, place.sibling, now)
    return False


def cut_off(node: Node, place: Place, now: float) -> bool:
    """Did this come by a sibling that is cut? What was under way when it was is not even looked at."""
    if node.trust is None or place.sibling is None:
        return False
    if not node.cuts.is_cut(place.sibling):
        cut = node.cuts.any(place.sibling, node.siblings.dials(), now)
        if cut is not None:
            _cut(node, cut, now)
        return cut is not None
    node.show.refusals.add("from a sibling that is cut off", f"sibling {place.sibling}", now)
    instead = node.cuts.after(place.sibling, node.siblings.dials(), node.idle_s, now)
    if instead is not None:
        node.out += node.show.alert(f"flood-{place.sibling}", "", node.unix_s(now))
        _release(node, place.sibling, now)
        _cut(node, instead, now)
    return True


def wrong(node: Node, sibling: str | None, now: float) -> None:
    """Something wrong came: counted for who brought it, and enough is enough."""
    if node.trust is not None:
        cut = node.cuts.wrong(sibling, node.siblings.dials(), now)
        if cut is not None:
            _cut(node, cut, now)


def _cut(node: Node, id_: str, now: float) -> None:
    pause_s = node.cuts.siblings[id_].pause_s
    others = [other for other in node.siblings.dials() if other != id_]
    text = (
        f"{id_} sent more messages, or wrong ones, than could be by mistake: its link is cut for {pause_s:.0f} s, then tried "
        "again, each time for twice as long. "
    )
    if others:  # access lists do not bind a broker that we dial: it may have written into this one's inbox
        text += (
            f"It may be broken into, or {' or '.join(others)}, whom this node dials and who could lay it to another: look at them"
        )
    else:
        text += f"It may be broken into: look at it; 'grid revoke {id_}' at an operator's node shuts it out"
    node.out += node.show.alert(f"flood-{id_}", text, node.unix_s(now), level="critical")
    node.out.append(Complain(text))
    bar(node)
    node.link()


def _release(node: Node, id_: str, now: float) -> None:
    node.out.append(Complain(f"the link to {id_} is tried again"))
    node.siblings.heard(id_, now)


def tick(node: Node, now: float) -> None:
    """Pauses end; an alert stays until the one it names has behaved for long."""
    back, good = node.cuts.tick(now)
    for id_ in back:
        _release(node, id_, now)
    for id_ in good:
        node.out += node.show.alert(f"flood-{id_}", "", node.unix_s(now))
    if back:
        node.link()
    if back or node.cuts.untold:
        bar(node)


def bar(node: Node) -> None:
    """Tell the broker who may neither read nor write: the revoked, and who is cut off."""
    if node.trust is not None:
        node.cuts.untold = False
        node.out.append(Bar(tuple(sorted({*node.cuts.cut(), *barred(node)}))))


def barred(node: Node) -> list[str]:
    """The ids that no node may come in by now; one that was admitted again may."""
    found = []
    for kind, held in node.book.nodes.get("network", {}).items():
        id_ = kind.removeprefix(REVOKED)
        if isinstance(held.record, Revoked) and kind.startswith(REVOKED) and not held.record.admitted and id_ != node.me:
            found.append(id_)
    return found


def learnt(node: Node, held: Held) -> None:
    """An info was taken: what its maker signed with another key goes."""
    if node.trust is not None and node.trust.learn(held):
        for other in list(node.book.nodes[held.place.owner].values()):
            if other.place.kind != INFO:
                gone.clear(node, other)


def revoked(node: Node, id_: str, record: Revoked, now: float) -> None:
    """A revocation was taken, or is made here: nothing stays of what those keys signed."""
    if node.trust is None:
        return
    if id_ == node.me:
        mine = spelled(node.trust.me.key) in record.keys
        by = record.by or "an operator"
        text = f"{by} revoked this node's key: nobody believes it any more. It needs a new bundle: 'grid admit'"
        node.out += node.show.alert("revoked", text if mine else "", node.unix_s(now), level="critical")
        node.trust.revoked[id_] = frozenset(record.keys)
        return
    if node.trust.revoke(id_, record):
        gone.bury(node, id_, keep_info=False, now=now)
        if node.siblings.part(id_, now):
            node.relate(now)
    node.cuts.untold = True


def revoke(node: Node, id_: str, keys: list[str], admitted: bool, now: float) -> None:
    """Make the record: these keys more of this node are believed no longer; `admitted`: it may come back with another.

    What the node signed for the network, as an operator, is signed again by us. Raises WireError.
    """
    held = node.book.get("network", REVOKED + id_)
    before = held.record if held is not None and isinstance(held.record, Revoked) else None
    every = sorted({*(before.keys if before is not None else ()), *keys})
    body = {
        "keys": every,
        "admitted": admitted,
        "by": node.me,
        "at": iso(node.unix_s(now)),
        "version": before.version + 1 if before is not None else 1,
    }
    for other in list(node.book.nodes.get("network", {}).values()):
        if other.record.by == id_ and other.place.kind != REVOKED + id_:
            again(node, other)
    node.keep(wire.place(wire.network_topic(REVOKED + id_)), wire.encode(body))
    node.unsaved = node.changed = True
    revoked(node, id_, Revoked(version=0, keys=every, admitted=admitted, by=node.me), now)


def again(node: Node, held: Held) -> None:
    """A network record once more, in our name. Raises WireError."""
    keys = wire.keys_of(held.payload)
    node.keep(held.place, wire.encode({**keys, "by": node.me, "version": held.record.version + 1}))


def restored(node: Node, now: float) -> int:
    """Check what the disk held: what is not signed as it must be goes. Returns how many forgeries went.

    What nobody signed was kept while the network was open; it goes without a word. Our own registers stay, signed with the key
    that we have now; what else we say of ourselves is made anew at each start.
    """
    if node.trust is None:
        return 0
    held = list(node.book.all())
    infos = [one for one in held if one.place.kind == INFO]
    network = sorted((one for one in held if one.place.owner == "network"), key=lambda one: not isinstance(one.record, Revoked))
    rest = [one for one in held if one.place.kind != INFO and one.place.owner != "network"]
    went = 0
    for one in (*network, *infos, *rest):
        place = one.place
        node.book.drop(place.owner, place.kind)
        if _fits(node, one, now):
            node.book.keep(one)
            if place.kind == INFO and place.owner != node.me:
                node.trust.learn(one)
            elif isinstance(one.record, Revoked):
                node.trust.revoked[place.kind.removeprefix(REVOKED)] = frozenset(one.record.keys)
        elif place.owner != node.me:
            went += one.record.sig is not None
        elif place.kind in ENERGY:
            with suppress(WireError):  # larger than any that we made
                node.keep(place, wire.encode(wire.keys_of(one.payload)))
    return went


def _fits(node: Node, held: Held, now: float) -> bool:
    assert node.trust is not None
    try:
        return node.trust.admits(held, None, now)
    except WireError:
        return False
