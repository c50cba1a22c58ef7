"""A closed network's core: whose record counts, in whatever order it comes, whose command, and what the disk held."""

import itertools
import json
import random
from base64 import b64decode, b64encode

import pytest
from desk import Desk, info, published, state
from fleet import UNIX_S, Fleet
from realm_desk import OP, OTHERS, REALM, TARIFF, B, C, a_desk, meet, network, reasons, tell
from seals import Realm, signed

from agent.decode import decode
from agent.events import Bar, Heard, Revoke, Tick
from agent.trust import WAITING, spelled
from agent.wire import place

# our own


def test_own_records_are_signed_and_carry_the_certificate_where_others_need_it():
    desk = a_desk("op")
    for topic in ("grid/node/op/state", "grid/node/op/info", "grid/network/tariff"):
        payload = desk.told[topic]
        record = decode(place(topic), payload)
        assert OP.verify(OP.key, topic, payload)
        assert (record.cert is not None) == (topic != "grid/node/op/state")
    assert json.loads(desk.told["grid/network/tariff"])["by"] == "op"


def test_who_is_no_operator_tells_the_network_no_tariff_and_uses_its_files():
    desk = a_desk()
    assert "grid/network/tariff" not in desk.told
    assert desk.summary["price_u"] is not None
    assert desk.node.tariff == desk.node.settings.tariff
    network(desk, OP, "tariff", **TARIFF)
    assert desk.node.tariff.import_u == 400_000
    other = a_desk(tariff=desk.node.settings.tariff.__class__(**{**TARIFF, "version": 0}))
    assert other.summary["digest"] != a_desk().summary["digest"]  # other prices, another digest


# those of others


def test_a_signed_record_counts_and_is_given_on_byte_for_byte():
    desk = a_desk()
    meet(desk)
    assert desk.summary["members"] == ["b"]
    assert desk.summary["net_w"] == 500
    assert desk.told["grid/node/b/state"] == signed(B, "grid/node/b/state", state(3, 500))
    assert reasons(desk) == {}


NEXT = state(9, 9_000)
FORGED = {
    "unsigned": (NEXT, "not signed"),
    "signed by another member": (signed(C, "grid/node/b/state", NEXT), "wrongly signed"),
    "signed for another topic": (signed(B, "grid/node/b/energy/even", NEXT, with_cert=False), "wrongly signed"),
    "signed for another node's": (signed(B, "grid/node/c/state", NEXT), "wrongly signed"),
    "changed afterwards": (signed(B, "grid/node/b/state", NEXT).replace(b"9000", b"8999"), "wrongly signed"),
    "of another network": (signed(OTHERS.seal("b"), "grid/node/b/state", NEXT), "wrongly signed"),
    "an older key of that id": (signed(REALM.seal("b", run=2), "grid/node/b/state", NEXT), "wrongly signed"),
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("topic", ["$grid/in/b/b/state", "$grid/in/z/b/state", "grid/node/b/state"])
def test_a_forged_state_changes_nothing(name, topic):
    desk = a_desk()
    meet(desk)
    before, held = desk.summary, desk.told["grid/node/b/state"]
    payload, why = FORGED[name]
    effects = desk.hear(topic, payload)
    assert desk.summary == before
    mended = held if topic.startswith("grid/") else b""
    assert published(effects) == {topic: mended}
    assert reasons(desk) == {why: 1}
    desk.wait(0.5)
    assert topic in desk.alerts["refused"]  # and so who brought it


NETWORK = {
    "by a node that is no operator": (B, {"by": "b"}, "not an operator's"),
    "in the operator's name": (B, {"by": "op"}, "another node's certificate"),
    "in nobody's name": (OP, {}, "another node's certificate"),
    "by another network's operator": (OTHERS.seal("op", True), {"by": "op"}, "a certificate of another authority"),
}


@pytest.mark.parametrize("kind", ["tariff", "forgotten/b", "revoked/b", "cert/b", "weather"])
@pytest.mark.parametrize("name", NETWORK)
def test_a_forged_network_record_changes_nothing(kind, name):
    seal, by, why = NETWORK[name]
    desk = a_desk()
    meet(desk)
    before, book = desk.summary, set(desk.node.book.nodes["network"]) if "network" in desk.node.book.nodes else set()
    keys = {**(TARIFF if kind == "tariff" else {}), "keys": [spelled(B.key)], **by, "version": 5}
    topic = f"$grid/in/b/network/{kind}"
    desk.hear(topic, signed(seal, topic, json.dumps(keys).encode()))
    assert desk.summary == before
    assert set(desk.node.book.nodes.get("network", {})) == book
    assert reasons(desk) == {why: 1}


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (info(9), "not signed"),
        (signed(B, "grid/node/b/info", info(9), with_cert=False), "no certificate"),
        (signed(C, "grid/node/b/info", info(9)), "another node's certificate"),
        (signed(OTHERS.seal("b"), "grid/node/b/info", info(9)), "a certificate of another authority"),
        (
            signed(B, "grid/node/b/info", json.dumps({"version": 9, "cert": "?"}).encode(), with_cert=False),
            "a certificate of another",
        ),
    ],
)
def test_a_forged_info_changes_nothing(payload, why):
    desk = a_desk()
    meet(desk)
    desk.hear("$grid/in/b/b/info", payload)
    assert decode(place("grid/node/b/info"), desk.told["grid/node/b/info"]).version == 1
    assert [reason.startswith(why) for reason in reasons(desk)] == [True]


