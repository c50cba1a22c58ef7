"""grid simulate: what it prints, draws and refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from street import KEYS, short

from agent.cli.simulate import simulate


def call(*arguments):
    return CliRunner().invoke(simulate, list(arguments))


@pytest.fixture
def brief(monkeypatch):
    """One slot instead of days."""
    monkeypatch.setattr("agent.simulate.run.scene_of", lambda setup: short(setup.nodes, 1, setup.mode, setup.seed))


@pytest.mark.usefixtures("brief")
def test_the_command_prints_json_alone_on_stdout():
    done = call("--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told["cases"]["grid"]) == KEYS
    assert "simulated 100 %" in done.stderr


@pytest.mark.usefixtures("brief")
def test_the_command_prints_a_table():
    done = call("--nodes", "5", "--mode", "tied")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("synthetic, tied: 5 nodes, 2 days from day 15")
    assert "perfect foresight leaves" in lines[1]
    assert lines[2].split("\t")[:2] == ["case", "unserved kWh"]
    assert [line.split("\t")[0] for line in lines[3:]] == ["none", "droop", "grid"]


@pytest.mark.usefixtures("brief")
def test_a_plot_is_a_picture(tmp_path):
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        pytest.skip("matplotlib is not installed: pip install -e '.[simulate]'")
    path = tmp_path / "run.png"
    done = call("--plot", str(path))
    assert done.exit_code == 0, done.output
    assert path.read_bytes().startswith(b"\x89PNG")
    assert call("--plot", str(tmp_path / "run.nothing")).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nodes", "1"),
        ("--days", "0"),
        ("--start", "366"),
        ("--hop", "-1"),
        ("--loss", "1"),
        ("--partition", "25"),
        ("--data", "made-up"),
        ("--mode", "both"),
        ("--seed", "-1"),
        ("--plot", "/nowhere/at/all/x.png"),
    ],
)
def test_wrong_input_is_wrong_usage(arguments, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    assert call(*arguments).exit_code == 2


def test_without_the_libraries_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = call("--plot", "x.png")
    assert done.exit_code == 1
    assert "scipy and matplotlib" in done.stderr
    assert "pip install -e '.[simulate]'" in done.stderr


def test_missing_data_say_what_to_install(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "simbench" else real(name))
    done = call("--data", "simbench")
    assert done.exit_code == 1
    assert "pip install simbench==1.6.3" in done.stderr


def test_the_package_loads_neither_plots_nor_data_packages():
    text = (Path(__file__).parent.parent / "agent" / "simulate" / "run.py").read_text()
    assert "matplotlib" not in text
