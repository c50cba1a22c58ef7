"""A closed network of real brokers and agents: who is let in, and who may do what at whose broker."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from closed_grid import NET_W, WATTS, a_member, agent_tap, everybody, ring, secrets
from live import Grid
from patience import wait_until
from ports import free_ports
from tap import Refused, Tap

from agent import authority, dial


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    with ring(tmp_path_factory.mktemp("closed")) as grid:
        yield grid


@pytest.fixture(scope="module")
def stranger(grid: Grid) -> Path:
    return a_member(grid)


def test_records_are_signed_and_siblings_come_by_tls_alone(grid):
    a = grid.nodes["a"]
    held = a.held("grid/node/#", "grid/network/#")
    assert {topic.split("/")[2] for topic in held if topic.startswith("grid/node/")} == set(WATTS)
    assert all(re.search(rb',"sig":"[A-Za-z0-9_-]{86}"}$', payload) for payload in held.values())
    assert json.loads(held["grid/network/tariff"])["by"] == "a"
    assert json.loads(held["grid/node/c/info"])["cert"]
    conf = (a.folder / "mosquitto.conf").read_text()
    assert f"listener {a.port} 127.0.0.1\n" in conf
    assert f"listener {a.tls_port} 127.0.0.1\ncafile" in conf
    for path in a.trust.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    for name in ("mosquitto.conf", "acl", "passwords"):
        assert (a.folder / name).stat().st_mode & 0o077 == 0
    status = a.status()
    assert (status["mode"], status["network"]) == ("closed", "test")
    seen = "".join((node.folder / log).read_text() for node in everybody(grid) for log in ("agent.log", "mosquitto.log"))
    for node in everybody(grid):
        assert not any(secret in seen for secret in secrets(node).values())


# who, what it writes, does it arrive
WRITES = [
    ("anonymous", "grid/node/b/state", False),
    ("anonymous", "grid/network/tariff", False),
    ("anonymous", "grid/price", False),
    ("anonymous", "grid/load/x/set", False),
    ("anonymous", "grid/anything", False),
    ("anonymous", "other", False),
    ("anonymous", "$grid/in/b/b/state", False),
    ("anonymous", "$grid/set/x", False),
    ("anonymous", "$grid/set/x/y", True),
    ("anonymous", "$grid/set/x/y/z", False),
    ("anonymous", "$SYS/broker/version", False),
    ("person", "$grid/set/x/y", True),
    ("person", "grid/node/b/state", False),
    ("person", "grid/load/x/set", False),
    ("person", "$grid/in/b/b/state", False),
    ("z", "$grid/in/z/z/state", True),
    ("z", "$grid/in/z/b/state", True),
    ("z", "$grid/in/z/network/tariff", True),
    ("z", "$grid/in/b/b/state", False),
    ("z", "$grid/in/zz/b/state", False),
    ("z", "$grid/set/x/y", False),
    ("z", "grid/node/z/state", False),
    ("z", "grid/node/b/state", False),
    ("z", "grid/network/tariff", False),
    ("z", "grid/price", False),
    ("z", "grid/load/x/set", False),
    ("z", "other", False),
    ("agent", "$grid/in/q/q/other", True),
]
# who, what it asks for, what it sees of the topics below
READS = [
    ("anonymous", "#", {"grid/price", "grid/node/b/state", "grid/network/tariff", "grid/agent/status"}),
    ("anonymous", "$grid/#", set()),
    ("anonymous", "$SYS/broker/uptime", {"$SYS/broker/uptime"}),
    ("anonymous", "$SYS/broker/log/#", set()),
    ("person", "#", {"grid/price", "grid/node/b/state", "grid/network/tariff", "grid/agent/status"}),
    ("person", "$grid/#", set()),
    ("z", "#", {"grid/node/b/state", "grid/network/tariff"}),
    ("z", "$grid/#", set()),
    ("z", "$SYS/#", set()),
    ("agent", "$grid/#", {"$grid/in/b/b/state"}),
]
LOOKED_AT = {
    "grid/price",
    "grid/node/b/state",
    "grid/network/tariff",
    "grid/agent/status",
    "$grid/in/b/b/state",
    "$SYS/broker/uptime",
}


def come(grid: Grid, who: str, stranger: Path, *filters: str) -> Tap:
    a = grid.nodes["a"]
    match who:
        case "person":
            return Tap(a.port, *filters, user="_person", password=secrets(a)["token"])
        case "agent":
            return agent_tap(a, *filters)
        case "z":
            assert a.tls_port is not None
            return Tap(a.tls_port, *filters, trust=stranger)
    return Tap(a.port, *filters)


def test_who_may_write_what(grid, stranger):
    a = grid.nodes["a"]
    wrong = []
    with agent_tap(a, "#", "$grid/#") as watcher:
        watcher.retained()
        for who, topic, arrives in WRITES:
            mark = os.urandom(4).hex()
            with come(grid, who, stranger) as tap:
                tap.say(topic, mark, retain=False)
            end = f"{mark} end"
            watcher.say("$grid/in/q/q/mark", end, retain=False)  # it comes back to us: nothing said no-local
            wait_until(lambda end=end: any(m.payload == end.encode() for m in watcher.heard), 5, "the mark")
            seen = any(message.payload == mark.encode() and message.topic == topic for message in watcher.heard)
            if seen != arrives:
                wrong.append((who, topic, seen))
    assert wrong == []
    grid.agree(everybody(grid), NET_W, 4)


def test_who_may_read_what(grid, stranger):
    wrong = []
    for who, wanted, seen in READS:
        with come(grid, who, stranger, wanted) as tap:
            if who != "z":
                tap.retained()
            else:
                time.sleep(0.5)  # it may not read the topic that tells the end
            found = {message.topic for message in tap.heard} & LOOKED_AT
        if found != seen:
            wrong.append((who, wanted, found))
    assert wrong == []


def test_who_is_not_let_in(grid, stranger, tmp_path):
    a = grid.nodes["a"]
    assert a.tls_port is not None
    for user, password in (
        ("_agent", "wrong"),
        ("_agent", None),
        ("_agent", ""),
        ("_person", a.id),
        ("b", None),
        ("b", "b"),
        ("q", "q"),
    ):
        with pytest.raises((Refused, ConnectionError)):
            Tap(a.port, user=user, password=password)
    foreign = tmp_path / "foreign"
    authority.create(foreign, "test", "b", None, time.time())
    with pytest.raises(dial.Refused, match="no node of this network"):
        dial.called(foreign, "127.0.0.1", a.tls_port, 5)
    mixed = tmp_path / "mixed"  # knows our authority, but has a certificate of its own
    shutil.copytree(foreign, mixed)
    shutil.copy(stranger / "ca.pem", mixed / "ca.pem")
    with pytest.raises(dial.Refused, match="does not take us"):
        dial.called(mixed, "127.0.0.1", a.tls_port, 5)
    assert dial.called(stranger, "127.0.0.1", a.tls_port, 5) == ("a", "127.0.0.1")
    with pytest.raises((OSError, Refused)):
        Tap(a.tls_port)  # not even TLS
    with Tap(a.tls_port, trust=stranger, user="_agent", password=secrets(a)["password"], client_id="agent-a") as tap:
        tap.say("grid/price", "9")  # a name said in the message counts for nothing beside the certificate's
    assert a.read("grid/price") != b"9"


def test_a_client_id_of_another_cuts_nobody_off(grid, stranger):
    """`b`, `bridge-to-b`: by TLS every client is called as its certificate."""
    a = grid.nodes["a"]
    assert a.tls_port is not None
    before = (a.folder / "mosquitto.log").read_text().count("already connected")
    for client_id in ("b", "d", "bridge-to-d", "agent-a"):
        Tap(a.tls_port, trust=stranger, client_id=client_id).close()
    assert (a.folder / "mosquitto.log").read_text().count("already connected") == before
    grid.agree(everybody(grid), NET_W, 4)


def test_commands_come_by_the_token_alone(grid):
    c = grid.nodes["c"]
    c.configure('[[load]]\nname = "heater"\npin = 17\nrated_w = 2000\n')
    wait_until(lambda: "heater" in c.status().get("loads", {}), 20, c.log)
    token = secrets(c)["token"]

    def mode():
        return c.status()["loads"]["heater"]["mode"]

    def refused():
        return c.status()["refused"]

    before = refused()
    with agent_tap(c, "$grid/set/#") as hole, c.tap() as anonymous:
        hole.say("grid/load/heater/set", "OFF", retain=False)
        anonymous.say(f"$grid/set/{token}x/heater", "OFF", retain=False)
        anonymous.say("$grid/set/heater/heater", "OFF", retain=False)
        anonymous.say(f"$grid/set/{token}/heater", "OFF", retain=True)  # nobody shall find it there tomorrow
        wait_until(lambda: refused() == before + 4, 5, refused)
        assert mode() == "auto"
        wait_until(lambda: any(m.payload == b"" for m in hole.heard), 5, "a retained one is cleared")
        anonymous.say(f"$grid/set/{token}/heater", "OFF", retain=False)
        wait_until(lambda: mode() == "manual", 5, c.status)
        anonymous.say(f"$grid/set/{token}/heater", "auto", retain=False)
        wait_until(lambda: mode() == "auto", 5, c.status)
    shown = json.dumps(c.status()) + json.dumps({t: p.decode() for t, p in c.held("grid/#").items()}) + c.log()
    assert token not in shown
    done = c.cli("load", "heater", "off")
    assert done.returncode == 0
    assert token not in done.stdout


def test_only_an_operator_changes_what_is_common(grid):
    b = grid.nodes["b"]
    for words in (("tariff", "set", "--import", "0.4", "--yes"), ("forget", "c")):
        done = b.cli(*words)
        assert done.returncode == 1, done.stdout
        assert "only an operator's node" in done.stderr, done.stderr
    done = grid.nodes["a"].cli("tariff", "set", "--import", "0.31", "--yes")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: b'"import_u":310000' in (grid.nodes["c"].read("grid/network/tariff") or b""), 10, "the tariff goes round")
    grid.agree(everybody(grid), NET_W, 4)


def test_joining_asks_for_the_certificate(grid, tmp_path):
    """What answers there must be of this network; who we are must please it."""
    b, foreign = grid.nodes["b"], tmp_path / "x"
    with Grid(foreign) as other:
        x = other.node("x", -10, closed=True)
        o = other.node("o", -10)
        wait_until(lambda: x.status() and o.status(), 15)
        wait_until(lambda: x.held("grid/agent/status"), 10)
        done = b.cli("join", f"127.0.0.1:{x.tls_port}")
        assert done.returncode == 1
        assert "no node of this network" in done.stderr
        done = b.cli("join", f"127.0.0.1:{o.port}")
        assert done.returncode == 1
        assert b.status()["siblings"].keys() == {"a", "c"}


def test_doctor_knows_a_closed_node(grid):
    b = grid.nodes["b"]
    found = {row["name"]: row for row in json.loads(b.cli("doctor", "--json").stdout)}
    assert found["mode"]["text"].startswith("closed: a member of 'test'")
    assert [found[name]["ok"] for name in ("mode", "certificate", "modes")] == [True, True, True]
    (b.trust / "node.key").chmod(0o644)
    try:
        found = {row["name"]: row for row in json.loads(b.cli("doctor", "--json").stdout)}
        assert found["modes"]["ok"] is False
        assert str(b.trust / "node.key") in found["modes"]["fix"]
    finally:
        (b.trust / "node.key").chmod(0o600)
    assert b.cli("network", "token").stdout == f"$grid/set/{secrets(b)['token']}/LOAD\n"


def test_a_port_for_reading_is_for_reading_alone(grid, tmp_path):
    with Grid(tmp_path / "reading") as other:
        x = other.node("x", -10, start=False, closed=True)
        port = free_ports(1)[0]
        x.configure()
        x.config.write_text(x.config.read_text().replace("[network]", f"read_port = {port}\n[network]"))
        x.start()
        wait_until(lambda: x.read("grid/net") == b"-10", 20, x.log)
        token = secrets(x)["token"]
        with agent_tap(x, "$grid/set/#") as watcher:
            for where in (port, x.port):
                with Tap(where, "grid/net", "$grid/#") as tap:
                    assert [(message.topic, message.payload) for message in tap.retained()] == [("grid/net", b"-10")]
                for topic in (f"$grid/set/{token}/heater", "grid/net"):  # Mosquitto 2.0 hangs up on who writes what it may not
                    with Tap(where) as tap:
                        tap.say(topic, "OFF", retain=False)
            with Tap(x.port, user="_person", password=token) as person:
                person.say(f"$grid/set/{token}/heater", "ON", retain=False)
            wait_until(lambda: watcher.heard, 5, "the person's command")
            assert [message.payload for message in watcher.heard] == [b"ON"]
        assert x.read("grid/net") == b"-10"


def test_without_its_bundle_a_closed_node_talks_to_nobody(tmp_path):
    with Grid(tmp_path) as alone:
        x = alone.node("x", -10, start=False)
        other = alone.node("y", 20)
        x.configure()
        x.config.write_text(
            x.config.read_text().replace("[state]", f'[network]\nclosed = true\njoin = ["127.0.0.1:{other.port}"]\n[state]')
        )
        x.config.write_text(x.config.read_text().replace('bind = "127.0.0.1"', 'bind = "0.0.0.0"'))
        x.start()
        wait_until(lambda: x.read("grid/net") == b"-10", 20, x.log)
        assert f"listener {x.port} 127.0.0.1\n" in (x.folder / "mosquitto.conf").read_text()
        assert "0.0.0.0" not in (x.folder / "mosquitto.conf").read_text()
        done = x.cli("join", f"127.0.0.1:{other.port}")
        assert done.returncode == 1
        assert "bundle" in done.stderr
        assert "waits for its bundle" in x.log()
        assert other.status()["siblings"] == {}
        x.stop_agent()
        authority.create(x.trust, "mine", "other", None, time.time())  # and a bundle of another node is none for it
        done = x.cli("run")
        assert done.returncode == 1
        assert "they must be one" in done.stderr
