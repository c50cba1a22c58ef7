"""What time brings a node: silence is judged, heartbeats are due, and what was left undone is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import admit, asks, balance, gone, hear, kept, mend, renewal, slots, summary
from agent.events import Complain, Dial, Publish, Renew
from agent.life import STALE_S
from agent.wire import INFO

if TYPE_CHECKING:
    from agent.node import Node

REPAIR_S = 30.0  # a sibling whose table differs this long is told everything again
SWEEP_S = 10.0
BEHIND_S = 60.0  # how far behind with reading we may be before the silence of the others counts all the same
CALM_S, RUBBISH = 20.0, 1000  # so long after a flood, and for so many topics that could not be mended, the broker is renewed
UNPROVEN_S = 600.0  # an id that nobody vouches for and that never lived is let go
DIAL_S = 10.0  # between tries of an address in [network] join


def tick(node: Node, now: float) -> None:
    node.own.tick(now)
    # judged as of the moment up to which all that came is read: under a flood the silence may be ours
    for id_ in list(node.life.expire(max(node.idle_s, now - BEHIND_S))):
        node.out.append(Complain(f"{id_} is stale: nothing new from it for {STALE_S:.0f} s"))
        node.weigh(id_, now)
    hear.answer(node, node.refute.tick(now), now)
    admit.tick(node, now)
    if node.own.due(now):
        node.speak(now)
    parting = [id_ for id_, edge in node.siblings.edges.items() if edge.parted_s is not None]
    if node.siblings.tick(now):
        for id_ in parting:
            if node.siblings.edges[id_].parted_s is None:
                gone.empty_inbox(node, id_)
        node.relate(now)
    for address, at_s in node.seeds.items():
        if now >= at_s:
            node.seeds[address] = now + DIAL_S
            node.out.append(Dial(address))
    if now - node.swept_s >= SWEEP_S:
        node.swept_s = now
        _sweep(node, now)
    mend.tick(node, now)
    slots.tick(node, now)
    balance.tick(node, now)
    summary.tick(node, now)


def _sweep(node: Node, now: float) -> None:
    """What can wait for some seconds."""
    renewal.tick(node, now)
    for id_ in [n for n in node.book.nodes if n not in ("network", node.me) and not node.book.get(n, INFO)]:
        age_s = node.life.age_s(id_, now)
        if not node.life.proven(id_) and (age_s is None or age_s > UNPROVEN_S):
            for held in list(node.book.nodes[id_].values()):
                gone.clear(node, held)
            node.life.drop(id_)
            node.weigh(id_, now)
    node.out += node.show.alert("clocks", slots.clocks(node, now), node.unix_s(now))
    node.out += [Dial(address, asks.PROBE) for address in node.siblings.probes(lambda id_: not node.transport.get(id_), now)]
    behind = [id_ for id_, since_s in node.differs.items() if node.life.fresh(id_) and now - since_s > REPAIR_S]
    if behind and now - node.repaired_s > REPAIR_S:
        node.repaired_s = now
        node.out += [Publish(held.place.topic, held.payload, sure=True) for held in node.book.slow()]
    if node.left and not node.purged and all(edge.parted_s is None for edge in node.siblings.edges.values()):
        node.purged = True
        for id_ in [n for n in node.book.nodes if n not in ("network", node.me)]:
            gone.bury(node, id_, keep_info=False, now=now)
    if node.unmended > RUBBISH and now - node.show.refusals.last_s > CALM_S and not node.settings.shared:
        node.unmended = 0
        node.out += [Complain("the broker is renewed: it held more rubbish than could be cleared"), Renew()]
    if node.unsaved or "disk" in node.show.alerts:  # what the disk refused goes with the next that it takes
        node.unsaved = False
        node.out.append(kept.records(node))
