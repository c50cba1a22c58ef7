"""What a configuration may say and hardly means: told by grid check, and no reason not to run."""

import json
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
