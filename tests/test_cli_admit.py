"""grid network, admit, join --bundle, revoke: as an operator calls them, and on real nodes from an open start to a renewal."""

import base64
import json
import os
import pty
import socket
import ssl
import stat
import subprocess
import time

import pytest
from audited import run
from live import GRID, Grid, cli
from patience import wait_until
from ports import free_ports

from agent import authority, bundle, control, seal
from agent.notary import Authority
from agent.seal import Member


@pytest.fixture
def house(tmp_path):
    """Makes nodes that do not run; `(words…)` runs a command there."""
    return lambda id_: House(tmp_path, id_)


class House:
    def __init__(self, folder, id_):
        self.folder, self.id = folder / id_, id_
        self.folder.mkdir()
        self.config, self.trust = self.folder / "grid.toml", self.folder / "trust"
        self.config.write_text(f'[node]\nid = "{id_}"\nrated_w = 1000\n[state]\ndir = "."\n')

    def __call__(self, *words, code=0):
        done = run(*words, "-c", str(self.config))
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        assert "Traceback" not in done.stderr
        return done


def test_from_an_open_node_to_a_member(house, tmp_path):
    oak, barn = house("oak"), house("barn")
    assert "no closed network: whoever reaches it can read and write" in oak("network", "show").stdout
    assert json.loads(oak("network", "show", "--json").stdout) == {"closed": False, "node": "oak"}
    said = oak("network", "init", "Oak Street", "--no-passphrase")
    fingerprint = seal.fingerprint(Member.load(oak.trust).ca)
    assert f"fingerprint {fingerprint[:4]} {fingerprint[4:8]}" in said.stdout
    assert "the key is not encrypted" in said.stderr
    assert "belongs to a network already" in oak("network", "init", "Elm", "--no-passphrase", code=1).stderr

    out = tmp_path / "barn.bundle"
    said = oak("admit", "barn", "--join", "192.0.2.7", "--join", "[2001:db8::1]:9", "--operator", "--out", str(out))
    assert "which joins 192.0.2.7:8883, [2001:db8::1]:9" in said.stdout
    assert "whoever has this file can be barn" in said.stdout
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_bytes()
    assert "is there already" in oak("admit", "barn", "--out", str(out), code=1).stderr
    assert out.read_bytes() == before

    said = barn("join", "--bundle", str(out))
    assert "barn is now a member of the network 'Oak Street'" in said.stdout
    assert f"start the agent: grid run -c {barn.config}" in said.stdout
    assert f"{out} holds this node's key: remove it" in said.stdout
    assert "already, by this bundle" in barn("join", "--bundle", str(out)).stdout
    assert Member.load(barn.trust).certified.operator
    assert "this bundle is for the node 'barn'" in oak("join", "--bundle", str(out), code=1).stderr


def test_printed_and_piped(house):
    oak, barn = house("oak"), house("barn")
    oak("network", "init", "Oak", "--no-passphrase")
    printed = subprocess.run(
        [*GRID, "admit", "barn", "--join", "192.0.2.7", "-c", str(oak.config)], capture_output=True, check=True, timeout=60
    )
    done = subprocess.run(
        [*GRID, "join", "--bundle", "-", "-c", str(barn.config)], input=printed.stdout, capture_output=True, check=True, timeout=60
    )
    assert b"barn is now a member" in done.stdout
    assert b"remove it" not in done.stdout


