"""Small files that survive a power cut: damaged ones are set aside, a full or read-only disk is an alert, the node runs on."""

import json
import shutil
import stat

import pytest
from disks import fill
from live import Grid
from patience import wait_until

from agent.store import KEEP_BAD, Store

DATA = b'{"a":[1,2],"b":"\xc3\xa4"}'


@pytest.fixture
def store(tmp_path):
    one = Store(tmp_path / "state" / "deep")
    one.open()
    return one


@pytest.fixture
def grid(tmp_path):
    with Grid(tmp_path) as grid:
        yield grid


def test_what_is_saved_is_loaded_byte_for_byte(store):
    assert store.load() == ({}, [])
    assert store.save("one", DATA) == ""
    assert store.save("one", b"[1]") == ""
    assert store.save("two", DATA) == ""
    assert Store(store.directory).load() == ({"one": b"[1]", "two": DATA}, [])
    assert sorted(path.name for path in store.directory.iterdir()) == ["one.json", "two.json"]
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.directory.iterdir()} == {0o600}


def damage(path, how):
    whole = path.read_bytes()
    match how:
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "NUL-filled":
            path.write_bytes(b"\0" * len(whole))
        case "empty":
            path.write_bytes(b"")
        case "wrong checksum":
            path.write_bytes(whole.replace(b"1", b"7", 1) if b"1" in whole else whole.replace(b"a", b"b"))
        case "not UTF-8":
            path.write_bytes(b'{"check":"\xff","data":1}')
        case "deep":
            path.write_bytes(b'{"check":"0","data":' + b"[" * 200_000)
        case "a directory":
            path.unlink()
            path.mkdir()
            (path / "something").touch()
        case "a dead link":
            path.unlink()
            path.symlink_to("nowhere")


DAMAGES = ["truncated", "NUL-filled", "empty", "wrong checksum", "not UTF-8", "deep", "a directory", "a dead link"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_set_aside_and_the_others_are_loaded(store, how):
    store.save("good", DATA)
    store.save("bad", DATA)
    damage(store.directory / "bad.json", how)
    kept, troubles = store.load()
    assert kept == {"good": DATA}
    assert len(troubles) == 1
    assert troubles[0].startswith("bad.json was damaged (")
    assert troubles[0].endswith("set aside as bad.bad-1, going on without it")
    assert store.load() == ({"good": DATA}, [])
    assert store.save("bad", DATA) == ""
    assert store.load()[0] == {"good": DATA, "bad": DATA}


def test_a_card_that_rots_does_not_fill_up(store):
    for _ in range(KEEP_BAD + 3):
        store.save("bad", DATA)
        damage(store.directory / "bad.json", "truncated")
        kept, troubles = store.load()
        assert (kept, len(troubles)) == ({}, 1)
    assert len(list(store.directory.glob("bad.bad-*"))) <= KEEP_BAD
    assert store.save("bad", DATA) == ""
    assert store.load()[0] == {"bad": DATA}


def test_a_power_cut_between_write_and_rename_leaves_the_old(store):
    store.save("one", DATA)
    (store.directory / "one.json.new").write_bytes(b"\0" * 40)
    assert store.load() == ({"one": DATA}, [])
    assert store.save("one", b"2") == ""
    assert store.load() == ({"one": b"2"}, [])
    assert not (store.directory / "one.json.new").exists()


def test_a_full_disk_keeps_the_old_whole(small):
    store = Store(small / "state")
    store.open()
    assert store.save("one", DATA) == ""
    fill(small)
    said = store.save("one", b'"' + b"x" * 20_000 + b'"')
    assert said.startswith("cannot keep one: No space left on device: ")
    assert said.endswith("Going on from memory; a restart may forget the latest change")
    assert store.load() == ({"one": DATA}, [])
    (small / "filler").unlink()
    assert store.save("one", b"2") == ""


# a whole node on such disks


def test_a_node_starts_on_damaged_state_says_so_and_gets_it_back_from_its_siblings(grid):
    a, b = grid.network(a=-500, b=1200)
    kept = {"versions", "siblings", "records"}
    wait_until(lambda: kept <= {path.stem for path in a.folder.glob("*.json")}, 15, "versions, siblings and records are kept")
    version = json.loads(b.read("grid/node/a/state"))["version"]
    a.kill_agent()
    damage(a.folder / "versions.json", "NUL-filled")
    damage(a.folder / "siblings.json", "a directory")
    damage(a.folder / "records.json", "truncated")
    a.start_agent()
    text = wait_until(lambda: a.alerts().get("store"), 10, a.log)
    assert [name in text for name in ("versions.json", "siblings.json", "records.json")] == [True] * 3
    told = wait_until(lambda: a.read("grid/alert/store"), 10, "the alert is on the broker once the agent is connected")
    assert json.loads(told)["text"] == text
    grid.agree([a, b], 700, 2)
    assert list(a.status()["siblings"]) == ["b"]
    wait_until(lambda: json.loads(b.read("grid/node/a/state"))["version"] > version, 10, "a jumps above what it said before")
    assert "Traceback" not in a.log()


def test_kept_state_of_another_form_is_an_alert_too(grid):
    """Whole and with the right checksum, but not what this version writes."""
    a = grid.node("a", start=False)
    Store(a.folder).save("siblings", b'["b"]')
    Store(a.folder).save("versions", b'{"ceiling":"many"}')
    Store(a.folder).save("records", b'[["grid/node/b/state","e30="]]')
    a.start()
    assert "not of our form" in wait_until(lambda: a.alerts().get("store"), 10, a.log)
    wait_until(lambda: a.read("grid/net") == b"-500", 10, a.log)


def test_a_node_runs_on_when_its_disk_is_full_and_starts_on_it(grid, small):
    a, b = grid.node("a"), grid.node("b", 1200, start=False)
    b.folder = small / "b"
    shutil.move(grid.folder / "b", b.folder)
    b.config = b.folder / "grid.toml"
    b.start()
    wait_until(lambda: a.read("grid/summary") and b.read("grid/summary"), 10)
    fill(small)
    done = b.cli("join", f"127.0.0.1:{a.port}")
    assert done.returncode == 0, done
    assert "No space left on device" in wait_until(lambda: b.alerts().get("disk") or b.alerts().get("bridges"), 10, b.log)
    wait_until(lambda: json.loads(b.read("grid/summary"))["net_w"] == 1200, 5, b.log)

    b.kill_agent()
    b.start_agent()
    wait_until(lambda: b.status().get("summary", {}).get("net_w") == 1200, 10, b.log)
    (small / "filler").unlink()
    b.cli("leave", "a")
    b.join(a)
    grid.agree([a, b], 700, 2)
    wait_until(lambda: "disk" not in b.alerts(), 15, b.alerts)


def test_a_node_runs_on_when_it_cannot_write(grid):
    a, b = grid.node("a"), grid.node("b", 1200)
    wait_until(lambda: a.read("grid/summary") and b.read("grid/summary"), 10)
    (b.folder / "siblings.json.new").mkdir()  # permissions would not bind root
    assert b.cli("join", f"127.0.0.1:{a.port}").returncode == 0
    assert wait_until(lambda: b.alerts().get("disk"), 10, b.log).startswith("cannot keep siblings: ")
    grid.agree([a, b], 700, 2)
