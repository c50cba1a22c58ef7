"""What a local person asks: join, leave, forget, tell; each with an answer that says what to do next."""

import json

import pytest
from desk import Desk, info, published, state

from agent.asks import PROBE
from agent.events import Asked, Bridge, Bridges, Complain, Dial, Dialled, Forget, Join, Leave, Renew, Save, Status

B = "b.test:1883"


def joined(desk: Desk, id_: str = "b", request: int | None = 5) -> list:
    return desk.do(Dialled(f"{id_}.test:1883", id_, "", "10.0.0.1:1883", request))


def answer(effects: list) -> dict:
    return json.loads(next(effect.body for effect in effects if hasattr(effect, "body")))


def test_join_dials_and_then_links():
    desk = Desk()
    assert desk.do(Asked(7, Join("B.test"))) == [Dial(B, 7)]
    effects = joined(desk)
    assert answer(effects) == {"joined": "b", "known": False}
    assert Bridges((Bridge("b", "b.test", 1883),)) in effects
    assert Complain("joined b at b.test:1883") in effects
    said = json.loads(desk.told["grid/node/me/info"])
    assert (said["siblings"], said["dials"], said["address"]) == ({"b": 1}, ["b"], "10.0.0.1:1883")
    assert "siblings" in desk.kept
    again = joined(desk)
    assert answer(again) == {"joined": "b", "known": True}
    assert not [effect for effect in again if isinstance(effect, Bridges | Complain)]


def test_the_address_of_the_file_stands_before_the_one_found():
    desk = Desk(address="solar.local:1883")
    joined(desk)
    assert json.loads(desk.told["grid/node/me/info"])["address"] == "solar.local:1883"


def test_join_answers_what_went_wrong():
    assert Desk().ask(Join("no address"))["error"] == "not an address: 'no address'. Write HOST:PORT, as 192.0.2.7:1883"
    assert "joined already" in Desk(shared=True).ask(Join(B))["error"]
    desk = Desk()
    assert answer(desk.do(Dialled(B, None, "no broker", None, 5)))["error"] == "cannot join b.test:1883: no broker"
    assert desk.alerts == {}
    assert answer(desk.do(Dialled(B, "me", "", None, 5)))["error"].startswith("b.test:1883 is this node itself")
    for number in range(64):
        joined(desk, f"n{number}")
    assert answer(joined(desk))["error"] == "more than 64 siblings; leave one first"
    assert joined(desk, request=None)[:1] == [Save("seeds", b'["b.test:1883"]')]


def test_the_joins_of_the_file_are_tried_until_they_are_met_and_then_never_again():
    desk = Desk(join=(B, "c.test:1883"))
    assert [e.address for e in desk.wait(0.25) if isinstance(e, Dial)] == [B, "c.test:1883"]
    desk.do(Dialled(B, None, "no broker", None, None))
    assert desk.alerts["join"] == "cannot join b.test:1883: no broker; trying again"
    assert not [e for e in desk.wait(9.5) if isinstance(e, Dial)]
    assert len([e for e in desk.wait(0.5) if isinstance(e, Dial)]) == 2
    joined(desk, request=None)
    assert "join" in desk.alerts  # c is still to be met
    assert Complain("c.test:1883 is this node itself, or a copy with the same [node] id") in desk.do(
        Dialled("c.test:1883", "me", "", None, None)
    )
    assert "join" not in desk.alerts
    assert not [e for e in desk.wait(30.0) if isinstance(e, Dial)]
    again = Desk(join=(B, "d.test:1883"), kept=desk.kept)
    assert [e.address for e in again.wait(0.25) if isinstance(e, Dial)] == ["d.test:1883"]
    assert not [e for e in Desk(join=(B,), shared=True).wait(20.0) if isinstance(e, Dial)]


