"""Simulated meters: the curves by themselves, then real processes on free loopback ports read by the ordinary driver."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import free_ports

from drivers.catalog import find, models
from drivers.curves import Household
from drivers.faults import Faulty
from drivers.modbus import Bus, Line, Refusal
from drivers.reading import account
from drivers.register_meter import Meter
from drivers.registers import Block, Reg
from drivers.served import Served
from drivers.simulated import Entry, Scene, SimulatedMeter, load

ROOT = Path(__file__).parent.parent
HOME = Household(seed=3, load_peak_w=2000, pv_peak_w=5000, battery_w=1000, battery_wh=6000)
HOUSE = {"seed": 3, "load_w": 2000, "pv_w": 5000, "battery_w": 1000, "battery_wh": 6000}


def scene(*meters, **more):
    return {
        "meters": [{"host": "127.0.0.1", "tcp_port": 502, "unit": 1, "model": "eastron-sdm630", **meter} for meter in meters],
        **more,
    }


def test_registers_stand_still_within_ten_seconds_and_move_after():
    made = load(json.dumps(scene({"house": HOUSE}, speed=60)).encode())
    meter = SimulatedMeter(made.meters[0], made, 1_000_000_003.0)
    within = [meter.words(1_000_000_000.0 + second) for second in (3, 9.999)]
    after = meter.words(1_000_000_010.0)
    assert within[0] == within[1]
    assert after != within[0]
    later = SimulatedMeter(made.meters[0], made, 1_000_000_009.0)
    assert later.words(1_000_000_010.0) == after, "all simulators step on the same boundaries"


def test_at_noon_the_simulated_day_begins_where_it_is_told():
    made = load(
        json.dumps(scene({"house": HOUSE, "quantity": "pv"}, {"house": HOUSE, "quantity": "pv", "unit": 2}, start="02:30")).encode()
    )
    words = SimulatedMeter(made.meters[0], made, 0.0).words(0.0)
    assert words[4, 0x34] == words[4, 0x35] == 0, "no sun at night"
    noon = load(json.dumps(scene({"house": HOUSE, "quantity": "pv"})).encode())
    assert SimulatedMeter(noon.meters[0], noon, 0.0).words(0.0)[4, 0x34] & 0x8000, "a producing pv meter shows negative watts"


REFUSED = [
    (scene({"house": HOUSE}, start="25:00"), "start: '25:00' is no time of day"),
    (scene(), "meters: is empty"),
    (scene({}), "meters[0]: needs either house or fixed"),
    (scene({"house": HOUSE, "fixed": {}}), "meters[0]: needs either house or fixed"),
    (scene({"fixed": {"watts": 1}}), "meters[0].fixed: ['watts'] are no quantities"),
    (scene({"fixed": {}, "period_s": 0}), "meters[0]: period_s"),
    (scene({"fixed": {}}, {"fixed": {}}), "meters[1]: unit 1 is there twice on 127.0.0.1:502"),
    (scene({"fixed": {}, "modell": ""}), "unknown field `modell` - at `$.meters[0]`"),
    (scene({"fixed": {}, "model": "eastron-sdm360"}), "did you mean eastron-sdm630"),
    (scene({"fixed": {"w": 10**12}, "model": "abb-b2x"}), "w = 1000000000000 does not fit its register"),
]


@pytest.mark.parametrize(("wrong", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_wrong_file_is_one_clear_line(tmp_path, wrong, said):
    file = tmp_path / "scene.json"
    file.write_text(json.dumps(wrong))
    ended = subprocess.run(
        [sys.executable, "-m", "drivers.simulated", file], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@contextmanager
def simulator(tmp_path, **file):
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(file))
    with subprocess.Popen(
        [sys.executable, "-m", "drivers.simulated", path], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.terminate()
            assert process.wait(20) == 0
            assert process.stderr.read() == ""


@contextmanager
def bus_to(port):
    bus = Bus(Line("127.0.0.1", port, None), 2.0)
    bus.open()
    try:
        yield bus
    finally:
        bus.close()


def test_every_model_is_served_and_read_by_the_ordinary_driver(tmp_path):
    (port,) = free_ports(1)
    fixed = {
        "w": -1234,
        "w_l1": -400,
        "w_l2": -400,
        "w_l3": -434,
        "var": 120,
        "va": 1250,
        "v_l1": 230.4,
        "v_l2": 229.9,
        "v_l3": 231.2,
    }
    fixed |= {"a_l1": 5.25, "a_l2": 1.5, "a_l3": 0.25, "hz": 49.97, "pf": 0.95, "import_wh": 1_234_560, "export_wh": 98_760}
    maps = [map_ for map_ in models().values() if map_.protocol == "modbus"]
    meters = [
        # one step of time for the whole test, or a counter runs on between two readings
        {"host": "127.0.0.1", "tcp_port": port, "unit": unit, "model": map_.id, "fixed": fixed, "period_s": 1e9}
        for unit, map_ in enumerate(maps, start=1)
    ]
    with simulator(tmp_path, meters=meters), bus_to(port) as bus:
        for unit, map_ in enumerate(maps, start=1):
            reading = Meter(bus, map_, unit).read(0.0)
            assert (reading.quality, reading.why) == ("good", "")
            assert set(reading.values) == {*map_.regs, *map_.derived} & set(fixed)
            for name, value in reading.values.items():  # to half of the register's last digit; watts to half a watt
                true = abs(fixed[name]) if name == "w" and not map_.directional else fixed[name]
                kind = map_.regs[name].kind if name in map_.regs else "i32"
                assert value == true or kind[0] != "f"
                assert abs(value - true) <= (abs(map_.regs[name].scale) / 2 if name in map_.regs else 0)
            assert Meter(bus, map_, unit).read_all(0.0) == reading
        with pytest.raises(Refusal):
            Meter(bus, find("eastron-sdm630"), 77).read(0.0)
        for outside in (Block(4, 0x0100, 2, (Reg("w", 4, 0x0100, "f32"),)), Block(3, 0x0034, 2, (Reg("w", 3, 0x0034, "f32"),))):
            with pytest.raises(Refusal, match="no such register"):
                bus.read_block(1 + maps.index(find("eastron-sdm630")), outside, 0.0)


def test_holding_and_input_registers_are_two_spaces(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        '[meter]\nid = "own"\nvendor = ""\nmodels = []\nphases = 1\ntrust = "C"\nsources = []\n'
        '[read]\nfc = 4\nword_order = "little"\n'
        '[regs]\nw = { at = 100, type = "i32" }\nhz = { at = 101, type = "u16", scale = 0.01, fc = 3 }\n'
        'va = { at = 7, type = "u16", fc = 3 }'
    )
    (port,) = free_ports(1)
    entry = {"host": "127.0.0.1", "tcp_port": port, "unit": 1, "model": str(own), "fixed": {"w": -70000, "hz": 49.5, "va": 9}}
    with simulator(tmp_path, meters=[entry]), bus_to(port) as bus:
        assert Meter(bus, find(str(own)), 1).read_all(0.0).values == {"w": -70000, "va": 9, "hz": 49.5}


def test_the_meters_of_a_house_agree_to_the_watt_and_count_what_they_show(tmp_path):
    """A step is ten seconds at any speed, so that 360 W of the step before are a watt-hour."""
    ports = free_ports(2)
    roles = {"grid": (ports[0], 1, "eastron-sdm630"), "pv": (ports[0], 2, "abb-b2x"), "battery": (ports[1], 1, "eastron-sdm120")}
    roles["load"] = (ports[1], 2, "eastron-sdm230")
    meters = [
        {"host": "127.0.0.1", "tcp_port": port, "unit": unit, "model": model, "quantity": role, "house": HOUSE}
        for role, (port, unit, model) in roles.items()
    ]
    with simulator(tmp_path, meters=meters, speed=360.0), bus_to(ports[0]) as first, bus_to(ports[1]) as second:
        made = {
            role: Meter(first if port == ports[0] else second, find(model), unit) for role, (port, unit, model) in roles.items()
        }
        rounds = []
        for _ in range(2):
            while time.time() % 10 > 8:  # not across a step
                time.sleep(0.1)
            rounds.append({role: meter.read_all(0.0) for role, meter in made.items()})
            if len(rounds) == 1:
                time.sleep(10.0 - time.time() % 10 + 0.1)
        for readings in rounds:
            w = {role: reading.values["w"] for role, reading in readings.items()}
            assert w["grid"] == w["load"] + w["pv"] + w["battery"]
            total = account([(role, role, reading) for role, reading in readings.items()])
            assert total.quality == "good"
            assert total.consumed_w == w["load"] + max(0, w["battery"])
        for role, before in rounds[0].items():
            counted = {name: rounds[1][role].values[name] - before.values[name] for name in ("import_wh", "export_wh")}
            assert counted["import_wh"] == pytest.approx(max(0, before.values["w"]) / 360, abs=11)  # ABB counts in 10 Wh
            assert counted["export_wh"] == pytest.approx(max(0, -before.values["w"]) / 360, abs=11)
        assert rounds[0] != rounds[1]


def test_jitter_moves_the_watts_every_period_and_a_block_is_of_one_moment(tmp_path):
    (port,) = free_ports(1)
    entry = {
        "host": "127.0.0.1",
        "tcp_port": port,
        "unit": 1,
        "model": "eastron-sdm630",
        "fixed": {"w": 1200},
        "period_s": 0.02,
        "jitter_w": 900,
    }
    with simulator(tmp_path, meters=[entry]), bus_to(port) as bus:
        meter, seen = Meter(bus, find("eastron-sdm630"), 1), []
        for _ in range(300):
            values = meter.read_all(0.0).values
            assert values["w"] == values["w_l1"] + values["w_l2"] + values["w_l3"]
            seen.append((values["w"], values["import_wh"], values["export_wh"]))
        assert len({w for w, _, _ in seen}) > 5
        assert [counters for _, *counters in seen] == sorted(counters for _, *counters in seen)


def test_a_port_in_use_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = tmp_path / "scene.json"
        port = taken.getsockname()[1]
        file.write_text(json.dumps(scene({"fixed": {}, "tcp_port": port})))
        ended = subprocess.run(
            [sys.executable, "-m", "drivers.simulated", file], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}: another program has the port" in ended.stderr


def test_it_wants_one_file():
    ended = subprocess.run(
        [sys.executable, "-m", "drivers.simulated"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (2, "usage: python -m drivers.simulated FILE\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_while_a_meter_is_being_read(tmp_path, number):
    (port,) = free_ports(1)
    entry = {"host": "127.0.0.1", "tcp_port": port, "unit": 1, "model": "eastron-sdm120", "fixed": {"w": 5}}
    with simulator(tmp_path, meters=[entry]) as process, bus_to(port) as bus:
        assert Meter(bus, find("eastron-sdm120"), 1).read(0.0).values["w"] == 5
        process.send_signal(number)
        assert process.wait(10) == 0


def test_it_goes_when_who_started_it_goes(tmp_path):
    (port,) = free_ports(1)
    file = tmp_path / "scene.json"
    file.write_text(json.dumps(scene({"fixed": {}, "tcp_port": port})))
    starter = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'drivers.simulated', sys.argv[1]], stdout=subprocess.PIPE)\n"
        "assert p.stdout.readline() == b'ready\\n'\n"
        "print(p.pid, flush=True)\n"
        "import os; os._exit(0)\n"
    )
    started = subprocess.run(
        [sys.executable, "-c", starter, file], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    orphan, end = int(started.stdout), time.monotonic() + 10
    while time.monotonic() < end and _runs(orphan):
        time.sleep(0.1)
    assert not _runs(orphan)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" and os.kill(pid, 0) is None
    except (FileNotFoundError, ProcessLookupError):
        return False


# what an independent reader makes of it


@contextmanager
def pretended(map_, transport, **values):
    """The line at which `grid meter simulate` would serve these values."""
    meter = SimulatedMeter(Entry("", 0, map_.unit, map_.id, fixed=values), Scene(()), time.time())
    server = Served(Faulty(map_, map_.unit, meter.held, [], 1, 1))
    place = server.on_pty(map_.baud) if transport == "rtu" else str(server.on_tcp("127.0.0.1", 0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield place
    finally:
        server.stop()
        thread.join()


def mbpoll(map_, transport, place, register, form):
    """The number that mbpoll prints for a register: it counts addresses from 0 with -0, and takes -B for the higher word first."""
    table = {3: "4", 4: "3"}[register.fc]
    where = (
        ["-m", "rtu", "-b", str(map_.baud), "-P", "none", place] if transport == "rtu" else ["-m", "tcp", "-p", place, "127.0.0.1"]
    )
    order = ["-B"] if map_.word_order == "big" else []
    ask = ["-a", str(map_.unit), "-t", table + form, *order, "-0", "-r", str(register.address), "-c", "1", "-1", "-q", "-o", "2"]
    done = subprocess.run(["mbpoll", *ask, *where], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (number,) = re.findall(r"^\[\d+\]:\s+(\S+)", done.stdout, re.MULTILINE)
    return float(number)


@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll is not installed: apt-get install mbpoll")
@pytest.mark.parametrize("transport", ["rtu", "tcp"])
@pytest.mark.parametrize(
    ("model", "form", "values"),
    [  # value, and the raw number in the register
        ("eastron-sdm120", ":float", {"w": (-1234, -1234), "v_l1": (231.5, 231.5), "hz": (50.25, 50.25), "import_wh": (5000, 5)}),
        ("abb-b2x", ":int", {"w": (-1234, -123400), "v_l1": (231.5, 2315), "w_l1": (-1000000, -100000000)}),
        ("gavazzi-em3xx", ":int", {"w": (-1234, -12340), "v_l1": (231.5, 2315)}),
    ],
)
def test_mbpoll_reads_what_was_set(model, form, values, transport):
    map_ = find(model)
    with pretended(map_, transport, **{name: value for name, (value, _) in values.items()}) as place:
        for name, (_, raw) in values.items():
            assert mbpoll(map_, transport, place, map_.regs[name], form) == raw
