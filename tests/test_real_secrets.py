"""A closed node's keys, password and token stay where they belong: in no log, topic, alert, answer, command line or other file."""

import base64
import json
import stat
import sys
from pathlib import Path

import pytest
from live import Grid, cli
from patience import wait_until
from tap import Tap

from agent import broker_conf, bundle, seal
from agent.notary import Authority

CRASH = """
import runpy, sys
from agent.seal import Member
sign = Member.sign
def raising(self, topic, body, left=[6]):
    left[0] -= 1
    if not left[0]:
        raise LookupError("nobody foresaw this")
    return sign(self, topic, body)
Member.sign = raising
runpy.run_module("agent", run_name="__main__", alter_sys=True)
"""  # an agent that ends with a traceback through all that knows the key
HOMES = {"trust/node.key", "trust/authority/ca.key", "trust/broker.json", "trust/request.key"}


def forms(key: bytes) -> list[bytes]:
    """32 private bytes, in every spelling that a careless line would give them."""
    hexes = [key.hex().encode(), key.hex().upper().encode()]
    texts = [seal.key_pem(key).split(b"\n")[1], base64.b64encode(key), base64.urlsafe_b64encode(key), repr(key).encode()]
    return [key, *hexes, *(text.strip(b"b'\"=") for text in texts)]


def secrets(node) -> dict[str, list[bytes]]:
    """By name, the spellings of all that this node must keep to itself."""
    made = json.loads((node.trust / "broker.json").read_bytes())
    found = {name: [text.encode()] for name, text in made.items()}
    found["key"] = forms(seal.key_of((node.trust / "node.key").read_bytes()))
    if (node.trust / "authority" / "ca.key").exists():
        found["authority"] = forms(Authority.load(node.trust, None)._key.private_bytes_raw())
    assert found.keys() >= {"password", "token", "key"}
    return found


def holds(data: bytes, known: dict[str, list[bytes]]) -> set[str]:
    return {name for name, spellings in known.items() if any(spelling in data for spelling in spellings)}


def processes() -> dict[str, bytes]:
    """What `ps` shows of everybody, and what is in the environment of those we may look into."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                found[f"{path.name} {name}"] = (path / name).read_bytes()
            except OSError:
                continue
    return found


def told(port: int, **login) -> dict[str, bytes]:
    """All that a broker shows to who asks for everything."""
    with Tap(port, "#", "$SYS/#", "$grid/#", "grid/#", **login) as tap:
        tap.retained()
        return {message.topic: message.topic.encode() + b" " + message.payload for message in tap.heard}


@pytest.fixture
def grid(tmp_path):
    with Grid(tmp_path) as grid:
        yield grid


def test_secrets_stay_where_they_belong(grid, tmp_path):
    """Through a join, a command, kill -9, an exception, damaged files and a wrong bundle."""
    a, b = (grid.node(id_, start=False, closed=True) for id_ in ("a", "b"))
    a.configure('[[load]]\nname = "heater"\npin = 27\nrated_w = 2000\nmin_on_s = 0\nmin_off_s = 0\n')
    for node in (a, b):
        node.start()
        wait_until(node.status, 15, node.log)
    wait_until(lambda: b.cli("join", f"127.0.0.1:{a.door}").returncode == 0, 20, b.log)
    grid.agree((a, b), heard=2)
    known = {f"{name} of {node.id}": spellings for node in (a, b) for name, spellings in secrets(node).items()}
    assert len(known) == 7

    seen = {f"ps: {name}": data for name, data in processes().items()}
    outputs = []
    for words in ("status --json", "doctor", "load heater off", "revoke zz"):
        done = a.cli(*words.split())
        outputs.append(done.stdout + done.stderr)
    damaged = tmp_path / "b.bundle"
    trust = b.trust
    whole = bundle.Bundle(
        *("test", "b", (), seal.der_of((trust / "ca.pem").read_bytes()), seal.der_of((trust / "node.pem").read_bytes())),
        seal.key_of((trust / "node.key").read_bytes()),
    )
    for wrong in (bundle.write(whole)[:-3], bundle.write(whole).replace('id = "b"', 'id = "c"'), bundle.write(whole) + "x = 1\n"):
        damaged.write_text(wrong)
        done = b.cli("join", "--bundle", str(damaged))
        assert done.returncode != 0
        outputs.append(done.stdout + done.stderr)
    damaged.unlink()
    assert repr(whole) == "<bundle of b>"

    person = {"user": broker_conf.PERSON, "password": json.loads((a.trust / "broker.json").read_bytes())["token"]}
    for login in ({}, person):
        seen |= {f"topic: {topic}": data for topic, data in told(a.port, **login).items()}
    a.kill_agent()
    a.agent = a._spawn("agent.log", sys.executable, "-c", CRASH, "run", "-c", str(a.config))
    assert a.agent.wait(30) != 0
    assert "nobody foresaw this" in a.log()
    assert "Traceback" in a.log()
    key = (a.trust / "node.key").read_bytes()
    for data in (key[: len(key) // 2], seal.key_pem(seal.new_key())):
        (a.trust / "node.key").write_bytes(data)
        done = cli("run", "-c", str(a.config))
        assert done.returncode != 0
        outputs.append(done.stdout + done.stderr)
    (a.trust / "node.key").write_bytes(key)
    a.start_agent()
    grid.agree((a, b), heard=2)
    seen |= {f"output {number}": text.encode() for number, text in enumerate(outputs)}
    seen |= {f"topic later: {topic}": data for topic, data in told(a.port).items()}
    seen |= {f"ps later: {name}": data for name, data in processes().items()}
    for node in (a, b):
        for path in node.folder.rglob("*"):
            if path.is_file() and str(path.relative_to(node.folder)) not in HOMES:
                seen[f"file: {path}"] = path.read_bytes()
    assert {where: found for where, data in seen.items() if (found := holds(data, known))} == {}
    assert len(seen) > 100

    for node in (a, b):
        for name in HOMES:  # the check itself finds them where they are
            path = node.folder / name
            assert not path.exists() or holds(path.read_bytes(), known)


def test_who_may_read_what(grid):
    """The trust directory is for its owner alone; what Mosquitto is told, too; the socket for commands likewise."""
    a = grid.node("a", closed=True)
    wait_until(a.status, 15, a.log)
    modes = {
        path.relative_to(a.folder): stat.S_IMODE(path.lstat().st_mode) for path in a.folder.rglob("*") if not path.is_symlink()
    }
    open_ = {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077}
    ours = {"grid.toml", "meter.scene", "agent.log", "meter.log", "mosquitto.log"}  # made by this test
    assert set(open_) - ours <= {"mosquitto.pid", "agent.pid"}, open_
    assert modes[Path("trust")] == 0o700
    assert {modes[Path("trust", name)] for name in ("node.key", "broker.json", "authority/ca.key")} == {0o600}
