"""The agent's side of a real broker: what comes through, what is cut, and what rubbish from outside can and cannot do."""

import json
import os
import signal

import pytest
from live import SETTLE_S, Grid, pid_in, rss_mb
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from patience import wait_until
from ports import free_ports
from tap import Tap

from agent.broker import Broker, Process
from agent.bus import INFLIGHT, KEEP_BYTES, Bus, fetch
from agent.events import Connected, Disconnected, Heard


@pytest.fixture
def grid(tmp_path):
    with Grid(tmp_path) as grid:
        yield grid


@pytest.fixture
def bare(tmp_path):
    """A broker without an agent, not started yet: (its process, its port)."""
    port = free_ports(1)[0]
    files = Broker("x", tmp_path / "bare", port, "127.0.0.1", "grid/sibling/", lambda event: None)
    files.write_main()
    process = Process(files.config)
    yield process, port
    process.close()
    process.close()


def test_a_bus_outlives_its_broker(bare):
    process, port = bare
    events = []
    bus = Bus("x", "127.0.0.1", port, ["grid/node/#", "$grid/in/#"], "grid/agent/status", events.append)
    bus.open()
    wait_until(lambda: Disconnected() in events, 5, events)  # the broker is late
    bus.publish("grid/node/x/state", b"lost", sure=True)  # and nobody hears this: all is told again at the connect
    process.open()
    wait_until(lambda: Connected() in events, 5, events)

    bus.publish("grid/node/x/state", b"own", sure=True)
    with Tap(port, "grid/#") as tap:
        tap.say("grid/node/y/state", b"hello")
        tap.say("$grid/in/z/y/state", b"from z", retain=False)
        tap.say("grid/summary", b"not asked for")
        tap.say("grid/node/y/energy", b"x" * 100_000)
        wait_until(lambda: len([e for e in events if isinstance(e, Heard)]) == 3, 5, events)
        assert fetch("127.0.0.1", port, "grid/node/x/state", 5)[0] == b"own"
    heard = [event for event in events if isinstance(event, Heard)]
    assert heard[:2] == [Heard("grid/node/y/state", b"hello"), Heard("$grid/in/z/y/state", b"from z")]  # nothing of our own
    assert heard[2] == Heard("grid/node/y/energy", b"x" * KEEP_BYTES)  # enough to see that it is too long

    events.clear()
    os.kill(process._child.pid, 9)
    wait_until(lambda: Disconnected() in events, 5, events)
    process.open()
    wait_until(lambda: Connected() in events, 5, events)
    bus.close()
    wait_until(lambda: fetch("127.0.0.1", port, "grid/agent/status", 0.2)[0] is None, 5)  # a good end leaves no will


def test_fetch_tells_a_broker_from_what_is_none(bare):
    process, port = bare
    with pytest.raises(ConnectionRefusedError):
        fetch("127.0.0.1", port, "grid/summary", 1)
    process.open()
    wait_until(lambda: _answers(port), 5, "the broker starts")
    assert fetch("127.0.0.1", port, "grid/summary", 0.3) == (None, "127.0.0.1")
    with Tap(port) as tap:
        tap.say("grid/summary", b"{}")
    assert fetch("127.0.0.1", port, "grid/summary", 5) == (b"{}", "127.0.0.1")


def _answers(port):
    try:
        return fetch("127.0.0.1", port, "grid/summary", 0.1)
    except OSError:
        return None


def test_a_broker_slower_than_its_agent_gets_all_in_order(bare):
    process, port = bare
    process.open()
    events = []
    bus = Bus("x", "127.0.0.1", port, ["$grid/in/#"], "grid/agent/status", events.append)
    bus.open()
    wait_until(lambda: Connected() in events, 5, events)
    with Tap(port, "grid/#") as tap:
        for number in range(10 * INFLIGHT):
            bus.publish(f"grid/node/x/later-{number % 7}", b"%d" % number, sure=True)
        wait_until(lambda: len(tap.heard) >= 10 * INFLIGHT, 20, lambda: len(tap.heard))
        bus.publish("grid/node/x/state", b"last", sure=True)  # nothing is left over for its acknowledgement to take along
        wait_until(lambda: tap.heard[-1].payload == b"last", 5, lambda: tap.heard[-1])
        assert [int(message.payload) for message in tap.heard[:-1]] == list(range(10 * INFLIGHT))
    bus.close()


