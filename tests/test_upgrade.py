"""grid upgrade: a new version that is not healthy makes way for the old one, and `current` always works."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pretend_grid import systemctl, unpack, wheel

from agent import versions
from agent.cli import upgrade as upgrading
from agent.versions import VersionError

HERE = Path(__file__).resolve().parent.parent
UPGRADE = (sys.executable, "-c", "from agent.cli.upgrade import upgrade; upgrade(prog_name='grid upgrade')")


class Machine:
    """A directory with version 1 installed and running, and a service manager that only knows that."""

    def __init__(self, root: Path) -> None:
        self.root, self.place = root, root / "opt/grid"
        self.place.mkdir(parents=True)
        (root / "etc/grid").mkdir(parents=True)
        (root / "etc/grid/grid.toml").write_text("")
        self.systemctl = systemctl(root)
        self.old = versions.make(wheel(root / "wheels", "1"), self.place, unpack)
        versions.switch(self.place, self.old)
        subprocess.run([self.systemctl, "restart", "grid.service"], check=True)
        self.running("1")

    def command(self, *words: str) -> list[str]:
        options = ["--root", str(self.root), "--systemctl", str(self.systemctl), "--patience", "8", "--steady", "0.6"]
        return [*UPGRADE, *words, *options]

    def upgrade(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words), cwd=HERE, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT
        )

    def wheel(self, version: str, temper: str = "fine", made: bool = True) -> str:
        """Its wheel; with `made` its virtualenv, too, which saves pip's seconds."""
        path = wheel(self.root / "wheels", version, temper)
        if made:
            versions.make(path, self.place, unpack)
        return str(path)

    @property
    def current(self) -> str:
        """The version that `current` names, which works."""
        env = versions.current(self.place)
        assert env is not None
        assert versions.works(env)
        return env.name.partition("-")[0]

    @property
    def on_trial(self) -> bool:
        return (self.place / versions.TRIAL).exists()

    def running(self, version: str) -> None:
        """Wait until the agent that runs is of this version."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            pid = (self.root / "pid").read_text().strip()
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                words = [""]
            if f"/{version}-" in words[0] and (self.root / "etc/grid/alive").exists():
                return
            time.sleep(0.05)
        raise AssertionError(f"version {version} does not run: {words}")

    def envs(self) -> set[str]:
        return {path.name.partition("-")[0] for path in self.place.iterdir() if path.is_dir() and not path.is_symlink()}

    def close(self) -> None:
        pid = int((self.root / "pid").read_text())
        try:
            if str(self.root).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


ENVIRONMENT = {**os.environ, "PIP_NO_INDEX": "1", "PYTHONPATH": str(HERE)}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def test_a_healthy_version_stays_and_the_one_before_is_kept(machine: Machine) -> None:
    done = machine.upgrade(machine.wheel("2"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("runs. Back: sudo grid upgrade --back")
    assert machine.current == "2"
    machine.running("2")
    assert not machine.on_trial  # a power cut does not bring the old one back any more
    again = machine.upgrade(machine.wheel("2"))
    assert (again.returncode, "installed already" in again.stdout) == (0, True)
    assert machine.upgrade(machine.wheel("3")).returncode == 0
    assert machine.envs() == {"2", "3"}
    back = machine.upgrade("--back")
    assert back.returncode == 0, back.stderr
    assert machine.current == "2"
    machine.running("2")


@pytest.mark.parametrize(
    ("temper", "why"),
    [
        ("crashes", "the agent does not run"),
        ("falls", "the agent does not run"),
        ("mute", "does not answer 'grid status'"),
        ("alone", "its broker is not connected"),
    ],
)
def test_one_that_is_not_healthy_makes_way(machine: Machine, temper: str, why: str) -> None:
    done = machine.upgrade(machine.wheel("2", temper))
    assert done.returncode == 1
    assert "did not become healthy" in done.stderr
    assert why in done.stderr
    assert f"{machine.old.name} runs again" in done.stderr
    assert machine.current == "1"
    machine.running("1")
    assert machine.envs() == {"1"}
    assert not machine.on_trial


def test_one_that_refuses_the_file_is_not_tried(machine: Machine) -> None:
    (machine.root / "asked").unlink()
    done = machine.upgrade(machine.wheel("2", "refuses"))
    assert done.returncode == 1
    assert f"{machine.old.name} goes on" in done.stderr
    assert "grid.toml:3: node.id: too long" in done.stderr
    assert machine.current == "1"
    assert not (machine.root / "asked").exists()  # nothing was restarted


def test_one_that_does_not_start_is_not_kept(machine: Machine) -> None:
    with pytest.raises(VersionError, match="does not start"):
        machine.wheel("2", "broken")
    assert machine.envs() == {"1"}


def test_a_broker_that_was_down_before_is_not_the_new_versions_fault(machine: Machine) -> None:
    versions.switch(machine.place, versions.make(wheel(machine.root / "wheels", "2", "alone"), machine.place, unpack))
    subprocess.run([machine.systemctl, "restart", "grid.service"], check=True)
    machine.running("2")
    assert machine.upgrade(machine.wheel("3", "alone")).returncode == 0
    assert machine.current == "3"


def test_a_service_that_cannot_be_restarted_is_said(machine: Machine) -> None:
    (machine.root / "stuck").touch()
    done = machine.upgrade(machine.wheel("2"))
    assert done.returncode == 1
    assert "cannot be restarted" in done.stderr
    assert machine.current == "1"


@pytest.mark.parametrize("words", [(), ("--back",), ("--back", "FILE"), ("no-such-file",)])
def test_wrong_use_changes_nothing(machine: Machine, words: tuple[str, ...]) -> None:
    (machine.root / "wheels/other-1.whl").touch()
    done = machine.upgrade(*(str(machine.root / "wheels/other-1.whl") if word == "FILE" else word for word in words))
    assert done.returncode == (1 if words == ("--back",) else 2)
    assert machine.current == "1"


def test_without_an_installation_there_is_nothing_to_upgrade(tmp_path: Path) -> None:
    command = [*UPGRADE, "--root", str(tmp_path), str(wheel(tmp_path, "2"))]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "run deploy/install.sh" in done.stderr


def test_one_upgrade_at_a_time(machine: Machine) -> None:
    with versions.lock(machine.place):
        done = machine.upgrade(machine.wheel("2"))
    assert (done.returncode, machine.current) == (1, "1")
    assert "another upgrade works" in done.stderr


# interruptions


@pytest.mark.parametrize("line", ["making", "starting", "waiting"])
def test_killed_at_any_step_a_version_that_works_is_current(machine: Machine, line: str) -> None:
    source = machine.wheel("2", made=line != "making")
    process = subprocess.Popen(
        machine.command(source), cwd=HERE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    )
    assert process.stdout is not None
    while not (said := process.stdout.readline()).startswith(line):
        assert said
    if line == "making":  # until pip is at work
        while not list(machine.place.glob("2-*/bin")):
            time.sleep(0.02)
    process.kill()
    process.wait(10)
    assert machine.current in ("1", "2")
    if line == "making":
        assert machine.current == "1"
        os.killpg(process.pid, signal.SIGKILL)  # its child: a power cut ends that, too
        machine.wheel("2")
    if line == "waiting":
        assert (machine.current, versions.settle(machine.place)) == ("2", machine.old)
        assert machine.current == "1"
    process.communicate()
    done = machine.upgrade(source)
    assert done.returncode == 0, done.stderr
    assert machine.current == "2"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_end_while_it_waits_it_goes_back_first(machine: Machine, number: signal.Signals) -> None:
    command = machine.command(machine.wheel("2", "mute"))
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while not (said := process.stdout.readline()).startswith("waiting"):
        assert said
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"{machine.old.name} runs again" in said
    assert machine.current == "1"
    machine.running("1")


def test_cut_after_the_swap_of_a_bad_version_the_way_back_is_open(machine: Machine) -> None:
    versions.switch(machine.place, versions.make(Path(machine.wheel("2", "crashes")), machine.place))
    subprocess.run([machine.systemctl, "restart", "grid.service"], check=True)
    done = machine.upgrade("--back")
    assert done.returncode == 0, done.stderr
    machine.running("1")


class Service:
    """One whose agent is another process at every look, or after some looks."""

    def __init__(self, restarts: int) -> None:
        self.restarts, self.number = restarts, 100

    def pid(self) -> int:
        if self.restarts:
            self.restarts, self.number = self.restarts - 1, self.number + 1
        return self.number

    def restart(self) -> str:
        return ""


@pytest.mark.parametrize(("restarts", "says"), [(0, ""), (3, ""), (10**6, "it does not stay up")])
def test_one_that_is_started_anew_again_and_again_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: int, says: str
) -> None:
    monkeypatch.setattr(upgrading, "ill", lambda *_: "")
    monkeypatch.setattr(upgrading, "LOOK_S", 0.01)
    patience_s = 0.5 if says else 30.0
    assert upgrading.wait(tmp_path, tmp_path, Service(restarts), True, patience_s, 0.1) == says


def test_back_is_to_the_one_that_was_made_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade that was killed may have left more than two."""
    monkeypatch.setattr(versions, "works", lambda env: (env / versions.DONE).exists())
    for age, name in enumerate(("half", "3", "2", "1")):
        (tmp_path / name).mkdir()
        if name != "half":
            (tmp_path / name / versions.DONE).touch()
            os.utime(tmp_path / name / versions.DONE, (1000 - age, 1000 - age))
    versions.switch(tmp_path, tmp_path / "3")
    assert upgrading._before(tmp_path, tmp_path / "3") == tmp_path / "2"
