"""The node through its one door: what it takes and gives on, who counts, what it says."""

import json

import pytest
from desk import Desk, info, published, state
from fleet import UNIX_S
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from agent import records
from agent.events import Bridges, Complain, Connected, Disconnected, Heard, Metered, Publish, Quiet, Save, Stopping, Tick, Warned
from agent.gone import is_gone
from agent.hear import GREET
from agent.upkeep import REPAIR_S, SWEEP_S, UNPROVEN_S
from drivers.reading import Reading

B = "$grid/in/b/b/"


def test_a_node_counts_after_an_info_and_two_growths():
    desk = Desk()
    desk.wait(2.0, w=700)
    desk.hear(B + "info", info(1))
    assert (desk.summary["nodes"], desk.summary["partial"]) == (1, False)
    desk.hear(B + "state", state(2, produced_w=3000, consumed_w=685))
    said = desk.summary
    assert (said["net_w"], said["low_w"], said["high_w"]) == (-700, -10_700, 9_300)
    assert (said["nodes"], said["heard"], said["partial"], said["members"]) == (2, 1, True, ["me"])
    desk.now += 0.75
    effects = desk.hear(B + "state", state(3, produced_w=3000, consumed_w=685))
    assert Complain("b is heard") in effects
    said = desk.summary
    assert (said["net_w"], said["low_w"], said["high_w"], said["members"]) == (1615, 1615, 1615, ["b", "me"])
    assert (said["produced_w"], said["consumed_w"], said["nodes"], said["heard"]) == (3000, 1385, 2, 2)
    # 700 W wanted, 2315 W given: buyers pay m = 190000, sellers (190000*700 + 80000*1615) / 2315 = 113261.3
    assert (said["price_u"], said["sell_u"], said["price"]) == (190_000, 113_261, 0.19)
    assert (desk.told["grid/net"], desk.told["grid/price"], desk.told["grid/price/sell"]) == (b"1615", b"0.1900", b"0.113261")


def test_a_newer_record_is_given_on_byte_for_byte_and_an_older_one_goes_nowhere():
    desk = Desk()
    odd = b' { "version" : 5, "new key":[1.50, null] } '
    assert desk.hear(B + "later/on", odd) == [Publish("grid/node/b/later/on", odd, sure=True)]
    assert desk.hear("$grid/in/c/b/later/on", odd) == []
    assert desk.hear("$grid/in/c/b/later/on", b'{"version":4}') == []
    later = b'{"version":6}'  # stands there already, or stood there until we connected and told what we had kept
    assert desk.hear("grid/node/b/later/on", later) == [Publish("grid/node/b/later/on", later, sure=True)]
    assert desk.hear(B + "later/on", b'{"version":6}') == []
    assert desk.hear("grid/node/b/other", odd) == []  # new, and it stands there


@pytest.mark.parametrize(
    ("produced_w", "consumed_w", "counted"),
    [(12_000, 0, True), (12_001, 0, False), (0, 12_000, True), (0, 12_001, False), (12_000, 12_000, True)],
)
def test_watts_beyond_the_rating_are_relayed_but_not_counted(produced_w, consumed_w, counted):
    desk = Desk()
    desk.meet("b", produced_w, consumed_w)
    assert json.loads(desk.told["grid/node/b/state"])["produced_w"] == produced_w
    said = desk.summary
    assert said["net_w"] == (produced_w - consumed_w if counted else 0)
    assert said["high_w"] - said["low_w"] == (0 if counted else 20_000) + 20_000  # we ourselves have not been read yet
    assert said["nodes"] == 2


@pytest.mark.parametrize("quality", ["late", "suspect", "absent", "conflict", "of a later version"])
def test_what_is_not_good_is_not_counted(quality):
    desk = Desk()
    desk.meet("b", 500, quality=quality)
    assert (desk.summary["net_w"], desk.summary["heard"], desk.summary["nodes"]) == (0, 0, 2)


def test_another_zone_is_relayed_and_not_counted():
    desk = Desk()
    desk.wait(3.0)
    desk.meet("b", 500, zone="y")
    assert "grid/node/b/state" in desk.told
    assert (desk.summary["nodes"], desk.summary["net_w"], desk.summary["high_w"]) == (1, 0, 0)
    desk.wait(1.0)
    assert desk.told["grid/availability/b"] == b"online"


def test_a_clone_is_shown_everywhere_until_it_is_over():
    desk = Desk()
    desk.meet("b", 500, quality="conflict")
    desk.wait(1.0)
    assert desk.told["grid/availability/b"] == b"conflict"
    assert json.loads(desk.told["grid/alert/conflict-b"])["level"] == "critical"
    desk.hear(B + "state", state(9, 500))
    desk.wait(1.0)
    assert desk.told["grid/availability/b"] == b"online"
    assert "conflict-b" not in desk.alerts
    desk.hear(B + "state", state(10, quality="conflict"))
    desk.wait(20.0)
    assert desk.told["grid/availability/b"] == b"stale"
    desk.hear(B + "info", info(11, left=True))
    assert "conflict-b" not in desk.alerts


