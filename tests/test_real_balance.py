"""Balance with real parts: an agent, its broker, meters and a battery over Modbus TCP; relays on mock pins."""

import json
import subprocess

from live import GRID, Grid
from patience import wait_until
from ports import free_ports

MORE = """
[[meter]]
name = "street"
model = "eastron-sdm630"
role = "grid"
host = "127.0.0.1"
tcp_port = {street}
[[meter]]
name = "cellar"
model = "sunspec"
role = "battery"
host = "127.0.0.1"
tcp_port = {cellar}
[feeder]
meter = "street"
import_limit_w = 1000
[battery]
meter = "cellar"
power_w = 3000
energy_wh = 10000
control = "sunspec-704"
[frequency]
meter = "street"
[[load]]
name = "heater"
pin = 27
rated_w = 2000
min_on_s = 0
"""


def test_a_deficit_moves_a_battery_and_a_relay_and_the_end_lets_go_of_both(tmp_path, monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    street, cellar = free_ports(2)
    simulate = (*GRID, "meter", "simulate")
    devices = [
        (*simulate, "eastron-sdm630", "--tcp", str(street), "--set", "w=6000", "--set", "hz=50.01"),
        (*simulate, "sunspec", "--battery", "704", "--tcp", str(cellar)),
    ]
    with Grid(tmp_path) as grid:
        running = [subprocess.Popen(one, stdout=subprocess.PIPE, text=True) for one in devices]
        try:
            for one in running:
                assert one.stdout is not None
                while "ready" not in one.stdout.readline():
                    assert one.poll() is None
            a = grid.node("a", -4000, start=False)
            a.configure(MORE.format(street=street, cellar=cellar))
            a.start()
            wait_until(lambda: a.status().get("balance", {}).get("applied_w") == 3000, 20, a.log)
            wait_until(lambda: a.read("grid/load/heater") == b"OFF", 20, a.log)
            said = a.status()
            assert (said["balance"]["plan"], said["balance"]["mode"], said["balance"]["hz"]) == (True, "tied", 50.01)
            assert said["loads"]["heater"]["why"] == "plan"
            reads = {"house": 4000, "street": 6000, "cellar": -3000}
            wait_until(lambda: {meter["name"]: meter["w"] for meter in a.status()["meters"]} == reads, 20, a.log)
            flex = json.loads(a.read("grid/node/a/state"))["flex"]
            assert (flex["kind"], flex["firm_w"], flex["slack_w"], flex["applied_w"]) == ("grid", 1000, 6000, 3000)
            assert a.cli("load").stdout.startswith("balance: by the plan, tied to the grid at a\n")
            assert "load heater off: plan" in a.log()
            assert a.stop_agent() == 0
            assert "load heater on: exit" in a.log()
            read = json.loads(a.cli("meter", "read", "cellar", "--json").stdout)
            assert (read["quality"], read["w"]) == ("good", 0)
        finally:
            for one in running:
                one.terminate()
                one.communicate(timeout=10)
