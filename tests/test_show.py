"""What the local broker is told: only what differs, alerts with their beginning, refusals in measure."""

import json
from itertools import pairwise

from fleet import UNIX_S

from agent import wire
from agent.events import Publish
from agent.show import CALM_S, REFUSED_S, Show


def show(shared: bool = False) -> Show:
    return Show(wire.View("me", shared))


def alert(effects: list) -> dict:
    (effect,) = effects
    return {"topic": effect.topic, **(json.loads(effect.payload) if effect.payload else {})}


def test_only_what_differs_is_told():
    seen = show()
    assert seen.put("grid/net", b"5") == [Publish("grid/net", b"5")]
    assert seen.put("grid/net", b"5") == []
    assert seen.put("grid/net", b"6") == [Publish("grid/net", b"6")]
    assert seen.put("grid/net", b"") == [Publish("grid/net", b"")]
    assert seen.put("grid/net", b"") == []
    assert seen.put("grid/never", b"") == []
    assert seen.told == {}


def test_everything_again_for_a_broker_that_lost_it():
    seen = show()
    seen.put("a", b"1")
    seen.put("b", b"2")
    seen.put("a", b"3")
    seen.put("b", b"")
    assert seen.again() == [Publish("a", b"3")]


def test_an_alert_is_raised_changed_and_cleared():
    seen = show()
    raised = alert(seen.alert("disk", "full", UNIX_S))
    assert raised == {"topic": "grid/alert/disk", "level": "warning", "text": "full", "since": "2026-11-22T08:34:44Z"}
    assert seen.alert("disk", "full", UNIX_S + 60) == []
    assert alert(seen.alert("disk", "fuller", UNIX_S + 60))["since"] == "2026-11-22T08:34:44Z"
    assert alert(seen.alert("disk", "fuller", UNIX_S + 60, level="critical"))["level"] == "critical"
    assert seen.alert_rows() == [{"id": "disk", "level": "critical", "text": "fuller", "since": "2026-11-22T08:34:44Z"}]
    assert seen.alert("disk", "", UNIX_S + 90) == [Publish("grid/alert/disk", b"")]
    assert seen.alert("disk", "", UNIX_S + 90) == []
    assert seen.alert_rows() == []
    assert alert(seen.alert("disk", "full", UNIX_S + 120))["since"] == "2026-11-22T08:36:44Z"


def test_alerts_in_order_of_their_names():
    seen = show()
    seen.alert("b", "x", UNIX_S)
    seen.alert("a", "y", UNIX_S)
    assert [row["id"] for row in seen.alert_rows()] == ["a", "b"]


def test_refusals_are_shown_at_most_every_five_seconds():
    seen, written = show(), []
    for step in range(1000):
        now = 100.0 + step * 0.02  # 50 a second, for 20 s
        seen.refusals.add("not JSON" if step % 3 else "over 16 KiB", f"topic 'x{step}'", now)
        written += [now for _ in seen.refused(UNIX_S + now, now)]
    assert len(written) == 4
    assert all(b - a >= REFUSED_S for a, b in pairwise(written))
    assert seen.refused(UNIX_S, 125.0)
    text = seen.alert_rows()[0]["text"]
    assert text.startswith("1000 messages refused: 666 not JSON, 334 over 16 KiB; the last from topic 'x999'.")
    assert seen.refused(UNIX_S, 131.0) == []  # nothing new


def test_the_refusals_alert_goes_when_it_has_been_calm_for_long():
    seen = show()
    assert seen.refused(UNIX_S, 0.0) == []
    seen.refusals.add("not JSON", "topic 'x'", 100.0)
    assert alert(seen.refused(UNIX_S, 100.0))["topic"] == "grid/alert/refused"
    assert seen.refused(UNIX_S, 100.0 + CALM_S) == []
    assert seen.refused(UNIX_S, 100.1 + CALM_S) == [Publish("grid/alert/refused", b"")]
    assert (seen.refusals.total, seen.alert_rows()) == (0, [])
    seen.refusals.add("not JSON", "topic 'y'", 900.0)
    assert alert(seen.refused(UNIX_S, 900.0))["text"].startswith("1 messages refused: 1 not JSON; the last from topic 'y'")


def test_a_shared_broker_has_a_view_for_each():
    assert show(shared=True).alert("disk", "full", UNIX_S)[0].topic == "grid/view/me/alert/disk"
