"""Certificates renewed in time, in the core: asked for once they are due, told by operators, taken by their owners."""

import itertools
import json

import pytest
from desk import Desk, info, state
from fleet import UNIX_S
from seals import Realm, signed

from agent import renewal, wire
from agent.certs import NODE_DAYS, RENEW_S
from agent.events import Certify, Complain, Heard, Install, Issued, Members, Revoke, Tell, Tick
from agent.trust import spelled
from agent.wire import DAY_S, MAX_VERSION

NOW = int(UNIX_S)
SOON, LATER = NOW + RENEW_S - DAY_S, NOW + NODE_DAYS * DAY_S  # due since yesterday; new today
REALM = Realm("test", "op")
VERSIONS = itertools.count(1)


def desk_of(id_="op", to_unix=LATER, operator=None):
    trust = Realm("test", "op")
    trust.seals[id_] = REALM.seal(id_, operator, to_unix=to_unix)
    desk = Desk(id_, trust=trust.trust(id_))
    desk.now += 11.0
    desk.first += desk.do(Tick(UNIX_S + 11.0))
    return desk


def seal(id_, to_unix=LATER, **more):
    return REALM.seal(id_, to_unix=to_unix, **more)


def meet(desk, id_="b", to_unix=LATER, **more):
    """Heard by way of b until it is fresh, with a certificate that ends then."""
    one = seal(id_, to_unix, **more)
    desk.hear(f"$grid/in/b/{id_}/info", signed(one, f"$grid/in/b/{id_}/info", info(next(VERSIONS))))
    for _ in range(2):
        topic = f"$grid/in/b/{id_}/state"
        desk.hear(topic, signed(one, topic, state(next(VERSIONS))))
        desk.now += 0.75


def tell(desk, cert, to, by="op", version=None):
    topic = f"$grid/in/b/network/cert/{to}"
    body = json.dumps({"new": cert, "by": by, "version": version or next(VERSIONS)}).encode()
    return desk.do(Heard(topic, signed(seal(by), topic, body)))


def hour(desk, good=True, hours=1.0, meets=()):
    """An hour goes by; those of `meets` (id, end of certificate) are heard at its end."""
    desk.now += hours * 3600.0
    for id_, to_unix in meets:
        meet(desk, id_, to_unix)
    effects = []
    for _ in range(2):
        desk.now += 10.0
        effects += desk.do(Tick(UNIX_S + desk.now - 1000.0, good))
    return effects


def asked(effects):
    found = [effect.certs for effect in effects if isinstance(effect, Certify)]
    return None if not found else found[0]


def test_only_an_operators_node_asks_and_only_for_those_whose_time_has_come():
    desk = desk_of()
    assert asked(hour(desk, meets=[("b", SOON), ("c", LATER)])) == (seal("b", SOON).cert,)
    assert asked(hour(desk, hours=0.1, meets=[("b", SOON)])) is None  # once an hour
    assert asked(hour(desk, meets=[("b", SOON)])) == (seal("b", SOON).cert,)
    member = desk_of("me", operator=False)
    assert asked(hour(member, meets=[("b", SOON)])) is None
    assert asked(hour(Desk())) is None  # open


def test_its_own_is_renewed_too():
    assert asked(hour(desk_of(to_unix=SOON))) == (seal("op", SOON).cert,)


def test_no_clock_that_may_be_wrong_renews_anything():
    desk = desk_of()
    assert asked(hour(desk, good=False, meets=[("b", SOON)])) is None
    assert "certificate" not in desk.alerts
    assert asked(hour(desk, good=True, hours=0.01, meets=[("b", SOON)])) == (seal("b", SOON).cert,)  # at once when it is right


def test_a_key_that_is_never_heard_again_ends_with_its_certificate():
    desk = desk_of()
    meet(desk, "b", SOON)
    assert asked(hour(desk)) == ()  # silent for an hour
    assert asked(hour(desk, meets=[("b", SOON)])) == (seal("b", SOON).cert,)
    desk.ask(Revoke("b"))
    assert asked(hour(desk, meets=[("b", SOON)])) == ()