def test_our_own_name_is_taken_by_nobody():
    """A forged record of ours does not make us jump; one that an earlier life of ours signed does."""
    desk = a_desk()
    version = desk.node.own.version
    for payload in (state(10**6), signed(B, "grid/node/me/state", state(10**6))):
        desk.hear("$grid/in/b/me/state", payload)
    assert desk.node.own.version == version
    tell(desk, REALM.seal("me"), "$grid/in/b/me/state", state(10**6))
    assert desk.node.own.version > 10**6


def test_a_certificate_ends_by_a_clock_that_is_known_to_be_right_only():
    past = REALM.seal("b", to_unix=int(UNIX_S) - 100)
    desk = a_desk()
    desk.do(Tick(UNIX_S, clock_good=False))
    meet(desk, seal=past)
    assert desk.summary["members"] == ["b"]
    desk.do(Tick(UNIX_S, clock_good=True))
    tell(desk, past, "$grid/in/b/b/state", state(9, 100))
    tell(desk, past, "$grid/in/b/b/info", info(9))
    assert reasons(desk) == {"its certificate has expired": 2}
    assert desk.summary["net_w"] == 500


def test_an_info_of_another_life_of_ours_counts_with_our_certificate_only():
    """Our own id, another key of it: known to the network as ours, and no reason to forget what we know ourselves."""
    desk = a_desk()
    version = desk.node.own.version
    tell(desk, REALM.seal("me", run=2), "$grid/in/b/me/info", info(version + 50))
    assert desk.node.own.version > version + 50
    assert desk.node.trust.known["me"].key == REALM.seal("me").key


# order


def test_what_comes_before_its_makers_info_waits_and_every_order_ends_alike():
    """All orders of all the records of two nodes by two siblings, forged ones among them: one table."""
    topics = ["b/info", "b/state", "b/energy/even", "network/forgotten/c"]
    good = [
        (f"$grid/in/b/{name}", signed(OP if "network" in name else B, f"$grid/in/b/{name}", payload))
        for name, payload in zip(
            topics,
            [
                info(4),
                state(5, 100),
                json.dumps(
                    {"day": 2, "slot_s": 900, "edges": 0, "import_wh": [], "export_wh": [], "zone": "z", "version": 3}
                ).encode(),
                json.dumps({"by": "op", "version": 1}).encode(),
            ],
            strict=True,
        )
    ]
    wrong = [("$grid/in/z/b/state", signed(C, "grid/node/b/state", state(7, 9)))]
    tables = set()
    for order in itertools.permutations(good + wrong):
        desk = a_desk()
        for topic, payload in order:
            desk.hear(topic, payload)
        tables.add((desk.node.book.table(), desk.told["grid/node/b/state"]))
        assert not any(desk.node.trust.release("b"))
    assert len(tables) == 1


def test_what_waits_is_bounded_and_others_cannot_crowd_it_out():
    desk = a_desk()
    tell(desk, B, "$grid/in/b/b/state", state(2, 300))
    for number in range(WAITING + 100):
        tell(desk, C, f"$grid/in/z/x{number}/state", state(1))
    assert sum(map(len, desk.node.trust.waiting.values())) == WAITING + 1
    assert desk.node.book.nodes.keys() == {"me"}
    tell(desk, B, "$grid/in/b/b/info", info(1))
    assert decode(place("grid/node/b/state"), desk.told["grid/node/b/state"]).net_w == 300


def test_in_our_own_tree_nobody_unknown_stands():
    desk = a_desk()
    payload = signed(B, "grid/node/b/state", state(2, 300))
    assert published(desk.hear("grid/node/b/state", payload)) == {"grid/node/b/state": b""}
    shared = a_desk(shared=True)
    shared.hear("grid/node/b/state", payload)
    tell(shared, B, "grid/node/b/info", info(1))
    assert shared.node.book.get("b", "state") is not None


