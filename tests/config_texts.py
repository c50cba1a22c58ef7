"""Small configurations that the tests of the configuration begin with, and what is said of a text."""

from pathlib import Path

import pytest

from agent.config import ConfigError, load, parse

MODELS = ("eastron-sdm630", "eastron-sdm120", "eastron-sdm230", "abb-b2x", "p1", "s0")
NODE = '[node]\nid = "a"\nrated_w = 1000\n'  # lines 1 to 3 of most texts below
METER = '[[meter]]\nname = "m"\nmodel = "abb-b2x"\nrole = "grid"\n'  # lines 4 to 7
BALANCE = {
    "battery": '[battery]\nmeter = "m"\npower_w = 3000\nenergy_wh = 10000\n',
    "feeder": '[feeder]\nmeter = "m"\nimport_limit_w = 30000\n',
}

LOAD = '[[load]]\nname = "heater"\npin = 27\nrated_w = 2000\n'  # lines 4 to 7


def said(path: Path, text: str | None = None) -> tuple[str, ...]:
    """The problems of a text, or of the file if there is none; any other exception than ConfigError goes through."""
    try:
        load(path) if text is None else parse(text, str(path), MODELS)
    except ConfigError as error:
        return error.problems
    return ()


def problems(text: str) -> list[str]:
    """What parse says, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "grid.toml", MODELS)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(problem.startswith("grid.toml:") for problem in caught.value.problems)
    return [problem.removeprefix("grid.toml:") for problem in caught.value.problems]