def test_a_passphrase_from_a_file(house, tmp_path):
    oak, words, wrong = house("oak"), tmp_path / "words", tmp_path / "wrong"
    words.write_bytes(b"\xef\xbb\xbfrichtig gr\xc3\xbcn\r\nsecond line\n")
    wrong.write_text("something else\n")
    oak("network", "init", "Oak", "--passphrase-file", str(words))
    assert authority.is_locked(oak.trust)
    admit = ("admit", "barn", "--join", "192.0.2.7", "--passphrase-file")
    decomposed = tmp_path / "decomposed"
    decomposed.write_text("richtig gru\N{COMBINING DIAERESIS}n")
    for file in (words, decomposed):
        assert 'id = "barn"' in oak(*admit, str(file)).stdout
    assert "wrong passphrase" in oak(*admit, str(wrong), code=1).stderr
    assert "No such file" in oak(*admit, str(tmp_path / "none"), code=1).stderr
    assert "nobody is there to type a passphrase" in oak(*admit[:-1], code=2).stderr
    (tmp_path / "latin").write_bytes(b"gr\xfcn")
    assert "not UTF-8" in oak(*admit, str(tmp_path / "latin"), code=1).stderr
    short = tmp_path / "short"
    short.write_text("1234567")
    elm = house("elm")
    assert "shorter than 8 characters" in elm("network", "init", "Elm", "--passphrase-file", str(short), code=2).stderr
    assert not elm.trust.exists()


def test_a_passphrase_typed_twice_is_not_shown(house):
    oak = house("oak")
    leader, follower = pty.openpty()
    command = [*GRID, "network", "init", "Oak", "-c", str(oak.config)]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True) as process:
        os.close(follower)
        shown = b""
        for question in (b"key: ", b"confirmation: "):
            while question not in shown.rpartition(b"\n")[2]:
                shown += os.read(leader, 1024)
            os.write(leader, b"correct horse\n")
            time.sleep(0.05)
        while process.poll() is None:
            try:
                shown += os.read(leader, 1024)
            except OSError:
                break
        assert process.wait(30) == 0
    os.close(leader)
    assert b"correct" not in shown
    assert Authority.load(oak.trust, "correct horse").root.network == "Oak"


def test_a_key_that_never_leaves_its_node(house, tmp_path):
    oak, barn = house("oak"), house("barn")
    oak("network", "init", "Oak", "--no-passphrase")
    request, out = tmp_path / "request.pem", tmp_path / "barn.bundle"
    barn("network", "request", "--out", str(request))
    assert barn("network", "request").stdout.startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    assert "is the request of 'barn', not of 'mill'" in oak("admit", "mill", "--request", str(request), code=1).stderr
    said = oak("admit", "barn", "--request", str(request), "--join", "192.0.2.7", "--out", str(out))
    assert "carry it there" not in said.stdout
    assert "\nkey" not in out.read_text()
    assert "remove it" not in barn("join", "--bundle", str(out)).stdout
    assert Member.load(barn.trust).id == "barn"
    request.write_text("x")
    assert "this is no request" in oak("admit", "barn", "--request", str(request), code=1).stderr
    assert "No such file" in oak("admit", "barn", "--request", str(tmp_path / "none"), code=1).stderr
    assert "No such file" in barn("network", "request", "--out", str(tmp_path / "no/where"), code=1).stderr


def test_admitting_again_says_what_becomes_of_the_old_key(house):
    oak = house("oak")
    oak("network", "init", "Oak", "--no-passphrase")
    assert oak("admit", "barn", "--join", "192.0.2.7").stderr == ""
    assert "first 'grid revoke barn'" in oak("admit", "barn", "--join", "192.0.2.7").stderr
    assert len(authority.issued(oak.trust, "barn")) == 2


