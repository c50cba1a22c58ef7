"""What the image makes of its boot partition's grid.toml: what is taken, what is told, and what stays in force."""

import os
import re
from pathlib import Path

import pytest
from cards import BARN, HERE, KEY, MILL, SHIPPED, WIFI, WRONG, Card, started

from agent import boot_parts
from agent import root as composition


@pytest.mark.parametrize(
    "text",
    [
        MILL.encode(),
        b"\xef\xbb\xbf" + MILL.replace("\n", "\r\n").encode(),  # as Windows Notepad saves it
        SHIPPED.replace('"my-house"', '"mill"').encode(),
        MILL.rstrip().encode(),  # no end of the last line
    ],
)
def test_a_valid_file_is_taken(tmp_path: Path, text: bytes) -> None:
    card = Card(tmp_path)
    card.put(**{"grid.toml": text})
    told = card.boot()
    assert (card.id, told.problems) == ("mill", [])
    assert (card.places.data / "boot/config/grid.toml").read_bytes() == text
    assert (card.places.run / "problems").read_text() == ""
    assert card.status.splitlines()[2:4] == ["Node: mill, mill.local in the local network", "Settings: grid.toml was taken"]
    assert os.readlink(card.root("etc/grid")) == str(card.places.data / "boot/config")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WRONG, "grid.toml:3: node.ratd_w: unknown. Did you mean rated_w?"),
        (MILL.replace('"mill"', "mill"), "grid.toml:2: file: not TOML"),
        (MILL.replace('id = "mill"\n', ""), "grid.toml:1: node.id: missing"),
        ("", "grid.toml:1: node.id: missing"),
        ("\0" * 4096, "grid.toml:1: file: not TOML"),  # what a card gives back whose sectors were never written
        (MILL.encode("utf-16"), "grid.toml:1: file: not UTF-8 (byte 0xff). Save it again with the encoding UTF-8"),
        (MILL.replace("mill", "Mühle").encode("latin-1"), "grid.toml:2: file: not UTF-8 (byte 0xfc)"),
        (MILL + '[state]\ndir = "/home/me"\n', "grid.toml: state.dir: on the image only what is below /var/lib/grid"),
        (MILL + '[state]\ndir = "/var/lib/grid"\n', "grid.toml: state.dir: on the image only what is below /var/lib/grid"),
        (MILL + '[state]\ndir = "/var/lib/grid/../x"\n', "grid.toml: state.dir: on the image only"),
        (MILL + '[state]\ndir = "here"\n', "grid.toml: state.dir: on the image only"),
        (MILL + '[[meter]]\nname = "m"\nmodel = "./mine.toml"\nrole = "grid"\nport = "/dev/ttyUSB0"\n', "mine.toml"),
        (MILL + "#" * boot_parts.LARGEST, "grid.toml cannot be read: larger than any"),
    ],
)  # fmt: skip
def test_an_invalid_file_leaves_the_last_good_one_in_force(tmp_path: Path, text: str | bytes, says: str) -> None:
    card = started(tmp_path, grid_toml=BARN)
    card.put(**{"grid.toml": text})
    told = card.boot()
    assert card.id == "barn"
    assert any(says in problem for problem in told.problems), told.problems
    assert "Settings: grid.toml was not taken. The last good ones stay in force\n" in card.status
    assert says in card.status
    assert says in (card.places.run / "problems").read_text()
    assert str(tmp_path) not in card.status  # who has the card in another machine knows no such place
    card.put(**{"grid.toml": MILL})
    assert card.boot().problems == []
    assert card.id == "mill"


def test_without_any_good_settings_the_node_runs_under_a_name_of_its_machine(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=WRONG)
    assert card.id == "node-c3d4"  # the end of the Pi's serial number
    assert composition.load(card.root("etc/grid/grid.toml")).meters == ()
    assert card.root("etc/hostname").read_text() == "node-c3d4\n"
    for _ in range(2):
        assert "Settings: grid.toml was not taken. Until there are good ones, this node runs without meters\n" in card.status
        card.boot()
    card.put(**{"grid.toml": MILL})
    card.boot()
    assert card.id == "mill"
    assert [path.name for path in (card.places.data / "boot").glob("config-*")] == [os.readlink(card.places.data / "boot/config")]


@pytest.mark.parametrize("text", [SHIPPED, "\ufeff" + SHIPPED.replace("\n", "\r\n"), SHIPPED + "\n\n"])
def test_what_nobody_edited_is_not_taken(tmp_path: Path, text: str) -> None:
    """Two such cards would both be my-house."""
    card = started(tmp_path, grid_toml=text)
    assert card.id == "node-c3d4"
    assert "Settings: grid.toml was not edited yet." in card.status


@pytest.mark.parametrize(
    ("serial", "address", "id_"),
    [
        (b"10000000a1b2c3d4\0", "52:54:00:12:34:56", "node-c3d4"),
        (b"0000000000000000\0", "52:54:00:12:34:56", "node-3456"),
        (None, "52:54:00:12:34:56", "node-3456"),
        (b"f\0", None, "node-000f"),
    ],
)
def test_the_name_of_the_machine(tmp_path: Path, serial: bytes | None, address: str | None, id_: str) -> None:
    card = Card(tmp_path)
    path = card.root("proc/device-tree/serial-number")
    path.unlink() if serial is None else path.write_bytes(serial)
    for name, text in (("lo", "00:00:00:00:00:00"), ("eth0", address)):
        if text is not None:
            card.root(f"sys/class/net/{name}").mkdir(parents=True)
            card.root(f"sys/class/net/{name}/address").write_text(f"{text}\n")
    card.boot()
    assert card.id == id_


