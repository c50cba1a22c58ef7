"""Who is who on one real network: a cloned card, mad clocks, nodes of other versions of the software, a name that moves.

The tests of this file share one network and run in their order: a clone is over after a minute of silence,
and the others use that minute.
"""

import json
import shutil
import subprocess
import time

import pytest
from conftest import Survived
from live import GRID, RATED_W, agreed
from netns import a_lan
from patience import wait_until, within
from pi import PORT
from witness import Witness

from agent.refute import QUIET_S

OURS = {"a": -500, "b": 1200, "c": -70, "nineteen": -300, "later": 900, "stepped": -110, "drifting": -40}
CLOCKS = {
    "nineteen": (10.0, 1.0),
    "later": (time.time() + 3600, 1.0),
    "stepped": (time.time(), 1.0),
    "drifting": (time.time(), 3.0),
}
PAIRS = [("a", "b"), ("b", "c"), ("c", "a"), ("nineteen", "b"), ("later", "c"), ("stepped", "nineteen"), ("later", "drifting")]
TO_CONFLICT_S = 40.0
GROWTH = 2.0  # versions a second, at the most, of an id that two nodes claim
VISITOR, ELDER = "visitor", "elder"
MOVED = "10.77.0.99"


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with a_lan(tmp_path_factory.mktemp("strangers")) as lan:
        for name, watts in OURS.items():
            pi = lan.pi(name, watts)
            if name in CLOCKS:
                pi.mad(*CLOCKS[name])
        lan.network(PAIRS)
        yield lan


def summaries(pis):
    return [pi.status().get("summary", {}) for pi in pis]


def test_a_cloned_card_is_a_conflict_that_does_not_flap(net, survived):
    """The same card runs twice, with the same siblings: neither is counted, everybody says what to do, no race of versions."""
    pis, a, b = list(net.pis.values()), net.pis["a"], net.pis["b"]
    clone = net.pi("clone", -888, id_="a")
    a.kill("agent")
    shutil.copytree(a.state, clone.state, dirs_exist_ok=True, ignore=shutil.ignore_patterns("agent.*", "mosquitto.*"))
    shutil.copy(a.config, clone.config)
    a.start_agent()
    with Witness(net) as witness:
        clone.power_on()
        shown_s = within(TO_CONFLICT_S, lambda: all("conflict-a" in pi.alerts() for pi in pis), lambda: [pi.alerts() for pi in pis])
        assert all("give one of them another [node] id" in pi.alerts()["conflict-a"] for pi in pis)
        wait_until(lambda: {pi.held("grid/availability/a").get("grid/availability/a") for pi in pis} == {b"conflict"}, 5, "shown")
        others = pis[1:]
        left_out = sum(pi.net_w for pi in others)
        wait_until(lambda: agreed(others, left_out, heard=6), 20, lambda: summaries(others))

        began_s, before = time.monotonic(), b.status()["nodes"]["a"]["version"]
        marks = {pi.name: len(witness.seen[pi.name]) for pi in others}
        time.sleep(10)
        grown = (b.status()["nodes"]["a"]["version"] - before) / (time.monotonic() - began_s)
        seen = [summary for name, mark in marks.items() for summary in witness.seen[name][mark:]]
        assert {(s["net_w"], s["low_w"], s["high_w"], s["heard"], s["nodes"]) for s in seen} == {
            (left_out, left_out - RATED_W, left_out + RATED_W, 6, 7)
        }
        assert 0 < grown < GROWTH
        clone.power_off()
        net.quiet_s = time.monotonic()
    survived(Survived("cloned card (seconds until all say so)", 8, 1, net.lost(others), len(witness.wrong), shown_s))


