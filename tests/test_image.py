"""The image without building it: its scripts, files and units, and a card composed of three tiny trees and looked into."""

import configparser
import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agent.config import load

HERE = Path(__file__).resolve().parent.parent
IMAGE = HERE / "deploy/image"
FILES = IMAGE / "files"
SCRIPTS = sorted([*IMAGE.glob("*.sh"), FILES / "usr/lib/grid/grow", IMAGE / "initramfs/grid-overlay"])
DISK = "47524944"  # "GRID": the disk's number in its partition table
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
MIB = 1 << 20


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"missing: {', '.join(missing)} (deploy/image/build.sh installs them)")


def run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PATH": PATH}, **more
    )
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    """What boot_test.py defines; it imports guest.py beside it."""
    sys.path.insert(0, str(IMAGE))
    try:
        return runpy.run_path(str(IMAGE / "boot_test.py"))
    finally:
        sys.path.remove(str(IMAGE))


# scripts


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_whole_and_may_be_run(script: Path) -> None:
    first = script.read_text().splitlines()[0]
    shell = {"#!/usr/bin/env bash": "bash", "#!/bin/sh": "sh"}.get(first)
    assert shell or script.name == "root.sh"  # that one is sourced
    assert os.access(script, os.X_OK) == (script.name not in ("root.sh", "grid-overlay"))
    run(shell or "bash", "-n", script)


@needs("shellcheck")
def test_shellcheck_finds_nothing() -> None:
    run("shellcheck", "-x", "-S", "warning", "-s", "bash", *(path for path in SCRIPTS if path.suffix == ".sh"))
    run("shellcheck", "-S", "warning", "-s", "sh", "-e", "SC1091,SC2154", *(path for path in SCRIPTS if path.suffix != ".sh"))