def test_what_was_renewed_is_not_asked_for_again():
    desk = desk_of()
    assert asked(hour(desk, meets=[("b", SOON)]))
    effects = desk.do(Issued((seal("b", LATER).cert,)))
    assert Complain("the certificate of b was renewed") in effects
    record = json.loads(desk.told["grid/network/cert/b"])
    assert (record["new"], record["by"], record["version"]) == (seal("b", LATER).cert, "op", 1)
    assert seal("op").verify(seal("op").key, "grid/network/cert/b", desk.told["grid/network/cert/b"])
    assert asked(hour(desk, meets=[("b", SOON)])) == ()
    # b came back with another key: the older record is not for it
    other = seal("b", SOON, run=2)
    desk.hear("$grid/in/b/b/info", signed(other, "$grid/in/b/b/info", info(next(VERSIONS))))
    assert renewal.newest(desk.node, "b") == (other.cert, REALM.seal("x").certified(other.cert))


def test_a_record_of_an_earlier_renewal_is_not_the_newest():
    """A new bundle for the same key came after it: what the node shows itself ends later."""
    desk = desk_of()
    desk.do(Issued((seal("b", SOON).cert,)))
    meet(desk, "b", LATER)
    assert renewal.newest(desk.node, "b")[0] == seal("b", LATER).cert
    assert asked(hour(desk, meets=[("b", LATER)])) == ()


def test_many_are_renewed_little_by_little():
    desk = desk_of()
    ids = [f"n{number:03d}" for number in range(renewal.TOGETHER + 10)]
    desk.now += 3600.0
    for id_ in ids:
        topic = f"$grid/in/b/{id_}/info"
        desk.hear(topic, signed(seal(id_, SOON), topic, info(1)))
    for version in (2, 3):
        for id_ in ids:
            topic = f"$grid/in/b/{id_}/state"
            desk.hear(topic, signed(seal(id_, SOON), topic, state(version)))
        desk.now += 0.75
    certs = asked(desk.do(Tick(UNIX_S + desk.now - 1000.0)))
    assert certs == tuple(seal(id_, SOON).cert for id_ in ids[: renewal.TOGETHER])


def test_who_has_no_certificate_that_holds_has_none():
    desk = desk_of()
    meet(desk, "b", SOON)
    assert renewal.newest(desk.node, "nobody") is None
    desk.node.trust.revoked["b"] = frozenset()
    assert renewal.newest(desk.node, "b") is not None
    for change in (lambda: desk.ask(Revoke("b")), lambda: None):
        change()
        assert renewal.newest(desk.node, "b") is None


def test_the_owner_takes_it_once():
    desk = desk_of("me", SOON, operator=False)
    meet(desk, "op")
    assert not [effect for effect in desk.first if isinstance(effect, Install)]  # that which it has is in its place
    new = seal("me", LATER).cert
    tell(desk, new, "me")
    effects = hour(desk, hours=0.01)
    assert [effect for effect in effects if isinstance(effect, Install)] == [Install(new)]
    assert not [effect for effect in hour(desk) if isinstance(effect, Install)]


@pytest.mark.parametrize("which", ["older", "another key", "another node", "another network", "no certificate"])
def test_what_is_not_for_us_is_not_taken(which):
    desk = desk_of("me", SOON, operator=False)
    meet(desk, "op")
    new = {
        "older": seal("me", SOON - 1),
        "another key": seal("me", LATER, run=2),
        "another node": seal("b", LATER),
        "another network": Realm("other").seal("me", to_unix=LATER),
        "no certificate": None,
    }[which]
    tell(desk, new.cert if new is not None else "!", "me")
    assert "grid/network/cert/me" in desk.told
    assert not [effect for effect in hour(desk) if isinstance(effect, Install)]


def test_only_operators_tell_certificates():
    desk = desk_of("me", SOON, operator=False)
    meet(desk, "b")
    tell(desk, seal("me", LATER).cert, "me", by="b")
    assert "grid/network/cert/me" not in desk.told
    said = desk_of("me", operator=False).ask(Tell(seal("b").cert))
    assert "only an operator's node" in said["error"]


def test_people_are_told_in_time():
    half = NOW + RENEW_S // 2
    for to_unix, text in (
        (half + 30 * DAY_S, None),
        (half - DAY_S, "ends on 2027-03-2"),
        (NOW - DAY_S, "ended on 2026-11-21: it has no links"),
    ):
        desk = desk_of("me", to_unix, operator=False)
        hour(desk)
        assert (text is None) == ("certificate" not in desk.alerts)
        assert text is None or text in desk.alerts["certificate"]