def test_a_silent_node_leaves_the_net_at_once_when_stale():
    desk = Desk()
    desk.wait(3.0)
    desk.meet("b", 500)
    desk.now -= 0.75  # the last growth was just now
    desk.wait(15.25)
    assert desk.summary["net_w"] == 500
    effects = desk.wait(0.25)
    assert Complain("b is stale: nothing new from it for 15 s") in effects
    assert (desk.summary["net_w"], desk.summary["low_w"], desk.summary["heard"]) == (0, -10_000, 1)
    desk.wait(1.0)
    assert desk.told["grid/availability/b"] == b"stale"
    desk.wait(45.0)
    assert desk.told["grid/availability/b"] == b"offline"


def test_an_id_that_nobody_vouches_for_is_no_member_and_is_let_go():
    desk = Desk()
    before = desk.summary
    desk.hear("$grid/in/b/x/state", state(1, 500))
    assert desk.summary["members"] == before["members"]
    assert desk.summary["nodes"] == 1
    desk.wait(UNPROVEN_S - 15.0)
    assert "x" in desk.node.book.nodes  # somebody may still vouch for it
    desk.wait(30.0)
    assert "x" not in desk.node.book.nodes
    assert "grid/node/x/state" not in desk.told
    assert desk.node.life.pulses.keys() == {"me"}