def test_wrong_words_are_answered_with_the_usage() -> None:
    done = subprocess.run([IMAGE / "build.sh", "--wrong"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("sudo deploy/image/build.sh [--out DIR]")


def test_packages_stand_once_each() -> None:
    packages = [line for line in (IMAGE / "packages.txt").read_text().splitlines() if not line.startswith("#")]
    assert {"linux-image-arm64", "raspi-firmware", "mosquitto", "python3", "systemd-timesyncd", "firmware-brcm80211"} <= set(
        packages
    )
    assert len(packages) == len(set(packages))
    assert [name for name in packages if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", name)] == []


# the boot partition


def test_the_kernel_finds_its_root_and_leaves_the_serial_port_to_the_meter() -> None:
    text = (IMAGE / "boot/cmdline.txt").read_text()
    assert text.count("\n") == 1  # the firmware reads the first line only
    words = dict(word.partition("=")[::2] for word in text.split())
    assert words["root"] == f"PARTUUID={DISK}-02"
    assert words["rootfstype"] == "erofs"
    assert "ro" in words
    assert [value for word, _, value in (word.partition("=") for word in text.split()) if word == "console"] == ["tty0"]
    assert words["fsck.repair"] == "yes"
    assert int(words["panic"]) > 0


def test_each_boards_card_is_found_from_the_initial_ramdisk() -> None:
    """Debian 13's device trees: brcm,bcm2835-sdhost and -sdhci (3, Zero 2 W); brcm,bcm2711-emmc2 behind two regulators (4)."""
    modules = {line for line in (IMAGE / "initramfs/modules").read_text().splitlines() if not line.startswith("#")}
    assert {"erofs", "overlay", "bcm2835", "sdhci_iproc", "fixed", "gpio_regulator", "bcm2835_wdt"} <= modules


def test_the_firmware_is_told_of_files_that_are_there() -> None:
    lines = (IMAGE / "boot/config.txt").read_text().splitlines()
    copied = (IMAGE / "root.sh").read_text()
    assert {"kernel=vmlinuz", "initramfs initrd.img followkernel", "arm_64bit=1", "enable_uart=1"} <= set(lines)
    assert '"$boot/vmlinuz"' in copied
    assert '"$boot/initrd.img"' in copied


def test_the_readme_on_the_card_names_the_files_that_are_there() -> None:
    text = (IMAGE / "boot/README.txt").read_text()
    assert {"grid.toml", "wifi.toml", "grid-status.txt", "ssh.pub", "cmdline.txt"} <= set(re.findall(r"[a-z-]+\.[a-z]+", text))
    assert max(map(len, text.splitlines())) <= 130


# the system


def test_what_lasts_is_on_the_third_partition_and_nothing_stops_the_boot() -> None:
    lines = [line.split() for line in (FILES / "etc/fstab").read_text().splitlines() if not line.startswith("#")]
    mounts = {line[1]: line for line in lines}
    assert mounts["/boot/firmware"][0] == f"PARTUUID={DISK}-01"
    assert mounts["/boot/firmware"][3].startswith("ro,")
    assert mounts["/data"][0] == f"PARTUUID={DISK}-03"
    assert mounts["/var/lib/grid"][0] == "/data/grid"
    assert mounts["/opt/grid"][2] == "overlay"
    assert [place for place, line in mounts.items() if "nofail" not in line[3] and line[2] != "tmpfs"] == []


@pytest.mark.parametrize("path", sorted(FILES.rglob("*.conf")), ids=lambda path: str(path.relative_to(FILES)))
def test_a_drop_in_can_be_read(path: Path) -> None:
    text = path.read_text()
    if "systemd" in path.parts:
        parser = configparser.ConfigParser(strict=False, delimiters="=", interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text)
        assert parser.sections()
    else:
        assert [line for line in text.splitlines() if line and not line.startswith("#")]


def test_nobody_gets_in_without_a_key() -> None:
    sshd = (FILES / "etc/ssh/sshd_config.d/grid.conf").read_text().splitlines()
    assert {"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password"} <= set(sshd)
    drop_in = (FILES / "usr/lib/systemd/system/ssh.service.d/grid.conf").read_text()
    assert "ConditionPathExists=/run/grid-boot/authorized_keys" in drop_in


def test_journal_in_memory_and_the_watchdog_within_the_pis_fifteen_seconds() -> None:
    assert "Storage=volatile" in (FILES / "usr/lib/systemd/journald.conf.d/grid.conf").read_text()
    seconds = re.search(r"RuntimeWatchdogSec=(\d+)\n", (FILES / "usr/lib/systemd/system.conf.d/grid.conf").read_text())
    assert seconds is not None
    assert 0 < int(seconds[1]) < 15


@needs("systemd-analyze")
def test_systemd_has_nothing_against_the_units(tmp_path: Path) -> None:
    names = ("grid-hostkey.service", "grid-grow.service")
    for name in names:
        text = (FILES / "usr/lib/systemd/system" / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/lib/grid/grow", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if any(name in line for name in names)] == []


PASSWD = "root:x:0:0:root:/root:/bin/bash\nsystemd-timesync:x:997:997::/:/usr/sbin/nologin\n"
ENABLED = ("systemd-networkd", "systemd-resolved", "systemd-timesyncd", "ssh", "iwd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a base has that the project's files are put on: users, and units without content."""
    root = tmp_path / "root"
    for folder in ("etc/systemd/system/multi-user.target.wants", "usr/lib/systemd/system", "boot", "usr/lib/sysusers.d"):
        (root / folder).mkdir(parents=True)
    (root / "etc/systemd/system/multi-user.target.wants/mosquitto.service").symlink_to("/usr/lib/systemd/system/mosquitto.service")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text("root:x:0:\ndialout:x:20:\nsystemd-timesync:x:997:\n")
    (root / "etc/shadow").write_text("root:secret:20000:0:99999:7:::\n")
    for unit in [*(f"{name}.service" for name in ENABLED), "mosquitto.service", "fstrim.timer", "multi-user.target"]:
        (root / "usr/lib/systemd/system" / unit).write_text("[Unit]\nDescription=x\n[Install]\nWantedBy=multi-user.target\n")
    return root


@needs("systemctl", "systemd-sysusers")
@pytest.mark.skipif(os.geteuid() != 0, reason="files of several users are made: needs root")
def test_the_systems_files_users_and_units(root: Path) -> None:
    source = f'set -euo pipefail; here={IMAGE}; checkout={HERE}; . "$here/root.sh"; '
    source += 'system_into "$1"; strip_root "$1"; data_for "$1" "$1.data"'
    run("bash", "-c", source, "bash", root)
    wants = {path.name for path in (root / "etc/systemd/system/multi-user.target.wants").iterdir()}
    assert {"grid.service", "grid-mosquitto.service", "grid-time.service"} <= wants
    assert os.path.lexists(root / "etc/systemd/system/sysinit.target.wants/grid-boot.service")
    assert os.path.lexists(root / "etc/systemd/system/data.mount.wants/grid-grow.service")
    assert "mosquitto.service" not in wants
    assert os.readlink(root / "etc/systemd/system/mosquitto.service") == "/dev/null"
    assert (root / "etc/shadow").read_text().startswith("root:*:")
    assert os.readlink(root / "etc/grid") == "/data/boot/config"
    settings = (root / "usr/share/grid/grid.toml").read_text()
    assert settings.replace("\nclosed = true   ", "\n#closed = false ") == (HERE / "config/grid.toml").read_text()
    assert load(root / "usr/share/grid/grid.toml").network.closed
    assert (root / "etc/machine-id").read_text() == ""
    grid = re.search(r"^grid:[^:]*:(\d+):(\d+):", (root / "etc/passwd").read_text(), re.M)
    assert grid is not None
    state = (root.parent / "root.data/grid").stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (int(grid[1]), int(grid[2]), 0o750)
    assert (root.parent / "root.data/timesync").stat().st_uid == 997


# the card


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Tiny ones: root, boot, data."""
    folder = tmp_path_factory.mktemp("trees")
    root, boot, data = (folder / name for name in ("root", "boot", "data"))
    (root / "etc").mkdir(parents=True)
    (root / "etc/hostname").write_text("grid\n" * 5000)
    (root / "link").symlink_to("etc/hostname")
    (boot / "overlays").mkdir(parents=True)
    (boot / "grid.toml").write_text('[node]\nid = "oak"\n')
    (boot / "overlays/a.dtbo").write_bytes(b"\0" * 3000)
    (data / "grid").mkdir(parents=True, mode=0o750)
    (data / "grid").chmod(0o750)
    return root, boot, data


def compose(trees: tuple[Path, Path, Path], out: Path) -> Path:
    run(IMAGE / "compose.sh", *trees, out)
    return out


@pytest.fixture(scope="module")
def card(trees: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOT_MIB", "40")
        patch.setenv("DATA_MIB", "8")
        return compose(trees, tmp_path_factory.mktemp("card") / "card.img")


composes = needs("mkfs.erofs", "mkfs.vfat", "mke2fs", "sfdisk", "mcopy", "debugfs")


@composes
def test_a_card_has_three_partitions_in_a_row(card: Path) -> None:
    table = run("sfdisk", "-d", card)
    assert f"label-id: 0x{DISK}" in table
    found = [tuple(map(int, pair)) for pair in re.findall(r"start= *(\d+), size= *(\d+)", table)]
    assert re.findall(r"type=(\w+)", table) == ["c", "83", "83"]
    (boot, boot_size), (root, root_size), (data, data_size) = found
    assert boot == 8 * MIB // 512
    assert (root, data) == (boot + boot_size, root + root_size)
    assert card.stat().st_size == (data + data_size) * 512


@composes
def test_a_card_holds_what_was_put_into_it(card: Path, tmp_path: Path) -> None:
    fat = f"{card}@@{8 * MIB}"
    assert run("mtype", "-i", fat, "::/grid.toml") == '[node]\nid = "oak"\n'
    assert "a.dtbo" in run("mdir", "-b", "-i", fat, "::/overlays").casefold()
    assert "GRIDBOOT" in run("mlabel", "-s", "-i", fat, "::")
    starts = [int(found) * 512 for found in re.findall(r"start= *(\d+)", run("sfdisk", "-d", card))]
    whole = card.read_bytes()
    assert whole[starts[1] + 1024 : starts[1] + 1028] == b"\xe2\xe1\xf5\xe0"  # erofs's magic number, little endian
    (tmp_path / "data").write_bytes(whole[starts[2] :])
    listed = run("debugfs", "-R", "ls -l /", tmp_path / "data")
    assert re.search(r" 40750 .* grid\n", listed)


@composes
def test_the_same_trees_make_the_same_bytes(
    card: Path, trees: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOT_MIB", "40")
    monkeypatch.setenv("DATA_MIB", "8")
    time.sleep(1.1)  # in another second, so that each time that slips in shows
    again = compose(trees, tmp_path / "again.img")
    with card.open("rb") as one, again.open("rb") as other:
        assert hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()


def test_a_wheel_is_whole_and_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("A = 1\n")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(sys.executable, IMAGE / "wheel.py", tmp_path / name, "a", "1.0", "py3-none-any", f"{tmp_path}/a.py=a.py")
    wheels = [tmp_path / name / "a-1.0-py3-none-any.whl" for name in ("one", "two")]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as wheel:
        assert set(wheel.namelist()) == {"a.py", "a-1.0.dist-info/METADATA", "a-1.0.dist-info/WHEEL", "a-1.0.dist-info/RECORD"}
        # sha256 of "A = 1\n", base64 for URLs
        assert (
            wheel.read("a-1.0.dist-info/RECORD").decode().splitlines()[0]
            == "a.py,sha256=Bu289DNhZaJx5lJAJaZDnDyqMkb9B5bxFncieXB6UyU,6"
        )


# the boot test's own judgement


def test_the_guests_settings_are_valid(bench: dict[str, Any], tmp_path: Path) -> None:
    for number, (name, join, meter) in enumerate((("oak", None, True), ("elm", "oak", True), ("pi", None, False)), 1):
        path = tmp_path / f"{name}.toml"
        path.write_text(bench["settings"](name, number, join, meter))
        config = load(path)
        assert config.node.id == name
        assert len(config.meters) == meter


def a_snapshot(
    version: int, instance: str, siblings: tuple[str, ...] = ("elm",), wh: tuple[int | None, ...] = (5, 6)
) -> dict[str, Any]:
    base = {"version": version, "instance": instance}
    info = {**base, "siblings": dict.fromkeys(siblings, 1), "meters": ["house"], "place": "Card 1"}
    energy = {**base, "day": 20000, "edges": 3, "import_wh": list(wh), "export_wh": [None] * len(wh)}
    return {"records": {"state": base, "info": info, "energy/odd": energy, "energy/even": {}}, "price": "0.3"}


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (a_snapshot(11, "b"), ""),
        (a_snapshot(11, "b", wh=(5, 6, 7)), ""),
        (a_snapshot(10, "b"), "version"),
        (a_snapshot(11, "a"), "instance"),
        (a_snapshot(11, "b", siblings=()), "siblings"),
        (a_snapshot(11, "b", wh=(5,)), "import_wh"),
        (a_snapshot(11, "b", wh=(5, 5)), "import_wh"),
        (a_snapshot(11, "b", wh=(5, 6, 4)), "went back"),
    ],
)
def test_what_a_cut_may_not_cost(bench: dict[str, Any], after: dict[str, Any], word: str) -> None:
    class Guest:
        name = "oak"

    if not word:
        bench["compare"](Guest, a_snapshot(10, "a"), after)
        return
    with pytest.raises(bench["Failed"], match=word):
        bench["compare"](Guest, a_snapshot(10, "a"), after)
