"""grid meter simulate and read: what is printed can be pasted, and faults come out with the way out."""

import json
import re
import socket
import subprocess
import time

import pytest
from live import GRID, cli
from meter_cli import NODE, decoded, simulating, written

from agent.config import load
from agent.metering import build
from drivers.catalog import find
from drivers.faults import FAULTS
from drivers.simulated_battery import FAULTS as BATTERY_FAULTS


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
