"""Relays of a node: what switches them and what does not, minimum times, the card, the end; then a real node with mock pins."""

import json

import gpiozero
import pytest
from desk import Desk, published
from fleet import UNIX_S
from live import Grid
from patience import wait_until

from agent.config import LoadConfig
from agent.events import Heard, SetLoad, Stopping, Switch
from agent.loads import FOR_S
from agent.relays import Relays
from agent.switches import Load

LOADS = (Load("heater", 3, 2000), Load("freezer", 1, 150, "compressor"), Load("horn", 3, 10, safe_on=False))


def node(**more) -> Desk:
    desk = Desk(loads=LOADS, **more)
    desk.wait(3.0)
    return desk


def switched(effects) -> list[tuple[str, bool]]:
    return [(effect.name, effect.on) for effect in effects if isinstance(effect, Switch)]


def test_at_the_start_all_are_safe_and_then_on_one_after_the_other():
    desk = Desk(loads=LOADS)
    assert switched(desk.first) == [("heater", True), ("freezer", True), ("horn", False)]
    assert desk.told["grid/load/horn"] == b"OFF"
    assert switched(desk.wait(9.75)) == []
    assert switched(desk.wait(1.0)) == [("horn", True)]  # nothing sheds it, and its minimum time off is over
    assert desk.told["grid/load/horn"] == b"ON"
    assert desk.told["grid/load/horn/mode"] == b"auto"


def test_a_persons_word_holds_for_its_time_and_survives_a_restart():
    desk = node()
    desk.wait(10.0)
    answer = desk.ask(SetLoad("heater", "off", 60.0))
    assert (answer["load"], answer["on"], answer["mode"], answer["waits_s"]) == ("heater", False, "manual", 10)
    assert (desk.told["grid/load/heater"], desk.told["grid/load/heater/mode"]) == (b"OFF", b"manual")
    again = Desk(loads=LOADS, kept=desk.kept)
    assert again.node.switches.outputs["heater"] is False
    desk.wait(59.0)
    assert desk.told["grid/load/heater"] == b"OFF"
    assert ("heater", True) in switched(desk.wait(3.0))
    assert desk.told["grid/load/heater/mode"] == b"auto"
    assert desk.ask(SetLoad("heater", "off"))["until"] is not None
    assert desk.node.switches.switches["heater"].until_s == desk.now + FOR_S
    assert desk.ask(SetLoad("heater", "auto"))["until"] is None


def test_minimum_times_are_kept_whoever_asks():
    desk = node()
    answer = desk.ask(SetLoad("freezer", "off"))
    assert (answer["on"], answer["wanted"]) == (True, False)
    assert answer["waits_s"] == 117  # of the 120 s that a compressor runs at least, 3 are over
    assert switched(desk.wait(116.0))[-1:] != [("freezer", False)]
    assert ("freezer", False) in switched(desk.wait(2.0))
    desk.ask(SetLoad("freezer", "on"))
    assert ("freezer", True) not in switched(desk.wait(298.0))
    assert ("freezer", True) in switched(desk.wait(3.0))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (SetLoad("oven", "on"), "no load 'oven' in this node's configuration; there are: heater, freezer, horn"),
        (SetLoad("heater", "on", 0.0), "a person's word holds for some seconds to a week"),
        (SetLoad("heater", "on", 700_000.0), "a person's word holds for some seconds to a week"),
    ],
)
def test_what_cannot_be(wanted, error):
    assert node().ask(wanted) == {"error": error}
    assert "there are: none" in Desk().ask(SetLoad("x", "on"))["error"]


def test_a_fresh_command_on_the_broker_switches_and_a_retained_one_does_not():
    desk = node()
    desk.wait(10.0)
    topic = "grid/load/heater/set"
    effects = desk.do(Heard(topic, b"OFF", retained=True))
    assert published(effects) == {topic: b""}  # taken off the broker: it would come again with every start
    assert switched(desk.wait(2.0)) == []
    assert "a command that was retained" in desk.node.show.refusals.reasons
    assert switched(desk.do(Heard(topic, b" off "))) == [("heater", False)]
    assert switched(desk.do(Heard(topic, b""))) == []
    desk.do(Heard(topic, b"AUTO"))
    assert ("heater", True) in switched(desk.wait(11.0))
    before = desk.node.show.refusals.total
    for bad in ((topic, b"1"), ("grid/load/oven/set", b"ON"), ("grid/load/set", b"ON")):
        assert switched(desk.do(Heard(*bad))) == []
    assert desk.node.show.refusals.total == before + 3


