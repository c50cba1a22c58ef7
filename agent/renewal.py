"""Certificates are renewed in time: the authority's node makes the next one, the network carries it, its owner takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent import gone, wire
from agent.certs import RENEW_S, Certified, due, expired
from agent.events import Certify, Complain, Install
from agent.own import iso
from agent.trust import spelled
from agent.wire import DAY_S, INFO, RENEWED, Info, Renewed, Revoked, WireError

if TYPE_CHECKING:
    from agent.node import Node

LOOK_S = 3600.0  # two thirds of two years are long
FIRST_S = 120.0  # until the others are heard
TOGETHER = 50  # certificates made in one go: a tenth of a second
YOUNG_S = 30 * DAY_S  # `grid admit --renew` leaves alone what is newer


@dataclass(slots=True)
class Renewal:
    """When was looked last, and the certificate that was last given out to be installed."""

    looked_s: float | None = None
    taken: str = ""


def newest(node: Node, id_: str) -> tuple[str, Certified] | None:
    """This node's certificate that ends last: as its info tells it, or as the authority's node made it for the same key.

    None for a node without one that holds; a revoked key has none.
    """
    assert node.trust is not None
    info, renewed = node.book.get(id_, INFO), node.book.get("network", RENEWED + id_)
    if info is None or not isinstance(info.record, Info) or info.record.cert is None:
        return None
    cert = info.record.cert
    said = node.trust.seal.certified(cert)
    if said is None or said.id != id_ or spelled(said.key) in revoked(node, id_):
        return None
    if renewed is not None and isinstance(renewed.record, Renewed):
        later = node.trust.seal.certified(renewed.record.new)
        if later is not None and (later.id, later.key) == (id_, said.key) and later.to_unix > said.to_unix:
            return renewed.record.new, later
    return cert, said


def revoked(node: Node, id_: str) -> list[str]:
    held = node.book.get("network", wire.REVOKED + id_)
    return held.record.keys if held is not None and isinstance(held.record, Revoked) else []


def tick(node: Node, now: float) -> None:
    """Each sweep: what was made for us is taken; once an hour, by a good clock, look whose time has come."""
    if node.trust is None:
        return
    mine = newest(node, node.me)
    if mine is not None and mine[0] != node.renewal.taken and mine[1].to_unix > node.trust.me.to_unix:
        node.renewal.taken = mine[0]
        node.out += [Complain("this node's certificate was renewed"), Install(mine[0])]
    if node.renewal.looked_s is None:
        node.renewal.looked_s = now - LOOK_S + FIRST_S
    if now - node.renewal.looked_s < LOOK_S:
        return
    if not node.clock_good:
        return
    node.renewal.looked_s = now
    unix_s = node.unix_s(now)
    node.out += node.show.alert("certificate", _trouble(node.trust.me.to_unix, unix_s), unix_s)
    if node.operator:
        certs = [cert for cert, said in _alive(node) if due(said.to_unix, unix_s)]
        node.out.append(Certify(tuple(certs[:TOGETHER])))


def _alive(node: Node) -> list[tuple[str, Certified]]:
    """Of those who are heard now: the key of a node that is never heard again, stolen perhaps, ends with its certificate."""
    ids = [id_ for id_ in sorted(node.book.nodes) if id_ == node.me or node.life.fresh(id_)]
    return [found for id_ in ids if (found := newest(node, id_)) is not None]


def _trouble(to_unix: int, unix_s: float) -> str:
    """What people must be told: half of the time for renewing has gone by without a new certificate."""
    if expired(to_unix, unix_s):
        return f"this node's certificate ended on {iso(to_unix)[:10]}: it has no links until it gets a new bundle, 'grid admit'"
    if to_unix - unix_s < RENEW_S / 2:
        return f"this node's certificate ends on {iso(to_unix)[:10]}: 'grid admit --renew' on the authority's node renews all"
    return ""


def issued(node: Node, certs: tuple[str, ...], now: float) -> None:
    """The authority of this node made them."""
    for cert in certs:
        try:
            node.out.append(Complain(f"the certificate of {certified(node, cert, now)} was renewed"))
        except WireError as error:  # somebody used up its versions
            node.out.append(Complain(f"a renewed certificate cannot be told: {error}"))


def certified(node: Node, cert: str, now: float) -> str:
    """A certificate that the authority made just now goes out, to its owner and everybody. Returns its owner's id.

    Raises WireError: it is not of this network, or this node may not tell it.
    """
    if node.trust is None or not node.operator:
        raise WireError("only an operator's node of a closed network gives out certificates")
    said = node.trust.seal.certified(cert)
    if said is None:
        raise WireError("not a certificate of this network")
    held = node.book.get("network", RENEWED + said.id)
    version = held.record.version + 1 if held is not None else 1
    keys = {"new": cert, "by": node.me, "at": iso(node.unix_s(now)), "version": version}
    node.keep(wire.place(wire.network_topic(RENEWED + said.id)), wire.encode(keys))
    node.unsaved = True
    return said.id


def members(node: Node, now: float) -> dict[str, Any]:
    """Who is in this closed network, for the command line: certificates as base64 of DER, ends in unix seconds."""
    assert node.trust is not None
    unix_s = node.unix_s(now)
    rows: dict[str, Any] = {}
    for id_ in sorted(id_ for id_ in node.book.nodes if id_ != "network"):
        found = newest(node, id_)
        if found is not None and not gone.is_gone(node, id_):
            cert, said = found
            young = said.to_unix - unix_s > RENEW_S * 3 - YOUNG_S
            alive = id_ == node.me or node.life.fresh(id_)
            rows[id_] = {"cert": cert, "to": said.to_unix, "operator": said.operator, "renew": alive and not young}
    shut = {kind.removeprefix(wire.REVOKED) for kind in node.book.nodes.get("network", {}) if kind.startswith(wire.REVOKED)}
    return {
        "me": node.me,
        "network": node.trust.seal.network,
        "operator": node.operator,
        "address": node.settings.address or node.local,
        "members": rows,
        "revoked": {id_: revoked(node, id_) for id_ in sorted(shut)},
    }
