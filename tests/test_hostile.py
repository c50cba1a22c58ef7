"""Records that mean ill, at one node's desk: none of them stops the agent, today or with its next word."""

import json

import pytest
from desk import Desk, info, published, state
from fleet import UNIX_S
from seals import Realm

from agent import wire
from agent.events import Heard, Join, Publish
from agent.records import MAX_JUMP, MAX_KINDS
from agent.trust import ROOMS, WAITING, WAITING_BYTES
from agent.wire import MAX_VERSION

DAY = int(UNIX_S // 86_400)
ENERGY = {"day": DAY, "slot_s": 900, "edges": 3, "import_wh": [10**15], "export_wh": [0], "zone": "z"}
ABOVE = (0, -1, 1, -30, 14)  # around the largest jump: own topics stand at versions that differ by a few


def told(kind: str, version: int) -> tuple[str, bytes]:
    """A forged record of one of the node's own topics."""
    match kind:
        case "state":
            return kind, state(version, 5)
        case "info":
            return kind, info(version)
        case "energy":
            return wire.energy_kind(DAY), json.dumps(ENERGY | {"version": version}).encode()
    return kind, b'{"version":%d}' % version


@pytest.mark.parametrize("kind", ["state", "info", "energy", "forecast"])
@pytest.mark.parametrize("version", [MAX_VERSION, MAX_VERSION // 2, 2**40, *(MAX_JUMP + above for above in ABOVE)])
def test_no_version_of_our_own_records_stops_us(kind, version):
    """One with a topic that nobody holds yet jumped past the check, and our next record was no record any more."""
    desk = Desk()
    desk.meet("b", 500)
    desk.wait(3.0)
    topic, payload = told(kind, version)
    desk.hear(f"$grid/in/b/me/{topic}", payload)
    desk.wait(40.0)
    assert ("refused" in desk.alerts) == ((desk.node.own.version < 100 and kind != "forecast") or version > MAX_JUMP + 10)
    assert json.loads(desk.told["grid/node/me/state"])["version"] == desk.node.own.version
    assert desk.node.own.version < 2 * MAX_JUMP


def test_a_node_has_one_count_for_all_its_topics():
    desk = Desk()
    desk.meet("b", 500)
    desk.hear("$grid/in/c/b/forecast", b'{"version":9007199254740992}')
    assert "1 version jumped more than 2^32" in desk.node.show.refusals.text
    desk.hear("$grid/in/c/b/forecast", b'{"version":9}')
    assert desk.told["grid/node/b/forecast"] == b'{"version":9}'
    desk.hear("$grid/in/c/network/weather", b'{"version":9007199254740992}')  # each of the network's topics has its own
    assert "grid/network/weather" in desk.told


def test_kinds_that_mean_nothing_take_no_room_from_those_that_do():
    desk = Desk()
    for number in range(2 * MAX_KINDS):
        for id_ in ("me", "b"):
            desk.hear(f"$grid/in/b/{id_}/junk{number}", b'{"version":1}')
    desk.hear("$grid/in/b/b/info", info(1))
    desk.hear("$grid/in/b/b/state", state(2, 100))
    desk.hear(f"$grid/in/b/b/{wire.energy_kind(DAY)}", told("energy", 3)[1])
    desk.wait(30.0)
    assert {"grid/node/b/state", "grid/node/b/info", f"grid/node/b/{wire.energy_kind(DAY)}"} <= desk.told.keys()
    assert len([topic for topic in desk.told if "/junk" in topic]) <= 2 * MAX_KINDS
    assert json.loads(desk.told["grid/node/me/state"])["version"] == desk.node.own.version


@pytest.mark.parametrize("shared", [False, True])
def test_the_last_version_of_our_removal_is_told_to_who_wants_to_come_back(shared):
    desk = Desk(shared=shared)
    where = "grid/network" if shared else "$grid/in/b/network"
    desk.hear(f"{where}/forgotten/me", b'{"version":9007199254740992}')
    assert "forgotten" in desk.alerts
    if shared:
        assert desk.ask(Join("")) == {"error": "version out of range"}
    desk.wait(20.0)
    assert "forgotten" in desk.alerts


def test_what_people_read_is_repaired_however_much_rubbish_there_is():
    """Rubbish in inboxes once used up the rate, and a forged price then stood until the next one."""
    desk = Desk()
    desk.meet("b", 500)
    desk.wait(1.0)
    before = dict(desk.told)
    for number in range(2000):
        desk.hear(f"$grid/in/b/junk{number}/state", b"junk")
    topics = ("grid/net", "grid/price", "grid/node/b/state", "grid/network/tariff")
    for topic in topics:
        assert published(desk.hear(topic, b"junk")) == {topic: before[topic]}


def test_a_repair_that_the_rate_forbids_is_made_up_for():
    desk = Desk()
    desk.meet("b", 500)
    desk.wait(1.0)
    now = [*desk.hear("grid/net", b"9"), *(effect for number in range(500) for effect in desk.hear(f"grid/alert/x{number}", b"9"))]
    later = [effect for _ in range(4) for effect in desk.hear("grid/price", b"9.9")]
    assert len(published(now)) == 200
    assert published(later) == {}
    effects = [*now, *later, *desk.wait(6.0)]
    made = [
        effect.topic
        for effect in effects
        if isinstance(effect, Publish) and effect.topic.startswith(("grid/alert/x", "grid/price"))
    ]
    assert sorted({*made}) == sorted(["grid/price", *(f"grid/alert/x{number}" for number in range(500))])
    assert len(made) == 501  # what was wrong many times is written once


def test_a_canonical_topic_that_waited_gets_what_is_held_by_then():
    desk = Desk()
    desk.meet("b", 500)
    desk.wait(1.0)
    for number in range(300):
        desk.hear(f"grid/alert/x{number}", b"9")
    assert published(desk.hear("grid/node/b/state", b"junk")) == {}
    assert published(desk.hear("grid/node/nobody/state", b"junk")) == {}
    desk.hear("$grid/in/b/b/state", state(7, 600))
    told = published(desk.wait(5.0), "grid/node/")
    assert (json.loads(told["grid/node/b/state"])["net_w"], told["grid/node/nobody/state"]) == (600, b"")


def test_records_that_wait_for_their_maker_are_bounded_by_bytes_and_by_inboxes():
    """A broker that we dial writes into inboxes of siblings that there are none."""
    realm = Realm("test")
    desk = Desk(trust=realm.trust("me"))
    blob = state(1, 5, why="x" * 12_000)
    for number in range(3 * ROOMS):
        for maker in range(8):
            topic = f"grid/node/z{maker}/state"
            desk.hear(f"$grid/in/s{number}/z{maker}/state", realm.seal(f"z{maker}").sign(topic, blob))
    trust = desk.node.trust
    rows = [payload for room in trust.waiting.values() for _, payload in room.values()]
    assert trust.waiting_bytes == sum(map(len, rows)) <= WAITING_BYTES
    assert len(trust.waiting) <= ROOMS + 1
    desk.hear("$grid/in/s1/z1/info", realm.seal("z1").sign("grid/node/z1/info", info(1)[:-1] + cert(realm, "z1")))
    rows = [payload for room in trust.waiting.values() for _, payload in room.values()]
    assert trust.waiting_bytes == sum(map(len, rows))
    assert not any(owner == "z1" for room in trust.waiting.values() for owner, _ in room.values())


def test_small_ones_that_wait_make_no_room_for_large_ones():
    """One let go for each that came would be a hundredth of its size."""
    trust = Realm("test").trust("me")
    small, large = b"x" * 100, b"y" * 16_000
    for number in range(WAITING):
        assert trust.wait("s", f"grid/node/z{number}/state", f"z{number}", small)
    for room in range(ROOMS):
        for number in range(20):
            trust.wait(f"l{room}", f"grid/node/y{number}/state", f"y{number}", large)
            assert trust.waiting_bytes <= WAITING_BYTES
    assert trust.waiting_bytes == sum(len(payload) for room in trust.waiting.values() for _, payload in room.values())


def cert(realm: Realm, id_: str) -> bytes:
    return b',"cert":"' + realm.seal(id_).cert.encode() + b'"}'


@pytest.mark.parametrize(
    ("topic", "retained", "counted"), [("grid/price", False, 1), ("grid/price", True, 0), ("grid/agent/status", False, 0)]
)
def test_in_a_closed_network_a_forged_view_is_counted(topic, retained, counted):
    desk = Desk(trust=Realm("test").trust("me"))
    assert topic in published(desk.do(Heard(topic, b"9", retained)))
    assert desk.node.show.refusals.total == counted
