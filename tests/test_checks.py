"""What a configuration may say and hardly means: told by grid check, and no reason not to run."""

import json
import zoneinfo
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.checks import doubts
from agent.cli.node import check
from agent.config import parse

SET = '[[meter]]\nname = "set"\nmodel = "abb-b2x"\nrole = "{role}"\nhost = "h"\n'
FEEDER = '[feeder]\nmeter = "set"\nkind = "{kind}"\nimport_limit_w = {limit_w}\n'


def text(rated_w: int, kind: str = "", limit_w: int = 0) -> str:
    said = f'[node]\nid = "a"\nrated_w = {rated_w}\n'
    return said + (SET.format(role=kind) + FEEDER.format(kind=kind, limit_w=limit_w) if kind else "")


@pytest.mark.parametrize(
    ("given", "doubtful"),
    [
        (text(8000), False),
        (text(8000, "generator", 8000), False),
        (text(7999, "generator", 8000), True),
        (text(1000, "grid", 30_000), False),  # the coupling is in nobody's account
    ],
)
def test_a_generator_makes_no_more_than_its_node_is_rated_for(given: str, doubtful: bool) -> None:
    assert len(doubts(parse(given, "grid.toml"))) == doubtful


@pytest.mark.parametrize(
    ("zone", "way_out"),
    [
        ("Europe/Berlin", None),
        ("Etc/UTC", None),
        ("Berlin", 'Did you mean "Europe/Berlin"?'),
        ("Europe/Berlim", 'Did you mean "Europe/Berlin"?'),
        ("Europe", "Did you mean "),  # a directory of them
        ("Qqqq", 'Write one such as "Europe/Berlin"'),
    ],
)
def test_a_time_zone_that_this_machine_does_not_know(zone: str, way_out: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(text(8000) + f'time_zone = "{zone}"\n', "grid.toml")
    known = zoneinfo.available_timezones()
    if not known:
        pytest.skip("this machine knows no time zones at all: apt install tzdata")
    said = f"node.time_zone: this machine knows no {zone!r}, and takes UTC. {way_out}"
    told = doubts(config)
    assert told == [] if way_out is None else told[0].startswith(said)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    assert doubts(config) == []  # another machine may know it


def test_grid_check_says_it_and_finds_the_file_fine(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(text(5000, "generator", 8000))
    done = CliRunner().invoke(check, [str(file)])
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{file}: fine. Node a,")
    what = "5000 W is less than the 8000 W of this node's generator, and a record beyond 1.2 times rated_w is not believed"
    way_out = "Write rated_w = 8000 or more: what the generator gives flows through this node"
    assert done.stderr == f"{file}: node.rated_w: {what}. {way_out}\n"
    told = json.loads(CliRunner().invoke(check, ["--json", str(file)]).stdout)
    assert (told["ok"], told["problems"], len(told["doubts"])) == (True, [], 1)
    file.write_text(text(8000, "generator", 8000))
    assert CliRunner().invoke(check, [str(file)]).stderr == ""
    assert json.loads(CliRunner().invoke(check, ["--json", str(file)]).stdout) == {"file": str(file), "ok": True, "problems": []}
