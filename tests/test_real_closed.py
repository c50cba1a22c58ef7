"""A closed network of real brokers and agents: who may do what at whose broker, and what forgers reach with it."""

import json
import os
import re
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from foes import FakeBroker, Foe, publish
from live import Grid, Node, Refused, Tap, admit, free_ports, wait_until

from agent import authority, dial

WATTS = {"a": -500, "b": 1200, "c": -70, "d": 300}
NET_W = sum(WATTS.values())


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    with Grid(tmp_path_factory.mktemp("closed")) as grid:
        nodes = grid.network(closed=True, **WATTS)
        nodes[3].join(nodes[0])
        grid.agree(nodes, NET_W, 4)
        yield grid


@pytest.fixture(scope="module")
def stranger(grid: Grid) -> Path:
    """The trust directory of a member that is no sibling of anybody: it came by a valid certificate."""
    place = grid.folder / "z" / "trust"
    admit(grid.nodes["a"], place, "z")
    return place


def secrets(node: Node) -> dict[str, str]:
    kept: dict[str, str] = json.loads((node.trust / "broker.json").read_bytes())
    return kept


def agent_tap(node: Node, *filters: str) -> Tap:
    """As the agent itself, which may see and write everything: what a hostile broker at the end of our own bridge can do."""
    return Tap(node.port, *filters, user="_agent", password=secrets(node)["password"])


def everybody(grid: Grid) -> list[Node]:
    return list(grid.nodes.values())


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


def test_forgeries_change_nothing_and_are_repaired_within_a_second(grid):
    """By the agent's own name: so can a hostile broker at the other end of a bridge of ours write, whatever access lists say."""
    b = grid.nodes["b"]
    held = b.held("grid/#")
    forged = {
        "grid/node/a/state": re.sub(rb'"version":(\d+)', lambda m: b'"version":%d' % (int(m[1]) + 1000), held["grid/node/a/state"]),
        "grid/node/c/info": held["grid/node/c/info"].replace(b'"siblings":{', b'"siblings":{"b":99999,'),
        "grid/node/q/state": held["grid/node/a/state"],
        "grid/network/tariff": re.sub(rb'"version":(\d+)', b'"version":777', held["grid/network/tariff"]),
        "grid/network/forgotten/a": b'{"forgotten":true,"by":"a","version":5}',
        "grid/network/revoked/a": b'{"keys":["x"],"by":"a","version":5}',
        "grid/node/b/state": b"",
        "grid/node/d/state": b"",
        "grid/net": b"99999",
        "grid/price": b"9.9999",
        "grid/summary": b"{}",
        "grid/agent/status": b"offline",
        "grid/alert/fire": b'{"level":"critical","text":"forged","since":"now"}',
        "grid/availability/a": b"offline",
        "grid/load/heater/set": b"OFF",
        "$grid/set/guess/heater": b"OFF",
        "$grid/in/c/a/state": b'{"version":99}',
    }
    refused = b.status()["refused"]
    with agent_tap(b) as hole:
        for topic, payload in forged.items():
            hole.say(topic, payload)
    began = time.monotonic()
    expected = {topic: held.get(topic) for topic in forged}
    moving = {"grid/node/a/state", "grid/node/b/state", "grid/node/d/state", "grid/summary"}

    def repaired():
        now = b.held("grid/#", "$grid/set/#")
        still = {topic: now.get(topic) for topic, was in expected.items() if topic not in moving and now.get(topic) != was}
        return not still and all(now.get(topic) not in (None, forged[topic]) for topic in moving)

    wait_until(repaired, 5, lambda: {topic: b.held("grid/#").get(topic) for topic in forged})
    assert time.monotonic() - began < 2.5, "a second, and what it takes to look"
    grid.agree(everybody(grid), NET_W, 4)
    assert b.status()["refused"] > refused
    assert b.status()["siblings"].keys() == {"a", "c"}


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


def test_brokers_and_agents_are_killed_and_come_back(grid):
    a, b = grid.nodes["a"], grid.nodes["b"]
    a.kill_broker()
    a.start_broker()
    b.kill_agent()
    b.start_agent()
    grid.agree(everybody(grid), NET_W, 4, seconds=40)
    records = b.held("grid/node/#")
    assert all(b',"sig":"' in payload for payload in records.values())


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