def test_of_many_keys_the_newest_are_revoked(house, monkeypatch):
    """A request has room for 50; which they are must not go by their letters."""
    oak = house("oak")
    oak("network", "init", "Oak", "--no-passphrase")
    held = Authority.load(oak.trust, None)
    for _ in range(55):
        authority.admit(oak.trust, held, "barn", ("192.0.2.7:8883",), False, None, time.time())
    asked = []

    def ask(state_dir, do, argument=None, **_):
        asked.append((do, json.loads(argument)))
        return json.dumps({"revoked": "barn", "keys": asked[0][1]["keys"], "admitted": False})

    monkeypatch.setattr(control, "ask", ask)
    assert "50 keys revoked" in oak("revoke", "barn").stdout
    newest = {base64.b64encode(cert.key).decode() for cert in authority.issued(oak.trust, "barn")[-50:]}
    ((do, wanted),) = asked
    assert (do, wanted["node"], set(wanted["keys"])) == ("revoke", "barn", newest)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["admit"], 2, "name the NODE to be admitted"),
        (["admit", "barn", "--renew"], 2, "--renew is for all nodes at once"),
        (["admit", "Barn"], 1, "is no node's id"),
        (["admit", "agent"], 1, "is no node's id"),
        (["admit", "root"], 1, "has a meaning of its own"),
        (["admit", "oak", "--join", "192.0.2.7"], 1, "this node itself"),
        (["admit", "barn", "--join", "a b"], 2, "not an address: 'a b'"),
        (["admit", "../../x", "--join", "192.0.2.7"], 1, "is no node's id"),
        (["admit", "barn", "--join", "192.0.2.7", "--out", "/proc/none/x"], 1, "No such file"),
        (["admit", "--renew"], 3, "does not answer"),
        (["revoke", "barn"], 3, "does not answer"),
        (["revoke", "x;reboot"], 1, "is no node's id"),
        (["network", "show"], 3, "does not answer"),
        (["network", "init", "Elm", "--no-passphrase", "--passphrase-file", "x"], 2, "either --passphrase-file or"),
        (["join"], 2, "name HOST:PORT, or a bundle"),
        (["join", "h:1", "--bundle", "x"], 2, "name HOST:PORT, or a bundle"),
        (["join", "--bundle", "/nowhere"], 1, "No such file"),
        (["join", "--bundle", "/dev/zero"], 1, "too long"),
    ],
)
def test_what_goes_wrong_is_said(house, words, code, text):
    oak = house("oak")
    oak("network", "init", "Oak", "--no-passphrase")
    assert text in oak(*words, code=code).stderr


def test_only_where_the_authority_is(house, tmp_path):
    oak, barn = house("oak"), house("barn")
    oak("network", "init", "Oak", "--no-passphrase")
    made = authority.make_bundle(oak.trust, "barn", [])
    (tmp_path / "b").write_text(made)
    barn("join", "--bundle", str(tmp_path / "b"))
    assert "admit where 'grid network init' was called" in barn("admit", "mill", code=1).stderr
    (barn.trust / "node.pem").write_text("rotten")
    assert "Take a new bundle" in barn("network", "show", code=1).stderr


def test_a_qr_code_where_it_fits(house, monkeypatch):
    oak = house("oak")
    oak("network", "init", "Oak", "--no-passphrase")
    words = ("admit", "barn", "--join", "192.0.2.7", "--qr")
    try:
        import segno  # noqa: F401
    except ImportError:
        assert "no QR code: install segno" in oak(*words).stderr
        return
    monkeypatch.setenv("COLUMNS", "160")
    assert "█" in oak(*words).stdout
    monkeypatch.setenv("COLUMNS", "80")
    assert "columns, and this window has 80" in oak(*words).stderr


# real nodes


def certificate_at(node, trust):
    """When the certificate ends that this node's broker shows."""
    context = ssl.create_default_context(cafile=str(trust / "ca.pem"))
    context.load_cert_chain(trust / "node.pem", trust / "node.key")
    context.check_hostname = False
    try:
        with socket.create_connection(("127.0.0.1", node.door), 2) as raw, context.wrap_socket(raw) as tls:
            return ssl.cert_time_to_seconds(tls.getpeercert()["notAfter"])
    except OSError:
        return None


def do(node, *words):
    """A command in this process: starting Python for each would take most of the time."""
    return run(*words, "-c", str(node.config))


def told(node):
    done = do(node, "network", "show", "--json")
    return json.loads(done.stdout) if done.exit_code == 0 else {}


