"""What a node keeps over a restart: its siblings, a reserve of versions, and the records of its fellows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from agent import admit, gone, hear, wire
from agent.events import Save
from agent.own import RESERVE, Own
from agent.wire import INFO, STATE, TARIFF, Info, Tariff, WireError

if TYPE_CHECKING:
    from agent.node import Node


class Versions(msgspec.Struct, frozen=True):
    """No record above `ceiling` was ever made by this node."""

    ceiling: int


def reserve(own: Own) -> Save:
    """Set the next versions aside, before they are used."""
    own.ceiling = own.version + RESERVE
    return Save("versions", msgspec.json.encode(Versions(own.ceiling)))


def pulses(node: Node) -> Save:
    return Save("pulses", msgspec.json.encode(node.pulses))


def records(node: Node) -> Save:
    """The records of all members, as bytes; strangers that nobody vouches for are not kept."""
    rows = [
        (held.place.topic, held.payload)
        for held in node.book.all()
        if held.place.owner == "network" or node.book.get(held.place.owner, INFO) or node.life.proven(held.place.owner)
    ]
    return Save("records", msgspec.json.encode(rows))


def restore(node: Node, kept: Mapping[str, bytes], now: float) -> None:
    """Take up where the last run ended. What cannot be read is shown and done without: the siblings tell it again."""
    ceiling = 0
    bad: list[str] = []

    def read(name: str, part: Callable[[bytes], None]) -> None:
        try:
            if name in kept:
                part(kept[name])
        except (ValueError, RecursionError) as error:  # not of its form, not UTF-8, nested too deep
            bad.append(f"{name} ({error})")

    def versions(data: bytes) -> None:
        nonlocal ceiling
        ceiling = min(msgspec.json.decode(data, type=Versions).ceiling, wire.MAX_VERSION // 2)

    def seeds(data: bytes) -> None:
        node.met = msgspec.json.decode(data, type=list[str])

    def pulse_counts(data: bytes) -> None:
        node.pulses = {name: count for name, count in msgspec.json.decode(data, type=dict[str, int]).items() if count >= 0}

    read("versions", versions)
    read("pulses", pulse_counts)

    def switches(data: bytes) -> None:
        node.relays = msgspec.json.decode(data, type=dict[str, dict[str, int | bool | None]])

    read("edges", node.edges.load)
    read("switches", switches)
    read("siblings", lambda data: node.siblings.load(data, now))
    read("seeds", seeds)
    read("records", lambda data: _restore_records(node, data, now))
    if bad:
        text = f"kept state is not of our form: {'; '.join(bad)}. Going on without it; the siblings tell it again"
        node.out += node.show.alert("store", text, node.unix_s(now))
    own_info = node.book.get(node.me, INFO)
    node.left = own_info is not None and isinstance(own_info.record, Info) and own_info.record.left
    for kind in (STATE, INFO):
        own = node.book.drop(node.me, kind)
        ceiling = max(ceiling, own.record.version if own else 0)
    node.own.start(ceiling, now)
    node.out.append(reserve(node.own))
    for id_ in list(node.book.nodes):
        if id_ != "network":
            node.life.remember(id_)
            node.weigh(id_, now)
    if not node.siblings.edges:  # none, or lost: what the others said of us is kept, and nobody says it twice
        for kinds in list(node.book.nodes.values()):
            info = kinds.get(INFO)
            if info is not None and isinstance(info.record, Info):
                hear.told(node, info.place.owner, info.record, now)
    if gone.outcast(node):
        node.out += node.show.alert("forgotten", "this node was removed; 'grid join HOST:PORT' brings it back", node.unix_s(now))
    node.seeds = {address: now for address in node.settings.join if address not in node.met and not node.settings.shared}
    seed_tariff(node, first=not node.siblings.joined() and not node.settings.join and not node.settings.shared)
    node.speak(now)
    node.relate(now, moved=False)


def _restore_records(node: Node, data: bytes, now: float) -> None:
    """Take in every record that is one; a version of ours that judges more strictly may refuse some.

    In a closed network they are checked once more: the card may have been in other hands, or the network open.
    """
    book = node.book
    refused = 0
    for topic, payload in msgspec.json.decode(data, type=list[tuple[str, bytes]]):
        try:
            book.keep(book.judge(wire.place(topic), payload)[1])
        except WireError:
            refused += 1
    refused += admit.restored(node, now)
    if refused:
        raise WireError(f"{refused} refused")


def seed_tariff(node: Node, first: bool) -> None:
    """Hold the configuration's tariff until the network's is heard; only the first node's seed outranks a joiner's."""
    if node.book.get("network", TARIFF) is None and node.operator:
        keep_tariff(node, node.settings.tariff, version=1 if first else 0)


def keep_tariff(node: Node, tariff: Tariff, version: int) -> None:
    keys = {**msgspec.to_builtins(tariff.rates), "by": node.me, "version": version}
    node.book.drop("network", TARIFF)
    node.keep(wire.place(wire.network_topic(TARIFF)), wire.encode(keys))
    node.changed = True
