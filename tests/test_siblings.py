"""Siblings: an edge is one counter, odd joined, even parted, and both ends come to the same in any order."""

import random

import pytest

from agent.events import Bridge
from agent.life import STALE_S
from agent.siblings import ACKED_S, GRACE_S, MAX_COUNTER, MAX_EDGES, MAX_SIBLINGS, REDIAL_S, Edge, Siblings
from agent.wire import WireError

A, B = "a.test:1883", "b.test:1883"


def tell(teller: Siblings, listener: Siblings, now: float, address: str | None = None) -> bool:
    """What an info record carries from one end to the other."""
    return listener.told(teller.me, teller.counters(), teller.dials(), address, now)


def test_join_and_leave_by_hand():
    a, b = Siblings("a"), Siblings("b")
    assert a.join("b", B, 0.0)
    assert not a.join("b", B, 1.0)
    assert (a.joined(), a.counters(), a.dials(), a.links()) == (["b"], {"b": 1}, ["b"], (Bridge("b", "b.test", 1883),))
    assert tell(a, b, 2.0, A)
    assert not tell(a, b, 2.5, A)
    assert (b.joined(), b.counters(), b.dials(), b.links()) == (["a"], {"a": 1}, [], ())
    assert not tell(b, a, 3.0)
    assert b.part("a", 10.0)
    assert not b.part("a", 10.0)
    assert not b.part("c", 10.0)
    assert (b.joined(), b.counters()) == ([], {"a": 2})
    assert tell(b, a, 11.0)
    assert (a.joined(), a.counters(), a.dials()) == ([], {"b": 2}, [])
    assert a.join("b", B, 20.0)
    assert a.counters() == {"b": 3}
    assert a.edges["b"].parted_s is None


def test_both_ends_join_at_once_and_the_smaller_id_keeps_its_bridge():
    a, b = Siblings("a"), Siblings("b")
    a.join("b", B, 0.0)
    b.join("a", A, 0.0)
    assert not tell(b, a, 1.0)
    assert tell(a, b, 1.0)
    assert (a.dials(), b.dials()) == (["b"], [])
    assert (a.joined(), b.joined()) == (["b"], ["a"])
    assert not tell(b, a, 2.0)
    assert not tell(a, b, 2.0)


def test_a_bridge_is_not_given_up_for_one_that_is_not_there():
    a, b = Siblings("a"), Siblings("b")
    a.join("b", B, 0.0)
    b.join("a", A, 0.0)
    b.told("a", {"b": 1}, ["c"], None, 1.0)  # a joined us, and says it keeps no bridge to us
    assert b.dials() == ["a"]
    b.told("a", {"b": 0}, ["b"], None, 1.0)  # older than our own join
    assert b.dials() == ["a"]


def test_older_counters_say_nothing():
    b = Siblings("b", {"a": Edge(4)})
    assert not b.told("a", {"b": 3}, ["b"], None, 0.0)
    assert b.counters() == {"a": 4}
    assert not b.told("c", {"b": 2}, [], None, 0.0)  # parted before we knew it
    assert not b.told("c", {}, [], None, 0.0)
    assert "c" not in b.edges
    assert b.told("a", {"b": 5}, [], None, 0.0)
    assert b.joined() == ["a"]


def test_the_link_stays_until_the_other_end_has_heard():
    a, b = Siblings("a"), Siblings("b")
    a.join("b", B, 0.0)
    tell(a, b, 0.0)
    a.part("b", 100.0)
    assert a.links() == (Bridge("b", "b.test", 1883),)
    assert not a.tick(100.0 + GRACE_S)
    tell(a, b, 105.0)
    tell(b, a, 106.0)
    assert not a.tick(106.0 + ACKED_S)
    assert a.links()
    assert a.tick(106.1 + ACKED_S)
    assert a.links() == ()
    assert not a.tick(108.0)


def test_the_link_goes_after_the_grace_if_nobody_answers():
    a = Siblings("a")
    a.join("b", B, 0.0)
    a.part("b", 100.0)
    a.tick(100.0 + GRACE_S)
    assert a.links()
    assert a.tick(100.1 + GRACE_S)
    assert a.links() == ()


