"""What measures is not run by the tests, but must be there when it is wanted: each program loads and tells what it takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted(path.name for path in HERE.glob("bench_*.py") if "__main__" in path.read_text())


def test_there_are_programs():
    assert {"bench_latency.py", "bench_simulate.py", "bench_storm.py"} <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_loads_and_tells_what_it_takes(program):
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, HERE / program, "--help"], capture_output=True, text=True, timeout=120, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {program}")
