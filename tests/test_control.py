"""What the commands do to a real network: join, leave, forget, siblings."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from live import SETTLE_S, Grid
from patience import wait_until
from ports import free_ports

from agent import control


@pytest.fixture
def grid(tmp_path):
    with Grid(tmp_path) as grid:
        yield grid


def edges(node):
    """The siblings as the disk has them: id -> (counter, dialled by us)."""
    kept = json.loads((node.folder / "siblings.json").read_text())["data"]
    return {id_: (edge["counter"], edge["dial"]) for id_, edge in kept.items()}


def bridges(node):
    return sorted(path.stem for path in (node.folder / "bridges").glob("*"))


def test_join_is_undirected_and_kept_on_both_disks(grid):
    a, b = (grid.node(id_, watts) for id_, watts in (("a", -500), ("b", 1200)))
    wait_until(lambda: b.status() and a.read("grid/summary"), 10)
    done = b.join(a)
    assert done.stdout == "joined a\n"
    grid.agree([a, b], 700, 2)
    assert edges(a) == {"b": (1, False)}
    assert edges(b) == {"a": (1, True)}
    assert (bridges(a), bridges(b)) == ([], ["a"])  # one TCP connection carries both directions
    assert b.join(a).stdout == "already joined to a\n"
    wait_until(lambda: [n.read(f"grid/sibling/{s}") for n, s in ((a, "b"), (b, "a"))] == [b"1", b"1"], 10)

    # joined from the other end too: nothing changes, and there is no second bridge
    assert a.join(b).stdout == "already joined to b\n"
    assert (edges(a), edges(b)) == ({"b": (1, False)}, {"a": (1, True)})
    assert (bridges(a), bridges(b)) == ([], ["a"])

    shown = [json.loads(node.cli("siblings", "--json").stdout) for node in (a, b)]
    assert [list(one) for one in shown] == [["b"], ["a"]]
    assert shown[0]["b"]["link"] == shown[1]["a"]["link"] == "linked"
    assert f"b\tlinked\t127.0.0.1:{b.port}\tb" in a.cli("siblings").stdout  # the address learnt from its info

    # both forget nothing over a restart of everything
    for node in (a, b):
        node.kill_agent()
        node.kill_broker()
    for node in (a, b):
        node.start(meter=False)
    grid.agree([a, b], 700, 2)


def test_both_ends_join_each_other_at_once(grid):
    a, b = (grid.node(id_, watts) for id_, watts in (("a", -500), ("b", 1200)))
    wait_until(lambda: a.read("grid/summary") and b.read("grid/summary"), 10)
    both = threading.Barrier(2)  # no command line: one of two may start so late that the other has joined

    def join(node, other):
        both.wait(10)
        control.ask(node.folder, "join", f"127.0.0.1:{other.port}")

    threads = [threading.Thread(target=join, args=ends) for ends in ((a, b), (b, a))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grid.agree([a, b], 700, 2)
    wait_until(lambda: (bridges(a), bridges(b)) == (["b"], []), SETTLE_S, lambda: (bridges(a), bridges(b)))  # the smaller id's
    assert (edges(a), edges(b)) == ({"b": (1, True)}, {"a": (1, False)})
    grid.agree([a, b], 700, 2)


def test_joins_that_cannot_be_say_why(grid):
    a = grid.node("a")
    wait_until(lambda: a.read("grid/summary"), 10)
    bare = grid.node("bare", start=False)
    bare.start_agent()
    wait_until((bare.folder / "mosquitto.conf").exists, 10)
    bare.kill_agent()  # a broker without an agent
    bare.start_broker()
    closed = free_ports(1)[0]
    told = {
        f"127.0.0.1:{a.port}": "this node itself",
        f"localhost:{a.port}": "this node itself",
        f"127.0.0.1:{closed}": "no broker answers there",
        f"127.0.0.1:{a.meter_port}": "speaks no MQTT",
        "127.0.0.1:99999": "not an address",
        "mqtt://127.0.0.1": "not an address",
        "a b": "not an address",
        "": "not an address",
        "no-such-host.invalid:1883": "no broker answers there",
        f"127.0.0.1:{bare.port}": "no node shows its grid/summary",
    }
    with ThreadPoolExecutor() as pool:  # some wait eight seconds for a node that may just be starting
        errors = list(pool.map(partial(refusal, a), told))
    for (address, says), error in zip(told.items(), errors, strict=True):
        assert says in error, (address, error)
    for summary in (b"rubbish", b"{}", b'{"node":7}', b'{"node":"\xff"}', b"[" * 100_000, b'{"node":"../etc"}'):
        bare.say("grid/summary", summary)
        began_s = time.monotonic()
        error = refusal(a, f"127.0.0.1:{bare.port}")
        assert "is not ours" in error or "no valid id" in error, (summary[:20], error)
        assert time.monotonic() - began_s < 5
    done = a.cli("join", f"127.0.0.1:{closed}")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"grid: cannot join 127\.0\.0\.1:\d+: no broker answers there \(Connection refused\)\. .*\n", done.stderr)
    assert a.cli("leave", "nobody").returncode == 1
    assert "is no sibling of this node; its siblings: none" in a.cli("leave", "nobody").stderr
    assert "use 'grid leave'" in a.cli("forget", "a").stderr
    assert "no node 'ghost' is known; known: a" in a.cli("forget", "ghost").stderr
    assert a.status()["siblings"] == {}
    assert a.cli("siblings").stdout == "no siblings yet: grid join HOST:PORT\n"
    assert "Traceback" not in a.log()


def refusal(node, address):
    return json.loads(control.ask(node.folder, "join", address))["error"]


def test_leave_one_sibling_parts_both_ends(grid):
    a, b, c = nodes = grid.network(a=-500, b=1200, c=-70)
    c.join(a)
    grid.agree(nodes, 630, 3)
    done = a.cli("leave", "b")
    assert (done.returncode, done.stdout) == (0, "parted from b\n")
    wait_until(lambda: "a" not in b.status()["siblings"], 5, b.status)
    wait_until(lambda: (edges(a)["b"][0], edges(b)["a"][0]) == (2, 2), 5, lambda: (edges(a), edges(b)))
    wait_until(lambda: "a" not in bridges(b), SETTLE_S, lambda: bridges(b))
    grid.agree(nodes, 630, 3)  # by way of c
    wait_until(lambda: a.read("grid/sibling/b") is None, 5, a.status)

    assert b.join(a).stdout == "joined a\n"
    wait_until(lambda: b.status()["siblings"].get("a", {}).get("link") == "linked", SETTLE_S, b.status)
    wait_until(lambda: edges(a)["b"][0] == edges(b)["a"][0] == 3, 10, lambda: (edges(a), edges(b)))
    grid.agree(nodes, 630, 3)


def test_leave_the_network_and_join_again(grid):
    a, b, c = nodes = grid.network(a=-500, b=1200, c=-70)
    done = c.cli("leave")
    assert (done.returncode, done.stdout) == (0, "left the network (parted from b)\n")
    grid.agree([a, b], 700, 2)
    assert a.read("grid/node/c/state") is None
    assert json.loads(a.read("grid/node/c/info"))["left"] is True
    assert "c" not in a.status()["nodes"]
    assert c.status()["left"] is True
    wait_until(lambda: c.status()["summary"]["members"] == ["c"], SETTLE_S, c.status)
    c.kill_agent()  # having left outlives a restart
    c.start_agent()
    wait_until(lambda: c.status().get("left") is True, 10, c.status)
    grid.agree([a, b], 700, 2)

    assert c.join(a).stdout == "joined a\n"
    grid.agree(nodes, 630, 3, seconds=40)
    assert c.status()["left"] is False
    assert "left" not in json.loads(b.read("grid/node/c/info"))


def test_a_forgotten_node_leaves_no_ghost_and_stays_away(grid):
    a, b, c = nodes = grid.network(a=-500, b=1200, c=-70)
    old = {topic: payload for topic, payload in b.held("grid/node/c/#").items()}
    assert len(old) == 2
    c.kill_agent()
    c.kill_broker()
    done = a.cli("forget", "c")
    assert (done.returncode, done.stdout) == (0, "c is removed everywhere\n")
    for node in (a, b):
        wait_until(lambda node=node: ghosts(node, "c") == [], 5, lambda node=node: ghosts(node, "c"))
    grid.agree([a, b], 700, 2)
    assert "c" not in a.status()["nodes"]
    assert "c" not in b.status()["siblings"]

    for topic, payload in old.items():  # an old copy wanders in, by the inbox and by the shared tree
        b.say(topic, payload)
        a.say(topic.replace("grid/node/", "$grid/in/b/"), payload)
    for node in (a, b):
        wait_until(lambda node=node: ghosts(node, "c") == [], 5, lambda node=node: ghosts(node, "c"))
    grid.agree([a, b], 700, 2)
    for node in (a, b):  # removal outlives a restart of all
        node.kill_agent()
        node.kill_broker()
    for node in (a, b):
        node.start(meter=False)
    grid.agree([a, b], 700, 2)

    # switched on again it is told so, and its owner brings it back
    c.start(meter=False)
    wait_until(c.status, 10, c.log)
    grid.agree([a, b], 700, 2)
    wait_until(lambda: c.read("grid/summary"), 10)
    c.join(a)
    grid.agree(nodes, 630, 3, seconds=40)
    assert "forgotten" not in c.alerts()


def ghosts(node, id_):
    """Topics that still hold something of this node, the record of its removal aside."""
    held = [
        topic.removeprefix("$grid/in/").partition("/")[2] if topic[0] == "$" else topic for topic in node.held("grid/#", "$grid/#")
    ]
    return [topic for topic in held if id_ in topic.split("/") and "forgotten" not in topic]


@pytest.mark.parametrize("both", [False, True])
def test_killed_between_join_and_link(grid, both):
    """The joiner dies right after its answer: its broker may not have been told of the new bridge yet."""
    a, b = (grid.node(id_, watts) for id_, watts in (("a", -500), ("b", 1200)))
    wait_until(lambda: a.read("grid/summary") and b.read("grid/summary"), 10)
    control.ask(b.folder, "join", f"127.0.0.1:{a.port}")
    b.kill_agent()
    if both:
        b.kill_broker()
        b.start_broker()
    b.start_agent()
    grid.agree([a, b], 700, 2)
    assert (edges(a), edges(b)) == ({"b": (1, False)}, {"a": (1, True)})
