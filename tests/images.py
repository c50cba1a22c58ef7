"""For the tests of the image: where its parts are, and the programs that build.sh installs."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent.parent
IMAGE = HERE / "deploy/image"
DISK = "47524944"  # "GRID": the disk's number in its partition table
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"missing: {', '.join(missing)} (deploy/image/build.sh installs them)")


def run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PATH": PATH}, **more
    )
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return str(done.stdout)