def test_a_link_that_stays_down_though_the_other_broker_answers_renews_ours():
    """Mosquitto 2.1 may forget a bridge that was taken away and put back within a moment."""
    desk = Desk()
    joined(desk)
    assert not [e for e in desk.wait(59.0) if isinstance(e, Dial)]
    assert [e for e in desk.wait(12.0) if isinstance(e, Dial)] == [Dial(B, PROBE)]
    assert Renew() not in desk.do(Dialled(B, None, "no broker", None, PROBE))  # it is off: nothing to mend here
    assert Renew() not in desk.do(Dialled(B, "c", "", None, PROBE))  # somebody else lives there now
    assert Renew() in desk.do(Dialled(B, "b", "", None, PROBE))
    assert not [e for e in desk.wait(500.0) if isinstance(e, Dial)]
    assert [e for e in desk.wait(120.0) if isinstance(e, Dial)] == [Dial(B, PROBE)]
    desk.hear("grid/sibling/b", b"1")
    assert Renew() not in desk.do(Dialled(B, "b", "", None, PROBE))  # up meanwhile; that its agent is silent is its own trouble
    assert not [e for e in desk.wait(1300.0) if isinstance(e, Dial)]


def test_leaving_one_sibling():
    desk = Desk()
    joined(desk)
    joined(desk, "c")
    assert desk.ask(Leave("b")) == {"left": ["b"], "network": False}
    assert json.loads(desk.told["grid/node/me/info"])["siblings"] == {"b": 2, "c": 1}
    assert "left" not in json.loads(desk.told["grid/node/me/info"])
    desk.hear("$grid/in/b/d/info", info(1))
    assert not published(desk.wait(15.0), "$grid/in/")
    emptied = published(desk.wait(1.0), "$grid/in/")
    assert {"$grid/in/b/d/info", "$grid/in/b/me/state"} <= emptied.keys()
    assert set(emptied.values()) == {b""}
    assert {topic.split("/")[2] for topic in emptied} == {"b"}  # c's stays
    assert desk.ask(Leave("b"))["error"] == "'b' is no sibling of this node; its siblings: c"
    assert Desk().ask(Leave("b"))["error"].endswith("its siblings: none")


def test_leaving_the_network_is_a_record_and_then_silence():
    desk = Desk(join=("d.test:1883",))
    desk.wait(3.0, w=100)
    joined(desk)
    desk.meet("b", 500)
    assert desk.summary["net_w"] == 400
    assert desk.ask(Leave(None)) == {"left": ["b"], "network": True}
    assert json.loads(desk.told["grid/node/me/info"])["left"] is True
    assert desk.hear("$grid/in/b/b/state", state(20, 700)) == []  # the link is about to go
    desk.hear("$grid/in/b/b/info", info(21, siblings={"me": 2}))
    effects = desk.wait(20.0, w=100)
    assert Bridges(()) in effects
    assert not [effect for effect in effects if isinstance(effect, Dial)]
    assert not [topic for topic in desk.told if "/b" in topic and topic != "grid/sibling/b"]
    assert (desk.summary["net_w"], desk.summary["nodes"], desk.summary["members"]) == (-100, 1, ["me"])
    assert desk.node.left
    again = Desk(kept=desk.kept)
    assert again.node.left
    joined(again)
    assert not again.node.left
    assert "left" not in json.loads(again.told["grid/node/me/info"])
    joined(desk)
    desk.meet("b", 500, version=40)
    assert desk.summary["members"] == ["b", "me"]
    desk.ask(Leave(None))
    desk.wait(30.0)
    assert "b" not in desk.node.book.nodes
    assert desk.summary["members"] == ["me"]


def test_what_is_held_stays_until_the_last_link_is_parted():
    desk = Desk()
    desk.wait(3.0)
    joined(desk)
    joined(desk, "c")
    desk.meet("b", 500)
    desk.ask(Leave(None))
    desk.hear("$grid/in/b/b/info", info(21, siblings={"me": 2}))  # b knows, c does not yet
    desk.wait(12.0)
    assert "b" in desk.node.book.nodes
    desk.wait(15.0)
    assert "b" not in desk.node.book.nodes


def test_on_a_shared_broker_there_is_no_link_to_leave():
    desk = Desk(shared=True)
    for which in ("b", None):
        assert "this node shares its broker" in desk.ask(Leave(which))["error"]
    assert not desk.node.left


def test_one_that_left_is_not_joined_from_outside():
    desk = Desk()
    joined(desk)
    desk.ask(Leave(None))
    desk.hear("$grid/in/b/b/info", info(5, siblings={"me": 3}, dials=["me"]))
    assert desk.node.siblings.joined() == []
    assert json.loads(desk.told["grid/node/me/info"])["siblings"] == {"b": 4}