def test_mad_clocks_change_nothing(net, survived):
    """1970, an hour ahead, three times too fast, and half an hour back in the middle of the run: only dates differ."""
    del net.pis["clone"]
    pis = list(net.pis.values())[1:]  # a is still in conflict
    names = [pi.name for pi in pis]
    at = {pi.name: pi.status()["summary"]["at"] for pi in pis}
    assert at["nineteen"].startswith("1970-01-01")
    with Witness(net) as witness:
        first = net.agree(pis, heard=6)
        slots = {pi.name: pi.status()["summary"]["slot"] for pi in pis}
        assert (slots["nineteen"], slots["later"] - slots["b"]) in {(0, 4), (0, 3), (0, 5)}
        net.pis["stepped"].mad(CLOCKS["stepped"][0] - 1800)
        wait_until(lambda: net.pis["stepped"].status()["summary"]["slot"] - net.pis["b"].status()["summary"]["slot"] in (-2, -1), 5)
        for pi, watts in (
            (net.pis["nineteen"], -310),
            (net.pis["stepped"], -150),
            (net.pis["drifting"], -45),
            (net.pis["later"], 950),
        ):
            pi.start_meter(watts)
        agree_s = within(10, lambda: agreed(pis, sum(pi.net_w for pi in pis), heard=6), lambda: summaries(pis))
        marks = {name: len(witness.seen[name]) for name in names}
        time.sleep(8)
        seen = [summary for name in names for summary in witness.seen[name][marks[name] :]]
        assert {(s["heard"], s["nodes"]) for s in seen} == {(6, 7)}
        assert max(s["oldest_s"] for s in seen) < 8.0
        last = net.agree(pis, heard=6)
    assert first["digest"] != last["digest"]
    survived(Survived("clocks: 1970, +1 h, -30 min, three times too fast", 7, 4, net.lost(pis), len(witness.wrong), agree_s))


def beat(stranger, version):
    """One heartbeat of a node of the next version, and of one of the version before: keys more, and keys fewer."""
    watts = {"net_w": -120, "produced_w": 0, "consumed_w": 120, "quality": "good", "zone": "main", "rated_w": 500}
    new = json.dumps({**watts, "hz_mean": [49.98, 1e3], "flex": {"v2": {}}, "instance": "beef", "version": version, "sig2": "é"})
    old = f'{{"version":{version},"zone":"main","quality":"good","rated_w":500,"net_w":-30,"produced_w":0,"consumed_w":30}}'
    stranger.say(f"$grid/in/{VISITOR}/{VISITOR}/state", new)
    stranger.say(f"$grid/in/{VISITOR}/{ELDER}/state", old)
    return {f"grid/node/{VISITOR}/state": new.encode(), f"grid/node/{ELDER}/state": old.encode()}


