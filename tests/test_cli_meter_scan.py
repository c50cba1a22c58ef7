"""grid meter scan and read --raw: what is found on a line, what is said when nothing is, and who has the line."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest
from live import GRID, cli
from meter_cli import simulating, written
from patience import wait_until
from sml_telegrams import PLAIN
from telegrams import BELGIUM, DUTCH_2, HISTORIC, NETHERLANDS_5, STANDARD
from test_cli import in_window

from agent import runtime
from agent.cli import scan
from drivers.catalog import find, models
from drivers.faults import Faulty, Request
from drivers.reading import MeterError
from drivers.simulated import Entry, Scene, SimulatedMeter
from drivers.stream import ports


def test_scan_finds_a_meter_behind_a_host(tmp_path):
    with simulating("gavazzi-em24-e1", "--tcp", "0", "--unit", "3") as (place, _):
        done = cli("meter", "scan", place)
        assert done.returncode == 0
        assert f"# {place}, unit 3\n# gavazzi-em24-e1: " in done.stdout
        path = written(tmp_path, done.stdout.splitlines())
        assert json.loads(cli("meter", "read", "-c", path, "--json").stdout)["quality"] == "good"
        assert f"{place}: asking ...\n" in done.stderr
        found = json.loads(cli("meter", "scan", place, "--json").stdout)["found"]
        assert [(one["unit"], one["baud"], one["models"][0]["model"]) for one in found] == [(3, None, "gavazzi-em24-e1")]


def test_scan_finds_unit_and_baud_rate_on_a_serial_port(tmp_path):
    with simulating("eastron-sdm120", "--pty", "--unit", "2") as (place, _):  # at 2400 baud
        done = cli("meter", "scan", place, "--units", "1-2", "--listen", "0")
        assert done.returncode == 0
        assert f"# {place}, unit 2 at 2400 8N1\n# eastron-sdm120: " in done.stdout
        path = written(tmp_path, done.stdout.splitlines())
        # one look has no second try: on a starved machine an answer may come after the line's timeout, and the map is then unproven
        looks = []

        def good():
            looks.append(json.loads(cli("meter", "read", "-c", path, "--json").stdout))
            assert looks[-1]["quality"] == "good" or "no answer within" in looks[-1]["why"], looks[-1]
            return looks[-1]["quality"] == "good"

        wait_until(good, 10, looks)


def test_scan_that_finds_nothing_says_what_to_check(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        place = f"127.0.0.1:{closed.getsockname()[1]}"
    done = cli("meter", "scan", place)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{place}: no connection" in done.stderr
    done = cli("meter", "scan", "ttyUSB99")  # a port, not a host
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("grid: /dev/ttyUSB99 at ")
    done = cli("meter", "scan", str(tmp_path / "ttyUSB0"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is the adapter plugged in" in done.stderr
    for wrong in (["h:99999"], ["h", "--units", "0-300"], ["h", "--units", "x"]):
        assert cli("meter", "scan", *wrong).returncode == 2
    with simulating("eastron-sdm120", "--tcp", "0", "--fault", "absent") as (place, _):
        done = cli("meter", "scan", place, "--units", "1", "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout) == {"found": [], "problems": []}
        assert "nothing found. Check: is Modbus TCP switched on" in done.stderr


def test_scan_can_be_interrupted():
    with simulating("eastron-sdm120", "--pty", "--fault", "absent") as (place, _):
        heeds = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it, and so would its child
        try:
            process = subprocess.Popen([*GRID, "meter", "scan", place, "--listen", "0"], stdout=-1, stderr=-1, text=True)
        finally:
            signal.signal(signal.SIGINT, heeds)
        with process:
            assert process.stderr.readline().startswith(f"{place}: asking at ")
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 1
            said = process.stderr.read()
        assert said.endswith("grid: interrupted\n")
        assert "Traceback" not in said


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_in_a_terminal_a_bar_shows_how_far_a_scan_is_and_goes_away(columns):
    with simulating("eastron-sdm120", "--tcp", "0", "--unit", "1") as (place, _):
        code, said = in_window(columns, "meter", "scan", place, "--units", "1")
    assert code == 0
    bars = re.findall(r"\r\[(#*)(-*)\] ", said)
    assert len(bars) > 2
    assert all(len(done) + len(open_) == 24 for done, open_ in bars)
    assert [len(done) for done, _ in bars] == sorted(len(done) for done, _ in bars)
    assert "\r" + " " * min(78, columns - 2) + "\r" in said
    assert all(len(bar) < columns for bar in re.findall(r"\r(\[[^\r\n]*)", said))


def test_the_serial_ports_of_this_machine():
    found = ports()
    assert all(path.startswith("/dev/") for path in found)
    if not found:
        done = cli("meter", "scan")
        assert (done.returncode, done.stdout) == (1, "")
        assert "this machine has no serial port; plug in the USB adapter" in done.stderr


def test_scan_hears_a_meter_that_talks_of_its_own_accord():
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    stop = threading.Event()

    def talk():
        while not stop.wait(0.05):
            os.write(master, PLAIN[:100])
            os.write(master, PLAIN[100:])

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        done = cli("meter", "scan", os.ttyname(slave), "--listen", "1", "--json")
    finally:
        stop.set()
        thread.join()
        os.close(master)
        os.close(slave)
    (found,) = json.loads(done.stdout)["found"]
    assert (done.returncode, found["models"][0]["model"], found["unit"]) == (0, "sml", None)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        *((PLAIN, "sml"), (NETHERLANDS_5, "p1"), (BELGIUM, "p1"), (DUTCH_2, "p1"), (HISTORIC, "tic"), (STANDARD, "tic")),
        *((b"", None), (b"\0" * 500, None), (b"/dev/ttyUSB0\r\n", None), (bytes(range(256)) * 4, None)),
    ],
)
def test_which_kind_talks(data, kind):
    assert scan.push(data) == kind
    assert scan.push(data[len(data) // 4 :]) == (kind if kind != "sml" else None)


def test_units_and_settings():
    assert scan.units("1-3,7,2") == [1, 2, 3, 7]
    for wrong in ("", "3-1", "a", "1-256", "1-2-3"):
        with pytest.raises(ValueError, match="write them like 1-10"):
            scan.units(wrong)
    links = scan.settings(models().values())
    assert links[0] == (9600, "8N1")
    assert len(links) == len(set(links))
    assert {(map_.baud, map_.framing) for map_ in models().values() if map_.regs} <= set(links[: len(links)])
    assert (9600, "8N1", 1) in scan.likely(models().values())[:2]


MODBUS = [map_ for map_ in models().values() if map_.regs]


def asker(map_, broken=()):
    """Reads a simulated meter of this map without any line."""
    shown = {name: value for name, value in (("w", 1500), ("v_l1", 231)) if name in (*map_.regs, *map_.derived)}
    simulated = SimulatedMeter(Entry("", 0, map_.unit, map_.id, fixed=shown), Scene(()), 0.0)
    meter, asked = Faulty(map_, 1, simulated.held, [], 1, 1), []

    def read(fc, address, count):
        asked.append((fc, address, count))
        if (fc, address) in broken:
            raise MeterError("silent")
        (send,) = meter.answer(Request(1, bytes([fc]) + address.to_bytes(2, "big") + count.to_bytes(2, "big")), 0.0)
        pdu = send.data[1:-2]
        return None if pdu[0] & 0x80 else [int.from_bytes(pdu[i : i + 2], "big") for i in range(2, len(pdu), 2)]

    return read, asked


@pytest.mark.parametrize("map_", MODBUS, ids=[map_.id for map_ in MODBUS])
def test_each_model_is_known_by_its_registers(map_):
    read, asked = asker(map_)
    found = scan.identify(read, models().values())
    best = [match.model for match in found if match.score == found[0].score]
    if map_.ranges or any(reg.one_of for reg in map_.regs.values()):
        assert map_.id in best[:3], found
    else:  # it shows nothing that proves it
        assert map_.id in [match.model for match in found if match.score == 1]
    assert len(asked) == len(set(asked)), "nothing is asked twice"


def test_what_proves_nothing_is_no_match():
    assert scan.identify(lambda fc, address, count: [0] * count, models().values()) == []
    assert scan.identify(lambda fc, address, count: None, models().values()) == []
    sdm120 = find("eastron-sdm120")
    assert scan.identify(asker(sdm120, {(4, 0)})[0], [sdm120]) == []
    found = scan.identify(lambda fc, address, count: [0x5375, 0x6E53] if (fc, address) == (3, 50000) else None, [])
    assert [(match.model, match.why) for match in found] == [("sunspec", 'it says "SunS" at register 50000')]


# read --raw beside a running agent


@contextmanager
def agent_in(directory):
    """Something that answers at a node's socket like its agent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(directory / runtime.SOCKET))
        server.listen()

        def answer():
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, client.makefile("rb") as lines:
                    if lines.readline():
                        client.sendall(b'{"meters":[]}\n')

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_raw_leaves_a_serial_line_to_the_running_agent(tmp_path):
    with simulating("eastron-sdm120", "--pty") as (place, said), agent_in(tmp_path):
        done = cli("meter", "read", "-c", written(tmp_path, said), "--raw")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"grid: the running agent of x owns {place}; stop it first")
    (tmp_path / runtime.SOCKET).unlink()
    with simulating("eastron-sdm120", "--tcp", "0") as (_, said), agent_in(tmp_path):
        assert cli("meter", "read", "-c", written(tmp_path, said), "--raw").returncode == 0


# decode
