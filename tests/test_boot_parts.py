"""What the boot partition's files mean for the system around the agent: its name, its time zone, its Wi-Fi, the way in by SSH."""

import os
import stat
from pathlib import Path

import pytest
from cards import KEY, MILL, WIFI, started

from agent import boot as booting
from agent import boot_parts


def test_names_of_the_system(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL.replace("rated_w", 'time_zone = "Europe/Berlin"\nrated_w'))
    assert card.root("proc/sys/kernel/hostname").read_text() == "mill"
    assert card.root("etc/hostname").read_text() == "mill\n"
    assert "127.0.1.1 mill\n" in card.root("etc/hosts").read_text()
    assert os.readlink(card.root("etc/localtime")) == "/usr/share/zoneinfo/Europe/Berlin"
    card.put(**{"grid.toml": MILL})
    card.boot()
    assert os.readlink(card.root("etc/localtime")) == "/usr/share/zoneinfo/Etc/UTC"


def test_a_time_zone_that_is_none_is_told(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL.replace("rated_w", 'time_zone = "Europe/Springfield"\nrated_w'))
    assert card.id == "mill"
    assert "  ! grid.toml: node.time_zone: there is no 'Europe/Springfield'." in card.status


def test_wifi_is_taken_and_stays_after_its_file_is_gone(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL, wifi_toml=WIFI)
    secret = card.root("var/lib/iwd/Oak House.psk")
    assert secret.read_text().endswith("Passphrase=a\\ssecret\n")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((card.places.data / "boot/wifi.toml").stat().st_mode) == 0o600
    assert "MulticastDNS=yes" in card.root("run/systemd/network/25-grid-wlan.network").read_text()
    assert (card.places.run / "wifi").exists()
    assert "secret" not in card.status
    (card.places.boot / "wifi.toml").unlink()
    secret.unlink()  # it was in memory
    card.boot()
    assert secret.exists()
    assert "Wi-Fi: there is no wifi.toml. The last good one stays in force. Networks: Oak House\n" in card.status


def test_wrong_wifi_leaves_the_last_good_and_an_empty_file_ends_it(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL, wifi_toml=WIFI)
    for wrong, says in (
        (WIFI.replace("password", "pasword"), "wifi.toml:3: wifi[1].pasword: unknown. Did you mean password?"),
        (WIFI.encode("utf-16"), "wifi.toml:1: file: not UTF-8"),
        ("#" * (boot_parts.LARGEST + 1), "wifi.toml cannot be read: larger than any settings are"),
    ):
        card.put(**{"wifi.toml": wrong})
        (problem, *_) = card.boot().problems
        assert problem.startswith(says)
        assert card.root("var/lib/iwd/Oak House.psk").exists()
        assert "Wi-Fi: wifi.toml was not taken. The last good one stays in force. Networks: Oak House\n" in card.status
    card.put(**{"wifi.toml": "# none any more\n"})
    assert card.boot().problems == []
    assert list(card.root("var/lib/iwd").iterdir()) == []
    assert not (card.places.run / "wifi").exists()
    (card.places.boot / "wifi.toml").unlink()
    card.boot()
    assert "Networks: none, only the cable\n" in card.status
    for text, there in ((WIFI, True), ("", False)):  # while it runs
        card.put(**{"wifi.toml": text})
        booting.boot(card.places)
        assert (card.places.run / "wifi").exists() is there


def test_networks_that_are_named_no_more_are_forgotten(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL, wifi_toml=WIFI)
    card.put(**{"wifi.toml": WIFI.replace("Oak House", 'Tom\'s \\"best\\" ☕')})
    card.boot()
    assert [path.name for path in card.root("var/lib/iwd").iterdir()] == ["=" + 'Tom\'s "best" ☕'.encode().hex() + ".psk"]
    assert card.root("var/lib/iwd").exists()
    assert 'Networks: Tom\'s "best" ☕\n' in card.status


@pytest.mark.parametrize(
    ("text", "keys", "problems"),
    [
        (KEY, 1, 0),
        (f"\ufeff# mine\r\n{KEY}\r\n\r\n{KEY}\r\n".encode(), 2, 0),
        (f'{KEY}\ncommand="x" {KEY}\n', 1, 1),
        ("", 0, 1),
        ("ssh-ed25519\n", 0, 1),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n", 0, 1),
        (f"{KEY}\0\n", 0, 1),
    ],
)
def test_ssh_is_open_for_keys_alone(tmp_path: Path, text: str | bytes, keys: int, problems: int) -> None:
    card = started(tmp_path, grid_toml=MILL, ssh_pub=text)
    allowed = card.places.run / "authorized_keys"
    assert (allowed.read_text().splitlines() if allowed.exists() else []) == [KEY] * keys
    assert len((card.places.run / "problems").read_text().splitlines()) == 2 * problems  # a line before it
    assert (f"SSH: on for {keys} keys: ssh root@mill.local\n" in card.status) is (keys > 0)
    (card.places.boot / "ssh.pub").unlink()
    booting.boot(card.places)
    assert not allowed.exists()
    assert "SSH: off" in card.status