def test_after_a_reconnection_only_what_is_told_then_is_sent(bare):
    process, port = bare
    process.open()
    events = []
    bus = Bus("x", "127.0.0.1", port, ["$grid/in/#"], "grid/agent/status", events.append)
    bus.open()
    wait_until(lambda: Connected() in events, 5, events)
    os.kill(process._child.pid, signal.SIGSTOP)
    for number in range(2 * INFLIGHT):  # half of them paho's, half of them waiting, none acknowledged
        bus.publish(f"grid/node/x/old-{number}", b"old", sure=True)
    events.clear()
    os.kill(process._child.pid, signal.SIGKILL)
    wait_until(lambda: Disconnected() in events, 5, events)
    process.open()
    wait_until(lambda: Connected() in events, 5, events)
    with Tap(port, "grid/node/#") as tap:
        for number in range(2 * INFLIGHT):  # there is room for as many as before
            bus.publish("grid/node/x/state", b"%d" % number, sure=True)
        wait_until(lambda: tap.heard and tap.heard[-1].payload == b"%d" % (2 * INFLIGHT - 1), 5, lambda: len(tap.heard))
        assert {message.topic for message in tap.heard} == {"grid/node/x/state"}
    bus.close()


def good(id_, version, **more):
    keys = {"net_w": 999, "produced_w": 999, "consumed_w": 0, "quality": "good", "zone": "main", "rated_w": 10_000}
    return json.dumps({**keys, "version": version, **more}).encode()


RUBBISH = {
    "not UTF-8": b'{"version":1,"place":"\xff\xfe"}',
    "not JSON": b"{net_w: 1}",
    "binary": bytes(range(256)),
    "deep": b"[" * 15_000,
    "deep inside": b'{"version":1,"x":' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"}",
    "an array": b"[1,2,3]",
    "a number": b"1e999",
    "text for watts": good("a", 10**6, net_w="999"),
    "a fraction": good("a", 10**6, net_w=998.5),
    "true for watts": good("a", 10**6, net_w=True),
    "watts that do not add up": good("a", 10**6, net_w=1),
    "version of text": good("a", "7"),
    "negative version": good("a", -1),
    "version jump": good("a", 2**60),
    "version jump within the range": good("a", 2**52),
    "over 16 KiB": good("a", 10**6, x="y" * 20_000),
    "nothing but a version": b'{"version":1000000}',
}


def test_rubbish_changes_nothing_and_is_counted_and_shown(grid):
    a, b = nodes = grid.network(a=-500, b=1200)
    before = grid.agree(nodes, 700, 2)
    echoes = {f"$grid/in/b/{one}" for one in ("a/state", "a/info", "b/state", "b/info", "network/tariff")}  # they come last
    held = wait_until(
        lambda: echoes <= (held := set(a.held("grid/#", "$grid/#"))) and held, 10, lambda: a.held("grid/#", "$grid/#")
    )
    topics = ["grid/node/b/state", "$grid/in/b/b/state", "grid/network/tariff"]
    wrong = [
        "grid/node/B!/state",
        "grid/node/b",
        "grid/node/b/state/x/y",
        "grid/node//state",
        "$grid/in/../b/state",
        "grid/network/",
    ]
    sent = 0
    with a.tap() as stranger:
        for payload in RUBBISH.values():
            for topic in topics:
                stranger.say(topic, payload)
                sent += 1
        for topic in wrong:
            stranger.say(topic, good("b", 5))
            sent += 1
    wait_until(lambda: a.status()["refused"] >= sent, 10, lambda: (sent, a.status()["refused"]))
    assert a.status()["refused"] == sent  # each one, and nothing that the agents said
    after = grid.agree(nodes, 700, 2)
    assert {key: after[key] for key in ("net_w", "price_u", "sell_u", "nodes", "members")} == {
        key: before[key] for key in ("net_w", "price_u", "sell_u", "nodes", "members")
    }
    text = wait_until(lambda: a.alerts().get("refused"), 8, a.alerts)
    assert "messages refused" in text
    said = f"{sent} messages refused: "
    wait_until(lambda: json.loads(a.read("grid/alert/refused") or '{"text": ""}')["text"].startswith(said), 8, text)
    assert b.status()["refused"] <= sent  # a broker carries on what its agent refuses; the next agent refuses it too
    assert json.loads(a.cli("status", "--json").stdout)["refused"] == sent
    assert a.agent.poll() is None
    # what could not stand there does not stand there
    wait_until(
        lambda: set(a.held("grid/#", "$grid/#")) == held | {"grid/alert/refused"}, 10, lambda: a.held("grid/#", "$grid/#").keys()
    )


