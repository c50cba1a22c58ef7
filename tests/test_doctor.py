"""grid doctor: on a healthy pair of nodes, and with one fault after another; each is found, with the line that mends it."""

import json
import subprocess
import time

import pytest
from live import Grid, cli
from patience import wait_until
from ports import free_ports

from agent import authority, root, runtime
from agent.cli import doctor
from agent.seal import Member


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with Grid(tmp_path_factory.mktemp("doctor")) as grid:
        yield grid.network(oak=-700, mill=300)


@pytest.fixture
def alone(tmp_path):
    """Writes the configuration of a node that does not run, with these lines in addition; gives its path."""

    def write(more: str = "", rated_w: str = "1000"):
        path = tmp_path / "grid.toml"
        text = f'[node]\nid = "x"\nrated_w = {rated_w}\n[mqtt]\nport = {free_ports(1)[0]}\nbind = "127.0.0.1"\n[state]\ndir = "."\n'
        path.write_text(text + more)
        return path

    return write


def findings(path) -> dict[str, doctor.Finding]:
    found = doctor.look(path)
    assert len({finding.name for finding in found}) == len(found)
    assert all(finding.fix for finding in found if finding.ok is False), "a fault without a way out"
    return {finding.name: finding for finding in found}


HERE = ("clock", "disk", "power")  # of this machine, not of the node


def test_a_healthy_node_has_no_fault(pair):
    oak, _ = pair
    found = findings(oak.config)
    assert [finding for name, finding in found.items() if finding.ok is False and name not in HERE] == []
    assert found["meter house"].text == "it reads 700 W"
    assert found["agent"].text == "it runs and hears 2 of 2"
    assert found["sibling mill"].text.startswith("linked, both ways")
    assert found["tariff"].text == "agreed: EUR, rule mmr/1"
    assert found["mode"].text.startswith("OPEN")


def test_the_command_says_the_same_in_lines_and_in_json(pair):
    oak, _ = pair
    began = time.monotonic()
    said = oak.cli("doctor")
    assert time.monotonic() - began < 20
    rows = json.loads(oak.cli("doctor", "--json").stdout)
    assert said.returncode == (1 if any(row["ok"] is False for row in rows) else 0)
    lines = said.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith("      ")] == [
        f"{ {True: 'ok ', False: 'BAD', None: '?  '}[row['ok']] } {row['name']}" for row in rows
    ]
    assert [line.strip() for line in lines if line.startswith("      ")] == [row["fix"] for row in rows if row["fix"]]


def test_a_dead_meter_and_a_dead_sibling(pair):
    oak, mill = pair  # mill joined oak and keeps the bridge, so that its broker tells it of the link
    oak.kill_agent()
    mill.stop_meter()
    wait_until(lambda: mill.status()["siblings"]["oak"]["link"] == "silent", 30, mill.status)
    wait_until(lambda: mill.status()["meters"][0]["quality"] == "absent", 10, mill.status)
    found = findings(mill.config)
    assert found["meter house"].ok is False
    assert f"grid meter read house -c {mill.config}" in found["meter house"].fix
    assert (found["sibling oak"].ok, found["sibling oak"].fix) == (False, "its agent may be down: on it run 'grid doctor'")
    oak.kill_broker()
    wait_until(lambda: mill.status()["siblings"]["oak"]["link"] == "down", 30, mill.status)
    assert f"127.0.0.1:{oak.port} reachable from here" in findings(mill.config)["sibling oak"].fix


def test_a_node_that_does_not_run(pair):
    """After the test above: its agent and its broker were killed."""
    oak = pair[0]
    oak.start_broker()
    wait_until(oak.broker_pid, 10)
    found = findings(oak.config)
    assert (found["agent"].ok, found["agent"].fix) == (False, f"grid run -c {oak.config}")
    assert found["broker"].ok is True
    oak.kill_broker()
    assert findings(oak.config)["broker"].text == f"nothing answers at 127.0.0.1:{oak.port}"


def test_a_wrong_configuration_is_told_line_by_line(alone):
    path = alone('[tarif]\nimport = 0.4\n[[meter]]\nname = "house"\nmodel = "sdm9"\nrole = "grid"\nport = "/dev/ttyUSB0"\n', "1k")
    done = cli("doctor", "-c", str(path))
    assert done.returncode == 1
    assert sum(line.startswith("BAD config: ") for line in done.stdout.splitlines()) >= 1
    assert f"grid check {path}" in done.stdout


def test_a_node_without_a_meter_and_without_anything_running(alone):
    found = findings(alone())
    assert "add a [[meter]]" in found["meters"].fix
    assert found["broker"].ok is found["agent"].ok is False


def test_a_port_that_is_not_there_or_may_not_be_used(alone, tmp_path, monkeypatch):
    port = tmp_path / "ttyUSB7"
    path = alone(f'[[meter]]\nname = "house"\nmodel = "eastron-sdm120"\nrole = "grid"\nport = "{port}"\n')
    found = findings(path)
    assert "ls /dev/serial/by-id" in found[f"port {port}"].fix
    assert "no connection" in found["meter house"].text
    port.touch()
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    config = root.load(path)
    assert [(finding.ok, "dialout" in finding.fix) for finding in doctor._ports(config, None)] == [(False, True)]


