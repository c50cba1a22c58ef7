"""grid boot as its unit calls it: what it says, an upgrade that a power cut ended, and systemd's own opinion of the units."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cards import KEY, MILL, WRONG, Card
from pretend_grid import unpack, wheel

from agent import versions

HERE = Path(__file__).resolve().parent.parent
UNITS = HERE / "deploy/image/files/usr/lib/systemd/system"
OURS = {"grid-boot.service": 4.5, "grid-time.service": 2.0, "grid-wifi.service": 4.5}
TIMER = "grid-wifi.timer"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing: apt install systemd"
)


def boot(card: Card, *more: str) -> "subprocess.CompletedProcess[str]":
    places = card.places
    options = ["--boot", places.boot, "--data", places.data, "--run", places.run, "--root", places.root, *more]
    command = [sys.executable, "-m", "agent", "boot", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=HERE)


def test_it_says_what_the_status_says_and_succeeds_with_whatever_a_user_wrote(tmp_path: Path) -> None:
    card = Card(tmp_path, grid_toml=MILL, ssh_pub=KEY)
    done = boot(card)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(card.status.splitlines(keepends=True)[2:])
    assert card.id == "mill"
    card.put(**{"grid.toml": WRONG})
    done = boot(card)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  ! grid.toml:3: node.ratd_w: unknown. Did you mean rated_w?\n" in done.stdout


def test_all_can_read_the_settings_and_nobody_the_secrets(tmp_path: Path) -> None:
    """The agent is another user than who boots, whatever umask that has."""
    card = Card(tmp_path, grid_toml=MILL, wifi_toml='[[wifi]]\nssid = "a"\npassword = "12345678"\n')
    before = os.umask(0o077)
    try:
        assert boot(card).returncode == 0
    finally:
        os.umask(before)
    place = card.places.data / "boot"
    modes = {str(path.relative_to(place)): path.stat().st_mode & 0o777 for path in place.rglob("*") if not path.is_symlink()}
    folder = os.readlink(place / "config")
    assert modes == {folder: 0o755, f"{folder}/grid.toml": 0o644, "wifi.toml": 0o600}
    assert (card.places.run / "problems").stat().st_mode & 0o777 == 0o644
    assert card.places.run.stat().st_mode & 0o777 == 0o755


def test_a_system_that_takes_nothing_is_a_failure(tmp_path: Path) -> None:
    card = Card(tmp_path, grid_toml=MILL)
    (card.root("etc/grid") / "somebody's").mkdir(parents=True)
    done = boot(card)
    assert done.returncode == 1
    assert done.stderr.startswith("grid: the settings cannot be put in force: ")


def test_it_is_not_among_the_commands_for_people() -> None:
    command = [sys.executable, "-m", "agent", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=HERE)
    assert re.search("^  upgrade ", done.stdout, re.MULTILINE)
    assert not re.search("^  boot ", done.stdout, re.MULTILINE)


# an upgrade that was cut short


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two versions, the new one current."""
    place = tmp_path / "opt/grid"
    place.mkdir(parents=True)
    envs = [versions.make(wheel(tmp_path / "wheels", version), place, unpack) for version in ("1", "2")]
    versions.switch(place, envs[0])
    versions.begin_trial(place, envs[0])
    versions.switch(place, envs[1])
    return place


def current(place: Path) -> str:
    return os.readlink(place / "current").partition("-")[0]


def test_a_power_cut_during_the_trial_brings_the_old_version_back(place: Path) -> None:
    old = versions.settle(place)
    assert old is not None
    assert (old.name[:2], current(place)) == ("1-", "1")
    assert versions.settle(place) is None
    assert current(place) == "1"


def test_a_trial_that_ended_is_none(place: Path) -> None:
    versions.end_trial(place)
    versions.end_trial(place)
    assert versions.settle(place) is None
    assert current(place) == "2"


@pytest.mark.parametrize("word", [b"", b"nothing-of-this-name", b"../../etc", b".", b"\xff\xfe\0\0"])
def test_a_trial_of_which_nothing_is_left_keeps_what_runs(place: Path, word: bytes) -> None:
    (place / ".trial").write_bytes(word)
    assert versions.settle(place) is None
    assert current(place) == "2"
    assert not (place / ".trial").exists()