def test_nodes_of_other_versions(net, survived):
    """Their unknown keys and kinds are given on byte for byte, their protocol is shown; what they left behind is not life."""
    pis, far = list(net.pis.values())[1:], net.pis["drifting"]
    slow = {
        f"{VISITOR}/info": b'{ "proto" : 2 , "agent":"9.1", "siblings":{"b":1}, "dials":["b"], "roof":{"tilt":3.5e1}, "version":5}',
        f"{VISITOR}/forecast": b'{"hours":[1, 2,3],"version":1}',
        f"{VISITOR}/forecast/daily": b'{"\xc3\xa9":"\\u00e9","version":3}',
        f"{ELDER}/info": b'{"version":1}',
        "network/weather": b'{"sky":"clear","by":"visitor","version":2}',
    }
    said = {
        topic.replace("network/", "grid/network/") if "network" in topic else f"grid/node/{topic}": p for topic, p in slow.items()
    }
    total = sum(pi.net_w for pi in pis) - 150
    with Witness(net, rated={VISITOR: 500, ELDER: 500}) as witness, net.pis["b"].tap() as stranger:
        for topic, payload in slow.items():
            stranger.say(f"$grid/in/{VISITOR}/{topic}", payload)
        version, agree_s, began_s = 0, None, time.monotonic()
        while agree_s is None:
            version += 1
            said |= beat(stranger, version)
            time.sleep(1.0)
            agree_s = time.monotonic() - began_s if agreed(pis, total, heard=8) else None
            assert version < 20, summaries(pis)
        wait_until(lambda: far.held("grid/node/#", "grid/network/#").items() >= said.items(), 5, lambda: far.held("grid/#"))
        relayed = {
            topic.replace("grid/network", "$grid/in/later/network").replace("grid/node", "$grid/in/later"): p
            for topic, p in said.items()
        }
        assert far.held("$grid/in/#").items() >= relayed.items()
        shown = subprocess.run(
            [*GRID, "status", "--json", "-c", far.config], capture_output=True, text=True, timeout=20, check=True
        )
        rows = json.loads(shown.stdout)["nodes"]
        assert {id_: rows[id_]["proto"] for id_ in (VISITOR, ELDER, "b")} == {VISITOR: 2, ELDER: None, "b": 1}
        assert (rows[VISITOR]["agent"], rows[ELDER]["agent"]) == ("9.1", None)

        # an agent without memory finds all that in its broker, still retained, from nodes that are silent now
        far.kill("agent")
        for path in far.state.glob("*.json"):
            path.unlink()
        far.start_agent()
        wait_until(lambda: len(far.status().get("summary", {}).get("members", ())) == 6, 15, far.status)
        mark = len(witness.seen[far.name])
        time.sleep(3)
        assert {tuple(summary["members"]) for summary in witness.seen[far.name][mark:]} == {tuple(sorted(pi.id for pi in pis))}
        assert far.held("grid/node/#", "grid/network/#").items() >= said.items()
        for id_ in (VISITOR, ELDER):
            stranger.say(f"$grid/in/{VISITOR}/{id_}/info", b'{"left":true,"siblings":{"b":2},"version":99}')
        wait_until(lambda: agreed(pis, total + 150, heard=6), 15, lambda: summaries(pis))
    survived(Survived("nodes of other versions", 9, 2, net.lost(pis), len(witness.wrong), agree_s))


def test_a_name_that_means_another_address_later(net, survived):
    """Joined by name, the other end moves as routers let it: the link follows the name, the relation stays as it was."""
    joiner, moving = net.pi("joiner", -20), net.pi("moving", 750)
    joiner.hosts(cottage=moving.address)
    for pi in (joiner, moving):
        pi.power_on()
    with Witness(net) as witness:
        wait_until(lambda: "joined" in joiner.ask("join", f"cottage:{PORT}"), 30, joiner.log)
        net.agree([joiner, moving])
        moving.power_off()
        moving.address = MOVED
        joiner.hosts(cottage=MOVED)
        moving.power_on()
        agree_s = within(40, lambda: agreed([joiner, moving], 730), lambda: summaries([joiner, moving]))
    assert (joiner.relation(), moving.relation()) == ({"moving": 1}, {"joiner": 1})
    assert "cottage" in (joiner.state / "bridges" / "moving.conf").read_text()
    survived(Survived("a name that moves", 2, 1, net.lost([joiner, moving]), len(witness.wrong), agree_s))


def test_the_conflict_ends_when_the_clone_is_switched_off(net, survived):
    pis = [net.pis[name] for name in OURS]
    with Witness(net) as witness:
        net.agree(pis, seconds=max(5.0, net.quiet_s + QUIET_S + 25.0 - time.monotonic()))
        ended_s = time.monotonic() - net.quiet_s
        assert ended_s > QUIET_S / 2
        wait_until(lambda: not any("conflict-a" in pi.alerts() for pi in pis), 5, lambda: [pi.alerts() for pi in pis])
        wait_until(lambda: {pi.held("grid/availability/a").get("grid/availability/a") for pi in pis} == {b"online"}, 5, "online")
    survived(Survived("cloned card switched off", 7, 1, net.lost(pis), len(witness.wrong), ended_s))
