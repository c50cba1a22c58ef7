"""Floods: who sends more than could be by mistake is cut off and named; the others stay, and nobody else pays for it."""

import json

import pytest
from desk import Desk, info, state
from realm_desk import B, C, a_desk, meet, reasons, tell
from seals import signed

from agent import cuts
from agent.cuts import ALL_BURST, BAD_BURST, CLEARED_S, DEAD_S, GOOD_S, LONGEST_S, MOST, PAUSE_S, STILL, Cut, Cuts
from agent.events import Bar, Bridges, Complain
from agent.trust import PACE_BURST, spelled


def flood(desk: Desk, sibling: str, count: int, owner: str = "b"):
    effects = []
    for number in range(count):
        effects += desk.hear(f"$grid/in/{sibling}/{owner}/state", signed(C, "grid/node/b/state", state(10**6 + number)))
    return effects


def test_a_sibling_that_floods_is_cut_named_and_tried_again_for_ever_longer():
    desk = a_desk()
    meet(desk)
    tell(desk, C, "$grid/in/c/c/info", info(1, siblings={"me": 1}))
    before = desk.summary
    pauses = []
    for _ in range(3):
        effects = flood(desk, "c", int(BAD_BURST) + 1)
        assert [effect.ids for effect in effects if isinstance(effect, Bar)] == [("c",)]
        assert desk.node.cuts.cut() == ["c"]
        assert "c sent more messages" in desk.alerts["flood-c"]
        looked = desk.node.show.refusals.reasons["wrongly signed"]
        flood(desk, "c", 1000)
        assert desk.node.show.refusals.reasons["wrongly signed"] == looked  # not even looked at
        assert desk.summary["members"] == before["members"]
        began = desk.now
        while desk.node.cuts.cut():
            desk.wait(0.25)
            tell(desk, B, "$grid/in/b/b/state", state(int(desk.now * 10)))
        pauses.append(desk.now - began)
    assert pauses == pytest.approx([PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S], abs=0.3)
    assert "flood-c" in desk.alerts
    desk.now += GOOD_S + 4 * PAUSE_S
    desk.wait(1.0)
    assert "flood-c" not in desk.alerts


def test_a_link_that_we_dial_is_taken_away_and_comes_back():
    desk = a_desk()
    desk.node.siblings.join("c", "c.test:8883", desk.now)
    desk.node.siblings.join("d", "d.test:8883", desk.now)
    (bridges,) = [effect for effect in flood(desk, "c", int(BAD_BURST) + 2) if isinstance(effect, Bridges)]
    assert [link.sibling for link in bridges.links] == ["d"]
    (bridges,) = [effect for effect in desk.wait(PAUSE_S + 0.5) if isinstance(effect, Bridges)]
    assert [link.sibling for link in bridges.links] == ["c", "d"]


def test_what_is_wrong_in_our_own_tree_came_by_a_link_that_we_dial():
    desk = a_desk()
    meet(desk)
    for number in range(int(BAD_BURST) + 1):
        desk.hear("grid/price", b"%d" % number)
    assert desk.node.cuts.cut() == []  # nobody to be blamed: all that we have dialled us, and the broker holds them back
    desk.node.siblings.join("d", "d.test:8883", desk.now)
    for _ in range(int(BAD_BURST) + 1):
        desk.hear("grid/node/b/state", b"{}")
    assert desk.node.cuts.cut() == ["d"]


def test_inboxes_beyond_what_a_node_can_have_siblings_are_laid_to_whom_we_dial():
    """Nobody else can write into an inbox that is not its own; and invented names must not cost memory."""
    cuts = Cuts()
    for number in range(MOST):
        assert cuts.wrong(f"x{number}", ["d"], 0.0) is None
        assert cuts.any(f"x{number}", ["d"], 0.0) is None
    named = [cuts.wrong(f"y{number}", ["d"], 0.0) for number in range(int(BAD_BURST) + 1)]
    assert [name for name in named if name] == ["d"]
    assert [cuts.any(f"z{number}", ["e"], 0.0) for number in range(int(ALL_BURST) + 1)][-1] == "e"
    assert (len(cuts.bad), len(cuts.all), cuts.cut()) == (MOST + 1, MOST + 1, ["d", "e"])


def test_an_alert_advises_to_revoke_only_whom_nobody_else_can_have_accused():
    desk = a_desk()
    meet(desk)
    flood(desk, "c", int(BAD_BURST) + 1)
    assert "grid revoke c" in desk.alerts["flood-c"]
    desk.node.siblings.join("d", "d.test:8883", desk.now)
    flood(desk, "b", int(BAD_BURST) + 2)
    assert "grid revoke" not in desk.alerts["flood-b"]
    assert "or d, whom this node dials" in desk.alerts["flood-b"]


