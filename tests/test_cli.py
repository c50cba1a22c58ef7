"""The command line as people and scripts meet it: exit codes, pipes, JSON, narrow windows, ASCII terminals."""

import json
import os
import pty
import re
import select
import subprocess
import time

import pytest
from click.testing import CliRunner
from live import GRID, ROOT, Grid, cli
from patience import wait_until

from agent import root
from agent.cli.main import COMMANDS, grid

LONG = "very-long-house-name-at-the-lane"  # 32 characters, the most there can be


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with Grid(tmp_path_factory.mktemp("Mühle")) as grid:
        a, b = grid.node("a", -9_876_543), grid.node(LONG, 12_345_678)
        for node, place in ((a, "Äußere Mühle"), (b, "風車")):
            node.configure(place=f'"{place}"', rated_w="20_000_000")
        for node in (a, b):
            node.kill_agent()
            node.start_agent()
        wait_until(lambda: a.read("grid/summary") and b.read("grid/summary"), 15)
        wait_until(lambda: b.cli("join", f"127.0.0.1:{a.port}").returncode == 0, 15)
        grid.agree([a, b], 2_469_135, 2)
        yield a, b


@pytest.fixture
def silent(tmp_path):
    """The configuration of a node that does not run."""
    path = tmp_path / "grid.toml"
    path.write_text('[node]\nid = "x"\nrated_w = 1000\n[state]\ndir = "."\n')
    return path


def lines_of(done):
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


# exit codes and messages


def test_codes_2_wrong_usage(silent, tmp_path, monkeypatch):
    for words in ("stauts", "status --jsn", "join", "demo --nodes 0", "demo --graph star", "meter raed"):
        done = cli(*words.split())
        assert (done.returncode, done.stdout) == (2, ""), words
        assert "Traceback" not in done.stderr
    assert "Did you mean 'grid status'?" in cli("stauts").stderr
    assert "There are: run, check" in cli("xyzzy").stderr
    monkeypatch.chdir(tmp_path.parent)
    done = cli("status")
    assert done.returncode == 2
    assert "no configuration found (grid.toml, config/grid.toml, /etc/grid/grid.toml). Name one with -c FILE" in done.stderr


def test_code_3_nobody_answers(silent):
    for words in (["status", "--json"], ["watch"], ["siblings"], ["join", "h:1"]):
        done = cli(*words, "-c", str(silent))
        assert (done.returncode, done.stdout) == (3, ""), words
        assert done.stderr.startswith("grid: the agent of x does not answer (")
        assert done.stderr.endswith(f"Start it: grid run -c {silent}\n")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("place", "told"),
    [("{state}", True), ("{state}/agent.pid", True), ("/", True), ("/etc/shadow", False), (None, False)],
)
def test_another_users_state_directory(silent, monkeypatch, place, told):
    """What a user meets who leaves [state] out: /var/lib/grid is root's."""

    def refused(config, own_broker):
        raise PermissionError(13, "Permission denied", place and place.format(state=config.state.dir))

    monkeypatch.setattr(root, "run", refused)
    monkeypatch.setattr(root, "start_logging", lambda: None)
    done = CliRunner().invoke(grid, ["run", "-c", str(silent)])
    assert done.exit_code == 1
    assert "Permission denied" in done.output
    assert ("under [state], as dir = " in done.output) == told


