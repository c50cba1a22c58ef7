"""grid upgrade: another version beside this one; it stays if the node becomes healthy with it, else this one comes back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import click

from agent import versions
from agent.cli.words import USAGE, fail, say
from agent.versions import VersionError

UNIT = "grid.service"
PATIENCE_S = 60.0
STEADY_S = 5.0  # healthy for so long, with the same process: it did not only start
LOOK_S = 0.5


class Service(Protocol):
    """The node as a system service."""

    def restart(self) -> str:
        """Start it anew with the current version. Returns "" or what went wrong."""

    def pid(self) -> int:
        """Of the agent; 0 when it does not run."""


class Systemd:
    """Through systemctl, or what stands in for it in a test."""

    def __init__(self, program: str) -> None:
        self._program = program

    def _ask(self, *words: str) -> tuple[int, str]:
        try:
            done = subprocess.run([self._program, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return 1, str(error)
        return done.returncode, (done.stdout + done.stderr).strip()

    def restart(self) -> str:
        code, text = self._ask("--no-block", "restart", UNIT)
        return "" if code == 0 else f"the service cannot be restarted: {text}"

    def pid(self) -> int:
        code, text = self._ask("show", "--property=MainPID", "--value", UNIT)
        return int(text) if code == 0 and text.isdecimal() else 0


def ill(env: Path, config: Path, pid: int, must_connect: bool) -> str:
    """Why the node cannot be called healthy with the version `env`; "" when it can."""
    try:
        python = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return "the agent does not run"
    if not python.startswith(os.fsencode(env) + b"/"):
        return "the agent still runs with the other version"
    code, answer = _status(env, config)
    if code == 0 or (answer and not must_connect):
        return ""
    return "it runs, but its broker is not connected" if answer else "it runs, but does not answer 'grid status'"


def _status(env: Path, config: Path) -> tuple[int, bool]:
    """Exit code of this version's own `grid status`, and whether the agent answered."""
    command = [str(env / "bin/python"), "-I", "-m", "agent", "status", "--json", "-c", str(config)]
    try:
        done = subprocess.run(command, capture_output=True, cwd="/", timeout=20, check=False)
        return done.returncode, isinstance(json.loads(done.stdout or b"0"), dict)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 1, False


def refusal(env: Path, config: Path) -> str:
    """What this version finds wrong with the configuration that is in force; "" if nothing."""
    command = [str(env / "bin/python"), "-I", "-m", "agent", "check", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"'grid check' ended with {done.returncode}")


def wait(env: Path, config: Path, service: Service, must_connect: bool, patience_s: float, steady_s: float) -> str:
    """Wait until the node is healthy and stays so. Returns "" or why it is not."""
    end = time.monotonic() + patience_s
    since: tuple[int, float] | None = None  # the process that is healthy, and from when on
    while True:
        pid = service.pid()
        why = ill(env, config, pid, must_connect)
        now = time.monotonic()
        if why:
            since = None
        elif since is None or since[0] != pid:
            since = pid, now
        elif now - since[1] >= steady_s:
            return ""
        if now >= end:
            return why or "it does not stay up"
        time.sleep(LOOK_S)


def change(
    place: Path, old: Path, new: Path, config: Path, service: Service, patience_s: float = PATIENCE_S, steady_s: float = STEADY_S
) -> str:
    """Run `new` instead of `old`, which comes back unless the node becomes healthy. Returns "" or why it is the old one."""
    must_connect = _status(old, config)[0] == 0  # a version is not blamed for a broker that was down before
    healthy = False
    try:
        say(f"starting {new.name} ...")
        versions.begin_trial(place, old)
        versions.switch(place, new)
        why = service.restart()
        if not why:
            say(f"waiting at most {patience_s:.0f} s until the node is healthy ...")
            why = wait(new, config, service, must_connect, patience_s, steady_s)
        healthy = not why
    finally:  # Ctrl-C and a closed session, too
        if not healthy:
            say(f"going back to {old.name} ...", err=True)
            versions.switch(place, old)
            trouble = service.restart() or wait(old, config, service, must_connect, patience_s, 0.0)
            ill_too = f"{old.name} is back, but not healthy: {trouble}. See: journalctl -u grid"
            say(ill_too if trouble else f"{old.name} runs again", err=True)
        versions.end_trial(place)
    return why


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, resolve_path=True), required=False)
@click.option("--back", is_flag=True, help="Go back to the version before.")
@click.option(
    "-c", "--config", "config", type=click.Path(path_type=Path), help="The service's grid.toml, if not /etc/grid/grid.toml."
)
@click.option("--root", type=click.Path(path_type=Path), default=Path("/"), hidden=True)
@click.option("--systemctl", default="systemctl", hidden=True)
@click.option("--patience", default=PATIENCE_S, hidden=True)
@click.option("--steady", default=STEADY_S, hidden=True)
def upgrade(file: Path | None, back: bool, config: Path | None, root: Path, systemctl: str, patience: float, steady: float) -> None:
    """Install the version in FILE, a wheel or a checkout, and run it; needs a node installed by deploy/install.sh.

    The version before comes back by itself if the node is not healthy within a minute: it must run, answer 'grid status', and
    reach its broker if it did before.
    """
    if (file is None) == (not back):
        fail("name a wheel or a checkout, or --back", USAGE)
    place, config = root.absolute() / "opt/grid", (config or root / "etc/grid/grid.toml").absolute()
    old = versions.current(place)
    if old is None:
        fail(f"no version is installed in {place}: run deploy/install.sh of a checkout")
    if not os.access(place, os.W_OK):
        fail("this needs root: sudo grid upgrade ...")
    os.umask(0o022)  # the service's user must be able to read it
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the session may close: the way is gone to its end, or back
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with versions.lock(place):
            new = _before(place, old) if file is None else _new(file, place)
            if new == old:
                say(f"{new.name} is installed already")
                return
            if why := refusal(new, config):
                fail(f"{new.name} does not take {config}; {old.name} goes on:\n{why}")
            if why := change(place, old, new, config, Systemd(systemctl), patience, steady):
                if file is not None:
                    versions.remove(new)
                fail(f"{new.name} did not become healthy: {why}")
            versions.prune(place, [old, new])
    except (VersionError, OSError) as error:
        fail(f"{error}. {old.name} goes on")
    say(f"{new.name} runs. Back: sudo grid upgrade --back")


def _new(source: Path, place: Path) -> Path:
    say(f"making {versions.name_of(source)} (a minute or two) ...")
    return versions.make(source, place)


def _before(place: Path, old: Path) -> Path:
    others = [env for env in place.iterdir() if env.name != old.name and not env.is_symlink() and versions.works(env)]
    if not others:
        raise VersionError("there is no version before this one")
    return max(others, key=lambda env: (env / versions.DONE).stat().st_mtime_ns)
