"""Faults on real parts: killed agents and brokers, lost and forged retained topics; nothing needs a hand afterwards."""

import json
import os
import signal
import subprocess
import time

import pytest
from live import GRID, RATED_W, SETTLE_S, STALE_S, Grid, alive, pid_in
from patience import wait_until


@pytest.fixture
def grid(tmp_path):
    with Grid(tmp_path) as grid:
        yield grid


def test_killed_agent_killed_broker_and_both_at_once(grid):
    """Three of five nodes fail in the three possible ways; the two left agree without them, then all come back."""
    a, b, c, d, e = nodes = grid.network(a=-100, b=-2000, c=-300, d=4000, e=-50)
    for node in (a, b, c):  # the two that stay are each other's siblings and know all others
        node.join(e)
    grid.agree(nodes, 1550, 5)

    a.kill_agent()
    b.kill_broker()
    c.kill_agent()
    c.kill_broker()
    killed_s = time.monotonic()
    left = grid.agree([d, e], 3950, 2)
    assert time.monotonic() - killed_s < STALE_S
    # what is not known any more may be anywhere within its rating
    assert (left["nodes"], left["low_w"], left["high_w"]) == (5, 3950 - 3 * RATED_W, 3950 + 3 * RATED_W)
    assert left["partial"] is True
    assert left["members"] == ["d", "e"]
    for node in (d, e):
        rows = wait_until(lambda node=node: _gone(node.status()["nodes"]), 5, node.status)
        assert {rows[id_]["availability"] for id_ in "de"} == {"online"}
        wait_until(lambda node=node: node.read("grid/availability/a") == b"stale", 3, "availability")  # looked at once a second
        assert json.loads(node.read("grid/summary"))["heard"] == 2
    # the agent without its broker says so, counts alone, and its command line ends with 3
    assert "broker" in wait_until(b.alerts, 5)
    assert b.status()["summary"]["members"] == ["b"]
    assert b.cli("status").returncode == 3

    a.start_agent()
    b.start_broker()
    c.start_agent("--broker")
    grid.agree(nodes, 1550, 5)
    wait_until(lambda: not any(node.alerts() for node in nodes), 10, lambda: [node.alerts() for node in nodes])
    wait_until(lambda: {node.read("grid/availability/c") for node in nodes} == {b"online"}, 3, "availability")

    # a broker asked to end by hand comes back too, and so does what it held (here Process minds it)
    os.kill(d.broker_pid(), signal.SIGTERM)
    wait_until(lambda: d.read("grid/summary"), 10, "the broker of d serves again")
    grid.agree(nodes, 1550, 5)


def _gone(rows):
    return rows if {rows[id_]["availability"] for id_ in "abc"} == {"stale"} else None


def test_agent_first_broker_later_and_last_words(grid):
    """Start order does not matter; an agent that ends in good order says so, one that is killed is said offline by the broker."""
    a = grid.node("a", -500, start=False)
    a.start(broker=False)
    assert "broker" in wait_until(a.alerts, 10, a.log)
    assert a.status()["connected"] is False
    a.start_broker()
    wait_until(lambda: a.read("grid/net") == b"-500", 10, a.log)
    assert a.read("grid/agent/status") == b"online"
    assert "broker" not in a.alerts()

    assert a.stop_agent() == 0
    said = a.held("grid/#")
    assert said["grid/agent/status"] == b"offline"
    state = json.loads(said["grid/node/a/state"])
    assert (state["quality"], state["net_w"]) == ("absent", None)  # nobody measures any more
    assert "stopped" in state["why"]
    assert json.loads(said["grid/summary"])["heard"] == 0

    a.start_agent()
    wait_until(lambda: a.read("grid/net") == b"-500", 10, a.log)
    assert json.loads(a.read("grid/node/a/state"))["version"] > state["version"]
    a.kill_agent()
    wait_until(lambda: a.read("grid/agent/status") == b"offline", 5, "the last will")


