"""grid tariff and grid tariff set: a real node behind its real socket, and a ledger made by hand."""

import json
import threading
from contextlib import closing
from types import SimpleNamespace

import msgspec
import pytest
from audited import run
from desk import Desk
from fleet import TARIFF, UNIX_S
from live import Grid
from patience import wait_until
from test_cli import in_window

from agent.accounts import settle
from agent.control import Control
from agent.events import Answer, Tick
from agent.ledger import Ledger

K = int(UNIX_S) // 900  # 2026-11-22T08:30Z, the slot open now: 08:34:44


class Node:
    """A node that answers at its socket, at the moment 2026-11-22T08:34:44Z."""

    def __init__(self, folder, ledger=()):
        self.desk, self.lock, self.config = Desk(), threading.Lock(), str(folder / "grid.toml")
        (folder / "grid.toml").write_text(
            '[node]\nid = "me"\nrated_w = 1000\n[tariff]\nfloor = 0.0\ncap = 1\n[state]\ndir = "."\n',
        )
        self.control = Control(folder, self.put)
        if ledger:
            with closing(Ledger(folder)) as kept:
                assert (kept.open(), kept.write(ledger, UNIX_S)) == ("", "")

    def put(self, event):
        with self.lock:
            for effect in self.desk.do(event):
                if isinstance(effect, Answer):
                    self.control.answer(effect.request, effect.body)

    def run(self, *words, code=0):
        done = run("tariff", *words, "-c", self.config)
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        assert "Traceback" not in done.stderr
        return done

    def rows(self, *words):
        return [line.split("\t") for line in self.run(*words).stdout.splitlines()]

    @property
    def held(self):
        return json.loads(self.desk.told["grid/network/tariff"])


@pytest.fixture
def made(monkeypatch):
    """Makes such nodes, one after the other; the command's clock is theirs."""
    nodes = []
    monkeypatch.setattr("agent.cli.tariff.time", SimpleNamespace(time=lambda: UNIX_S))

    def make(folder, ledger=()):
        node = Node(folder, ledger)
        node.control.open()
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.control.close()


@pytest.fixture
def node(made, tmp_path):
    return made(tmp_path)


NOW = [
    ["import", "0.3000"],
    ["export", "0.0800"],
    ["floor", "0.0000"],
    ["cap", "1.0000"],
    ["currency", "EUR"],
    ["slot", "15 min"],
    ["rule", "mmr"],
    ["from (UTC)", "the start"],
]


def test_the_tariff_in_force(node):
    assert node.rows() == [["the network's tariff, by me, version 1"], ["tariff", "in force"], *NOW]
    rates = {
        "import_u": 300_000,
        "export_u": 80_000,
        "floor_u": 0,
        "cap_u": 1_000_000,
        "currency": "EUR",
        "slot_s": 900,
        "rule": "mmr",
    }
    assert json.loads(node.run("--json").stdout) == {
        "in_force": {**rates, "from": 0, "begins": "1970-01-01T00:00:00Z"},
        "pending": [],
        "file_differs": [],
        "by": "me",
        "version": 1,
    }


def test_dry_run_then_the_change_then_its_beginning(node):
    said = node.run("set", "--import", "0.31", "--rule", "vwm").stdout.splitlines()
    assert said == [
        "tariff\tnow\tnew",
        "import\t0.3000\t0.3100",
        "rule\tmmr\tvwm",
        "from (UTC)\tthe start\t2026-11-22T09:15Z",  # two slots from 08:34:44 are 09:04:44
        said[4],
        "",
        "the last day's effect is not known: no slot of it is in this node's ledger",
        "nothing changed; run again with --yes",
    ]
    assert said[4].startswith("to come at 2026-11-22T09:15Z (here 2026-11-22 ")
    assert said[4].endswith("), in 0 h 40 min")
    assert node.held["version"] == 1
    said = node.run("set", "--import", "0.31", "--rule", "vwm", "--yes").stdout.splitlines()
    assert said[-1] == "changed: version 2, from 2026-11-22T09:15Z on. It is on its way to every node"
    assert (node.held["import_u"], node.held["rule"], node.held["past"][0]["import_u"]) == (310_000, "vwm", 300_000)

    rows = node.rows()
    assert rows[1:3] == [["tariff", "in force", "to come"], ["import", "0.3000", "0.3100"]]
    assert rows[9:] == [["from (UTC)", "the start", "2026-11-22T09:15Z"], [said[4]], rows[11]]
    assert rows[11][0].endswith("[tariff] differs in import, rule; it is ignored, the network's tariff holds")
    told = json.loads(node.run("--json").stdout)
    assert [rates["begins"] for rates in told["pending"]] == ["2026-11-22T09:15:00Z"]
    assert told["file_differs"] == ["import", "rule"]
    lost = "in place of what was to come at 2026-11-22T09:15Z: import 0.3100, rule vwm; name it, too, to keep it"
    assert lost in node.rows("set", "--export", "0.09")[3]
    back = node.run("set", "--import", "0.3", "--yes").stdout
    assert "in place of what was to come" in back
    assert "changed: version 3, from 1970-01-01T00:00Z on" not in back
    assert back.splitlines()[-1] == "changed: version 3, what was to come is taken back. It is on its way to every node"
    assert node.held["import_u"] == 300_000