# what people ask


def test_members_are_told_with_their_certificates():
    desk = desk_of(to_unix=SOON)
    meet(desk, "b")
    meet(desk, "c", SOON)
    desk.hear("$grid/in/b/nobody/state", b"{}")
    told = desk.ask(Members())
    assert (told["me"], told["network"], told["operator"], told["revoked"]) == ("op", "test", True, {})
    rows = {id_: (row["to"], row["operator"], row["renew"]) for id_, row in told["members"].items()}
    assert rows == {"b": (LATER, False, False), "c": (SOON, False, True), "op": (SOON, True, True)}
    desk.now += 3600
    desk.do(Tick(UNIX_S + 3600))
    assert not desk.ask(Members())["members"]["c"]["renew"]  # not heard now


def test_revoking():
    desk = desk_of()
    meet(desk, "b")
    assert "no key of 'x' is known here" in desk.ask(Revoke("x"))["error"]
    assert "this node itself" in desk.ask(Revoke("op"))["error"]
    assert "no node's id" in desk.ask(Revoke("x/#"))["error"]
    said = desk.ask(Revoke("b"))
    assert (said["revoked"], len(said["keys"])) == ("b", 1)
    assert "b" not in desk.ask(Members())["members"]
    assert desk.ask(Members())["revoked"] == {"b": said["keys"]}
    again = desk.ask(Revoke("b", ("x" * 43 + "=",)))
    assert len(again["keys"]) == 2
    back = desk.ask(Revoke("b", (), admitted=True))
    assert (back["keys"], back["admitted"]) == (again["keys"], True)
    record = json.loads(desk.told["grid/network/revoked/b"])
    assert (record["admitted"], record["version"]) == (True, 3)
    meet(desk, "b")  # with the old key: no
    assert "b" not in desk.ask(Members())["members"]
    meet(desk, "b", run=2)
    assert "b" in desk.ask(Members())["members"]
    # one that was never heard, by the keys that the authority remembers
    assert desk.ask(Revoke("lost", ("y" * 43 + "=",)))["keys"] == ["y" * 43 + "="]


def test_an_open_node_and_one_that_is_no_operators():
    for ask in (Members(), Revoke("b"), Tell("x")):
        assert "open network" in Desk().ask(ask)["error"]
    member = desk_of("me", operator=False)
    for ask in (Revoke("b"), Tell("x")):
        assert "only an operator's node may do that" in member.ask(ask)["error"]
    assert member.ask(Members())["operator"] is False


def test_telling_by_hand():
    desk = desk_of()
    assert desk.ask(Tell(seal("b").cert)) == {"told": "b"}
    assert desk.ask(Tell(Realm("other").seal("b").cert))["error"] == "not a certificate of this network"


def test_a_record_whose_versions_are_used_up():
    desk = desk_of()
    topic = wire.network_topic("cert/b")
    body = json.dumps({"new": "x", "by": "op", "version": MAX_VERSION}).encode()
    place = wire.place(topic)
    desk.node.book.keep(desk.node.book.judge(place, signed(seal("op"), topic, body))[1])
    said = [effect.text for effect in desk.do(Issued((seal("b").cert,))) if isinstance(effect, Complain)]
    assert said == ["a renewed certificate cannot be told: version out of range"]


def test_a_node_whose_own_key_was_revoked_and_one_that_is_no_operators_give_out_nothing():
    desk = desk_of("me", SOON, operator=False)
    meet(desk, "op")
    assert renewal.newest(desk.node, "me") is not None
    topic = "$grid/in/b/network/revoked/me"
    body = json.dumps({"keys": [spelled(seal("me").key)], "by": "op", "version": 1}).encode()
    desk.do(Heard(topic, signed(seal("op"), topic, body)))
    assert renewal.newest(desk.node, "me") is None
    desk.do(Issued((seal("b").cert,)))
    assert "grid/network/cert/b" not in desk.told


def test_who_left_is_no_member():
    desk = desk_of()
    meet(desk, "b")
    desk.hear("$grid/in/b/b/info", signed(seal("b"), "$grid/in/b/b/info", info(next(VERSIONS), left=True)))
    assert "b" not in desk.ask(Members())["members"]
