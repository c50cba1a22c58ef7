"""Rubbish, by accident or with intent: it changes nothing, is counted, shown and mended, and costs little."""

import json

import pytest
from desk import Desk, state

from agent import records
from agent.bucket import Bucket
from agent.events import Asked, Complain, Heard, Publish, Renew
from agent.node import MEND_BURST
from agent.upkeep import CALM_S, RUBBISH

WRONG = [b"{", b"\xff", b"[]", b'{"version":"1"}', b'{"version":-1}', b"x" * 20_000, state(9) + b"}", state(9, zone="Z")]


@pytest.mark.parametrize("payload", WRONG, ids=lambda value: repr(value[:30]))
@pytest.mark.parametrize("topic", ["grid/node/b/state", "$grid/in/b/b/state", "grid/node/me/state", "$grid/in/b/me/state"])
def test_a_wrong_payload_changes_nothing_is_counted_and_mended(topic, payload):
    desk = Desk()
    desk.meet("b", 500)
    before, held = desk.summary, dict(desk.told)
    effects = desk.hear(topic, payload)
    canonical = topic if topic.startswith("grid/") else None
    mended = Publish(topic, held[canonical] if canonical else b"", sure=True)
    assert [effect for effect in effects if isinstance(effect, Publish)] == [mended]
    assert desk.summary == before
    desk.wait(0.25)
    assert desk.alerts["refused"].startswith("1 messages refused: 1 ")
    assert topic in desk.alerts["refused"]
    assert len([effect for effect in effects if isinstance(effect, Complain)]) == 1
    assert not [effect for effect in desk.hear(topic, payload) if isinstance(effect, Complain)]  # one line in the log, not millions


def test_a_wrong_topic_is_cleared():
    desk = Desk()
    for topic in ("grid/node/NO/state", "$grid/in/b/network", "grid/node/network/tariff"):
        assert Publish(topic, b"", sure=True) in desk.hear(topic, b"{}")
        assert desk.hear(topic, b"") == []
    assert desk.node.show.refusals.total == 6


def test_a_wrong_payload_where_nothing_is_held_is_cleared():
    assert Publish("grid/node/c/state", b"", sure=True) in Desk().hear("grid/node/c/state", b"{")


def test_forged_and_emptied_canonical_topics_are_written_again():
    desk = Desk()
    desk.meet("b", 500)
    held = dict(desk.told)
    for topic in ("grid/node/b/state", "grid/node/b/info", "grid/node/me/state", "grid/node/me/info", "grid/network/tariff"):
        mended = [Publish(topic, held[topic], sure=True)]
        assert desk.hear(topic, b"") == mended
        older = json.dumps(json.loads(held[topic]) | {"version": 0, "x": 1}).encode()
        if topic != "grid/network/tariff":
            assert desk.hear(topic, older) == mended
    assert desk.hear("grid/node/c/state", b"") == []
    assert desk.hear("$grid/in/b/b/state", b"") == []


def test_one_that_was_removed_wages_no_war_on_a_shared_broker():
    desk = Desk(shared=True)
    assert [effect.topic for effect in desk.hear("grid/node/me/info", b"")] == ["grid/node/me/info"]
    desk.hear("grid/network/forgotten/me", b'{"version":1}')
    assert desk.hear("grid/node/me/info", b"") == []
    assert len(desk.hear("grid/network/forgotten/me", b"")) == 1


def test_ghosts_in_our_own_view_are_cleared_and_strangers_words_written_over():
    desk = Desk()
    desk.wait(2.0, w=300)
    for topic in ("grid/alert/old", "grid/meter/gone/w", "grid/availability/nobody"):
        assert desk.hear(topic, b"from an earlier run") == [Publish(topic, b"", sure=True)]
    assert desk.hear("grid/meter/main/w", b"0") == [Publish("grid/meter/main/w", b"300", sure=True)]
    assert desk.hear("grid/meter/main/w", b"300") == []
    assert desk.node.show.refusals.total == 0


def test_mending_has_its_measure():
    desk = Desk()
    count = sum(len(desk.hear("grid/node/me/state", b"")) for _ in range(5000))
    assert count == MEND_BURST
    desk.now += 0.1
    assert sum(len(desk.hear("grid/node/me/state", b"")) for _ in range(5000)) == 10  # 100 a second
    desk.now += 1000.0
    assert sum(len(desk.hear("grid/node/me/state", b"")) for _ in range(5000)) == MEND_BURST


def test_a_bucket():
    bucket = Bucket(rate=2.0, level=1.0, burst=3.0, at_s=10.0)
    assert [bucket.take(10.0), bucket.take(10.0), bucket.take(10.5), bucket.take(10.5)] == [True, False, True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_100_000_invented_ids_keep_memory_bounded_and_the_net_unchanged(monkeypatch):
    monkeypatch.setattr(records, "MAX_NODES", 500)
    desk = Desk()
    desk.meet("b", 500)
    before = desk.summary
    payload = state(1, 9_000)
    effects = 0
    for number in range(100_000):
        effects += len(desk.do(Heard(f"$grid/in/b/x{number}/state", payload)))
    assert len(desk.node.book.nodes) == 500
    assert len(desk.node.life.pulses) < 505
    assert len(desk.node.show.told) < 50
    assert effects < 1500
    assert desk.summary == before
    assert desk.node.show.refusals.reasons == {"more than 500 nodes": 100_000 - 500 + len(("me", "network", "b"))}


def test_invented_siblings_of_the_broker_are_not_remembered():
    desk = Desk()
    for number in range(1000):
        desk.hear(f"grid/sibling/x{number}", b"1")
    assert desk.node.transport == {}


def test_after_a_flood_that_could_not_be_mended_the_broker_is_renewed():
    desk = Desk()
    for number in range(int(MEND_BURST) + RUBBISH + 1):
        desk.hear(f"$grid/in/b/NO{number}/state", b"{")
    assert not [effect for effect in desk.wait(CALM_S - 1.0) if isinstance(effect, Renew)]
    assert len([effect for effect in desk.wait(60.0) if isinstance(effect, Renew)]) == 1
    shared = Desk(shared=True)
    for number in range(int(MEND_BURST) + RUBBISH + 1):
        shared.hear(f"grid/node/NO{number}/state", b"{")
    assert not [effect for effect in shared.wait(60.0) if isinstance(effect, Renew)]
    for number in range(int(MEND_BURST) + RUBBISH):
        desk.hear(f"$grid/in/b/NO{number}/state", b"{")
    assert not [effect for effect in desk.wait(60.0) if isinstance(effect, Renew)]


def test_what_was_too_large_for_the_broker_is_counted_too():
    desk = Desk()
    desk.hear("$SYS/broker/log/N", b"1795336484: New connection from 10.0.0.9:51516 on port 1883.")
    assert desk.node.show.refusals.total == 0
    desk.hear("$SYS/broker/log/N", b"Client evil\xff has sent an oversize packet, disconnecting.")
    desk.wait(0.25)
    assert desk.alerts["refused"].startswith("1 messages refused: 1 too large for the broker; the last from client 'evil")


def test_an_event_of_no_kind_ends_visibly():
    with pytest.raises(AssertionError):
        Desk().do(object())
    with pytest.raises(AssertionError):
        Desk().do(Asked(1, object()))
