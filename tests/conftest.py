"""What all tests share: the tables printed at the end of the run, and a few things to test with."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

from agent.ledger import Ledger

settings.register_profile("grid", deadline=None, derandomize=True)  # a busy machine is slow, not wrong; each run tries the same
settings.load_profile("grid")


class Survived(NamedTuple):
    """One case: how many nodes, faults injected, updates lost, wrong nets seen, seconds from healing to agreement."""

    case: str
    nodes: int
    faults: int
    lost: int
    wrong: int
    agree_s: float | None = None


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Callable[[Survived], None]:
    """Put one row into the table; nothing may be lost, and no net wrong."""

    def add(row: Survived) -> None:
        record_property("survived", list(row))
        assert (row.lost, row.wrong) == (0, 0), row

    return add


class Attacked(NamedTuple):
    """One attack on one network: what changed with the honest, what a local reader saw forged and for how long, who was named."""

    network: str
    attack: str
    by: str
    changed: str
    repaired: str
    named: str
    memory: str
    cpu: str
    more: str


@pytest.fixture
def attacked(record_property: Callable[[str, object], None]) -> Callable[[Attacked], None]:
    """Put one row into the table of attacks."""
    return lambda row: record_property("attacked", list(row))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a full disk needs a small file system, and mounting one is not permitted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    one = Ledger(tmp_path)
    assert one.open() == ""
    yield one
    one.close()


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Put one line under the figures of balance."""
    return lambda line: record_property("figures", line)


def rows(terminalreporter: pytest.TerminalReporter) -> list[Survived]:
    """The rows of all tests, on whatever worker they ran."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    return sorted(Survived(*row) for report in reports for name, row in report.user_properties if name == "survived")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _show_attacks(terminalreporter)
    _show_figures(terminalreporter)
    found = rows(terminalreporter)
    if not found:
        return
    terminalreporter.section("faults survived")
    cells = [("case", "nodes", "faults", "lost updates", "wrong nets", "seconds to agree")]
    for row in found:
        agree = "-" if row.agree_s is None else f"{row.agree_s:.1f}"
        cells.append((row.case, str(row.nodes), str(row.faults), str(row.lost), str(row.wrong), agree))
    wide = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        texts = [text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(line, wide, strict=True))]
        terminalreporter.write_line("  ".join(texts))


def _show_attacks(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    found = [row for report in reports for name, row in report.user_properties if name == "attacked"]
    if not found:
        return
    terminalreporter.section("attacks")
    cells = [("network", "attack", "by", "changed", "forged, for s", "named", "MB", "cores", "")]
    cells += [tuple(map(str, row)) for row in sorted(found, key=lambda row: row[0])]
    wide = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        terminalreporter.write_line("  ".join(text.ljust(w) for text, w in zip(line, wide, strict=True)).rstrip())


def _show_figures(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    found = [line for report in reports for name, line in report.user_properties if name == "figures"]
    if found:
        terminalreporter.section("balance on real agents")
        for line in found:
            terminalreporter.write_line(line)