def test_a_tariff_to_come_is_seen_in_the_digest_at_once():
    desk = Desk()
    desk.wait(1.0)
    before, held = desk.summary, json.loads(desk.told["grid/network/tariff"])
    now = {key: value for key, value in held.items() if key not in ("by", "version")}
    slot = int((UNIX_S + 86_400) // held["slot_s"])
    desk.hear(
        "$grid/in/b/network/tariff", json.dumps(held | {"version": 9, "import_u": 310_000, "from": slot, "past": [now]}).encode()
    )
    after = json.loads(published(desk.do(Quiet()))["grid/summary"])
    assert after["price_u"] == before["price_u"]
    assert after["digest"] != before["digest"]


def test_what_the_disk_refused_is_kept_again_until_it_takes_it():
    desk = Desk()
    desk.wait(2 * SWEEP_S)
    assert saved(desk.wait(2 * SWEEP_S)) == []
    desk.do(Warned("disk", "the card is full"))
    assert saved(desk.wait(2 * SWEEP_S)) == ["records"] * 2
    desk.do(Warned("disk", ""))
    assert saved(desk.wait(2 * SWEEP_S)) == []


def saved(effects):
    return [effect.name for effect in effects if isinstance(effect, Save) and effect.name == "records"]


def test_records_before_the_view_that_counts_them():
    topics = list(published(Desk().first))
    assert max(topics.index(t) for t in topics if t.startswith(("grid/node/", "grid/network/"))) < topics.index("grid/agent/status")


def test_without_its_broker_a_node_publishes_nothing_and_then_all():
    desk = Desk(connected=False)
    desk.do(Metered("main", Reading("good", "", {"w": 5})))
    desk.hear(B + "info", info(1))
    assert published(desk.wait(10.0)) == {}
    assert desk.told == {}
    desk.do(Connected())
    assert {"grid/node/me/state", "grid/node/me/info", "grid/node/b/info", "grid/network/tariff"} <= desk.told.keys()
    assert (desk.told["grid/agent/status"], desk.told["grid/net"]) == (b"online", b"0")
    desk.do(Disconnected())
    assert "broker" in desk.alerts
    desk.do(Connected())
    assert "broker" not in desk.alerts


def test_a_table_that_differs_for_long_is_repaired_by_telling_all_again():
    desk = Desk(join=())
    desk.hear(B + "info", info(1, siblings={"me": 1}))
    slow = {topic for topic in desk.told if topic.startswith(("grid/node", "grid/network")) and not topic.endswith("state")}

    def differ(seconds: float, table: str) -> list[dict[str, bytes]]:
        told = []
        for _ in range(int(seconds / 2)):
            version[0] += 1
            desk.hear(B + "state", state(version[0], table=table))
            again = published(desk.wait(2.0), "grid/n")
            told += [again] if slow <= again.keys() else []
        return told

    version = [1]
    assert differ(REPAIR_S - 2, "other") == []
    assert len(differ(4 * REPAIR_S, "other")) == 3  # rate-limited, and it goes on
    assert len(differ(4 * REPAIR_S, desk.node.book.table())) == 0
    desk.hear("$grid/in/b/c/state", state(5, table="other"))  # no sibling of ours
    assert desk.node.differs == {}


def test_stopping_says_so():
    desk = Desk()
    desk.wait(3.0, w=100)
    effects = desk.do(Stopping())
    said = json.loads(desk.told["grid/node/me/state"])
    assert (said["quality"], said["why"], said["net_w"]) == ("absent", "meter 'main': the agent was stopped", None)
    assert list(published(effects).items())[-1] == ("grid/agent/status", b"offline")
    assert json.loads(desk.told["grid/summary"])["heard"] == 0
    assert "records" in desk.kept


def test_a_shells_trouble_is_an_alert():
    desk = Desk()
    assert Complain("card full") in desk.do(Warned("disk", "card full"))
    assert desk.alerts["disk"] == "card full"
    assert not [e for e in desk.do(Warned("disk", "")) if isinstance(e, Complain)]
    assert "disk" not in desk.alerts


def test_a_change_is_said_with_the_reading_and_a_heartbeat_by_the_tick():
    desk = Desk()
    desk.wait(10.0, w=100)
    desk.now += 0.1
    effects = desk.do(Metered("main", Reading("good", "", {"w": 300})))
    assert json.loads(published(effects)["grid/node/me/state"])["net_w"] == -300
    assert "grid/node/me/state" not in published(desk.do(Metered("main", Reading("good", "", {"w": 310}))))
    count = sum("grid/node/me/state" in published(desk.wait(0.25, w=310)) for _ in range(80))
    assert 4 <= count <= 5  # 20 s


def test_on_a_shared_broker_records_are_taken_where_they_stand():
    desk = Desk(shared=True)
    assert not [effect for effect in desk.first if isinstance(effect, Bridges)]
    desk.hear("grid/node/b/info", info(1, siblings={"me": 1}))
    assert desk.node.siblings.edges == {}
    assert published(desk.hear("grid/node/b/state", state(1, 500)), "grid/node/b") == {}
    desk.now += 0.75
    desk.hear("grid/node/b/state", state(2, 500))
    assert desk.hear("grid/node/b/state", b"") == []  # its owner's to mend
    assert [e.topic for e in desk.hear("grid/node/me/info", b"")] == ["grid/node/me/info"]
    desk.do(Quiet())
    assert json.loads(desk.told["grid/view/me/summary"])["members"] == ["b"]
    again = published(desk.do(Connected()), "grid/n")
    assert {topic for topic in again if topic != "grid/net"} == {
        "grid/node/me/state",
        "grid/node/me/info",
        "grid/network/tariff",
    }


anything = st.one_of(
    st.builds(
        Heard, st.sampled_from(["grid/node/b/state", B + "state", B + "info", "grid/network/tariff"]), st.binary(max_size=60)
    ),
    st.builds(Heard, st.text(max_size=30), st.binary(max_size=10)),
    st.builds(lambda v, p: Heard(B + "state", state(v, p)), st.integers(0, 50), st.integers(0, 20_000)),
    st.builds(lambda v, left: Heard(B + "info", info(v, left=left, siblings={"me": v})), st.integers(0, 50), st.booleans()),
    st.builds(
        lambda v, f: Heard("grid/network/forgotten/b", b'{"version":%d,"forgotten":%s}' % (v, f)),
        st.integers(0, 9),
        st.sampled_from([b"true", b"false"]),
    ),
    st.sampled_from([Tick(UNIX_S), Quiet(), Connected(), Disconnected()]),
)


@effort(max_examples=60)
@given(st.lists(st.tuples(anything, st.floats(0.0, 20.0)), max_size=40))
def test_no_sequence_of_events_breaks_a_node_or_its_sums(steps):
    desk = Desk()
    for event, wait in steps:
        desk.now += wait
        desk.do(event)
    net, shares = desk.node.net, desk.node.net.shares.values()
    assert net.produced_w == sum(share.produced_w for share in shares)
    assert net.supply_w - net.demand_w == net.net_w
    assert not net.shares.keys() & net.unknown.keys()
    for id_ in net.shares:
        assert desk.node.life.fresh(id_)
        assert not is_gone(desk.node, id_)


def test_after_its_broker_came_back_a_node_speaks_up_a_few_times():
    """Whoever lost us needs two growths, and should not wait for two heartbeats."""
    desk = Desk()
    desk.wait(10.0)
    quiet = sum("grid/node/me/state" in published(desk.wait(0.25)) for _ in range(6))
    assert quiet <= 1
    assert "grid/node/me/state" in published(desk.do(Connected()))
    assert sum("grid/node/me/state" in published(desk.wait(0.25)) for _ in range(6)) == 2


def test_a_newcomer_is_greeted_so_that_it_need_not_wait_for_heartbeats():
    def beats(desk: Desk) -> int:
        desk.wait(10.0)
        desk.hear(B + "state", state(1))
        return sum("grid/node/me/state" in published(desk.wait(0.25)) for _ in range(9))

    assert beats(Desk()) == 3
    crowd = Desk()
    for number in range(GREET):
        crowd.hear(f"$grid/in/b/c{number}/info", info(1))
    assert beats(crowd) <= 1


def test_another_record_of_the_same_version_is_no_growth():
    desk = Desk()
    desk.hear(B + "info", info(1))
    copies = sorted((state(2, why=why) for why in ("x", "y")), key=records.digest)
    for copy in copies:
        desk.hear(B + "state", copy)
        desk.now += 0.75
    assert desk.told["grid/node/b/state"] == copies[1]
    assert desk.summary["heard"] == 0
