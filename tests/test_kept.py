"""What is kept over a restart, and what becomes of it when it is damaged."""

import json
from base64 import b64decode, b64encode

import pytest
from desk import Desk, info, published, state

from agent.events import Bridge, Bridges, Dialled, Save
from agent.own import RESERVE


def grown() -> Desk:
    """A node with a sibling, a fellow in its zone and all of it saved."""
    desk = Desk()
    desk.do(Dialled("b.test:1883", "b", "", None, 5))
    desk.meet("b", 500)
    desk.hear("$grid/in/b/network/revoked/x", b'{"version":1}')
    desk.hear("$grid/in/b/stranger/state", state(1, 9))
    desk.wait(11.0)
    return desk


def test_nothing_kept_is_a_first_start():
    desk = Desk()
    assert desk.alerts == {}
    assert json.loads(desk.kept["versions"]) == {"ceiling": RESERVE}
    assert json.loads(desk.told["grid/node/me/info"])["version"] == 2
    assert Bridges(()) in desk.first


def test_after_a_restart_the_fellows_are_known_but_not_alive():
    before = grown()
    desk = Desk(kept=before.kept)
    assert Bridges((Bridge("b", "b.test", 1883),)) in desk.first
    for topic in ("grid/node/b/info", "grid/node/b/state", "grid/network/revoked/x", "grid/network/tariff"):
        assert desk.told[topic] == before.told[topic]
    assert "grid/node/stranger/state" not in desk.told
    said = desk.summary
    assert (said["net_w"], said["heard"], said["nodes"], said["low_w"], said["partial"]) == (0, 0, 2, -20_000, True)
    desk.wait(1.0)
    assert desk.told["grid/availability/b"] == b"offline"
    desk.hear("$grid/in/b/b/state", state(30, 500))
    assert desk.summary["heard"] == 1
    desk.wait(0.75)
    desk.hear("$grid/in/b/b/state", state(31, 500))
    assert desk.summary["net_w"] == 500


def test_one_that_was_alive_is_remembered_though_its_info_never_came():
    before = Desk()
    for version in (1, 2):
        before.hear("$grid/in/b/b/state", state(version, 500))
        before.now += 0.75
    before.hear("$grid/in/b/b/later", b'{"version":1}')
    before.wait(11.0)
    desk = Desk(kept=before.kept)
    assert (desk.summary["nodes"], desk.summary["low_w"]) == (2, -20_000)


def test_the_card_is_written_only_when_something_slow_has_changed():
    desk = grown()
    assert not [effect for effect in desk.wait(60.0) if isinstance(effect, Save)]
    desk.hear("$grid/in/b/b/state", state(50, 700))
    assert not [effect for effect in desk.wait(60.0) if isinstance(effect, Save)]
    desk.hear("$grid/in/b/c/info", info(1))
    assert [effect.name for effect in desk.wait(60.0) if isinstance(effect, Save)] == ["records"]
    assert "grid/node/c/info" in dict(json.loads(desk.kept["records"]))


def test_no_version_is_used_twice_however_the_run_before_ended():
    used, kept = set(), {}
    for _ in range(3):
        desk = Desk(kept=kept)
        effects = desk.first + desk.wait(30.0)
        mine = published(effects, "grid/node/me/")
        versions = {json.loads(payload)["version"] for payload in mine.values()}
        assert not versions & used
        assert not used or min(versions) > max(used)
        used |= versions
        kept = desk.kept  # as a power cut leaves it


def test_the_reserve_is_set_aside_before_it_is_used():
    desk = Desk()
    desk.wait(1.0)
    desk.node.own.version = RESERVE - 1
    desk.node.speak(desk.now)
    assert not [effect for effect in desk.wait(0.25) if isinstance(effect, Save) and effect.name == "versions"]
    desk.node.speak(desk.now)
    effects = desk.wait(0.25)
    kinds = [
        effect.name if isinstance(effect, Save) else effect.topic
        for effect in effects
        if hasattr(effect, "name") or hasattr(effect, "topic")
    ]
    assert kinds.index("versions") < kinds.index("grid/node/me/state")
    assert json.loads(desk.kept["versions"]) == {"ceiling": 2 * RESERVE + 1}


def test_without_the_reserve_the_own_records_tell_where_to_go_on():
    kept = grown().kept
    own = max(json.loads(b64decode(payload))["version"] for topic, payload in json.loads(kept["records"]) if "/me/" in topic)
    del kept["versions"]
    assert json.loads(Desk(kept=kept).told["grid/node/me/info"])["version"] == own + 2  # the state came first


@pytest.mark.parametrize("name", ["versions", "siblings", "seeds", "records"])
@pytest.mark.parametrize("damage", [b"", b"\x00\xff", b"{", b"null", b'[["grid/net","e30="]]', b'[["grid/node/b/info","e30="]]'])
def test_damage_is_shown_and_done_without(name, damage):
    desk = Desk(kept=grown().kept | {name: damage})
    assert desk.alerts["store"].startswith(f"kept state is not of our form: {name} (")
    assert {"grid/node/me/state", "grid/node/me/info", "grid/network/tariff"} <= desk.told.keys()


def test_one_damaged_part_or_record_costs_no_other():
    grown_kept = grown().kept
    rows = json.loads(grown_kept["records"])
    bad = [["grid/node/b/state", b64encode(b"{").decode()], *rows]
    desk = Desk(kept=grown_kept | {"siblings": b"{", "records": json.dumps(bad).encode()})
    assert "siblings (" in desk.alerts["store"]
    assert "records (1 refused)" in desk.alerts["store"]
    assert {topic for topic, _ in rows} <= desk.told.keys()


def test_the_siblings_of_a_lost_memory_come_back_with_their_own_records():
    desk = Desk()
    desk.hear("$grid/in/b/me/info", info(900, siblings={"b": 3, "gone": 5}))
    assert json.loads(desk.told["grid/node/me/info"])["version"] > 900
    assert desk.node.siblings.joined() == []
    desk.hear("$grid/in/b/b/info", info(5, siblings={"me": 3}))
    assert desk.node.siblings.counters() == {"b": 3}
    assert Desk(kept=desk.kept).node.siblings.counters() == {"b": 3}


def test_our_own_other_records_are_taken_back():
    desk = Desk()
    payload = b'{"version":77}'
    assert published(desk.hear("$grid/in/b/me/forecast/even", payload)) == {"grid/node/me/forecast/even": payload}
    assert published(desk.hear("grid/node/me/forecast/even", b'{"version":76}')) == {"grid/node/me/forecast/even": payload}
    assert published(desk.hear("$grid/in/b/me/forecast/even", b'{"version":76}')) == {}


def test_a_memory_lost_node_jumps_above_its_past_once():
    desk = Desk()
    effects = desk.hear("$grid/in/b/me/state", state(1200, 9, instance="old"))
    versions = {topic: json.loads(payload)["version"] for topic, payload in published(effects, "grid/node/me").items()}
    assert sorted(versions.values()) == [1201, 1202]
    assert published(desk.hear("$grid/in/c/me/state", state(1200, 9, instance="old"))) == {}
    assert published(desk.hear("grid/node/me/state", state(1200, 9)), "grid/node/me/state") != {}
    assert json.loads(desk.told["grid/node/me/state"])["instance"] == "aaaaaaaa"
    desk.now += 0.1
    assert published(desk.hear("$grid/in/c/me/state", state(1300, 9, instance="old"))) == {}  # one jump a second
    desk.wait(1.0)
    assert json.loads(desk.told["grid/node/me/state"])["version"] > 1300
