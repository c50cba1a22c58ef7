"""The configuration edited while a node runs: a broken file changes nothing and says so, a valid one is taken."""

import json
import os
import queue
import subprocess
import sys
import time

import pytest
from live import Grid, alive, cli
from patience import wait_until

from agent import config as configuration
from agent import watch as watching
from agent.events import Warned
from agent.loop import End


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with Grid(tmp_path_factory.mktemp("watch")) as grid:
        node = grid.node("a")
        wait_until(lambda: node.read("grid/net") == b"-500", 15, node.log)
        yield node


def info(node):
    return json.loads(node.read("grid/node/a/info") or b"{}")


def test_a_broken_file_is_an_alert_and_changes_nothing(node):
    good, pid = node.config.read_text(), node.agent.pid
    text = ""
    for bad, says in (
        (good.replace("rated_w", "ratd_w"), "Did you mean rated_w?"),
        (good + "=\n", "key = value"),
        (good[: len(good) // 2], "grid.toml:"),  # an editor that writes in two steps
        ("\0" * 50, "not TOML"),
        ("", "node.id: missing"),
        (None, "there is no such file"),
    ):
        if bad is None:
            node.config.unlink()
        else:
            node.config.write_text(bad)
        text = wait_until(lambda old=text, says=says: told(node, old, says), 6, node.alerts)
        assert text.endswith("The last good configuration stays in force")
        wait_until(lambda text=text: alert(node) == ("warning", text), 6, lambda: alert(node))
        assert node.read("grid/net") == b"-500"
    node.config.write_text(good)
    wait_until(lambda: "config" not in node.alerts(), 6, node.alerts)
    wait_until(lambda: node.read("grid/alert/config") is None, 3, "the retained alert is cleared")
    assert node.agent.pid == pid
    assert alive(pid)
    assert node.status()["summary"]["net_w"] == -500


def alert(node):
    held = json.loads(node.read("grid/alert/config") or b"{}")
    return held.get("level"), held.get("text")


def told(node, old, says):
    """The alert about the file once it is another and says that; before, it may be about a file that is half written."""
    text = node.alerts().get("config", "")
    return text if text != old and says in text else None


def test_valid_changes_are_taken(node):
    version = info(node)["version"]
    node.configure(place='"Äußere Mühle 7"')
    node.config.write_bytes(b"\xef\xbb\xbf" + node.config.read_bytes().replace(b"\n", b"\r\n"))  # as Windows saves it
    wait_until(lambda: info(node).get("place") == "Äußere Mühle 7", 15, node.log)
    assert info(node)["version"] > version
    wait_until(lambda: node.read("grid/net") == b"-500", 10, node.log)
    assert node.agent.poll() is None
    assert "config" not in node.alerts()
    checked = cli("check", str(node.config))
    assert (checked.returncode, checked.stderr) == (0, "")

    # broken, then repaired into something new
    text = node.config.read_text().replace("rated_w = 10000", "rated_w = 9")
    node.config.write_text(text.replace("= 9", "= none"))
    wait_until(lambda: "config" in node.alerts(), 6, node.log)
    node.config.write_text(text)
    wait_until(lambda: json.loads(node.read("grid/node/a/state") or b"{}").get("rated_w") == 9, 15, node.log)
    wait_until(lambda: node.status() and "config" not in node.alerts(), 5)
    assert node.read("grid/alert/config") is None


def test_touching_the_file_restarts_nothing(node):
    wait_until(node.status, 10)
    instance = json.loads(node.read("grid/node/a/state"))["instance"]
    text = node.config.read_text()
    node.config.write_text("# a comment\n" + text)
    node.config.write_text("# another comment\n" + text + "\n[network]\njoin = []\n")
    with node.tap("grid/agent/status") as tap:
        tap.retained()
        time.sleep(2.5)  # one look of the watch
        assert [message for message in tap.heard if not message.retained] == []
    assert json.loads(node.read("grid/node/a/state"))["instance"] == instance


# what was wrong with the image's boot partition


def test_what_the_boot_found_stays_beside_what_is_found_later(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "LOOK_S", 0.02)
    (tmp_path / "grid.toml").write_text('[node]\nid = "mill"\nrated_w = 1\n')
    (tmp_path / "problems").write_text("wifi.toml:3: wrong\n")
    said = queue.Queue()
    config = configuration.load(tmp_path / "grid.toml")
    watch = watching.Watch(config, configuration.load, said.put, str(tmp_path / "problems"))
    watch.open()
    try:
        assert said.get(timeout=5) == Warned("config", "wifi.toml:3: wrong")
        (tmp_path / "grid.toml").write_text("nonsense")
        first, second, *_ = said.get(timeout=5).text.splitlines()
        assert (first, "not TOML" in second) == ("wifi.toml:3: wrong", True)
        (tmp_path / "grid.toml").write_text('[node]\nid = "mill"\nrated_w = 1\n# mended\n')
        while (text := said.get(timeout=5).text) != "wifi.toml:3: wrong":  # a look while the file was being written
            assert "not TOML" in text or "missing" in text
    finally:
        watch.close()


@pytest.mark.parametrize(("text", "says"), [('[node]\nid = "mill"\nrated_w = 2\n', End.RESTART), ("nonsense", "not TOML")])
def test_a_file_that_changed_while_the_node_started_is_taken_too(tmp_path, monkeypatch, text, says):
    monkeypatch.setattr(watching, "LOOK_S", 0.02)
    (tmp_path / "grid.toml").write_text('[node]\nid = "mill"\nrated_w = 1\n')
    said = queue.Queue()
    watch = watching.Watch(configuration.load(tmp_path / "grid.toml"), configuration.load, said.put)
    (tmp_path / "grid.toml").write_text(text)
    watch.open()
    try:
        heard = said.get(timeout=5)
        assert heard == says if isinstance(says, End) else says in heard.text
    finally:
        watch.close()


@pytest.mark.parametrize("told", [None, "", "/no/such/file", b"\xff"])
def test_without_such_problems_nothing_is_said(tmp_path, monkeypatch, told):
    monkeypatch.setattr(watching, "LOOK_S", 0.02)
    (tmp_path / "grid.toml").write_text('[node]\nid = "mill"\nrated_w = 1\n')
    if isinstance(told, bytes):
        (tmp_path / "problems").write_bytes(told)
        told = str(tmp_path / "problems")
    said = queue.Queue()
    watch = watching.Watch(configuration.load(tmp_path / "grid.toml"), configuration.load, said.put, told)
    watch.open()
    time.sleep(0.1)  # five looks
    watch.close()
    assert said.empty()


def test_local_times_are_those_of_the_time_zone_that_the_file_names():
    code = "import time; from agent import root; root.enter_zone({!r}); print(time.localtime().tm_gmtoff)"
    told = [
        subprocess.run([sys.executable, "-c", code.format(zone)], env={**os.environ, "TZ": "UTC0"}, capture_output=True, check=True)
        for zone in (None, "Asia/Kolkata")
    ]
    assert [done.stdout.strip() for done in told] == [b"0", b"19800"]  # 5 h 30 min