@pytest.mark.parametrize("topic", ["$grid/in/b/load/heater/set", "grid/node/b/load/set", "grid/view/b/load/heater/set"])
def test_nothing_from_elsewhere_switches(topic):
    desk = node()
    desk.wait(10.0)
    assert switched(desk.do(Heard(topic, b"OFF"))) == []
    assert switched(desk.wait(3.0)) == []


def test_our_view_of_a_load_is_ours():
    desk = node()
    assert published(desk.do(Heard("grid/load/heater", b"OFF"))) == {"grid/load/heater": b"ON"}
    assert published(desk.do(Heard("grid/load/gone", b"ON"))) == {"grid/load/gone": b""}


def test_at_the_end_everything_is_safe():
    desk = node()
    desk.wait(10.0)
    desk.ask(SetLoad("heater", "off"))
    assert sorted(switched(desk.do(Stopping()))) == [("heater", True), ("horn", False)]
    kept = json.loads(desk.kept["switches"])
    assert kept["heater"]["manual"] is False  # the person's word is not forgotten by that


def test_damaged_memory_is_done_without():
    desk = Desk(loads=LOADS, kept={"switches": b'{"heater": 5}'})
    assert "switches (" in desk.alerts["store"]
    assert desk.node.switches.outputs["heater"] is True
    assert UNIX_S > 0


@pytest.fixture
def pins(monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    yield lambda number: gpiozero.Device.pin_factory.pin(number)
    if gpiozero.Device.pin_factory is not None:
        gpiozero.Device.pin_factory.reset()


def config(name="heater", pin=27, active_low=False, safe_on=True):
    return LoadConfig(name, pin, 2000, 3, "resistive", active_low, safe_on, None, None)


def test_pins_begin_at_the_level_that_is_asked_for_and_end_safe(pins):
    relays = Relays([config(active_low=True), config("horn", 22, safe_on=False)])
    assert relays.set("heater", False).text == ""
    assert pins(27).state is True  # active low: off
    assert [state.state for state in pins(27).states].count(False) <= 1  # the mock's own first state, and none of ours
    relays.set("horn", True)
    relays.set("heater", True)
    assert (pins(27).state, pins(22).state) == (False, True)
    relays.close()
    relays.close()


def test_a_pin_that_cannot_be_had_is_an_alert(monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nonsense")
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    said = Relays([config()]).set("heater", True)
    assert (said.alert, said.text[:33]) == ("load-heater", "load heater cannot be switched: G")


def test_a_real_node_switches_by_command_line_and_by_message(tmp_path, monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    with Grid(tmp_path) as grid:
        a = grid.node("a", start=False)
        a.configure('[[load]]\nname = "heater"\npin = 27\nrated_w = 2000\nmin_on_s = 0\nmin_off_s = 0\n')
        a.start()
        wait_until(lambda: a.read("grid/load/heater") == b"ON", 15, a.log)
        done = a.cli("load", "heater", "off", "--for", "15m")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("heater is off, manual until 20")
        wait_until(lambda: a.read("grid/load/heater") == b"OFF", 5)
        shown = a.cli("load").stdout.splitlines()
        assert shown[0] == "balance: no plan, nobody in this zone has a [feeder]"
        assert shown[-1].split()[:4] == ["heater", "off", "manual", "manual"]  # why, and the mode
        a.say("grid/load/heater/set", "AUTO", retain=False)
        wait_until(lambda: a.read("grid/load/heater") == b"ON", 5)
        a.kill_agent()
        a.say("grid/load/heater/set", "OFF", retain=True)  # left by somebody, found at the start
        a.start_agent()
        wait_until(lambda: "refused" in a.alerts(), 15, a.alerts)
        assert a.status()["loads"]["heater"]["on"] is True
        assert a.read("grid/load/heater/set") is None
        for words, code in ((("load", "oven"), 2), (("load", "oven", "on"), 1), (("load", "heater", "on", "--for", "soon"), 2)):
            assert a.cli(*words).returncode == code