def test_ten_megabytes_and_an_id_unlike_its_topic(grid):
    a, _ = nodes = grid.network(a=-500, b=1200)
    for topic in ("grid/node/b/state", "$grid/in/b/b/state", "grid/anything"):
        client = Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", a.port)
        client.loop_start()
        client.publish(topic, b"x" * 10_000_000, qos=0, retain=True)
        wait_until(lambda: a.read("grid/agent/status") == b"online", 5)
        client.disconnect()
        client.loop_stop()
    own = a.read("grid/node/a/state")
    with a.tap() as stranger:  # a record under another node's name: the topic says whose it is, and its own version was older
        stranger.say("grid/node/b/state", own.replace(b'"version":', b'"version":1'))
        stranger.say("grid/node/b/state", own.replace(b'"version":', b'"id":"a","node":"a","version":'))
    wait_until(lambda: json.loads(a.read("grid/node/b/state"))["net_w"] == 1200, SETTLE_S, "b jumps above it")
    grid.agree(nodes, 700, 2)
    assert rss_mb(a.agent.pid) < 64
    assert len(a.held("grid/#", "$grid/#")) < 60


@pytest.mark.timeout(180)
def test_twenty_thousand_invented_ids(grid):
    a, _ = nodes = grid.network(a=-500, b=1200)
    with a.tap() as stranger:
        for number in range(20_000):
            topic = f"grid/node/ghost-{number}/state" if number % 2 else f"$grid/in/b/ghost-{number}/state"
            stranger.say(topic, good("", 1), qos=0)
    wait_until(lambda: a.status()["refused"] > 4000, 40, a.status)  # those above 10,000 nodes
    grid.agree(nodes, 700, 2, seconds=60)
    for node in nodes:
        assert node.agent.poll() is None
        summary = node.status()["summary"]
        assert (summary["nodes"], summary["members"]) == (2, ["a", "b"])  # an id that nobody vouches for is no member
        assert list(node.status()["nodes"]) == ["a", "b"]
        assert rss_mb(pid_in(node.folder / "agent.pid")) < 64, rss_mb(node.agent.pid)
    assert a.cli("status").returncode == 0


def test_several_agents_on_one_shared_broker(grid, bare):
    process, port = bare
    process.open()
    watts = {"a": -500, "b": 1200, "c": -70}
    nodes = [grid.node(id_, net_w, port=port, shared=True) for id_, net_w in watts.items()]
    a = nodes[0]
    grid.agree(nodes, 630, 3)
    for id_ in watts:
        assert a.read(f"grid/view/{id_}/net") == b"630"
        assert json.loads(a.read(f"grid/view/{id_}/summary"))["node"] == id_
        wait_until(lambda id_=id_: a.read(f"grid/view/{id_}/availability/b") == b"online", 3, "availability")
    held = a.held("grid/#", "$grid/#")
    assert {topic.split("/")[1] for topic in held} == {"node", "network", "view"}  # nobody writes into the common view
    done = a.cli("join", "127.0.0.1:1883")
    assert (done.returncode, done.stdout) == (1, "")
    assert "shares its broker" in done.stderr

    with a.tap() as stranger:  # the owner repairs what is its own
        stranger.say("grid/node/b/state", b"")
    wait_until(lambda: a.read("grid/node/b/state"), 2, "b writes its record again")
    process.close()
    process.open()
    wait_until(lambda: a.read("grid/view/c/agent/status") == b"online", 10, "c is there again")
    grid.agree(nodes, 630, 3)
    nodes[2].kill_agent()
    wait_until(lambda: a.read("grid/view/c/agent/status") == b"offline", 5, "the last will")
    nodes[2].start_agent()
    grid.agree(nodes, 630, 3)
