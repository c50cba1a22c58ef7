"""The boot test's own judgement: the settings of its guests, and what a power cut may not cost."""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from images import IMAGE

from agent import wifi
from agent.config import load


def module(name: str) -> types.ModuleType:
    """One of those that boot_test.sh runs with its own directory first in the path."""
    sys.path.insert(0, str(IMAGE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(IMAGE))


testbed, cuts, board = module("testbed"), module("cuts"), module("board")


def test_the_guests_settings_are_valid(tmp_path: Path) -> None:
    for number, (name, join, meter) in enumerate((("oak", None, True), ("elm", "oak", True), ("pi", None, False)), 1):
        path = tmp_path / f"{name}.toml"
        path.write_text(testbed.settings(name, number, join, meter))
        config = load(path)
        assert config.node.id == name
        assert len(config.meters) == meter
    path.write_text(testbed.settings("pi", 9, None, False) + board.RELAYS)
    assert [relay.pin for relay in load(path).loads] == [27, 5]
    (network,) = wifi.parse(board.WIFI, "wifi.toml").networks
    assert (network.ssid, network.password) == (board.SSID, board.PASSWORD)


def a_snapshot(
    version: int, instance: str, siblings: tuple[str, ...] = ("elm",), wh: tuple[int | None, ...] = (5, 6)
) -> dict[str, Any]:
    base = {"version": version, "instance": instance}
    info = {**base, "siblings": dict.fromkeys(siblings, 1), "meters": ["house"], "place": "Card 1"}
    energy = {**base, "day": 20000, "edges": 3, "import_wh": list(wh), "export_wh": [None] * len(wh)}
    return {"records": {"state": base, "info": info, "energy/odd": energy, "energy/even": {}}, "price": "0.3"}


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (a_snapshot(11, "b"), ""),
        (a_snapshot(11, "b", wh=(5, 6, 7)), ""),
        (a_snapshot(10, "b"), "version"),
        (a_snapshot(11, "a"), "instance"),
        (a_snapshot(11, "b", siblings=()), "siblings"),
        (a_snapshot(11, "b", wh=(5,)), "import_wh"),
        (a_snapshot(11, "b", wh=(5, 5)), "import_wh"),
        (a_snapshot(11, "b", wh=(5, 6, 4)), "went back"),
    ],
)
def test_what_a_cut_may_not_cost(after: dict[str, Any], word: str) -> None:
    class Guest:
        name = "oak"

    if not word:
        cuts.compare(Guest, a_snapshot(10, "a"), after)
        return
    with pytest.raises(testbed.Failed, match=word):
        cuts.compare(Guest, a_snapshot(10, "a"), after)
