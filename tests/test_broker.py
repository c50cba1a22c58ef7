"""Mosquitto's files and having the running one take them: on real brokers, with the versions that are installed."""

import base64
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from live import alive, pid_in
from patience import wait_until
from ports import free_ports
from tap import Tap

from agent import authority, broker, broker_conf
from agent.broker import RELOADS, Broker, Closed, Process
from agent.events import Bridge, Warned


@pytest.fixture
def desk(tmp_path):
    """Makes brokers (files, process, events); all are ended afterwards."""
    made = []

    def make(id_="x", port=None):
        events = []
        files = Broker(id_, tmp_path / id_, port or free_ports(1)[0], "127.0.0.1", "grid/sibling/", events.append)
        process = Process(files.config)
        made.append((files, process))
        return files, process, events

    yield make
    for files, process in made:
        files.close()
        process.close()
        pid = pid_in(files.directory / "mosquitto.pid")
        if pid is not None and files.pid() == pid:
            os.kill(pid, signal.SIGKILL)


def port_of(files):
    return int(files.config.read_text().partition("listener ")[2].split()[0])


def test_files_are_accepted_by_the_installed_mosquitto_and_changed_only_when_needed(desk):
    files, process, _ = desk()
    files.write_main()
    assert files.link([Bridge("y", "127.0.0.1", 1), Bridge("z", "::1", 2)]) == ""
    names = {path.name: path.stat().st_mtime_ns for path in (files.directory / "bridges").iterdir()}
    assert set(names) == {"y.conf", "z.conf"}
    assert oct((files.directory / "bridges").stat().st_mode)[-3:] == "700"
    process.open()
    wait_until(files.pid, 5, "it starts with these files")
    assert broker.version() >= (2, 0)

    files.write_main()
    assert files.link([Bridge("y", "127.0.0.1", 1), Bridge("z", "::1", 2)]) == ""
    assert {path.name: path.stat().st_mtime_ns for path in (files.directory / "bridges").iterdir()} == names
    assert files.link([Bridge("y", "127.0.0.1", 3)]) == ""
    assert [path.name for path in (files.directory / "bridges").iterdir()] == ["y.conf"]
    assert "address 127.0.0.1:3\n" in (files.directory / "bridges" / "y.conf").read_text()


def test_a_link_carries_both_directions_and_survives_either_broker(desk):
    (x, x_process, x_said), (y, y_process, _) = desk("x"), desk("y")
    for files, process in ((x, x_process), (y, y_process)):
        files.open()
        process.open()
        wait_until(files.pid, 5)
    before = x.pid()
    assert x.link([Bridge("y", "127.0.0.1", port_of(y))]) == ""
    wait_until(lambda: Warned("broker-files", "") in x_said, 5, x_said)
    if broker.version() >= RELOADS:
        assert x.pid() == before
    else:
        wait_until(lambda: x.pid() not in (None, before), 5, "Process starts it again: it was asked to end")

    def both_ways(number):
        wait_until(lambda: _read(port_of(x), "grid/sibling/y") == b"1", 15, "the link is up")
        for here, there, me in ((x, port_of(y), "x"), (y, port_of(x), "y")):
            with Tap(port_of(here)) as tap:
                tap.say(f"grid/node/{me}/state", f"{number} {me} state")
                tap.say("grid/network/tariff", f"{number} {me} tariff")
            for topic in (f"{me}/state", "network/tariff"):
                payload = f"{number} {me} {topic.rpartition('/')[2]}".encode()
                wait_until(lambda t=f"$grid/in/{me}/{topic}", p=there, w=payload: _read(p, t) == w, 5, topic)

    both_ways(1)
    for files, process in ((y, y_process), (x, x_process)):
        pid = files.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not alive(pid), 5)
        process.open()
        wait_until(lambda files=files, pid=pid: files.pid() not in (None, pid), 5)
        both_ways(pid)

    # parted: the file goes and with it the link
    assert x.link([]) == ""
    wait_until(lambda: not list((x.directory / "bridges").iterdir()), 5)
    wait_until(lambda: _settled(port_of(x), port_of(y)), 10, "nothing crosses any more")


def _read(port, topic):
    try:
        with Tap(port, topic) as tap:
            return next((message.payload for message in tap.retained()), None)
    except OSError:
        return None


def _settled(x_port, y_port):
    """Does what y says stay at y?"""
    mark = os.urandom(4).hex()
    try:
        with Tap(x_port, "$grid/in/y/#") as tap, Tap(y_port) as there:
            tap.retained()
            there.say("grid/node/y/state", mark)
            there.say("grid/node/y/info", mark)
            wait_until(lambda: _read(y_port, "grid/node/y/info"), 3)
            return not any(message.payload == mark.encode() for message in tap.heard)
    except OSError:
        return False


def test_process_minds_a_good_end_and_leaves_a_killed_one_dead(desk):
    files, process, _ = desk()
    files.write_main()
    process.open()
    first = wait_until(files.pid, 5)
    os.kill(first, signal.SIGTERM)
    second = wait_until(lambda: (files.pid() != first and files.pid()) or None, 5, "asked to end, it is started again")
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: files.pid() is None, 5, "a killed one is nobody, although its pid file is still there")
    assert (files.directory / "mosquitto.pid").exists()
    process.open()
    third = wait_until(files.pid, 5)
    process.close()
    assert not alive(third)
    process.close()
    assert files.pid() is None


