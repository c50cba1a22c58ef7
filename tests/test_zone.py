"""A zone by its records: who counts, what it hangs on, and whose clock says the day."""

import msgspec
import pytest

from agent.dispatch import Flex
from agent.wire import State
from agent.zone import Known, Zone


def state(net_w: int | None = 0, flex: dict | None = None, **more) -> State:
    watts = {} if net_w is None else {"net_w": net_w, "produced_w": max(0, net_w), "consumed_w": max(0, -net_w)}
    said = {"quality": "good", "zone": "z", "rated_w": 10_000, "version": 1, "flex": flex, **watts, **more}
    return msgspec.convert(said, State)


def flex(*load: int, **more) -> dict:
    return {"load": list(load) or [0, 0, 0, 0], "digest": "d", **more}


FED = flex(firm_w=5000, slack_w=2000, kind="generator")
TIED = flex(firm_w=5000, slack_w=2000, kind="grid")


def test_the_newest_record_counts():
    zone = Zone()
    zone.hear("a", state(-300, flex(100, 0, 0, 200)))
    assert zone.known == {"a": Known(Flex((100, 0, 0, 200)), -300, "d", None)}
    zone.hear("a", state(-100, flex(100, 0, 0, 0)))
    assert zone.known == {"a": Known(Flex((100, 0, 0, 0)), -100, "d", None)}
    zone.hear("a", state(-100))  # it says nothing of itself any more
    assert zone.known == {}
    zone.hear("a", state(-100, flex()))
    zone.hear("a", None)
    zone.hear("b", None)
    assert zone.known == {}


def test_liars_and_clones_do_not_count():
    zone = Zone()
    zone.hear("a", state(-300, flex(0, 0, 0, 12_001)))
    zone.hear("b", state(-300, flex(), quality="conflict"))
    assert zone.known == {}
    zone.hear("c", state(-12_001, flex(100, 0, 0, 0)))
    assert zone.known == {}
    zone.hear("d", state(None, flex(100, 0, 0, 0)))
    assert [known.net_w for known in zone.known.values()] == [None]


def test_the_unit_that_forms_the_grid_is_no_part_of_its_houses_net():
    zone = Zone()
    zone.hear("a", state(1500, FED))
    assert zone.known["a"].net_w == -500
    zone.hear("a", state(1500, flex(firm_w=5000, kind="generator")))  # its meter says nothing now
    assert zone.known["a"].net_w == 1500
    zone.hear("a", state(None, FED, quality="absent"))  # its house's meter failed: nobody takes what the unit gives
    assert (zone.known["a"].net_w, zone.known["a"].flex.slack_w) == (None, 2000)
    zone.hear("a", state(-500, TIED))  # a coupling is in nobody's account
    assert (zone.known["a"].net_w, zone.known["a"].flex.slack_w) == (-500, 2000)


def test_what_it_hangs_on():
    zone = Zone()
    zone.hear("a", state(0, flex(firm_w=5000, slack_w=9)))
    assert (zone.mode, zone.known["a"].flex.firm_w, zone.known["a"].flex.slack_w) == (None, 0, None)
    zone.hear("a", state(0, FED))
    assert zone.mode == "island"
    zone.hear("b", state(0, FED))
    assert zone.mode == "island"
    zone.hear("b", state(0, TIED))
    assert zone.mode is None  # they differ
    zone.hear("a", None)
    assert zone.mode == "tied"
    assert list(zone.feeders) == ["b"]
    zone.hear("b", state(0, flex(firm_w=5000, slack_w=9, kind="fusion")))  # of a later version
    assert (zone.mode, zone.island(["b"])) == (None, None)


@pytest.mark.parametrize(
    ("ats", "day"),
    [
        ({}, 20_779),
        ({"b": "2026-11-23T00:00:01Z"}, 20_780),
        ({"b": "2026-11-23T00:00:01Z", "a": "2026-11-22T23:59:59Z"}, 20_779),  # the first by id
        ({"b": "2026-11-23T00:00:01Z", "a": "yesterday"}, 20_780),
        ({"b": None}, 20_779),
    ],
)
def test_the_day_is_that_of_the_feeders_owner(ats, day):
    zone = Zone()
    zone.hear("0", state(0, flex(), at="1970-01-01T00:00:00Z"))
    for node, at in ats.items():
        zone.hear(node, state(0, TIED, at=at))
    assert zone.day(1_795_336_484.0) == day  # 2026-11-22


def test_what_an_island_wants_and_could_make():
    zone = Zone()
    zone.hear("a", state(0, flex(100, 20, 3, 0, pv_w=1000, dis_w=500, firm_w=7)))
    zone.hear("b", state(1500, FED))
    zone.hear("c", state(0, flex(9000, 0, 0, 0)))
    assert zone.island(["a", "b", "x"]) == (123, 6500)
    assert zone.island(["a", "c"]) is None  # the generator's owner is not counted
    zone.hear("c", state(0, TIED))
    assert zone.island(["a", "b"]) == (123, 6500)  # by the records counted alone
    assert zone.island(["a", "b", "c"]) is None
    assert Zone().island(["a"]) is None


def test_a_view():
    zone = Zone()
    zone.hear("a", state(-300, flex(300, 0, 0, 0)))
    zone.hear("b", state(0, TIED))
    view = zone.view({"b": 4.0}, 3, 5, 49.9)
    assert (view.table, view.nets, view.digests) == ({"b": (zone.known["b"].flex, 4.0)}, {"b": 0}, {"b": "d"})
    assert (view.heard, view.nodes, view.hz) == (3, 5, 49.9)
