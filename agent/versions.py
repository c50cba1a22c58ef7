"""Grid's versions side by side in /opt/grid, each a virtualenv, and `current`, the link that says which one runs.

Also what deploy/install.sh makes the first one with, as `python3 -m agent.versions`: nothing but the standard library.
"""

import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import IO

from agent import durable

PLACE = Path("/opt/grid")
CURRENT, DONE, TRIAL = "current", "grid-is-complete", ".trial"
PARTS = ("agent", "drivers", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")  # of a checkout: what its package is made of
PI = ("aarch64", "armv7l")  # as setup.cfg's extra "pi" has it


class VersionError(Exception):
    """This version cannot be made; nothing was changed. Says what to do."""


Build = Callable[[Path, Path], None]
"""Makes a virtualenv at the second path with Grid from the wheel or checkout at the first. Raises VersionError."""


def name_of(source: Path) -> str:
    """What a wheel's or checkout's virtualenv is called: its version and 8 digits of its content. Raises VersionError."""
    if source.is_file():
        found = re.fullmatch(r"grid_edge_agent-([^-]+)-.*\.whl", source.name)  # PEP 427
        files = [source]
    else:
        text = source / "agent/version.py"
        found = re.search(r'VERSION = "([^"]+)"', text.read_text()) if text.is_file() else None
        files = sorted(file for part in PARTS for file in _files(source / part))
    if found is None:
        raise VersionError(f"{source} is neither a wheel of Grid (grid_edge_agent-VERSION-py3-none-any.whl) nor a checkout")
    digest = blake2b(digest_size=4)
    for file in files:
        digest.update(b"\0".join((os.fsencode(file.relative_to(source)), file.read_bytes(), b"")))
    return f"{found[1]}-{digest.hexdigest()}"


def _files(part: Path) -> Iterable[Path]:
    if part.is_file():
        return [part]
    return (file for file in part.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def lock(place: Path) -> IO[str]:
    """Held while the answer is open: one change at a time. Raises VersionError, OSError."""
    file = (place / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise VersionError(f"another upgrade works in {place}: wait for it") from error
    return file


def works(env: Path) -> bool:
    """Is this one whole, and does it run here? No longer when the system's Python was replaced by a newer one."""
    if not (env / DONE).is_file():
        return False
    # -I: this version's own modules, whatever PYTHONPATH says
    command = [str(env / "bin/python"), "-I", "-m", "agent", "--help"]
    try:
        return subprocess.run(command, capture_output=True, cwd="/", check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def make(source: Path, place: Path, build: Build | None = None) -> Path:
    """The virtualenv of this wheel or checkout, made unless it is there. Raises VersionError, OSError.

    Whoever is interrupted here leaves a part that is not used, and removed by the next.
    """
    env = place / name_of(source)
    if works(env):
        return env
    remove(env)
    (build or install)(source, env)
    os.sync()  # complete after a power cut, too
    (env / DONE).write_text("")
    if not works(env):
        remove(env)
        raise VersionError(f"{source} was installed and does not start: 'grid --help' fails")
    return env


def remove(env: Path) -> None:
    """Remove one, whole or not."""
    (env / DONE).unlink(missing_ok=True)  # first: half of it must not look whole
    shutil.rmtree(env, ignore_errors=True)


def install(source: Path, env: Path) -> None:
    """With the system's own Python and pip; settings of pip (PIP_NO_INDEX, PIP_FIND_LINKS …) hold. Raises VersionError."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    _run([python, "-I", "-m", "venv", str(env)], "apt install python3-venv")
    with tempfile.TemporaryDirectory() as folder:
        if source.is_dir():  # pip builds where the sources are, and would leave files there
            for part in PARTS:
                if (source / part).is_dir():
                    shutil.copytree(source / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
                elif (source / part).is_file():
                    shutil.copy(source / part, folder)
            source = Path(folder)
        pip = [str(env / "bin/python"), "-I", "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]
        if platform.machine() in PI:
            try:
                _run([*pip, f"{source}[pi]"], "")
                return
            except VersionError:
                print("lgpio, for pins (S0 meters, the lamp), cannot be installed here; going on without it", file=sys.stderr)
        _run([*pip, str(source)], "pip needs a way to its packages: the network, or PIP_FIND_LINKS")


def _run(command: list[str], way_out: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise VersionError(f"{' '.join(command[:5])} … failed: {last}\n{way_out}".strip())


def relocate(env: Path, place: Path) -> None:
    """Let its scripts name Python where the virtualenv will be, in `place`: it was made elsewhere, in a directory for an image."""
    here, there = os.fsencode(env), os.fsencode(place / env.name)
    for path in [env / "pyvenv.cfg", *(env / "bin").iterdir()]:
        if path.is_symlink() or not path.is_file() or here not in (text := path.read_bytes()):
            continue
        path.write_bytes(text.replace(here, there))


def current(place: Path) -> Path | None:
    """The one that `current` names; None if there is none."""
    try:
        return place / os.readlink(place / CURRENT)
    except OSError:
        return None


def switch(place: Path, env: Path) -> None:
    """Let `current` name this one: at every moment it names the old or the new. Raises OSError."""
    durable.link(place / CURRENT, env.name)


def begin_trial(place: Path, old: Path) -> None:
    """From here on a power cut means that `old` comes back: `settle`. Raises OSError."""
    durable.write(place / TRIAL, f"{old.name}\n".encode(), 0o644)


def end_trial(place: Path) -> None:
    """What is current now is to stay."""
    durable.remove(place / TRIAL)


def settle(place: Path) -> Path | None:
    """Go back to the version before if the power was cut while a new one was on trial. Returns it. Raises VersionError, OSError."""
    trial = place / TRIAL
    if not trial.is_file():
        return None
    with lock(place):
        old = place / trial.read_text(errors="replace").strip()
        back = old != current(place) and works(old)
        if back:
            switch(place, old)
        end_trial(place)
    return old if back else None


def prune(place: Path, keep: Iterable[Path]) -> None:
    """Remove the virtualenvs beside those that are kept."""
    kept = {env.name for env in keep}
    for env in place.iterdir():
        if env.is_dir() and not env.is_symlink() and env.name not in kept and (env / "bin").is_dir():
            remove(env)


def main(arguments: list[str]) -> int:
    """SOURCE PLACE INSIDE: have its virtualenv in PLACE, which the system that it is for calls INSIDE, and name it current.

    --settle PLACE: go back if an upgrade was cut short there; while one is under way, nothing.
    """
    if arguments[:1] == ["--settle"]:
        with contextlib.suppress(VersionError, OSError):
            settle(Path(arguments[1]))
        return 0
    source, place, inside = (Path(argument).absolute() for argument in arguments)
    os.umask(0o022)  # the service's user must be able to read it
    try:
        place.mkdir(parents=True, exist_ok=True)
        with lock(place):
            before = current(place)
            fresh = not works(place / name_of(source))
            env = make(source, place)
            if place != inside:
                relocate(env, inside)
            if before != env:
                switch(place, env)
            prune(place, [env, *([before] if before else [])])
    except (VersionError, OSError) as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    print("changed" if fresh or before != env else "same")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