# One day of one hour: oak takes 1000 Wh and mill gives 400, as in the audit's tests: 0.256 and 0.19 a kWh.
USES = {"me": (1000, 0), "mill": (0, 400)}


def test_the_effect_on_the_last_day(made, tmp_path):
    def slot(number, uses=USES, **keys):
        return msgspec.structs.replace(settle(K + number, "main", uses, TARIFF.rates), **keys)

    ledger = [
        slot(-97, {"me": (9999, 0)}),  # ended at 08:30 yesterday, 24 h and 4 min ago
        slot(-96),  # from 08:30 to 08:45 yesterday
        slot(-2, {"me": (1, 0)}),
        slot(-2, revision=1),  # counts instead of revision 0
        slot(-1, currency="CHF"),
        slot(-200),
        slot(-200, revision=1, booked=K - 2),  # a correction of a slot of the day before
    ]
    node = made(tmp_path, ledger)
    rows = node.rows("set", "--import", "0.31")
    # each of two slots: m 0.195; (195000 * 400 + 310000 * 600) / 1000 = 264000; 400 * 195000; 600 * 310000
    assert rows[5:12] == [
        ["the last day (2 slots settled), had the new tariff held; + is earned, - is paid"],
        ["account", "was EUR", "would be EUR", "change"],
        ["me", "-0.512", "-0.528", "-0.016"],
        ["mill", "0.152", "0.156", "0.004"],
        ["grid", "0.360", "0.372", "0.012"],
        ["pool", "0.000", "0.000", "0.000"],
        ["this node (me): -0.512 EUR, would be -0.528 EUR"],
    ]
    rows = node.rows("set", "--currency", "CHF", "--slot-min", "60")
    assert rows[1:4] == [["currency", "EUR", "CHF"], ["slot", "15 min", "60 min"], ["from (UTC)", "the start", "2026-11-23T00:00Z"]]
    assert rows[7:9] == [["account", "was EUR", "would be CHF", "change"], ["me", "-0.512", "-0.512", ""]]


def test_a_node_without_a_part_and_a_damaged_ledger(made, tmp_path):
    one = settle(K - 2, "main", {"mill": (0, 400)}, TARIFF.rates)
    node = made(tmp_path, [one])
    assert "this node (me) has no part in these slots" in node.run("set", "--export", "0.1").stdout
    (tmp_path / "ledger.db").write_bytes(b"x" * 4096)
    done = node.run("set", "--export", "0.1")
    assert "cannot read the ledger" in done.stderr
    assert done.stdout.endswith("nothing changed; run again with --yes\n")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ("", 2, "say what is to change, for example: grid tariff set --import 0.31"),
        ("--yes --from 2026-11-23T00:00Z", 2, "say what is to change"),
        ("--import 0,31", 2, "'0,31' is not a number from -1000 to 1000 with at most 6 decimals. Write 0.31"),
        ("--import 0.1234567", 2, "'0.1234567' is not a number from -1000 to 1000 with at most 6 decimals"),
        ("--export nan", 2, "'nan' is not a number"),
        ("--cap 1001", 2, "'1001' is not a number"),
        ("--currency euro", 2, "must be three capital letters as in ISO 4217, not 'euro'"),
        ("--currency chf", 2, "not 'chf'. Write \"CHF\""),
        ("--rule auction", 2, "'auction' is not one of"),
        ("--slot-min 7", 2, "'7' is not one of"),
        ("--import 0.31 --from tomorrow", 2, "'tomorrow' is no moment. Write one as 2026-11-23T00:00Z (UTC)"),
        ("--import 0.31 --from 2026-11-23T00:00", 2, "is no moment"),
        (
            "--import 0.31 --from 2026-11-22T08:40Z",
            1,
            "is too soon: every node has to hear of it before. Take 2026-11-22T08:45:00Z",
        ),
        ("--slot-min 5 --from 2026-11-23T03:00+02:00", 1, "Take 2026-11-23T00:00:00Z or 2026-11-24T00:00:00Z"),
        ("--import 0.3", 1, "the tariff stays: that is the tariff already: there is nothing to change"),
        ("--import 0.05", 1, "the export rate is above the import rate"),
        ("--import -0.05 --export -0.1 --cap -0.2", 1, "the floor is above the cap"),
    ],
)
def test_what_is_refused_says_what_to_do_and_changes_nothing(node, words, code, why):
    assert why in node.run("set", *words.split(), code=code).stderr
    assert node.held["version"] == 1