def test_a_node_that_left_leaves_nothing_behind_until_its_owner_comes_back():
    desk = Desk()
    desk.wait(3.0)
    desk.meet("b", 500)
    desk.wait(1.0)
    desk.hear("$grid/in/b/b/later", b'{"version":1}')
    assert {"grid/node/b/state", "grid/availability/b"} <= desk.told.keys()
    desk.hear("$grid/in/b/b/info", info(10, left=True))
    assert [topic for topic in desk.told if "/b" in topic] == ["grid/node/b/info"]
    assert desk.summary["nodes"] == 1
    assert published(desk.hear("$grid/in/b/b/state", state(11, 500)), "grid/") == {}  # a ghost
    assert published(desk.hear("$grid/in/b/b/info", info(9)), "grid/") == {}
    assert published(desk.hear("grid/node/b/state", state(11, 500))) == {"grid/node/b/state": b""}
    desk.wait(5.0)
    assert "grid/availability/b" not in desk.told
    desk.hear("$grid/in/b/b/info", info(20))
    desk.hear("$grid/in/b/b/state", state(21, 500))
    assert desk.summary["members"] == ["me"]  # it has to grow twice, as anybody who comes
    desk.now += 0.75
    desk.hear("$grid/in/b/b/state", state(22, 500))
    assert desk.summary["members"] == ["b", "me"]


def test_forget_removes_a_node_for_everybody():
    desk = Desk()
    desk.wait(3.0)
    joined(desk)
    desk.meet("b", 500)
    assert desk.ask(Forget("b")) == {"forgotten": "b"}
    record = json.loads(desk.told["grid/network/forgotten/b"])
    assert (record["forgotten"], record["by"], record["version"]) == (True, "me", 1)
    assert [topic for topic in desk.told if topic.startswith(("grid/node/b", "$grid"))] == []
    assert desk.node.siblings.joined() == []
    assert desk.summary["nodes"] == 1
    for payload in (info(50), state(51, 500)):
        kind = "info" if b"siblings" in payload else "state"
        assert published(desk.hear(f"$grid/in/c/b/{kind}", payload)) == {f"$grid/in/c/b/{kind}": b""}
    assert desk.ask(Forget("b"))["error"] == "no node 'b' is known; known: me"
    assert desk.ask(Forget("me"))["error"].startswith("that is this node itself")
    desk.hear("$grid/in/c/network/forgotten/b", b'{"version":2,"forgotten":false,"by":"b"}')
    desk.meet("b", 500, version=60)
    assert desk.summary["members"] == ["b", "me"]
    desk.ask(Forget("b"))
    assert json.loads(desk.told["grid/network/forgotten/b"])["version"] == 3


def test_a_node_that_was_removed_says_so_and_comes_back_by_joining():
    desk = Desk()
    desk.hear("$grid/in/b/network/forgotten/me", b'{"version":4,"by":"c"}')
    assert desk.alerts["forgotten"] == "c removed this node from the network; 'grid join HOST:PORT' brings it back"
    desk.wait(20.0, w=100)
    assert (desk.summary["net_w"], desk.summary["members"]) == (-100, ["me"])  # for itself it is still there
    again = Desk(kept=desk.kept)
    assert "forgotten" in again.alerts
    joined(again)
    assert "forgotten" not in again.alerts
    record = json.loads(again.told["grid/network/forgotten/me"])
    assert (record["forgotten"], record["by"], record["version"]) == (False, "me", 5)
    again.hear("$grid/in/b/network/forgotten/me", b'{"version":6}')
    assert again.alerts["forgotten"].startswith("somebody removed")
    again.hear("$grid/in/b/network/forgotten/me", b'{"version":7,"forgotten":false}')
    assert "forgotten" not in again.alerts


def test_joining_a_removed_node_says_that_it_has_to_come_back_by_itself():
    desk = Desk()
    desk.meet("b", 500)
    desk.ask(Forget("b"))
    assert answer(joined(desk)) == {"joined": "b", "known": False, "removed": True}
    assert desk.node.siblings.joined() == ["b"]  # so that it hears of it
    assert desk.summary["members"] == []


def test_a_removed_node_on_a_shared_broker_comes_back_by_a_join_as_well():
    desk = Desk(shared=True)
    desk.hear("grid/network/forgotten/me", b'{"version":4,"by":"c"}')
    assert "forgotten" in desk.alerts
    assert desk.ask(Join(B)) == {"joined": "me", "known": True}
    assert "forgotten" not in desk.alerts
    assert json.loads(desk.told["grid/network/forgotten/me"])["version"] == 5
    assert "joined already" in desk.ask(Join(B))["error"]


