"""A short, seeded slice of tests/bench_fuzz.py, and the inputs that were once found by it."""

import msgspec
import pytest
from bench_fuzz import SHARES, TARGETS
from desk import Desk
from fuzz import strike

from agent.events import SetTariff
from drivers import mapfile
from drivers.registers import MapError

INPUTS = 15_000
MOST_MB = 32.0


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_but_the_declared_error_comes_out(target):
    struck = strike(target, max(30, INPUTS * target.share // SHARES), "slice", most_mb=MOST_MB)
    assert struck.found == []
    assert 0 <= struck.refused <= struck.inputs
    assert bool(struck.refused) == bool(target.allowed)


@pytest.mark.parametrize(
    "kept",
    [
        {"siblings": b'{"\xff\xfe":{"counter":1}}'},  # not UTF-8 is another exception than not JSON
        {"records": b'[["grid/network/tariff\xff",""]]'},
        {"seeds": b"[" * 100_000},
        {"switches": b'{"x":' * 100_000},
    ],
    ids=lambda kept: next(iter(kept)),
)
def test_kept_state_that_no_decoder_likes_is_shown_and_done_without(kept):
    desk = Desk(kept=kept)
    assert f"{next(iter(kept))} (" in desk.alerts["store"]
    assert "grid/summary" in desk.told


@pytest.mark.parametrize("counter", [-1, 2**52 + 1, 2**64])
def test_an_edge_of_a_counter_that_nobody_reaches_by_counting_is_not_taken_up(counter):
    desk = Desk(kept={"siblings": msgspec.json.encode({"b": {"counter": counter}, "c": {"counter": 3}})})
    assert list(desk.node.siblings.edges) == ["c"]


@pytest.mark.parametrize("from_s", [2**63, 10**400, -(10**30), 253_402_300_799])
def test_a_tariff_from_a_time_in_no_calendar_is_refused(from_s):
    desk = Desk()
    assert "no calendar has such a time" in desk.ask(SetTariff(import_u=310_000, from_s=from_s))["error"]


@pytest.mark.parametrize("value", ["[" * 9000 + "]" * 9000, "9" * 5000])
def test_a_map_that_the_toml_reader_chokes_on_is_a_wrong_map(value):
    with pytest.raises(MapError, match=r"^mine\.toml: a number of thousands of digits, or lists too deep"):
        mapfile.parse(f"[meter]\nid = {value}\n", "mine.toml")