def test_amounts_are_exact_and_may_be_negative(node):
    node.run("set", "--import", "0.299999", "--export", "-0.000001", "--floor", "-1000", "--cap", "1e3", "--yes")
    assert [node.held[name] for name in ("import_u", "export_u", "floor_u", "cap_u")] == [299_999, -1, -(10**9), 10**9]


def test_a_rule_of_a_later_version_and_a_first_tariff_still_to_come(node):
    held = node.held
    node.desk.hear("$grid/in/b/network/tariff", json.dumps(held | {"version": 2, "rule": "auction", "from": K + 9}).encode())
    node.desk.do(Tick(UNIX_S))
    rows = node.rows()
    assert rows[1] == ["tariff", "to come"]
    assert ["this version does not know the rule 'auction': update this node"] in rows
    assert json.loads(node.run("--json").stdout)["in_force"] is None
    assert "there is no rule 'auction'" in node.run("set", "--import", "0.31", code=1).stderr
    node.run("set", "--import", "0.31", "--rule", "fixed", "--yes")
    assert (node.held["rule"], node.held["version"]) == ("fixed", 3)


def test_what_begins_in_some_minutes_is_not_replaced(node, monkeypatch):
    first = {name: value for name, value in node.held.items() if name not in ("by", "version")}
    second = node.held | {"version": 2, "cap_u": 2_000_000, "from": K + 1, "past": [first]}
    node.desk.hear("$grid/in/b/network/tariff", json.dumps(second).encode())
    node.desk.do(Tick(UNIX_S + 60))
    words = ["tariff", "-c", node.config, "set", "--import", "0.31", "--yes"]
    assert "in place of" in run(*words[:-1]).stdout  # at 08:34:44 more than ten minutes are left to 08:45
    monkeypatch.setattr("agent.cli.tariff.time", SimpleNamespace(time=lambda: UNIX_S + 60))
    assert "in place of" not in run(*words).stdout
    assert [rates["cap_u"] for rates in (node.held, *node.held["past"])] == [2_000_000, 2_000_000, 1_000_000]
    assert node.rows()[1] == ["tariff", "in force", "to come", "then 2"]


def test_an_agent_of_a_version_that_does_not_tell_it(tmp_path):
    (tmp_path / "grid.toml").write_text('[node]\nid = "x"\nrated_w = 1000\n[state]\ndir = "."\n')
    control = Control(tmp_path, lambda event: control.answer(event.request, b'{"summary":{}}'))
    control.open()
    done = run("tariff", "-c", str(tmp_path / "grid.toml"))
    control.close()
    assert (done.exit_code, done.stderr) == (1, "grid: the agent does not tell its tariff: start it anew, in this version\n")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_fit_and_never_cut_a_number(node, columns):
    first = {name: value for name, value in node.held.items() if name not in ("by", "version")}
    rates = {"import_u": 999_999_999, "export_u": -999_999_999, "version": 2, "from": 4_102_444_800 // 900}  # the year 2100
    node.desk.hear("$grid/in/b/network/tariff", json.dumps(node.held | rates | {"past": [first]}).encode())
    for words in (
        ["tariff"],
        ["tariff", "set", "--import", "-888.888888", "--export", "-888.888889", "--from", "2100-01-02T00:00Z"],
    ):
        code, said = in_window(columns, *words, "-c", node.config)
        assert code == 0
        rows = [line for line in said.splitlines() if line.partition(" ")[0] in {row[0] for row in NOW}]
        assert len(rows) >= 2
        assert all(len(line) <= columns for line in rows), rows
        assert ("-999.999999" if words == ["tariff"] else "-888.888888") in said


def test_nobody_answers(tmp_path):
    (tmp_path / "grid.toml").write_text('[node]\nid = "x"\nrated_w = 1000\n[state]\ndir = "."\n')
    for words in (["tariff"], ["tariff", "set", "--import", "0.31"], ["tariff", "set", "--import", "0.31", "--yes"]):
        done = run(*words, "-c", str(tmp_path / "grid.toml"))
        assert done.exit_code == 3
        assert "the agent of x does not answer" in done.stderr


def test_every_node_of_a_real_network_takes_it(tmp_path):
    with Grid(tmp_path) as real:
        a, b = real.network(a=-500, b=700)
        assert a.cli("tariff").stdout.splitlines()[2] == "import\t0.3000"
        done = a.cli("tariff", "set", "--import", "0.25", "--yes")
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done
        wait_until(lambda: '"import_u":250000' in b.cli("tariff", "--json").stdout, 15)
        assert a.cli("tariff", "--json").stdout == b.cli("tariff", "--json").stdout
