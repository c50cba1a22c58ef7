"""grid meter: simulate, scan, read, decode and models as people and scripts meet them, without any hardware."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from live import GRID, cli
from sml_telegrams import PLAIN
from telegrams import BELGIUM, DUTCH_2, HISTORIC, NETHERLANDS_5, STANDARD
from test_cli import in_window

from agent import runtime
from agent.cli import scan
from agent.config import load
from agent.metering import build
from drivers.catalog import find, models
from drivers.faults import FAULTS, Faulty, Request
from drivers.reading import QUANTITIES, MeterError
from drivers.simulated import Entry, Scene, SimulatedMeter
from drivers.simulated_battery import FAULTS as BATTERY_FAULTS
from drivers.stream import ports

NODE = '[node]\nid = "x"\nrated_w = 1000\n[state]\ndir = "."\n'


@contextmanager
def simulating(*words):
    """(place, the printed lines) of a running `grid meter simulate`."""
    with subprocess.Popen(
        [*GRID, "meter", "simulate", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said = []
        try:
            for line in process.stdout:
                said.append(line.rstrip("\n"))
                if line.startswith("ready"):
                    break
            assert said, process.stderr.read()
            yield said[0].rpartition(" ")[2], said
        finally:
            process.send_signal(signal.SIGINT)
            assert (process.wait(20), process.stderr.read()) == (0, "")


def block_of(lines):
    """The [[meter]] among printed lines, to be pasted."""
    start = lines.index("[[meter]]")
    return "\n".join(lines[start : start + 8 if lines[start + 6 : start + 8] else None]).partition("\nready")[0]


def written(tmp_path, lines):
    path = tmp_path / "grid.toml"
    path.write_text(NODE + block_of(lines) + "\n")
    return str(path)


# simulate


@pytest.mark.parametrize("door", [["--pty"], ["--tcp", "0"]], ids=["pty", "tcp"])
def test_what_simulate_prints_can_be_pasted_and_read(tmp_path, door):
    with simulating("eastron-sdm120", *door, "--set", "w=-1234", "--set", "v_l1=231.5") as (place, said):
        path = written(tmp_path, said)
        assert ("/dev/" in place) == (door == ["--pty"])
        done = cli("meter", "read", "-c", path, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        reading = json.loads(done.stdout)
        assert [reading[name] for name in ("name", "quality", "w", "v_l1", "w_l1")] == ["simulated", "good", -1234, 231.5, None]
        done = cli("meter", "read", "-c", path, "--raw")
        assert done.returncode == 0
        # -1234 is 0xC49A4000 as a float: -(1 + 0x1A4000/2^23) * 2^10
        assert re.search(r"^  w +fc 4  0x000C +12  f32  C49A 4000 +-1234$", done.stdout, re.MULTILINE)
        raw = json.loads(cli("meter", "read", "simulated", "-c", path, "--raw", "--json").stdout)
        by_name = {reg.pop("register"): reg for reg in raw["registers"]}
        assert by_name["w"] == {"fc": 4, "address": 12, "type": "f32", "words": [0xC49A, 0x4000], "reads": -1234}
        assert set(by_name) == set(find("eastron-sdm120").regs)


def test_a_simulated_fault_comes_out_as_an_error_with_the_way_out(tmp_path):
    with simulating("eastron-sdm630", "--tcp", "0", "--fault", "exception-2", "--unit", "7") as (_, said):
        assert "unit = 7" in said
        path = written(tmp_path, said)
        done = cli("meter", "read", "-c", path)
        assert done.returncode == 1
        assert re.match(r"simulated: absent  unit 7 on .* it has no such register; is the model right\?", done.stdout)
        done = cli("meter", "read", "-c", path, "--raw")
        assert done.returncode == 1
        assert "no such register" in done.stdout


def test_a_reading_that_is_not_good_is_shown_with_its_reason(tmp_path):
    with simulating("eastron-sdm630", "--tcp", "0", "--fault", "swapped") as (_, said):
        done = cli("meter", "read", "-c", written(tmp_path, said))
        assert done.returncode == 1
        assert re.match(r"simulated: suspect  w .*  \(v_l1 reads .*word_order = \"little\".*\)\n$", done.stdout)


def test_a_meter_without_watts_is_not_good(tmp_path):
    with simulating("eastron-sdm630", "--tcp", "0", "--fault", "nan") as (_, said):
        done = cli("meter", "read", "-c", written(tmp_path, said))
        assert (done.returncode, done.stdout.partition(";")[0]) == (1, "simulated: absent  it answers, but without watts")


def test_watts_that_nobody_set_live(tmp_path):
    with simulating("eastron-sdm630", "--tcp", "0") as (_, said):
        path = written(tmp_path, said)
        seen = set()
        for _ in range(20):
            seen.add(json.loads(cli("meter", "read", "-c", path, "--json").stdout)["w"])
            if len(seen) > 1:
                break
        assert len(seen) == 2
        assert all(200 <= w <= 2200 for w in seen)


def test_phases_make_the_total_and_counters_count(tmp_path):
    with simulating("eastron-sdm630", "--tcp", "0", "--set", "w_l1=1000", "--set", "w_l2=-3600000") as (_, said):
        path = written(tmp_path, said)
        first = json.loads(cli("meter", "read", "-c", path, "--json").stdout)
        assert [first[name] for name in ("w", "w_l1", "w_l2", "w_l3", "quality")] == [-3599000, 1000, -3600000, 0, "good"]
        time.sleep(1.1)  # at 3599 kW a second is a kilowatt-hour
        assert json.loads(cli("meter", "read", "-c", path, "--json").stdout)["export_wh"] >= first["export_wh"] + 900


@pytest.mark.parametrize(("kind", "w"), [("p1", -1234), ("sml", -1234), ("tic", -1234), ("sunspec", -1234)])
def test_other_kinds_of_meter_are_simulated_too(tmp_path, kind, w):
    with simulating(kind, "--pty", "--set", f"w={w}") as (_, said):
        path = written(tmp_path, said)
        assert ("unit = 1" in said) == (kind == "sunspec")
        reading = json.loads(cli("meter", "read", "-c", path, "--json").stdout)
        assert [reading[name] for name in ("name", "quality", "w")] == ["simulated", "good", w], reading
        done = cli("meter", "read", "-c", path, "--raw")
        assert done.returncode == (0 if kind == "sunspec" else 1)
        assert ("model 203 at 40070: 00CB" if kind == "sunspec" else f"{kind} has no registers to show") in done.stdout


def test_of_talking_meters_a_damaged_telegram_is_left_out_and_the_next_is_right():
    heard, end = b"", time.monotonic() + 20
    with (
        simulating("p1", "--pty", "--set", "w=777", "--fault", "crc", "--every", "2") as (place, _),
        open(place, "rb", buffering=0) as port,
    ):
        while heard.count(b"/GRD5") < 4 and time.monotonic() < end:
            heard += port.read(4096)
    code, said, errors = decoded("p1", heard[: heard.rindex(b"/GRD5")], None, stdin=True)
    assert code == 0
    assert 1 <= len(said) <= 2
    assert all(row["w"] == 777 for row in said)
    assert "damaged" in errors


WRONG = [
    ("abb-b2x", "choose one of --tcp PORT and --pty"),
    ("abb-b2x --tcp 0 --pty", "choose one of --tcp PORT and --pty"),
    ("abb-b2 --pty", "did you mean abb-b2x"),
    ("p1 --tcp 0", "p1 speaks p1; use --pty"),
    ("s0 --pty", "s0 speaks s0; it cannot be simulated yet"),
    ("p1 --pty --set hz=50", "no register for 'hz'; there are: w, w_l1"),
    ("sml --pty --fault echo", "echo: sml is not asked, it talks; choose of absent, crc, noise, short"),
    ("sunspec --pty --set w=40000", "w = 40000 does not fit its register of type i16"),
    ("abb-b2x --pty --set v_l9=3", "no register for 'v_l9'; did you mean v_l3?"),
    ("abb-b2x --pty --set zzz=3", "no register for 'zzz'; there are: w, w_l1"),
    ("abb-b2x --pty --set hz", "'' is no number; write it like hz=1200"),
    ("abb-b2x --pty --set hz=fifty", "'fifty' is no number"),
    ("abb-b2x --pty --set hz=nan", "no meter shows that"),
    ("abb-b2x --pty --set w=1e14", "w = 100000000000000 does not fit its register of type i32"),
    ("abb-b2x --pty --fault lat", "no fault 'lat'; did you mean late?"),
    ("abb-b2x --pty --fault hangup", "(TCP only); use --tcp PORT or another fault"),
    ("abb-b2x --tcp 0 --fault crc", "(serial only); use --pty or another fault"),
    ("abb-b2x --tcp 0 --battery 124", "abb-b2x is no SunSpec device; use grid meter simulate sunspec --battery 124"),
    ("sunspec --tcp 0 --battery 704 --fault clip", "no fault 'clip' of a battery; did you mean clips?"),
    ("sunspec --tcp 0 --battery 704 --fault clips --fault lies", "one fault at a time; give --fault once"),
    ("sunspec --tcp 0 --battery 704 --set w=5", "--set w: a battery shows what it does; only soc_pct and hz can be set"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[words for words, _ in WRONG])
def test_a_wrong_wish_is_one_clear_line(words, told):
    done = cli("meter", "simulate", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_and_the_list_of_faults():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("meter", "simulate", "abb-b2x", "--tcp", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "choose another --tcp PORT, or 0 for a free one" in done.stderr
    listed = cli("meter", "simulate", "any", "--fault", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(FAULTS)


@pytest.mark.parametrize("model", ["124", "704"])
def test_a_simulated_battery_can_be_pasted_read_and_steered(tmp_path, model):
    with simulating("sunspec", "--tcp", "0", "--battery", model, "--set", "soc_pct=63", "--set", "hz=49.9") as (_, said):
        path = tmp_path / "grid.toml"
        path.write_text(NODE + "\n".join(said[said.index("[[meter]]") : said.index("ready; Ctrl-C ends it")]))
        row = json.loads(cli("meter", "read", "-c", str(path), "--json").stdout)
        assert [row[name] for name in ("quality", "w", "soc_pct", "hz")] == ["good", 0, 63.0, 49.9]
        config = load(path)
        assert (config.battery.control, config.battery.meter) == (f"sunspec-{model}", "simulated")
        steered = build(config.meters, config.battery).battery[1]
        steered.bus.open()
        assert (steered.set(1500, 60, 0.0), steered.watts) == ("", 1500)
        assert json.loads(cli("meter", "read", "-c", str(path), "--json").stdout)["w"] == -1500
        steered.close(1.0)
        steered.bus.close()
        assert json.loads(cli("meter", "read", "-c", str(path), "--json").stdout)["w"] == 0
    listed = cli("meter", "simulate", "sunspec", "--battery", model, "--fault", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(BATTERY_FAULTS)


def test_a_value_out_of_range_is_served_with_a_warning(tmp_path):
    with subprocess.Popen(
        [*GRID, "meter", "simulate", "eastron-sdm120", "--tcp", "0", "--set", "v_l1=400"], stdout=-1, stderr=-1, text=True
    ) as process:
        said = [process.stdout.readline().rstrip() for _ in range(9)]
        path = written(tmp_path, said)
        assert json.loads(cli("meter", "read", "-c", path, "--json").stdout)["quality"] == "suspect"
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr.read() == "v_l1 = 400 is outside 85 to 300: its readings will be suspect\n"


# scan


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
        assert json.loads(cli("meter", "read", "-c", path, "--json").stdout)["quality"] == "good"


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


def decoded(kind, data, tmp_path, stdin=False):
    if stdin:
        done = subprocess.run([*GRID, "meter", "decode", kind, "-"], input=data, capture_output=True, timeout=30, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()
    file = tmp_path / "capture.bin"
    file.write_bytes(data)
    done = cli("meter", "decode", kind, str(file))
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("stdin", [False, True])
@pytest.mark.parametrize(
    ("kind", "telegram", "w"), [("p1", NETHERLANDS_5, -2317), ("sml", PLAIN, -1234), ("tic", HISTORIC, 740), ("tic", STANDARD, 948)]
)
def test_a_capture_begun_midway_with_one_damaged_telegram(kind, telegram, w, stdin, tmp_path):
    middle = len(telegram) // 2
    damaged = telegram[:middle] + bytes([telegram[middle] ^ 0x08]) + telegram[middle + 1 :]
    code, said, errors = decoded(kind, telegram[middle:] + telegram + damaged + telegram * 2, tmp_path, stdin)
    assert code == 0
    assert [row["w"] for row in said] == [w] * 3
    assert all(list(row) == ["name", "quality", "why", *QUANTITIES, "age_s"] for row in said)
    assert all((row["name"], row["quality"], row["age_s"]) == (kind, "good", None) for row in said)
    assert re.fullmatch(r"grid: \d damaged telegrams? left out\n", errors)


def test_a_capture_of_one_telegram_is_shown(tmp_path):
    """In the field the first one waits for another like it."""
    code, said, _ = decoded("sml", PLAIN, tmp_path)
    assert (code, [row["w"] for row in said]) == (0, [-1234])


def test_a_capture_without_a_good_telegram_is_code_1(tmp_path):
    code, said, errors = decoded("p1", PLAIN, tmp_path)
    assert (code, said) == (1, [])
    assert "no good p1 telegram; is it the right kind" in errors
    assert cli("meter", "decode", "sml", str(tmp_path / "none")).returncode == 2
    assert cli("meter", "decode", "sml", str(tmp_path)).returncode == 2
    assert cli("meter", "decode", "dlms", "-").returncode == 2


# models


def test_models_as_json_say_how_each_is_read():
    (said,) = cli("meter", "models", "--json").stdout.splitlines()
    rows = {row["id"]: row for row in json.loads(said)}
    assert set(rows) == set(models())
    assert rows["eastron-sdm630"] == {
        "id": "eastron-sdm630",
        "vendor": "Eastron",
        "models": list(find("eastron-sdm630").models),
        "protocol": "modbus",
        "phases": 3,
        "trust": "A",
    }
    assert rows["sml"]["protocol"] == "sml"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_models_fit_a_window(columns):
    code, said = in_window(columns, "meter", "models")
    assert code == 0
    lines = re.sub(r"\x1b\[\d*m", "", said).splitlines()
    assert all(len(line) <= columns for line in lines), lines
    assert all(any(line.startswith(name) for line in lines[1:]) for name in models())
    assert lines[0].startswith("model ")
    assert lines[0].endswith("sold as")
    assert "trust" in lines[0]
    assert ("vendor" in lines[0]) == (columns == 120)
    assert max(map(len, lines)) == columns, "the names of trade take all that is left"


def test_models_in_a_pipe_have_every_name_of_trade():
    said = cli("meter", "models").stdout.splitlines()
    assert said[0].split("\t") == ["model", "vendor", "protocol", "phases", "trust", "sold as"]
    assert {line.split("\t")[0]: line.split("\t")[5] for line in said[1:]} == {
        map_.id: ", ".join(map_.models) for map_ in models().values()
    }
