"""A card composed of three tiny trees and looked into; a wheel."""

import hashlib
import re
import sys
import time
import zipfile
from pathlib import Path

import pytest
from images import DISK, IMAGE, needs, run

MIB = 1 << 20


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Tiny ones: root, boot, data."""
    folder = tmp_path_factory.mktemp("the trees")
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
        return compose(trees, tmp_path_factory.mktemp("the card") / "card.img")


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