def test_a_broker_that_is_not_ours(pair, alone, tmp_path):
    stranger = Grid(tmp_path / "other")
    with stranger:
        other = stranger.node("other")
        wait_until(lambda: other.read("grid/net"), 15, other.log)
        path = alone()
        path.write_text(path.read_text().replace("port = ", f"port = {other.port} #"))
        found = findings(path)
        assert found["broker"].ok is False
        assert "does not run with this node's files" in found["broker"].text


def test_no_mosquitto(alone, monkeypatch):
    def missing():
        raise FileNotFoundError("mosquitto is not installed")

    monkeypatch.setattr(doctor.broker, "program", missing)
    assert findings(alone())["broker"].fix == "sudo apt install mosquitto mosquitto-clients"


def test_a_read_only_and_a_full_card(alone, tmp_path):
    path = alone()
    card = tmp_path / "card"
    card.mkdir()
    path.write_text(path.read_text().replace('dir = "."', 'dir = "card"'))
    mount = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=64k", "grid-test", card), capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no mount here: {mount.stderr.strip()}")
    try:
        assert findings(path)["disk"].text.startswith("only 0 MB free")
        subprocess.run(("mount", "-o", "remount,ro", card), check=True)
        assert "mounted read-only" in findings(path)["disk"].text
        assert runtime.found(card) == card
    finally:
        subprocess.run(("umount", card), check=True)


@pytest.mark.parametrize(("alarm", "ok"), [("0", True), ("1", False)])
def test_the_low_voltage_alarm_of_a_pi(tmp_path, monkeypatch, alarm, ok, alone):
    chip = tmp_path / "hwmon0"
    chip.mkdir()
    (chip / "name").write_text("rpi_volt\n")
    (chip / "in0_lcrit_alarm").write_text(f"{alarm}\n")
    monkeypatch.setattr(doctor, "HOT_VOLTS", tmp_path)
    found = list(doctor._power(root.load(alone()), None))
    assert [(finding.name, finding.ok) for finding in found] == [("power", ok)]
    assert ("power supply" in found[0].fix) is not ok


def test_a_clock_that_was_never_set(monkeypatch, alone):
    monkeypatch.setattr(doctor.time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 5, 0, 3, 1, 0)))
    (finding,) = doctor._clock(root.load(alone()), None)
    assert finding.ok is False
    assert "1970-01-01" in finding.text


@pytest.mark.parametrize(
    ("error", "ok", "says", "fix"),
    [
        (PermissionError(13, "Permission denied"), None, "this user may not see", "sudo grid doctor"),
        (ValueError("pending is damaged"), False, "pending is damaged", "grid join --bundle FILE"),
        (OSError(5, "Input/output error"), False, "Input/output error", "grid join --bundle FILE"),
    ],
)
def test_keys_that_cannot_be_read_are_a_finding(alone, monkeypatch, error, ok, says, fix):
    def read(config):
        raise error

    monkeypatch.setattr(doctor.closed, "is_closed", read)
    (found,) = doctor._mode(root.load(alone()), None)
    assert found.ok is ok
    assert says in found.text
    assert found.fix.startswith(fix)


HOUR_S, DAY_S = 3600.0, 86_400.0


@pytest.mark.parametrize(
    ("left_s", "synchronised", "ok", "says"),
    [
        (300 * DAY_S + HOUR_S, True, True, "it ends on {}, in 300 days"),
        (40 * DAY_S + HOUR_S, True, False, "it ends on {}, in 40 days"),  # long after a third of two years was left
        (HOUR_S, True, False, "it ends on {}, in 0 days"),
        (-HOUR_S, True, False, "it ended on {}"),
        (-HOUR_S, None, False, "it ended on {}"),
        (-HOUR_S, False, False, "it ended on {} by this clock, which is not known to be right"),
    ],
)
def test_when_a_certificate_ends(alone, tmp_path, monkeypatch, left_s, synchronised, ok, says):
    config = root.load(alone())
    authority.create(tmp_path / "trust", "Oak Street", "x", None, time.time())
    ends = Member.load(tmp_path / "trust").to_unix
    monkeypatch.setattr(doctor.time, "time", lambda: ends - left_s)
    monkeypatch.setattr(doctor.clock, "synchronised", lambda: synchronised)
    (found,) = [finding for finding in doctor._closed(config) if finding.name == "certificate"]
    assert (found.ok, found.text) == (ok, says.format(time.strftime("%Y-%m-%d", time.gmtime(ends))))
    assert bool(found.fix) is not ok


def test_wifi_is_looked_at_where_a_network_is_wanted(alone, tmp_path, monkeypatch):
    assert "Wi-Fi" not in findings(alone())
    (tmp_path / "wifi").touch()
    monkeypatch.setattr(doctor, "WIFI", tmp_path / "wifi")
    for problems, finding in (
        ([], doctor.Finding("Wi-Fi", True, "a network is joined and gave an address")),
        (["A is far. Go", "B is far. Go"], doctor.Finding("Wi-Fi", False, "A is far; B is far", "Go")),
    ):
        monkeypatch.setattr(doctor.radio, "why_not", lambda problems=problems: problems)
        assert findings(alone())["Wi-Fi"] == finding
