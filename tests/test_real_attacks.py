"""Attacks on real brokers and agents: net, price, loads and siblings stay, what was forged is repaired, the foe is named.

GRID_ATTACKS=1 runs the floods at full length, with 10^5 ids. The table stands at the end of the run.
"""

import time

import pytest
from attacks import ATTACKS
from conftest import Attacked
from floods import LONG
from scene import Scene, Watch

from agent.life import STALE_S

LATE_S = STALE_S + 2.0 if LONG else 0.0  # who was cut off meanwhile is missed only then
REPAIR_S = 5.0  # until the last forgery is gone; the table shows how long it took


def cases(network):
    return [
        pytest.param(one, id=f"{one.name}, {one.by}")
        for one in ATTACKS
        if network in one.networks and (LONG or network == "open" or not one.long)
    ]


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    with Scene(tmp_path_factory.mktemp("closed"), closed=True) as scene:
        yield scene


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with Scene(tmp_path_factory.mktemp("open"), closed=False) as scene:
        yield scene


def fight(scene, attack, attacked):
    more = "it did not end"
    try:
        with Watch(scene) as watch:
            more = attack.run(scene, watch)
            watch.settle(REPAIR_S)
            time.sleep(LATE_S)
    finally:
        seen = watch.seen()
        forged = f"{len(seen.shown)} topics, {seen.repaired_s:.2f}" if seen.shown else "-"
        if seen.left:
            forged += f", left: {', '.join(seen.left[:3])}"
        network = "closed" if scene.closed else "open"
        changed, named = ", ".join(seen.changed) or "nothing", ", ".join(seen.named) or "-"
        cost = f"{seen.grown_mb:.1f}", f"{seen.cpu:.2f}"
        attacked(Attacked(network, attack.name, attack.by, changed, forged, named, *cost, more or ""))
    assert seen.changed == []
    assert seen.left == []
    assert all("Traceback" not in node.log() for node in scene.grid.nodes.values())


@pytest.mark.parametrize("attack", [case for case in cases("closed") if not case.values[0].fresh])
def test_a_closed_network_holds(closed, attack, attacked):
    fight(closed, attack, attacked)


@pytest.mark.parametrize("attack", [case for case in cases("closed") if case.values[0].fresh])
def test_a_closed_network_holds_and_cuts_the_foe_off(tmp_path, attack, attacked):
    with Scene(tmp_path, closed=True) as scene:
        fight(scene, attack, attacked)


@pytest.mark.parametrize("attack", cases("open"))
def test_an_open_network_holds_against(opened, attack, attacked):
    fight(opened, attack, attacked)
