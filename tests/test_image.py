"""The image without building it: its scripts, its boot partition, its files and units."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from images import DISK, HERE, IMAGE, needs, run

from agent.config import load

FILES = IMAGE / "files"
SCRIPTS = sorted([*IMAGE.glob("*.sh"), FILES / "usr/lib/grid/grow", IMAGE / "initramfs/grid-overlay"])


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


NOT_COPIED = {"etc/grid", "etc/grid/grid.toml"}  # the user's, on the data and the boot partition
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
def test_the_systems_files_users_and_units(root: Path, tmp_path: Path) -> None:
    """Of a checkout that was made under umask 077, in a place with a space in its name."""
    checkout = tmp_path / "my grid"
    for part in ("deploy", "config"):
        shutil.copytree(HERE / part, checkout / part, symlinks=True)
    for path in checkout.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    source = 'set -euo pipefail; umask 022; checkout=$2; here=$checkout/deploy/image; . "$here/root.sh"; '
    source += 'system_into "$1"; strip_root "$1"; data_for "$1" "$1.data"'
    run("bash", "-c", source, "bash", root, checkout)
    copied = {str(path.relative_to(tree)) for tree in (FILES, HERE / "deploy/files") for path in tree.rglob("*")} - NOT_COPIED
    modes = {name: (root / name).stat().st_mode & 0o777 for name in copied}
    assert {name for name, mode in modes.items() if mode == 0o755 and not (root / name).is_dir()} == {"usr/lib/grid/grow"}
    assert set(modes.values()) == {0o755, 0o644}
    assert not [name for name in copied if (root / name).is_dir() and modes[name] != 0o755]
    wants = {path.name for path in (root / "etc/systemd/system/multi-user.target.wants").iterdir()}
    assert {"grid.service", "grid-mosquitto.service", "grid-time.service", "grid-wifi.timer"} <= wants
    assert os.path.lexists(root / "etc/systemd/system/sysinit.target.wants/grid-boot.service")
    assert os.path.lexists(root / "etc/systemd/system/data.mount.wants/grid-grow.service")
    assert "mosquitto.service" not in wants
    assert os.readlink(root / "etc/systemd/system/mosquitto.service") == "/dev/null"
    shadow = {line.split(":")[0]: line.split(":")[1:3] for line in (root / "etc/shadow").read_text().splitlines()}
    assert shadow["root"][0] == "*"
    assert shadow["grid"][1] == "20370"  # 1760000000 s // 86400: the same on whatever day it is built
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
