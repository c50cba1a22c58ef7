"""Operators and the keys that they revoke: who may change what is common, who is gone, who comes back and with what."""

import json
from base64 import b64encode

from desk import Desk, info, state
from realm_desk import OP, REALM, TARIFF, B, C, a_desk, meet, network, reasons, tell
from seals import Realm, signed

from agent.decode import decode
from agent.events import Asked, Bar, Forget, Publish, Revoke, SetTariff
from agent.trust import spelled
from agent.wire import place


def test_only_an_operator_changes_what_is_common():
    desk = a_desk()
    meet(desk)
    assert "only an operator" in desk.ask(Forget("b"))["error"]
    assert "only an operator" in desk.ask(SetTariff(import_u=1))["error"]
    assert "only an operator" in desk.ask(Revoke("b", ()))["error"]
    op = a_desk("op")
    meet(op)
    assert op.ask(Forget("b")) == {"forgotten": "b"}
    assert OP.verify(OP.key, "grid/network/forgotten/b", op.told["grid/network/forgotten/b"])


def test_a_node_lets_itself_in_again_and_nobody_else():
    desk = a_desk()
    meet(desk)
    network(desk, OP, "forgotten/b")
    assert desk.summary["members"] == []
    network(desk, C, "forgotten/b", by="c", version=2, forgotten=False)
    assert reasons(desk) == {"not an operator's": 1}
    network(desk, B, "forgotten/b", by="b", version=2, forgotten=False)
    meet(desk, version=50)
    assert desk.summary["members"] == ["b"]


# revocation


def test_a_revoked_key_is_gone_from_everywhere_and_a_new_one_comes_in():
    desk, new = a_desk(), REALM.seal("b", run=2)
    desk.node.siblings.join("b", "b.test:8883", desk.now)
    meet(desk)
    effects = network(desk, OP, "revoked/b", keys=[spelled(B.key)]) + desk.wait(0.25)
    assert [effect.ids for effect in effects if isinstance(effect, Bar)] == [("b",)]
    assert desk.summary["members"] == []
    assert desk.node.siblings.joined() == []
    assert not [topic for topic in desk.told if topic.startswith("grid/node/b/")]
    tell(desk, B, "$grid/in/c/b/info", info(100))
    assert reasons(desk) == {"a revoked key": 1}
    tell(desk, B, "$grid/in/c/b/state", state(100))
    assert desk.node.book.get("b", "state") is None
    effects = network(desk, OP, "revoked/b", version=2, keys=[spelled(B.key)], admitted=True) + desk.wait(0.25)
    assert [effect.ids for effect in effects if isinstance(effect, Bar)] == [()]
    meet(desk, seal=new, by="c")
    assert desk.summary["members"] == ["b"]
    tell(desk, B, "$grid/in/c/b/info", info(1000))
    assert reasons(desk)["a revoked key"] == 2
    # a key of before it revoked, too, takes nothing from the new one
    network(desk, OP, "revoked/b", version=3, keys=[spelled(B.key), "older"], admitted=True)
    assert desk.node.trust.known["b"].key == new.key
    assert desk.summary["members"] == ["b"]


def test_an_operator_revokes_and_signs_again_what_the_other_signed():
    realm = Realm("two", "op", "op2")
    first, second = Desk("op", trust=realm.trust("op")), realm.seal("op2")
    topic = "$grid/in/op2/network/tariff"
    first.hear("$grid/in/op2/op2/info", signed(second, "$grid/in/op2/op2/info", info(1)))
    first.hear(topic, signed(second, topic, json.dumps({**TARIFF, "by": "op2", "version": 7}).encode()))
    assert first.node.tariff.import_u == 400_000
    answer = first.ask(Revoke("op2", ()))
    assert answer["keys"] == [spelled(second.key)]
    told = decode(place("grid/network/tariff"), first.told["grid/network/tariff"])
    assert (told.by, told.version, told.import_u) == ("op", 8, 400_000)
    late = Desk("late", trust=realm.trust("late"))  # hears all of it, and only now
    for topic, payload in first.told.items():
        if topic.startswith("grid/network/"):
            late.hear(f"$grid/in/op/{topic.removeprefix('grid/')}", payload)
    assert late.node.tariff.import_u == 400_000
    assert reasons(late) == {}