def test_check(silent, tmp_path):
    done = cli("check", str(silent))
    assert lines_of(done) == [f"{silent}: fine. Node x, broker 127.0.0.1:1883, meters: none"]
    assert cli("check", "-c", str(silent)).stdout == done.stdout  # as with all the other commands
    assert json.loads(cli("check", "--json", str(silent)).stdout) == {"file": str(silent), "ok": True, "problems": []}

    silent.write_bytes(b"\xef\xbb\xbf" + silent.read_bytes().replace(b"\n", b"\r\n"))
    assert cli("check", str(silent)).returncode == 0

    silent.write_text(
        '[node]\nid = "Mein Haus"\nratd_w = 5\n[[meter]]\nname = "m"\nmodel = "eastron-sdm63"\nrole = "grid"\nhost = "h"\n'
    )
    done = cli("check", str(silent))
    assert (done.returncode, done.stdout) == (1, "")
    told = done.stderr.splitlines()
    assert len(told) >= 4
    assert all(re.match(rf"{re.escape(str(silent))}:\d+: [a-z_\[\]0-9.]+: ", line) for line in told), told
    assert any(":2: node.id: " in line and 'id = "mein-haus"' in line for line in told)
    assert any(":3: node.ratd_w: unknown. Did you mean rated_w?" in line for line in told)
    done = cli("check", "--json", str(silent))
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"file": str(silent), "ok": False, "problems": told}

    silent.write_text(silent.read_text().replace("Mein Haus", "mein-haus").replace("ratd_w", "rated_w"))
    told = cli("check", str(silent)).stderr
    assert ":6: meter[1].model: " in told
    assert "eastron-sdm630" in told
    deep = tmp_path / "deep.toml"
    deep.write_text("a = " + "[" * 100_000)
    done = cli("check", str(deep))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    done = cli("check", str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert "there is no such file" in done.stderr
    assert cli("run", "-c", str(deep)).returncode == 1


def test_files_of_the_checkout_are_fine():
    for path in (ROOT / "config" / "grid.toml", *(ROOT / "config" / "sample").glob("*.toml")):
        assert root.load(path).path == path


def test_help_names_every_command():
    said = "\n".join(lines_of(cli("--help")))
    shown = [name for name in COMMANDS if re.search(rf"^  {name} ", said, re.MULTILINE)]
    assert shown == [name for name in COMMANDS if name != "boot"]  # that one is the image's own
    for name in COMMANDS:
        done = CliRunner().invoke(grid, [name, "--help"])
        assert done.exit_code == 0
        assert done.output.startswith(f"Usage: grid {name} ")


# what a running node says


def test_json_is_one_object_a_line(pair):
    a, b = pair
    status = json.loads(lines_of(a.cli("status", "--json"))[0])
    assert {"summary", "nodes", "alerts"} <= set(status)
    assert status["summary"]["net_w"] == 2_469_135
    assert set(status["nodes"]) == {"a", LONG}
    keys = {"net_w", "produced_w", "consumed_w", "quality", "availability", "age_s", "siblings", "version"}
    assert all(keys <= set(row) for row in status["nodes"].values())
    assert status["nodes"][LONG]["siblings"] == ["a"]
    for words in (["siblings"], ["meter", "read"], ["meter", "read", "house"]):
        said = lines_of(b.cli(*words, "--json"))
        assert len(said) == 1
        assert isinstance(json.loads(said[0]), dict)
    assert {row["id"] for row in json.loads(lines_of(cli("meter", "models", "--json"))[0])} >= {"eastron-sdm630", "abb-b2x"}


def test_pipes_get_plain_lines(pair):
    a, _ = pair
    head, columns, *rows = lines_of(a.cli("status"))
    assert re.fullmatch(r"net 2469135 W  0\.19\d* EUR/kWh  2 of 2 nodes  digest [0-9a-f]{16}", head)
    assert columns.split("\t") == ["node", "net W", "produced W", "consumed W", "quality", "seen", "age s", "siblings"]
    cells = [row.split("\t") for row in rows]
    assert [[row[i] for i in (0, 1, 2, 3, 4, 5, 7)] for row in cells] == [
        ["a", "-9876543", "0", "9876543", "good", "online", LONG],
        [LONG, "12345678", "12345678", "0", "good", "online", "a"],
    ]
    assert "\x1b" not in "".join([head, columns, *rows])
    assert lines_of(cli("meter", "models"))[0].startswith("model\tvendor\t")
    said = lines_of(a.cli("watch", "--every", "0.2", "--for", "0.7"))
    assert len(said) >= 2
    assert all(re.match(r"\d\d:\d\d:\d\d  net 2469135 W  ", line) for line in said)


@pytest.mark.parametrize("command", ["status", "watch --every 0.2", "meter models", "siblings", "--help"])
def test_a_reader_that_has_had_enough(pair, command):
    option = "" if command in ("meter models", "--help") else f'-c "{pair[0].config}"'
    script = f"set -o pipefail; {' '.join(GRID)} {command} {option} | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_an_ascii_terminal_does_not_crash(pair):
    a, b = pair
    ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    for words in (["status"], ["status", "--json"], ["siblings"], ["meter", "read"], ["join", f"127.0.0.1:{b.port}"]):
        done = a.cli(*words, **ascii_only)
        assert done.returncode == 0, done
    assert json.loads(a.cli("status", "--json", **ascii_only).stdout)["summary"]["net_w"] == 2_469_135
    done = cli("check", str(a.config), **ascii_only)
    assert done.returncode == 0
    assert "M\\xfchle" in done.stdout  # the directory's name
    done = cli("status", "-c", str(a.config.parent / "nö.toml"), **ascii_only)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def in_window(columns, *words, **env):
    """What a command shows in a terminal this wide."""
    pid, master = pty.fork()
    if pid == 0:
        os.environ.update({"COLUMNS": str(columns), "TERM": "xterm", **env})
        os.execv(GRID[0], [*GRID, *words])
    out, end = b"", time.monotonic() + 20
    while time.monotonic() < end and select.select([master], [], [], 20)[0]:
        try:
            data = os.read(master, 65_536)
        except OSError:  # the other end is closed
            break
        out += data
    os.close(master)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, out.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_never_cut_a_number(pair, columns):
    a, _ = pair
    code, said = in_window(columns, "status", "-c", str(a.config))
    assert code == 0
    plain = re.sub(r"\x1b\[\d*m", "", said).splitlines()[1:]
    assert all(len(line) <= columns for line in plain), plain
    assert LONG in plain[2]
    assert "-9 876 543" in plain[1]
    assert "12 345 678" in plain[2]
    for head, ours in (("produced W", "12 345 678"), ("consumed W", "9 876 543")):
        if head in plain[0]:  # a column is there whole or not at all
            start = plain[0].index(head)
            assert any(line[start : start + len(head)].strip() == ours for line in plain[1:]), plain
    assert "quality" in plain[0] or columns < 120
    assert "\x1b[1m" in said
    assert "\x1b[1m" not in in_window(columns, "status", "-c", str(a.config), NO_COLOR="1")[1]


def test_watch_in_a_terminal_redraws(pair):
    code, said = in_window(80, "watch", "--every", "0.2", "--for", "0.5", "-c", str(pair[0].config))
    assert code == 0
    assert said.count("\x1b[H") >= 2
    assert "12 345 678" in said