def test_a_stranger_deletes_and_forges_shared_topics(grid):
    """The shared tree is repaired within a second: deleted, replaced by rubbish, or by an older record."""
    a, b = grid.network(a=-500, b=1200)
    before = a.held("grid/node/#", "grid/network/#")
    assert set(before) == {f"grid/node/{id_}/{kind}" for id_ in "ab" for kind in ("state", "info")} | {"grid/network/tariff"}
    refused = a.status()["refused"]
    with a.tap() as stranger:
        for number, topic in enumerate(before):
            old = json.loads(before[topic])
            for payload in (b"", b"rubbish", json.dumps({**old, "version": 0}).encode()):
                stranger.say(topic, payload)
                said_s = time.monotonic()
                wait_until(lambda t=topic, v=old["version"]: version(a.read(t)) >= v, 1.0, topic)
                assert time.monotonic() - said_s < 1.0
            assert a.status()["refused"] == refused + number + 1  # the rubbish alone is counted
    grid.agree([a, b], 700, 2)
    after = a.held("grid/node/#", "grid/network/#")
    assert after["grid/network/tariff"] == before["grid/network/tariff"]
    assert after["grid/node/b/info"] == before["grid/node/b/info"]


def version(payload):
    try:
        return json.loads(payload or b"")["version"]
    except ValueError:
        return -1


def test_a_broker_that_forgot_everything_is_served_again(grid):
    """kill -9 loses all retained topics (persistence is off): the agent and the sibling bring them back."""
    a, b = grid.network(a=-500, b=1200)
    before = set(a.held("grid/#"))
    a.kill_broker()
    a.start_broker()
    wait_until(lambda: set(a.held("grid/#")) >= before, 10, lambda: before - set(a.held("grid/#")))
    grid.agree([a, b], 700, 2)
    assert b.read("grid/net") == a.read("grid/net") == b"700"


def test_agent_restarts_with_nothing_but_its_configuration(grid):
    """A lost card: the node comes back with its id, its siblings and a version above all that it ever said."""
    a, b, c = nodes = grid.network(a=-500, b=1200, c=-70)
    c.join(a)  # b had dialled a and knows its address no more: a hears b by way of c until it dials itself
    version = json.loads(a.read("grid/node/b/state"))["version"]
    b.kill_agent()
    for path in b.folder.glob("*.json"):
        path.unlink()
    b.start_agent()
    grid.agree(nodes, 630, 3)
    assert json.loads(a.read("grid/node/b/state"))["version"] > version
    wait_until(lambda: set(b.status()["siblings"]) == {"a", "c"}, SETTLE_S, b.status)
    assert all(row["availability"] == "online" for row in b.status()["nodes"].values())


def test_a_clone_with_the_same_id_is_a_conflict_everywhere(grid):
    """Two live nodes with one id: neither is counted, and every node says what to do."""
    a, _, c = nodes = grid.network(a=-500, b=1200, c=-70)
    d = grid.node("d", -40)
    wait_until(d.status, 10)
    d.join(c)
    grid.agree([*nodes, d], 590, 4)
    d.configure(**{"id": '"a"'})  # the copied card
    wait_until(lambda: "conflict" in str(a.alerts()), 40, a.alerts)
    for node in nodes:
        text = wait_until(lambda node=node: node.alerts().get("conflict-a"), 20, node.alerts)
        assert "two live nodes" in text
        summary = wait_until(lambda node=node: _without(node, "a"), 20, node.status)
        assert summary["low_w"] <= summary["net_w"] - RATED_W
        wait_until(lambda node=node: node.read("grid/availability/a") == b"conflict", 3, "availability")


def _without(node, id_):
    summary = node.status()["summary"]
    return summary if id_ not in summary["members"] else None


def test_grid_run_with_its_own_broker_ends_both(grid):
    a = grid.node("a", -500, start=False)
    a.start_meter()
    a.start_agent("--broker")
    wait_until(lambda: a.broker_pid() and a.read("grid/net") == b"-500", 15, a.log)
    assert pid_in(a.folder / "agent.pid") == a.agent.pid
    broker = a.broker_pid()
    assert a.stop_agent() == 0
    assert not alive(broker)


def test_a_second_agent_on_the_same_state_is_refused(grid):
    a = grid.node("a", -500)
    wait_until(a.status, 10, a.log)
    second = subprocess.run([*GRID, "run", "-c", a.config], capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert second.stderr.strip().endswith(f"grid: an agent (pid {a.agent.pid}) already runs on {a.folder}")
    assert "Traceback" not in second.stderr
    assert a.agent.poll() is None
    assert pid_in(a.folder / "agent.pid") == a.agent.pid
    assert a.status()["summary"]["net_w"] == -500