def test_who_writes_into_anothers_inbox_is_found():
    """c is cut, and its inbox goes on: then it is d, whose broker we dial, that writes there."""
    desk = a_desk()
    desk.node.siblings.join("d", "d.test:8883", desk.now)
    flood(desk, "c", int(BAD_BURST) + 2)  # the first of a node not known waits, each next one drives one out
    assert desk.node.cuts.cut() == ["c"]
    desk.wait(4.0)
    flood(desk, "c", STILL - 1)
    assert desk.node.cuts.cut() == ["c"]
    effects = flood(desk, "c", 1)
    assert desk.node.cuts.cut() == ["d"]
    assert Complain("the link to c is tried again") in effects
    assert "flood-c" not in desk.alerts
    desk.node.siblings.join("e", "e.test:8883", desk.now)
    for _ in range(int(BAD_BURST) + 2):
        flood(desk, "c", 1)
    assert desk.node.cuts.cut() == ["d", "e"]  # not c again: now it is the next one's turn


def test_a_maker_that_signs_faster_than_anybody_needs_is_slowed_down():
    desk = a_desk()
    meet(desk)
    start = desk.node.book.get("b", "state").record.version
    for number in range(380):
        tell(desk, B, "$grid/in/b/b/state", state(start + 1 + number, number))
    assert desk.node.book.get("b", "state").record.version <= start + PACE_BURST
    tell(desk, C, "$grid/in/b/c/info", info(1))
    assert desk.node.book.get("c", "info") is not None
    desk.now += 1.0
    tell(desk, B, "$grid/in/b/b/state", state(start + 2000, 7))
    assert desk.node.book.get("b", "state").record.net_w == 7


def test_more_than_a_network_can_have_to_tell_is_a_flood_whatever_it_says(monkeypatch):
    monkeypatch.setattr(cuts, "ALL_BURST", 1000.0)
    desk = a_desk()
    meet(desk, by="c")
    payload = desk.told["grid/node/b/state"]
    for _ in range(1100):
        desk.hear("$grid/in/c/b/state", payload)
    assert desk.node.cuts.cut() == ["c"]
    assert list(reasons(desk)) == ["from a sibling that is cut off"]


def test_an_open_node_cuts_nobody_and_knows_no_revocation():
    desk = Desk()
    desk.meet("b", 500)
    for number in range(2000):
        desk.hear("$grid/in/z/b/state", b"{%d" % number)
    desk.hear("$grid/in/b/network/revoked/b", json.dumps({"keys": [spelled(B.key)], "version": 1}).encode())
    assert desk.node.cuts.cut() == []
    assert desk.summary["members"] == ["b"]


def flooded(found: Cuts, now: float) -> str | None:
    """Wrong ones by x until somebody is cut for it."""
    return next(cut for _ in range(2 * int(BAD_BURST)) if (cut := found.wrong("x", ["d"], now)) is not None)


def test_who_proved_innocent_begins_anew():
    """x was cut for what d wrote: its next pause is the first one again, and no longer than d's account bears is d blamed."""
    found = Cuts()
    assert flooded(found, 0.0) == "x"
    assert [found.after("x", ["d"], DEAD_S - 0.1, 3.0) for _ in range(STILL)] == [None] * STILL  # still under way
    assert [found.after("x", ["d"], DEAD_S, 3.0) for _ in range(STILL)] == [None] * (STILL - 1) + ["d"]
    assert (found.cut(), found.siblings["d"].pause_s) == (["d"], PAUSE_S)
    assert found.tick(3.0 + PAUSE_S) == (["d"], [])
    assert flooded(found, 3.0 + PAUSE_S) == "d"  # what is wrong in x's inbox is laid to d, for a while
    assert found.siblings["d"].pause_s == 2 * PAUSE_S
    late = 3.0 + CLEARED_S
    assert flooded(found, late) == "x"
    assert found.siblings["x"].pause_s == PAUSE_S


def test_after_the_pause_all_that_a_network_can_have_to_tell_may_come_at_once_again():
    found, now = Cuts(), 5.0
    for _ in range(2):
        assert [found.any("x", (), now) for _ in range(int(ALL_BURST))] == [None] * int(ALL_BURST)
        assert found.any("x", (), now) == "x"
        now += found.siblings["x"].pause_s
        found.tick(now)


def test_two_hours_of_good_conduct_count_from_the_end_of_the_pause():
    for at_s, pause_s, good in ((GOOD_S + LONGEST_S, LONGEST_S, []), (GOOD_S + LONGEST_S + 1.0, PAUSE_S, ["x"])):
        found = Cuts(siblings={"x": Cut(LONGEST_S, 0.0, None)})
        assert found.tick(at_s) == ([], good)
        assert flooded(found, at_s) == "x"
        assert found.siblings["x"].pause_s == pause_s


def test_cuts_by_numbers():
    found = Cuts()
    assert [found.wrong("x", (), 0.0) for _ in range(int(BAD_BURST))] == [None] * int(BAD_BURST)
    assert found.wrong("x", (), 0.0) == "x"
    now, pauses = 0.0, []
    for _ in range(12):
        pauses.append(found.siblings["x"].pause_s)
        now += pauses[-1]
        assert found.tick(now) == (["x"], [])
        while found.wrong("x", (), now) is None:
            pass
    assert pauses[:4] == [10, 20, 40, 80]
    assert max(pauses) == LONGEST_S
    assert found.wrong(None, ("x",), now) is None  # the only one that could be blamed is cut