def test_the_dialler_that_hears_of_the_parting_lets_the_link_go_soon():
    a, b = Siblings("a"), Siblings("b")
    a.join("b", B, 0.0)
    tell(a, b, 0.0)
    b.part("a", 100.0)
    assert tell(b, a, 101.0)
    assert a.links()
    assert a.tick(102.1)
    assert a.links() == ()


def test_a_late_acknowledgement_does_not_lengthen_the_grace():
    a = Siblings("a")
    a.join("b", B, 0.0)
    a.part("b", 100.0)
    a.told("b", {"a": 2}, [], None, 114.9)
    assert a.tick(100.1 + GRACE_S)


def test_redial_when_the_one_that_dialled_is_silent_for_long():
    b = Siblings("b")
    b.told("a", {"b": 1}, ["b"], A, 0.0)
    b.heard("a", 50.0)
    b.heard("stranger", 50.0)
    assert b.silent_s("a", 60.0) == 10.0
    assert b.silent_s("stranger", 60.0) is None
    assert not b.tick(50.0 + REDIAL_S)
    assert b.links() == ()
    assert b.tick(50.1 + REDIAL_S)
    assert b.links() == (Bridge("a", "a.test", 1883),)
    assert not b.tick(51.0 + REDIAL_S)


def test_joining_again_by_hand_dials_at_once_when_the_link_is_silent():
    one = Siblings("a")
    one.told("b", {"a": 1}, ["a"], "192.0.2.2:1883", 0.0)
    assert not one.join("b", "192.0.2.2:1883", STALE_S)
    assert one.join("b", "192.0.2.9:1883", STALE_S + 0.1)
    assert [(link.sibling, link.host) for link in one.links()] == [("b", "192.0.2.9")]
    assert one.counters() == {"b": 1}


def test_no_redial_without_an_address_or_of_one_that_parted():
    b = Siblings("b")
    b.told("a", {"b": 1}, ["b"], None, 0.0)
    assert not b.tick(2 * REDIAL_S)
    assert b.told("a", {"b": 1}, ["b"], A, 2 * REDIAL_S)  # its address is news enough
    assert not b.told("a", {"b": 1}, ["b"], A, 2 * REDIAL_S)
    b.part("a", 2 * REDIAL_S)
    b.tick(3 * REDIAL_S)
    assert not b.tick(4 * REDIAL_S)


def test_the_address_of_one_that_we_dial_is_what_was_typed():
    a = Siblings("a")
    a.join("b", B, 0.0)
    assert not a.told("b", {"a": 1}, [], "10.0.0.9:1883", 0.0)
    assert a.edges["b"].address == B
    assert a.join("b", "10.0.0.9:1883", 1.0)  # typed again
    assert a.counters() == {"b": 1}
    assert a.links() == (Bridge("b", "10.0.0.9", 1883),)


def test_a_sibling_that_moved_is_dialled_where_it_says_that_it_is():
    a = Siblings("a")
    a.join("b", "192.0.2.2:1883", 0.0)
    assert not a.told("b", {"a": 1}, [], "192.0.2.9:1883", 10.0)  # told by way of others
    assert not a.tick(REDIAL_S)
    assert a.tick(REDIAL_S + 0.1)
    assert a.links() == (Bridge("b", "192.0.2.9", 1883),)
    assert not a.tick(2 * REDIAL_S)
    assert a.tick(2 * REDIAL_S + 0.2)  # nor is it there: the two take turns
    assert a.links() == (Bridge("b", "192.0.2.2", 1883),)
    a.heard("b", 130.0)
    assert not a.tick(130.0 + REDIAL_S)
    assert not a.told("b", {"a": 1}, [], "no address", 190.0)
    assert not a.tick(500.0)


def test_what_is_no_address_makes_no_link():
    a = Siblings("a", {"b": Edge(1, dial=True, address="no address"), "c": Edge(1, dial=True)})
    assert a.links() == ()