@pytest.mark.parametrize("first", [True, False])
def test_used_up_versions_are_an_answer_and_no_crash(first):
    desk = Desk()
    if first:
        desk.meet("b", 500)
        desk.hear("$grid/in/c/network/forgotten/b", b'{"version":9007199254740992,"forgotten":false}')
        assert desk.ask(Forget("b"))["error"] == "'b' cannot be removed: version out of range"
    else:
        desk.hear("$grid/in/c/network/forgotten/me", b'{"version":9007199254740992}')
        assert answer(joined(desk))["error"] == "version out of range"


def test_the_first_node_seeds_the_tariff_and_a_joiner_yields():
    assert json.loads(Desk().told["grid/network/tariff"])["version"] == 1
    assert json.loads(Desk(join=(B,)).told["grid/network/tariff"])["version"] == 0
    assert json.loads(Desk(shared=True).told["grid/network/tariff"])["version"] == 0
    desk = Desk(tariff_keys={"import_u": "import", "slot_s": "slot_min", "cap_u": "cap"})
    joined(desk)
    assert json.loads(Desk(kept={"siblings": desk.kept["siblings"]}).told["grid/network/tariff"])["version"] == 0
    held = json.loads(desk.told["grid/network/tariff"])
    assert (held["version"], held["by"], held["import_u"], held["from"]) == (0, "me", 300_000, 0)
    theirs = json.dumps(held | {"version": 1, "by": "b", "import_u": 250_000, "slot_s": 300}).encode()
    desk.hear("$grid/in/b/network/tariff", theirs)
    desk.wait(1.0)
    assert desk.told["grid/network/tariff"] == theirs
    assert desk.summary["price_u"] == 250_000
    assert desk.alerts["tariff"] == "[tariff] of this node's file differs from the network's in import, slot_min and is ignored"
    unstated = Desk(tariff_keys={"cap_u": "cap"})  # its file says nothing of what the network changed
    joined(unstated)
    unstated.hear("$grid/in/b/network/tariff", theirs)
    unstated.wait(1.0)
    assert (unstated.summary["price_u"], "tariff" in unstated.alerts) == (250_000, False)
    joined(desk, "c")  # one of a network keeps the network's
    assert desk.told["grid/network/tariff"] == theirs
    again = Desk(kept=desk.kept | {"records": kept_records(desk)})
    assert again.told["grid/network/tariff"] == theirs


def kept_records(desk: Desk) -> bytes:
    desk.wait(11.0)
    return desk.kept["records"]


@pytest.mark.parametrize("change", [{"version": 2}, {"version": 1, "by": "b", "currency": "aaa"}])
def test_a_lone_node_whose_tariff_is_not_its_own_seed_does_not_yield(change):
    desk = Desk(join=(B,))
    theirs = json.dumps(json.loads(desk.told["grid/network/tariff"]) | change).encode()
    desk.hear("grid/network/tariff", theirs)
    joined(desk)
    assert desk.node.book.get("network", "tariff").payload == theirs


def test_the_first_node_keeps_the_networks_tariff_when_it_joins_one_more():
    desk = Desk()
    desk.hear("$grid/in/b/b/info", info(1, siblings={"me": 1}))
    joined(desk, "c")
    assert desk.node.tariff.version == 1


def test_a_rule_of_a_later_version_gives_no_price_and_says_so():
    desk = Desk()
    held = json.loads(desk.told["grid/network/tariff"])
    desk.wait(1.0)
    assert "grid/price" in desk.told
    desk.hear("$grid/in/b/network/tariff", json.dumps(held | {"version": 2, "rule": "new"}).encode())
    desk.wait(1.0)
    assert "names the price rule 'new', which this version does not know: update this node" in desk.alerts["tariff"]
    assert not {"grid/price", "grid/price/sell"} & desk.told.keys()
    said = desk.summary
    assert (said["price"], said["price_u"], said["sell_u"], said["rule"], said["currency"]) == (None, None, None, None, "EUR")


def test_status_is_an_answer_too():
    assert Desk().ask(Status())["summary"]["node"] == "me"