def test_a_machine_without_any_number_keeps_the_one_it_drew(tmp_path: Path) -> None:
    card = Card(tmp_path)
    card.root("proc/device-tree/serial-number").unlink()
    card.boot()
    first = card.id
    assert re.fullmatch("node-[0-9a-f]{4}", first)
    for text in (WRONG, "", SHIPPED):
        card.put(**{"grid.toml": text})
        card.boot()
        assert card.id == first
    (card.places.data / "boot/config-default/grid.toml").write_bytes(b"\xff")  # the card lost it
    card.boot()
    assert re.fullmatch("node-[0-9a-f]{4}", card.id)


def test_a_missing_file_leaves_the_last_settings(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL)
    (card.places.boot / "grid.toml").unlink()
    assert card.boot().problems == ["grid.toml is not on the boot partition"]
    assert card.id == "mill"
    assert "Settings: there is no grid.toml. The last good ones stay in force\n" in card.status


def test_a_boot_partition_that_is_not_there_leaves_the_last_settings(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL, wifi_toml=WIFI, ssh_pub=KEY)
    card.places.boot.rename(tmp_path / "elsewhere")
    problems = card.boot().problems
    assert problems[0] == "the boot partition cannot be read: No such file or directory"
    assert problems[-1].startswith("grid-status.txt cannot be written: ")
    assert card.id == "mill"
    assert card.root("var/lib/iwd/Oak House.psk").exists()
    assert not (card.places.run / "authorized_keys").exists()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("grid.toml.txt", "grid.toml"),
        ("Grid.TXT", "grid.toml"),
        ("grid (1).toml", "grid.toml"),
        ("grid - Copy.toml", "grid.toml"),
        ("grid copy.toml", "grid.toml"),
        ("wifi.toml.txt", "wifi.toml"),
        ("wifi.toml.rtf", "wifi.toml"),
        ("ssh.pub.txt", "ssh.pub"),
    ],
)
def test_a_name_that_windows_made_longer_is_told(tmp_path: Path, name: str, wanted: str) -> None:
    card = Card(tmp_path)
    card.put(**{name: MILL})
    problems = card.boot().problems
    assert problems[0].startswith(f"{name} is not read. Give it the name {wanted};")
    assert f"  ! {name} is not read" in card.status
    assert card.id == "node-c3d4"


def test_names_are_told_apart_as_fat_does(tmp_path: Path) -> None:
    card = Card(tmp_path)
    card.put(**{"GRID.TOML": MILL, "Wifi.Toml": WIFI, "README.txt": "x", "grid-status.txt": "old", "config.txt": "x"})
    assert card.boot().problems == []
    assert card.id == "mill"
    assert card.root("var/lib/iwd/Oak House.psk").exists()


def test_an_edit_on_the_running_node_stays_until_the_cards_file_changes(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL)
    card.root("etc/grid/grid.toml").write_text(MILL + 'place = "by hand"\n')
    card.boot()
    assert composition.load(card.root("etc/grid/grid.toml")).node.place == "by hand"
    card.put(**{"grid.toml": MILL + 'place = "by card"\n'})
    card.boot()
    assert composition.load(card.root("etc/grid/grid.toml")).node.place == "by card"


def test_what_the_card_lost_is_taken_from_the_boot_partition_again(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL)
    (card.places.data / "boot/config/grid.toml").write_bytes(b"\0" * 44)
    assert card.boot().problems == []
    assert card.id == "mill"
    assert os.readlink(card.root("etc/grid")) == str(card.places.data / "boot/config")
    assert (card.places.data / "boot/config/grid.toml").read_text() == MILL


METER = '[[meter]]\nname = "m"\nmodel = "{}"\nrole = "grid"\nport = "/dev/ttyUSB0"\n'


def test_maps_come_along_and_change_together_with_the_settings(tmp_path: Path) -> None:
    given = next(path for path in sorted((HERE / "drivers/meters").glob("*.toml"))).read_text()
    card = Card(tmp_path)
    (card.places.boot / "maps").mkdir()
    (card.places.boot / "maps/mine.toml").write_text(given)
    card.put(**{"grid.toml": MILL + METER.format("maps/mine.toml")})
    assert card.boot().problems == []
    (meter,) = composition.load(card.root("etc/grid/grid.toml")).meters
    assert Path(meter.model).read_text() == given
    assert meter.model.startswith(str(card.root("etc/grid")))
    before = os.readlink(card.places.data / "boot/config")
    (card.places.boot / "maps/mine.toml").write_text(given + "\n# better\n")
    assert card.boot().problems == []
    assert (card.root("etc/grid/maps/mine.toml")).read_text().endswith("# better\n")
    assert os.readlink(card.places.data / "boot/config") != before
    (card.places.boot / "maps/mine.toml").write_text("nonsense")
    assert any("mine.toml" in problem for problem in card.boot().problems)
    assert (card.root("etc/grid/maps/mine.toml")).read_text().endswith("# better\n")


def test_a_map_that_is_named_by_a_detour_leads_nowhere(tmp_path: Path) -> None:
    """What is copied stays in the settings' own directory."""
    card = started(tmp_path, grid_toml=BARN)
    (card.places.boot / "mine.toml").write_text(next((HERE / "drivers/meters").glob("*.toml")).read_text())
    card.put(**{"grid.toml": MILL + METER.format("../boot/mine.toml")})
    assert card.boot().problems
    assert card.id == "barn"
    assert not (card.places.data / "boot/boot").exists()