def test_our_own_key_revoked_is_said_loudly():
    desk = a_desk()
    network(desk, OP, "revoked/me", keys=[spelled(REALM.seal("me").key)])
    assert desk.alerts["revoked"].startswith("op revoked this node's key")
    network(desk, OP, "revoked/x", keys=["k"])
    assert [effect.ids for effect in desk.wait(0.5) if isinstance(effect, Bar)] == [("x",)]  # nobody comes to us by our name
    network(desk, OP, "revoked/me", version=2, keys=["older"])
    assert "revoked" not in desk.alerts


def test_who_has_our_old_key_does_not_speak_for_us():
    """Its card was stolen, it has a new key, and the thief goes on in its name."""
    realm = Realm("test", "op")
    realm.seals["me"] = realm.seal("me", run=2)
    desk, old = Desk("me", trust=realm.trust("me")), realm.seal("me")
    network(desk, OP, "revoked/me", keys=[spelled(old.key)], admitted=True)
    assert "revoked" not in desk.alerts
    version = desk.node.own.version
    tell(desk, old, "$grid/in/b/me/info", info(version + 50))
    tell(desk, old, "$grid/in/b/me/state", state(version + 60))
    assert desk.node.own.version < version + 50
    assert reasons(desk) == {"a revoked key": 1, "wrongly signed": 1}


def test_a_hostile_operators_word_on_itself_does_not_stand():
    """It made its own revocation first: ours is the only one of its version, and holds the keys of both."""
    realm = Realm("two", "op", "op2")
    desk, foe = Desk("op", trust=realm.trust("op")), realm.seal("op2")
    desk.hear("$grid/in/op2/op2/info", signed(foe, "$grid/in/op2/op2/info", info(1)))
    topic = "$grid/in/op2/network/revoked/op2"
    body = {"keys": ["x"], "admitted": True, "by": "op2", "version": 5}
    desk.hear(topic, signed(foe, topic, json.dumps(body).encode()))
    effects = desk.do(Asked(7, Revoke("op2", ())))
    (told,) = [effect for effect in effects if isinstance(effect, Publish) and effect.topic == "grid/network/revoked/op2"]
    record = decode(place(told.topic), told.payload)
    assert (record.by, record.version, record.admitted) == ("op", 6, False)
    assert record.keys == sorted(["x", spelled(foe.key)])


def test_a_revocation_on_the_disk_goes_before_all_that_its_keys_signed():
    desk = a_desk()
    meet(desk)
    desk.wait(11.0)
    topic = "grid/network/revoked/b"
    body = json.dumps({"keys": [spelled(B.key)], "by": "op", "version": 1}).encode()
    rows = [*json.loads(desk.kept["records"]), [topic, b64encode(signed(OP, topic, body)).decode()]]
    assert "b" in a_desk(kept=desk.kept).node.book.nodes
    for order in (rows, rows[::-1]):
        again = a_desk(kept=desk.kept | {"records": json.dumps(order).encode()})
        assert "b" not in again.node.book.nodes
        assert Bar(("b",)) in again.first


def test_a_thousand_revocations_at_once_are_no_flood():
    desk = a_desk()
    effects = []
    for number in range(1000):
        effects += network(desk, OP, f"revoked/x{number}", keys=["k"])
    effects += desk.wait(0.5)
    assert [len(effect.ids) for effect in effects if isinstance(effect, Bar)] == [1000]  # the broker is told once
    assert reasons(desk) == {}
    assert len(desk.node.trust.revoked) == 1000
