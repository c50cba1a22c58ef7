"""What a node shows: the summary's keys, who is there, its links, its meters, and all of it to the command line."""

import json

from desk import Desk, info, published, state
from fleet import UNIX_S

from agent.events import Connected, Dialled, Disconnected, Metered, Quiet, Status, Tick
from agent.own import MeterSlot
from drivers.reading import Reading, absent


def linked() -> Desk:
    desk = Desk()
    desk.do(Dialled("b.test:1883", "b", "", None, 5))
    desk.hear("$grid/in/c/c/info", info(1, siblings={"me": 1, "d": 2, "b": 3}, agent="0.2", proto=1))
    desk.wait(3.0, w=700)
    return desk


def test_the_keys_in_the_order_of_the_design():
    keys = (
        "node net_w low_w high_w produced_w consumed_w price price_u sell_u currency nodes heard digest rule zone partial members "
        "oldest_s slot live_u live_sell_u signal_u settled at"
    )
    desk = linked()
    said = desk.summary
    assert list(said) == keys.split()
    assert (said["node"], said["zone"], said["rule"], said["currency"]) == ("me", "z", "mmr/1", "EUR")
    assert (said["live_u"], said["live_sell_u"]) == (said["price_u"], said["sell_u"]) == (300_000, 190_000)
    assert said["slot"] == (1_795_336_484 + 3) // 900
    assert "2026-11-22T08:34:44Z" <= said["at"] <= "2026-11-22T08:34:47Z"
    assert b'"price":0.3000,' in desk.told["grid/summary"]  # the same text as grid/price


def test_the_oldest_of_those_that_count():
    desk = linked()
    assert oldest_s(desk) == 0.0
    desk.meet("b")
    desk.wait(2.0)
    assert oldest_s(desk) == 2.8  # 2.75 s, one decimal
    desk.meet("c", version=5)
    assert oldest_s(desk) == 4.2  # 4.25 s, half to even


def oldest_s(desk: Desk) -> float:
    return desk.ask(Status())["summary"]["oldest_s"]


def test_a_heartbeat_of_the_summary_and_none_without_need():
    desk = linked()
    desk.wait(60.0, w=700)
    desk.wait(0.25)
    assert desk.do(Quiet()) == []
    shown = sum("grid/summary" in published(desk.wait(0.25)) for _ in range(100))
    assert shown <= 25


def test_availability_is_told_when_it_changes():
    desk = linked()
    desk.meet("b", 500)
    told = published(desk.wait(1.0), "grid/availability/")
    assert told == {"grid/availability/b": b"online"}
    assert published(desk.wait(5.0), "grid/availability/") == {}
    desk.hear("$grid/in/b/x/state", state(1))  # a stranger
    desk.wait(2.0)
    assert "grid/availability/x" not in desk.told
    assert desk.told["grid/availability/me"] == b"online"


def test_a_link_needs_the_transport_and_a_moving_inbox():
    desk = linked()
    row = lambda: desk.ask(Status())["siblings"]  # noqa: E731
    assert {id_: edge["link"] for id_, edge in row().items()} == {"b": "linked", "c": "linked"}
    assert desk.told["grid/sibling/c"] == b"1"
    assert "grid/sibling/b" not in desk.told  # the broker itself says that
    desk.hear("grid/sibling/b", b"0")
    assert row()["b"]["link"] == "down"
    desk.do(Disconnected())
    desk.do(Connected())
    assert row()["b"]["link"] == "linked"  # what the broker said before it went is not believed
    desk.hear("grid/sibling/b", b"1")
    desk.wait(13.0)
    assert row()["b"]["link"] == "silent"  # the transport is up, nothing comes
    assert row()["c"]["link"] == "down"
    assert desk.told["grid/sibling/c"] == b"0"
    desk.hear("$grid/in/c/c/later", b"{")
    assert row()["c"]["link"] == "linked"
    assert row()["b"] == {"link": "silent", "address": "b.test:1883", "dials": True, "counter": 1}
    desk.hear("$grid/in/c/c/info", info(2, siblings={"me": 2}))
    desk.wait(1.0)
    assert "grid/sibling/c" not in desk.told
    assert row().keys() == {"b"}


