"""The wire: which topics are records', and what a node shows where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.wire import Place, WireError, place


@pytest.mark.parametrize(
    ("topic", "canonical", "owner", "kind", "sibling"),
    [
        ("grid/node/a/state", "grid/node/a/state", "a", "state", None),
        ("grid/node/solar-2/energy/even", "grid/node/solar-2/energy/even", "solar-2", "energy/even", None),
        ("$grid/in/b/a/state", "grid/node/a/state", "a", "state", "b"),
        ("$grid/in/b/a/energy/odd", "grid/node/a/energy/odd", "a", "energy/odd", "b"),
        ("$grid/in/b/network/tariff", "grid/network/tariff", "network", "tariff", "b"),
        ("grid/network/forgotten/c", "grid/network/forgotten/c", "network", "forgotten/c", None),
        ("$grid/in/b/network/revoked/c", "grid/network/revoked/c", "network", "revoked/c", "b"),
        (f"grid/node/{'x' * 32}/{'k' * 32}/{'k' * 32}",) * 2 + ("x" * 32, f"{'k' * 32}/{'k' * 32}", None),
    ],
)
def test_places(topic, canonical, owner, kind, sibling):
    assert place(topic) == Place(canonical, owner, kind, sibling)
    if sibling is not None:
        assert wire.inbox_topic(sibling, canonical) == topic
    if owner == "network":
        assert wire.network_topic(kind) == canonical
    else:
        assert wire.node_topic(owner, kind) == canonical


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("grid/net", "not a record's topic"),
        ("", "not a record's topic"),
        ("grid/nodes/a/state", "not a record's topic"),
        ("grid/node/a", "no kind of record"),
        ("grid/node/a/", "no kind of record"),
        ("grid/node/a/State", "no kind of record"),
        ("grid/node/a/state\n", "no kind of record"),
        ("grid/node/a/x/y/z", "no kind of record"),
        (f"grid/node/a/{'k' * 33}", "no kind of record"),
        ("grid/network/", "no kind of record"),
        ("grid/node/A/state", "not a node id"),
        ("grid/node//state", "not a node id"),
        ("grid/node/-a/state", "not a node id"),
        ("grid/node/a-/state", "not a node id"),
        ("grid/node/a\n/state", "not a node id"),
        (f"grid/node/{'x' * 33}/state", "not a node id"),
        ("grid/node/view/state", "not a node id"),
        ("grid/node/agent/info", "not a node id"),
        ("$grid/in/b/agent/info", "not a node id"),
        # one canonical topic each: the network's records do not also live among the nodes'
        ("grid/node/network/tariff", "not a node id"),
        ("$grid/in/B/a/state", "inbox of no sibling"),
        ("$grid/in/network/a/state", "inbox of no sibling"),
        ("$grid/in/b", "no kind of record"),
        # what would remove the network itself, or nobody
        ("grid/network/forgotten/network", "not a node id"),
        ("$grid/in/b/network/forgotten/network", "not a node id"),
        ("grid/network/revoked/-a", "not a node id"),
    ],
)
def test_no_places(topic, why):
    with pytest.raises(WireError, match=f"^{why}$"):
        place(topic)


def test_ids():
    assert all(map(wire.is_id, ["a", "7", "solar-1", "x" * 32]))
    assert not any(map(wire.is_id, ["", "A", "a_b", "é", "a b", "-a", "a-", "x" * 33, "network", "view", "agent", "a\n"]))


@given(st.text(max_size=80))
def test_no_topic_raises_anything_else(topic):
    for text in (topic, wire.NODE + topic, wire.NETWORK + topic, wire.INBOX + topic):
        try:
            found = place(text)
        except WireError:
            continue
        assert place(found.topic) == Place(found.topic, found.owner, found.kind, None)


def test_the_view_of_a_node_alone_and_on_a_shared_broker():
    alone, shared = wire.View("a", shared=False), wire.View("a", shared=True)
    assert (alone.net, alone.price, alone.sell) == ("grid/net", "grid/price", "grid/price/sell")
    assert (alone.summary, alone.status) == ("grid/summary", "grid/agent/status")
    assert alone.availability("b") == "grid/availability/b"
    assert (alone.sibling("b"), alone.alert("disk")) == ("grid/sibling/b", "grid/alert/disk")
    assert alone.meter("main", "w") == "grid/meter/main/w"
    assert (shared.summary, shared.meter("main", "w")) == ("grid/view/a/summary", "grid/view/a/meter/main/w")