def test_kept_over_a_restart():
    a = Siblings("a")
    a.join("c", "c.test:1883", 0.0)
    a.join("b", B, 0.0)
    a.part("c", 5.0)
    again = Siblings("a")
    again.load(a.dump(), 6.0)
    assert again.counters() == {"b": 1, "c": 2}
    assert [link.sibling for link in again.links()] == ["b", "c"]  # c may not have heard of the parting
    assert again.silent_s("b", 9.0) is None
    assert not again.tick(10.0)
    assert again.silent_s("b", 12.0) == 2.0
    assert again.tick(6.1 + GRACE_S)
    assert [link.sibling for link in again.links()] == ["b"]
    later = Siblings("a")
    later.load(again.dump(), 90.0)
    assert [link.sibling for link in later.links()] == ["b"]  # that grace is over
    later.load(b'{"NO":{"counter":1},"d":{"counter":1}}', 90.0)
    assert later.joined() == ["d"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"b":1}', b'{"b":{}}', b'{"b":{"counter":"1"}}'])
def test_what_was_not_kept_by_us(data):
    with pytest.raises(WireError, match=r"^siblings: "):
        Siblings("a").load(data, 0.0)


def test_room_for_64_at_a_time_and_for_the_memory_of_many_more():
    a = Siblings("a")
    for number in range(MAX_SIBLINGS):
        a.join(f"b{number}", B, 0.0)
    with pytest.raises(WireError, match=r"^more than 64 siblings; leave one first$"):
        a.join("c", B, 1.0)
    assert not a.told("c", {"a": 1}, ["a"], None, 1.0)
    assert a.told("b0", {"a": 3}, ["a"], None, 1.0)  # it parted and joined again meanwhile
    a.part("b0", 2.0)
    a.join("c", B, 3.0)
    assert not a.told("b0", {"a": 5}, ["a"], None, 4.0)
    assert len(a.joined()) == MAX_SIBLINGS
    a.part("c", 5.0)
    for number in range(300):
        a.join(f"d{number}", B, 6.0)
        a.part(f"d{number}", 6.0)
    assert len(a.edges) == MAX_EDGES
    assert "b0" not in a.edges  # the oldest that parted
    assert len(a.joined()) == MAX_SIBLINGS - 1
    a.join("d299", B, 7.0)
    assert a.counters()["d299"] == 3


def test_a_counter_that_nobody_counted_to():
    a = Siblings("a")
    assert not a.told("b", {"a": MAX_COUNTER + 1}, ["a"], None, 0.0)
    assert a.told("b", {"a": MAX_COUNTER - 1}, ["a"], None, 0.0)
    assert a.told("b", {"a": MAX_COUNTER}, ["a"], None, 0.0)
    assert a.joined() == []


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_joins_leaves_and_messages_settles_at_both_ends(seed):
    dice, now = random.Random(seed), 0.0
    ends = {"a": Siblings("a"), "b": Siblings("b")}
    wire: list[tuple[str, dict[str, int], list[str]]] = []
    for _ in range(40):
        now += dice.random()
        here = dice.choice("ab")
        there = "b" if here == "a" else "a"
        match dice.choice(["join", "part", "tell", "tell"]):
            case "join":
                ends[here].join(there, A if there == "a" else B, now)
            case "part":
                ends[here].part(there, now)
            case _ if wire:
                teller, counters, dials = wire.pop(dice.randrange(len(wire)))  # overtaken and lost ones too
                ends["b" if teller == "a" else "a"].told(teller, counters, dials, None, now)
        wire.append((here, ends[here].counters(), ends[here].dials()))
    for _ in range(3):  # each end's newest record arrives, as repair sees to
        for here, there in (("a", "b"), ("b", "a")):
            tell(ends[here], ends[there], now)
    a, b = ends["a"].edges.get("b"), ends["b"].edges.get("a")
    assert (a and a.counter) == (b and b.counter)
    assert not (a and b and a.joined and a.dial and b.dial)