def test_meters_are_shown_and_an_old_value_does_not_look_alive():
    desk = linked()

    def read(name, reading):
        desk.do(Metered(name, reading))
        desk.do(Tick(UNIX_S))

    desk.do(Metered("main", Reading("good", "", {"w": 650})))
    assert desk.told["grid/meter/main/w"] == b"700"  # until the next tick: the record and the price go first
    read("main", Reading("good", "", {"w": 700, "hz": 50.01}))
    assert (desk.told["grid/meter/main/w"], desk.told["grid/meter/main/hz"]) == (b"700", b"50.01")
    assert desk.told["grid/meter/main/quality"] == b"good"
    read("main", Reading("good", "", {"w": 701}))
    assert (desk.told["grid/meter/main/w"], "grid/meter/main/hz" in desk.told) == (b"701", False)
    read("main2", Reading("good", "", {"w": 5}))
    read("main", absent("timeout"))
    assert [topic for topic in desk.told if topic.startswith("grid/meter/main/")] == ["grid/meter/main/quality"]
    assert desk.told["grid/meter/main/quality"] == b"absent"
    assert desk.told["grid/meter/main2/w"] == b"5"
    desk.do(Connected())
    assert desk.told["grid/meter/main/quality"] == b"absent"


def test_status_tells_everything():
    desk = linked()
    desk.hear("$grid/in/c/c/state", state(2, 500, 0, why="x"))
    desk.hear("$grid/in/c/c/later", b"{")
    desk.wait(1.0, w=700)
    said = desk.ask(Status())
    assert list(said) == [
        "summary",
        "tariff",
        "nodes",
        "alerts",
        "loads",
        "balance",
        "siblings",
        "meters",
        "refused",
        "connected",
        "left",
        "mode",
        "network",
        "cut",
    ]
    assert said["nodes"]["c"] == {
        "net_w": 500,
        "produced_w": 500,
        "consumed_w": 0,
        "quality": "good",
        "availability": "stale",
        "age_s": 1.0,
        "siblings": ["b", "me"],
        "version": 2,
        "zone": "z",
        "why": "x",
        "agent": "0.2",
        "proto": 1,
    }
    assert said["nodes"]["me"]["siblings"] == ["b", "c"]
    assert said["meters"] == [{"name": "main", "quality": "good", "why": "", "w": 700, "age_s": 0.0}]
    assert [row["id"] for row in said["alerts"]] == ["refused"]
    assert (said["refused"], said["connected"], said["left"]) == (1, True, False)
    assert said["summary"] == json.loads(desk.told["grid/summary"]) | {"at": said["summary"]["at"]}


def test_status_of_one_known_only_by_its_growth_and_of_a_meter_never_read():
    desk = Desk(meters=(MeterSlot("roof", "pv", 1.0),))
    for version in (1, 2):
        desk.hear("$grid/in/b/b/state", state(version))
        desk.now += 0.75
    said = desk.ask(Status())
    assert (said["nodes"]["b"]["siblings"], said["nodes"]["b"]["agent"]) == ([], None)
    assert said["meters"] == [{"name": "roof", "quality": "absent", "why": "not read yet", "age_s": None}]
    assert Desk(kept={"records": records(desk)}).ask(Status())["nodes"]["b"]["age_s"] is None


def records(desk: Desk) -> bytes:
    desk.hear("$grid/in/b/b/info", info(3))
    desk.wait(11.0)
    return desk.kept["records"]


def test_no_tariff_no_price():
    """Cannot happen through the one door; what is shown is unknown and not wrong."""
    desk = Desk()
    desk.node.book.drop("network", "tariff")
    desk.node.changed = True
    said = desk.summary
    assert (said["price"], said["currency"], said["slot"], said["rule"]) == (None, None, None, None)
    desk.wait(1.0)
    assert "tariff" not in desk.alerts


def test_the_digest_is_over_the_tariff_and_the_zone_too():
    desk = Desk()
    before = desk.summary["digest"]
    held = json.loads(desk.told["grid/network/tariff"])
    desk.hear("$grid/in/b/network/tariff", json.dumps(held | {"version": 2, "import_u": 1_000_000}).encode())
    after = desk.summary
    assert (after["members"], after["price_u"]) == ([], 1_000_000)
    assert after["digest"] != before
    assert Desk(zone="y").summary["digest"] != before
    assert Desk().summary["digest"] == before