def test_running_nodes_from_init_to_revoke_and_renewal(tmp_path):
    with Grid(tmp_path) as grid:
        oak, barn = (grid.node(id_, closed=False, start=False) for id_ in ("oak", "barn"))
        for node in (oak, barn):
            node.tls_port = free_ports(1)[0]
            node.configure()
            node.start()
        # while they run: the one becomes the first of a closed network, the other a member
        wait_until(oak.status, 15, oak.log)
        assert do(oak, "network", "init", "Oak", "--no-passphrase").exit_code == 0
        wait_until(lambda: told(oak).get("members", {}).keys() == {"oak"}, 20, oak.log)
        out = tmp_path / "barn.bundle"
        assert do(oak, "admit", "barn", "--join", f"127.0.0.1:{oak.door}", "--out", str(out)).exit_code == 0
        # its certificate is of a year and a half ago
        first = bundle.read(out.read_bytes())
        made = Authority.load(oak.trust, None)
        old = seal.der_of(made.issue("barn", seal.public_of(first.key), False, 100, time.time()))
        out.write_text(bundle.write(bundle.Bundle(first.network, first.id, first.join, first.ca, old, first.key)))
        assert do(barn, "join", "--bundle", str(out)).exit_code == 0
        grid.agree([oak, barn], -1000, 2, seconds=30)
        assert told(barn)["members"].keys() == {"oak", "barn"}
        for node in (oak, barn):
            assert "store" not in node.alerts(), "what was kept while the network was open is no forgery"
        end = Member.load(barn.trust).to_unix
        wait_until(lambda: certificate_at(barn, oak.trust) == end, 10)

        said = do(oak, "admit", "--renew")
        assert (said.exit_code, said.stdout.count("renewed until"), "barn: renewed" in said.stdout) == (0, 1, True), said
        wait_until(lambda: Member.load(barn.trust).to_unix > end, 30, barn.log)
        later = Member.load(barn.trust).to_unix
        assert Member.load(barn.trust).certified.key == seal.public_of(first.key)
        wait_until(lambda: certificate_at(barn, oak.trust) == later, 20, barn.log)  # its broker has it
        wait_until(lambda: told(oak)["members"]["barn"]["until"] == day(later), 20, barn.log)
        grid.agree([oak, barn], -1000, 2, seconds=30)
        assert "of this month" in do(oak, "admit", "--renew").stdout

        # shut out, and let in again with another key
        assert do(barn, "revoke", "oak").exit_code == 1
        assert "1 key revoked" in do(oak, "revoke", "barn").stdout
        grid.agree([oak], -500, 1)
        assert list(told(oak)["members"]) == ["oak"]
        out.unlink()
        said = do(oak, "admit", "barn", "--join", f"127.0.0.1:{oak.door}", "--out", str(out))
        assert "let in again with its new key" in said.stderr
        assert do(barn, "join", "--bundle", str(out)).exit_code == 0
        grid.agree([oak, barn], -1000, 2, seconds=30)
        # no key of any kind came into a log, a topic or an alert
        keys = [seal.key_of((node.trust / "node.key").read_bytes()) for node in (oak, barn)]
        keys += [first.key, seal.key_of((oak.trust / "authority/ca.key").read_bytes())]
        texts = [(node.folder / name).read_bytes() for node in (oak, barn) for name in ("agent.log", "mosquitto.log")]
        texts += [payload for node in (oak, barn) for payload in node.held("#", "$SYS/#", "$grid/#").values()]
        for key in keys:
            for text in texts:
                assert key not in text
                assert base64.b64encode(key)[:20] not in text
                assert key.hex().encode()[:20] not in text


def day(unix_s):
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))


def test_the_installed_command_knows_them():
    for words in ("network --help", "network init --help", "admit --help", "revoke --help", "join --help"):
        assert cli(*words.split()).returncode == 0