def context(trust: Path, server: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(trust / "ca.pem")
    made.load_cert_chain(trust / "node.pem", trust / "node.key")
    return made


def wrong_records(topic: str, held: bytes, count: int) -> list[bytes]:
    """Newer and newer, with the old signature."""
    return [publish(topic, re.sub(rb'"version":\d+', b'"version":%d' % (10**6 + n), held), retain=True) for n in range(count)]


def test_a_broker_at_the_end_of_our_own_bridge_changes_nothing(grid, stranger):
    """Access lists do not bind it: it writes anywhere in our broker. All is repaired, and when it floods the bridge goes."""
    a, b, port = grid.nodes["a"], grid.nodes["b"], free_ports(1)[0]
    held = a.held("grid/#")
    fake = FakeBroker(port, "z", context(stranger, server=True))
    try:
        done = a.cli("join", f"127.0.0.1:{port}")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: "a" in fake.links, 20, fake.links)
        grid.agree(everybody(grid), NET_W, 4)
        forged = {
            "grid/price": b"9.99",
            "grid/alert/fire": b"forged",
            "grid/network/tariff": held["grid/network/tariff"].replace(b'"version":', b'"version":7'),
            "grid/node/b/info": b"",
            "grid/node/q/state": held["grid/node/b/state"],
            "$grid/set/guess/heater": b"OFF",
            "$grid/in/b/c/info": held["grid/node/c/info"].replace(b'"version":', b'"version":7'),
        }
        for topic, payload in forged.items():
            fake.write(topic, payload)
        began = time.monotonic()

        def repaired():
            now = a.held("grid/#", "$grid/set/#")
            return all(now.get(topic) == held.get(topic) for topic in forged if not topic.startswith("$grid/in/"))

        wait_until(repaired, 5, lambda: {topic: a.held("grid/#").get(topic) for topic in forged})
        assert time.monotonic() - began < 2.5, "a second, and what it takes to look"

        # it floods, and lays it to b
        packets = wrong_records("$grid/in/b/c/state", held["grid/node/c/state"], 2000)
        end = time.monotonic() + 40
        while "z" not in a.status().get("cut", []) and time.monotonic() < end:
            fake.push(*packets[:500])
            time.sleep(0.1)
        assert a.status()["cut"] == ["z"], a.alerts()
        assert "flood-z" in a.alerts()
        assert not (a.folder / "bridges" / "z.conf").exists()
        grid.agree(everybody(grid), NET_W, 4)
        assert a.cli("leave", "z").returncode == 0
    finally:
        fake.close()
    wait_until(lambda: a.status()["siblings"].keys() == {"b", "d"} and not a.status()["cut"], 30, a.status)
    grid.agree(everybody(grid), NET_W, 4)
    assert b.status()["cut"] == []


def test_a_member_that_floods_is_named_and_cut_and_the_others_stay_linked(grid, stranger):
    a = grid.nodes["a"]
    held, refused = a.held("grid/node/c/state")["grid/node/c/state"], a.status()["refused"]
    packets = wrong_records("$grid/in/z/c/state", held, 5000)
    assert a.tls_port is not None
    end = time.monotonic() + 40
    while "z" not in a.status()["cut"]:  # a link that changes may end the connection: Mosquitto 2.0 starts anew
        assert time.monotonic() < end, a.alerts()
        with come_in(a, "z", stranger) as foe:
            foe.flood(packets, 3000.0, 1.0)
    assert "z sent more messages" in a.alerts()["flood-z"]
    wait_until(lambda: not takes(a, "z", stranger, held), 5, "its broker lets it write no more")
    grid.agree(everybody(grid), NET_W, 4)
    assert {id_: one["link"] for id_, one in a.status()["siblings"].items()} == {"b": "linked", "d": "linked"}
    assert a.status()["refused"] > refused
    wait_until(lambda: "z" not in a.status()["cut"], 60, "after a pause it is tried again")
    wait_until(lambda: takes(a, "z", stranger, held), 5, "and may write")


def takes(node: Node, id_: str, trust: Path, payload: bytes) -> bool:
    """Does this node's broker let that member write into its inbox?"""
    end = time.monotonic() + 10
    while True:
        try:
            with come_in(node, id_, trust) as foe:
                return foe.taken(f"$grid/in/{id_}/c/state", payload)
        except (ssl.SSLError, ConnectionError):
            assert time.monotonic() < end


def come_in(node: Node, id_: str, trust: Path) -> Foe:
    """Mosquitto 2.0 starts anew for each change of a link, and is away for a moment."""
    port, end = node.tls_port, time.monotonic() + 10
    assert port is not None
    while True:
        try:
            return Foe(port, id_, context(trust))
        except (ssl.SSLError, ConnectionError):
            assert time.monotonic() < end
            time.sleep(0.1)


def test_a_revoked_node_is_out_everywhere_and_comes_back_with_a_new_key_only(grid):
    a, d = grid.nodes["a"], grid.nodes["d"]
    rest = [grid.nodes[name] for name in "abc"]
    old = grid.folder / "old"
    shutil.copytree(d.trust, old)
    done = a.cli("revoke", "d")
    assert done.returncode == 0, done.stderr
    grid.agree(rest, NET_W - d.net_w, 3, seconds=40)
    for node in rest:
        assert not [topic for topic in node.held("grid/node/#") if topic.startswith("grid/node/d/")]
        wait_until(lambda node=node: not takes(node, "d", old, b"{}"), 5, "its certificate writes nothing more")
    wait_until(lambda: "revoked" in d.alerts(), 10, d.alerts)
    d.stop_agent()
    shutil.rmtree(d.trust)
    done = a.cli("admit", "d", "--out", str(grid.folder / "d.bundle"))
    assert done.returncode == 0, done.stderr
    done = d.cli("join", "--bundle", str(grid.folder / "d.bundle"))
    assert done.returncode == 0, done.stderr
    d.start_agent()
    wait_until(lambda: d.status().get("connected"), 20, d.log)
    wait_until(lambda: d.cli("join", f"127.0.0.1:{a.tls_port}").returncode == 0, 20, d.log)
    grid.agree(everybody(grid), NET_W, 4, seconds=60)


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