def test_one_key_counts_at_a_time_and_what_another_signed_goes_with_it():
    desk, new = a_desk(), REALM.seal("b", run=2)
    meet(desk)
    tell(desk, B, "$grid/in/b/b/forecast", b'{"version":1}')
    tell(desk, new, "$grid/in/b/b/info", info(8))
    assert set(desk.node.book.nodes["b"]) == {"info"}
    assert desk.told.get("grid/node/b/forecast") is None
    tell(desk, B, "$grid/in/b/b/state", state(9, 9_000))
    assert reasons(desk) == {"wrongly signed": 1}
    meet(desk, seal=new, version=20)
    assert desk.summary["net_w"] == 500


# commands


def with_heater(**changes) -> Desk:
    from agent.switches import Load

    load = Load("heater", 3, 2000, "resistive", True, None, None)
    return a_desk(loads=(load,), **changes)


def test_a_command_needs_the_token_and_shows_it_to_nobody():
    desk = with_heater()
    manual = lambda: desk.node.switches.switches["heater"].manual  # noqa: E731
    for topic in ("grid/load/heater/set", "$grid/set/token-other/heater", "$grid/set//heater", "$grid/set/token-me/x/heater"):
        desk.hear(topic, b"OFF")
        assert manual() is None
    desk.do(Heard("$grid/set/token-me/heater", b"OFF", retained=True))
    assert manual() is None
    effects = desk.hear("$grid/set/token-me/heater", b"OFF")
    assert manual() is False
    desk.wait(1.0)
    shown = json.dumps(desk.alerts) + json.dumps({t: p.decode() for t, p in desk.told.items()}) + repr(effects)
    assert "token-me" not in shown
    assert desk.node.show.refusals.total == 5


def test_an_open_node_takes_no_token():
    desk = Desk()
    desk.hear("$grid/set/token-me/heater", b"OFF")
    assert desk.node.show.refusals.total == 1


# the disk


def test_the_disk_is_checked_at_the_start():
    desk = a_desk()
    meet(desk)
    network(desk, OP, "tariff", **TARIFF)
    network(desk, OP, "revoked/c", keys=[spelled(C.key)])
    desk.wait(11.0)
    kept = json.loads(desk.kept["records"])
    assert len(kept) >= 5
    again = a_desk(kept=desk.kept)
    assert again.node.book.get("b", "state") is not None
    assert again.node.tariff.import_u == 400_000
    assert Bar(("c",)) in again.first
    assert "store" not in again.alerts
    forged = [
        [topic, b64encode(b64decode(payload).replace(b'"version":', b'"x":1,"version":')).decode()] for topic, payload in kept
    ]
    damaged = a_desk(kept=desk.kept | {"records": json.dumps(forged).encode()})
    assert set(damaged.node.book.nodes) == {"me"}
    assert "refused" in damaged.alerts["store"]
    opened = Desk(kept=desk.kept)
    assert opened.node.book.get("b", "state") is not None
    closed = a_desk(kept=Desk(kept={}).kept)
    assert set(closed.node.book.nodes) == {"me"}


# a whole network


@pytest.mark.parametrize("seed", range(3))
def test_a_closed_fleet_agrees_under_loss_forgers_and_a_revocation(seed):
    """Six nodes in a ring; a seventh member, joined to two, forges all it can and is revoked: the others' net is never wrong."""
    realm = Realm("fleet", "n0")
    fleet = Fleet(seed=seed, loss=0.05, double=0.05, reorder=True, trust=realm.trust)
    names = [f"n{number}" for number in range(6)]
    for number, name in enumerate(names):
        fleet.add(name, w=100 * number)
    fleet.add("evil", w=0)
    fleet.run(2.0)
    fleet.join([(a, b) for a, b in zip(names, [*names[1:], names[0]], strict=True)] + [("evil", "n2"), ("evil", "n4")])
    fleet.until(lambda: fleet.agreed(), within=90)  # a lost info is told again after half a minute
    dice = random.Random(seed)
    evil = fleet.cards["evil"]
    held = {name: fleet.cards[name].retained[f"grid/node/{name}/state"] for name in names}
    for step in range(300):
        victim = dice.choice(names)
        topic = f"grid/node/{victim}/{dice.choice(['state', 'info', 'energy/odd'])}"
        payload = held[victim].replace(b'"version":', b'"version":9')
        for key in ("n2", "n4"):
            fleet._carry(evil, fleet.cards[key], topic, payload)
        fleet.run(0.02)
        if step == 150:
            fleet.ask("n0", Revoke("evil", ()))
    fleet.until(lambda: fleet.agreed(*names), within=90)
    for name in names:
        assert fleet.cards[name].summary["net_w"] == -1500
        assert fleet.cards[name].node.book.nodes.keys() == {*names, "network"}
        assert "evil" in fleet.cards[name].barred