def test_another_process_behind_the_pid_file_is_left_alone(desk):
    files, _, events = desk()
    files.open()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (files.directory / "mosquitto.pid").write_text(f"{other.pid}\n")
        assert files.pid() is None
        assert files.link([Bridge("y", "127.0.0.1", 1)]) == ""
        wait_until(lambda: events, 5)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    for text in ("", "rubbish", "-1", "99999999"):
        (files.directory / "mosquitto.pid").write_text(text)
        assert files.pid() is None


def test_a_broker_with_another_configuration_is_not_touched_and_said(desk):
    files, _, events = desk()
    files.open()
    foreign = files.directory / "foreign.conf"
    foreign.write_text(f"listener {free_ports(1)[0]} 127.0.0.1\npid_file {files.directory}/mosquitto.pid\nuser root\n")
    other = Process(foreign)
    other.open()
    try:
        pid = wait_until(files.pid, 5)
        assert files.link([Bridge("y", "127.0.0.1", 1)]) == ""
        wait_until(lambda: events, 5)
        assert events[-1].alert == "broker-files"
        assert f"start it as 'mosquitto -c {files.config}'" in events[-1].text
        assert alive(pid)
    finally:
        other.close()


def test_files_changed_while_nobody_could_tell_the_broker(desk):
    """The agent was killed after it wrote and before the broker was told: its next start tells it."""
    files, process, _ = desk()
    files.write_main()
    process.open()
    first = wait_until(files.pid, 5)
    files.link([Bridge("y", "127.0.0.1", 1)])  # its thread never ran
    again = Broker("x", files.directory, port_of(files), "127.0.0.1", "grid/sibling/", lambda event: None)
    again.open()
    second = wait_until(lambda: (files.pid() != first and files.pid()) or None, 5, "it starts again with the new files")
    again.close()
    third = Broker("x", files.directory, port_of(files), "127.0.0.1", "grid/sibling/", lambda event: None)
    third.open()
    third.link([Bridge("y", "127.0.0.1", 1)])
    third.close()
    assert files.pid() == second  # nothing new, nothing told


def test_what_cannot_be_written_is_said_and_changes_nothing(desk):
    files, _, events = desk()
    files.write_main()
    (files.directory / "bridges" / "y.conf.new").mkdir()  # permissions do not bind root
    said = files.link([Bridge("y", "127.0.0.1", 1)])
    assert said.startswith("cannot write ")
    assert said.endswith("Links stay as they are")
    assert events == []


def test_passwords_are_written_as_mosquitto_passwd_writes_them():
    """$7$ is PBKDF2 with SHA-512: rounds, salt and hash; by hand with the same salt."""
    line = broker_conf.password_line("_agent", "secret")
    user, _, rest = line.strip().partition(":")
    _, kind, rounds, salt, hash_ = rest.split("$")
    assert (user, kind, rounds) == ("_agent", "7", "101")
    assert len(base64.b64decode(salt)) == 12
    assert base64.b64decode(hash_) == hashlib.pbkdf2_hmac("sha512", b"secret", base64.b64decode(salt), 101)
    assert line == broker_conf.password_line("_agent", "secret")
    assert line != broker_conf.password_line("_agent", "secreu")


def test_access_rights_are_taken_while_it_runs(tmp_path):
    """Who is barred is so at once, nobody else is cut off, and the broker is not started anew."""
    trust = tmp_path / "trust"
    authority.create(trust, "test", "x", None, time.time())
    port, tls_port = free_ports(2)
    events = []
    closed = Closed(trust, tls_port, None, broker_conf.password_line("_agent", "secret"))
    files = Broker("x", tmp_path / "x", port, "127.0.0.1", "grid/sibling/", events.append, closed)
    process = Process(files.config)
    files.open()
    process.open()
    try:
        pid = wait_until(files.pid, 5)
        wait_until(lambda: _answers(tls_port), 5)
        with Tap(port, user="_agent", password="secret") as agent, Tap(tls_port, trust=trust) as member:
            for ids, arrives in (((), True), (("x", "y"), False), ((), True)):
                assert files.bar(ids) == ""
                wait_until(lambda ids=ids: _barred(files, ids), 5)
                time.sleep(0.3)
                mark = os.urandom(4).hex()
                with Tap(tls_port, trust=trust) if arrives else member as tap:
                    tap.say("$grid/in/x/y/state", mark, retain=False, qos=0)
                    with Tap(port, "$grid/in/#", user="_agent", password="secret") as ear:
                        ear.retained()
                        tap.say("$grid/in/x/y/state", mark, retain=False, qos=0)
                        time.sleep(0.5)
                        assert bool(ear.heard) == arrives, ids
            assert agent._client.is_connected()
        assert files.pid() == pid
        assert (files.directory / "acl").stat().st_mode & 0o777 == 0o600
        (files.directory / "acl").unlink()
        (files.directory / "acl.new").mkdir()
        assert files.bar(("z",)).startswith("cannot write ")
    finally:
        files.close()
        process.close()


def _barred(files, ids):
    return all(f"user {id_}\n" in (files.directory / "acl").read_text() for id_ in ids)


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_mosquitto_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    broker.program.cache_clear()
    with pytest.raises(FileNotFoundError, match="apt install mosquitto"):
        broker.program()
    broker.program.cache_clear()
