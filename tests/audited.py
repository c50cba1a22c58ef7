"""Ledgers made by hand for the tests of grid audit: two days of settled slots with corrections."""

import json
from contextlib import closing
from inspect import signature

import msgspec
from click.testing import CliRunner

from agent.accounts import revise, settle
from agent.cli.main import grid
from agent.ledger import Ledger
from agent.wire import Rates

DAY = 20_780
M = DAY * 86_400
TODAY, BEFORE = "2026-11-23", "2026-11-22"
K = M // 900
RATES = Rates(import_u=300_000, export_u=80_000, floor_u=80_000, cap_u=300_000, currency="EUR", slot_s=900, rule="mmr")


def slot(number, uses, zone="main", wants=None, rates=RATES, **keys):
    return msgspec.structs.replace(settle(K + number, zone, uses, rates, wants), **keys)


# 400 met at 0.19, 600 from outside at 0.30: buyers (76 + 180) / 1000 = 0.256
FIRST = slot(0, {"oak": (1000, 0), "mill": (0, 400)}, missing={"elm": "no record"}, flags={"mill": "clock"})
# 1 met, 2 from outside: (0.19 + 0.60) / 3 = 0.26333…, up
SECOND = slot(1, {"oak": (3, 0), "mill": (0, 1)}, missing={"elm": "no record"})
# 2 met, 1 from outside: (0.38 + 0.30) / 3 = 0.22666…, up
AGAIN = revise(SECOND, slot(1, {"oak": (3, 0), "mill": (0, 1), "elm": (0, 1)}), K + 5)
OLD = slot(-100, {"oak": (100, 0)})  # 23:00 two days before
LATE = revise(OLD, slot(-100, {"oak": (100, 0), "mill": (0, 100)}), K + 1)  # final since 00:00, so booked at 00:15
ROWS = [OLD, FIRST, SECOND, AGAIN, LATE]


def run(*words):
    """One command in this process, its stderr apart (click before 8.2 has to be told so)."""
    apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    return CliRunner(**apart).invoke(grid, words)


class Node:
    def __init__(self, folder, rows=ROWS, id_="oak"):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.config = folder, str(folder / "grid.toml")
        (folder / "grid.toml").write_text(f'[node]\nid = "{id_}"\nrated_w = 1000\n[state]\ndir = "."\n')
        if rows is not None:
            with closing(Ledger(folder)) as ledger:
                assert (ledger.open(), ledger.write(rows, M + 3 * 86_400)) == ("", "")

    def audit(self, *words, code=0):
        done = run("audit", "-c", self.config, *words)
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        assert "Traceback" not in done.stderr
        if code == 0:
            assert done.stderr == ""
        return done

    def json(self, *words, code=0):
        return json.loads(self.audit("--json", *words, code=code).stdout)