def test_an_old_version_that_does_not_work_any_more_stays_away(place: Path) -> None:
    (old,) = place.glob("1-*")
    (old / "bin/python").unlink()
    assert versions.settle(place) is None
    assert current(place) == "2"


def test_the_boot_goes_on_with_the_version_before(tmp_path: Path, place: Path) -> None:
    card = Card(tmp_path / "card", grid_toml=MILL)
    card.root("opt").mkdir()
    card.root("opt/grid").symlink_to(place)
    (old,) = place.glob("1-*")
    (old / "bin/grid").write_text('#!/bin/sh\necho "old: $*"\n')
    done = boot(card)
    assert (
        done.stdout
        == f"old: boot --boot {card.places.boot} --data {card.places.data} --run {card.places.run} --root {card.places.root}\n"
    )
    assert f"an upgrade was cut short; {old.name} goes on" in done.stderr
    assert current(place) == "1"


# the units


def analyzed(unit: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *words, unit], capture_output=True, text=True, check=False)


@needs_systemd
@pytest.mark.parametrize("unit", OURS)
def test_how_exposed_a_unit_is(unit: str) -> None:
    """grid-boot changes mounts in everybody's sight and so has no file system of its own, which costs it two points."""
    done = analyzed(str(UNITS / unit), "security", "--no-pager", "--offline=true", f"--threshold={OURS[unit] * 10:.0f}")
    assert done.returncode == 0, done.stdout
    assert re.search(r"Overall exposure level for \S+: \d\.\d", done.stdout)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for path in [*(UNITS / unit for unit in (*OURS, TIMER)), *(HERE / "deploy/files/usr/lib/systemd/system").iterdir()]:
        (tmp_path / path.name).write_text(path.read_text().replace("=/opt/grid/current/bin/grid ", "=/bin/true "))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit) for unit in (*OURS, TIMER))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "grid" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_boot_comes_before_all_that_it_sets_up() -> None:
    text = (UNITS / "grid-boot.service").read_text()
    before = {unit for line in re.findall("^Before=(.*)$", text, re.MULTILINE) for unit in line.split()}
    assert {"sysinit.target", "network-pre.target", "systemd-networkd.service", "systemd-resolved.service"} <= before
    assert {"iwd.service", "ssh.service", "grid.service", "grid-mosquitto.service"} <= before
    # in a mount name space of its own nobody else would see the boot partition's remount, or what is below an overlay
    assert not re.search("^(Protect|Private|ReadOnly|ReadWrite|Inaccessible|TemporaryFile|Bind|RootDirectory)", text, re.MULTILINE)


@pytest.mark.parametrize(("current", "image", "says"), [(0, 0, "current\n"), (1, 0, "current\numount\nimage\n"), (1, 1, "fails")])
def test_a_version_that_cannot_boot_makes_way_for_the_images_own(tmp_path: Path, current: int, image: int, says: str) -> None:
    """The unit's own line, with an umount that shows what is below."""
    text = (UNITS / "grid-boot.service").read_text()
    (line,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", text, re.MULTILINE)
    place = tmp_path / "grid"
    place.mkdir()
    for name, code in (("above", current), ("below", image)):
        word = {"above": "current", "below": "image"}[name]
        (place / name).write_text(f"#!/bin/sh\n[ $1 = boot ] && echo {word}\nexit {code}\n")
        (place / name).chmod(0o755)
    (tmp_path / "umount").write_text(f"#!/bin/sh\necho umount\nmv {place}/below {place}/above\n")
    (tmp_path / "umount").chmod(0o755)
    line = line.replace("/opt/grid/current/bin/grid", f"{place}/above")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert (done.returncode == 0) is (says != "fails")
    assert done.returncode != 0 or done.stdout == says


def test_the_look_at_the_wifi_is_for_those_who_want_one() -> None:
    assert "\nConditionPathExists=/run/grid-boot/wifi\n" in (UNITS / TIMER).read_text()
    assert "\nExecStart=/opt/grid/current/bin/grid boot --wifi\n" in (UNITS / "grid-wifi.service").read_text()


def test_the_wait_for_the_time_is_bounded() -> None:
    text = (UNITS / "grid-time.service").read_text()
    limit = re.search(r"^ExecStart=-/usr/bin/timeout (\d+) ", text, re.M)
    assert limit is not None
    assert int(limit[1]) == 15
