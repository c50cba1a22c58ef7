"""A SunSpec device on real TCP, and one that moves, changes, refuses and falls silent: no watt of another register."""

import asyncio
import logging
import threading
from contextlib import contextmanager
from random import Random

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.modbus import Bus, Line, Refusal
from drivers.reading import MeterError
from drivers.registers import Block
from drivers.sunspec_image import Part, common, image
from drivers.sunspec_meter import SunSpecMeter
from drivers.sunspec_models import LAYOUTS, MODULES_ID

ROUNDS = 600  # of the loop of faults; a few thousand by hand now and then
METER = {"w": -1575, "w_l1": -500, "w_l2": -500, "w_l3": -575, "v_l1": 230.1, "v_l2": 229.9, "v_l3": 231.0, "hz": 49.98}
METER |= {"a_l1": 2.17, "pf": -0.98, "va": 1600, "var": 25, "import_wh": 1_234_567, "export_wh": 7654}


class Pretend:
    """A bus whose one unit holds `words`, takes `most` registers at once and fails as `fails` says before an answer."""

    def __init__(self, words):
        self.words, self.most, self.fails, self.asked, self.line = words, 125, lambda n: None, [], "here"

    def expect(self, unit, count, timeout_s):
        assert (unit, count, timeout_s > 0) == (1, 125, True)

    def settle(self, unit, block, probes, now):
        """Of a line without late answers."""

    def read_block(self, unit, block: Block, now):
        self.asked.append((block.address, block.count))
        failure = self.fails(len(self.asked))
        if failure is not None:
            raise failure
        wanted = range(block.address, block.address + block.count)
        if block.count > self.most or any(at not in self.words for at in wanted):
            raise Refusal(f"unit {unit}, {block}: refused", 3 if block.count > self.most else 2)
        return [self.words[at] for at in wanted]


def silent(n):
    return MeterError("no answer")


def test_the_walk_is_remembered_until_something_breaks():
    bus = Pretend(image([common("Acme"), Part(203, {"w": 100})]))
    meter = SunSpecMeter(bus, 1)
    assert meter.read(0.0).values == {"w": 100}
    assert bus.asked == [(40000, 2), (40002, 2), (40002, 18), (40070, 2), (40177, 2), (40070, 55)]
    bus.asked.clear()
    assert meter.read_all(1.0).values == {"w": 100}
    assert bus.asked == [(40070, 55)]

    bus.fails = lambda n: Refusal("busy", 6)
    with pytest.raises(Refusal, match="busy"):
        meter.read(2.0)
    bus.fails = lambda n: None
    bus.asked.clear()
    assert meter.read(3.0).values == {"w": 100}
    assert len(bus.asked) == 1

    bus.fails = silent
    with pytest.raises(MeterError, match="no answer"):
        meter.read(4.0)
    bus.fails = lambda n: None
    bus.asked.clear()
    assert meter.read(5.0).values == {"w": 100}
    assert len(bus.asked) == 6


def test_a_firmware_update_that_reorders_costs_one_reading():
    bus = Pretend(image([common("Acme"), Part(201, {"w": 7}), Part(103, {"w": -9})]))
    meter = SunSpecMeter(bus, 1, which="inverter")
    assert meter.read(0.0).values == {"w": -9}
    bus.words = image([common("Acme"), Part(103, {"w": -8}), Part(201, {"w": 7})])
    with pytest.raises(MeterError, match="unit 1 on here: model 103 of length 50 is not at 40177 any more"):
        meter.read(1.0)
    assert meter.read(2.0).values == {"w": -8}


def test_a_device_that_wants_small_requests_is_asked_for_them_from_then_on():
    bus = Pretend(image([common("Acme"), Part(701, {"w": -585, "export_wh": 2**33})]))
    bus.most = 50
    meter = SunSpecMeter(bus, 1)
    for _ in range(2):
        bus.asked.clear()
        assert meter.read(0.0).values == {"w": -585, "export_wh": 2**33}
    assert len(bus.asked) == 9
    assert max(count for _, count in bus.asked) <= 50


def test_flip_is_the_installers_word_and_raw_the_words():
    words = image([common("Acme"), Part(203, {"w": 100, "import_wh": 5})])
    assert SunSpecMeter(Pretend(words), 1, flip=True).read(0.0).values == {"w": -100, "export_wh": 5}
    assert SunSpecMeter(Pretend(words), 1).raw(0.0) == {"model 203 at 40070": [words[at] for at in range(40070, 40125)]}


@contextmanager
def served(words, unit=1):
    """The TCP port of pymodbus' own server with these holding registers; the rest is refused."""
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    ready, loop, found = threading.Event(), asyncio.new_event_loop(), {}

    async def start():
        bits = [SimData(0, values=False, count=16, datatype=DataType.BITS)]
        held = [SimData(min(words), values=[words[at] for at in sorted(words)], datatype=DataType.REGISTERS)]
        none = [SimData(0, datatype=DataType.INVALID)]
        found["server"] = ModbusTcpServer([SimDevice(id=unit, simdata=(bits, list(bits), held, none))], address=("127.0.0.1", 0))
        await found["server"].serve_forever(background=True)
        ready.set()

    def work():
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(found["server"].shutdown())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield found["server"].transport.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)


@contextmanager
def bus_to(port):
    bus = Bus(Line("127.0.0.1", port, None), 2.0)
    bus.open()
    try:
        yield bus
    finally:
        bus.close()


@pytest.mark.parametrize("base", [40000, 50000, 0])
def test_a_whole_device_is_read_over_tcp(base):
    parts = [
        common("Fronius"),
        Part(103, {"w": -585, "hz": 50.01, "export_wh": 12_345_678, "v_l1": 231.5, "temp_c": 41.5}),
        Part(120, length=26),
        Part(124, {"soc_pct": 63.4}),
        Part(MODULES_ID, {"w": -1500}, words={8: 4}),
        Part(203, METER),
    ]
    with served(image(parts, base), unit=200) as port, bus_to(port) as bus:
        assert SunSpecMeter(bus, 200, which="meter").read(0.0).values == METER
        assert SunSpecMeter(bus, 200, which="inverter").read(0.0).values == parts[1].values
        assert SunSpecMeter(bus, 200, which="storage").read(0.0).values == {"w": -1500, "soc_pct": 63.4}
        with pytest.raises(MeterError, match=f"unit 200 on 127.0.0.1:{port}: it is inverter and storage and meter at once"):
            SunSpecMeter(bus, 200).read(0.0)


@pytest.mark.parametrize("id_", [213, 113, 701])
def test_long_and_float_models_over_tcp(id_):
    values = {"w": -4321, "hz": 50.125, "export_wh": 1_000_000, "var": -12}
    with served(image([common("Acme"), Part(id_, values, {"hz": -3}), Part(713, {"soc_pct": 12.5})])) as port, bus_to(port) as bus:
        which = "meter" if id_ == 213 else "inverter"
        reading = SunSpecMeter(bus, 1, which=which).read(0.0)
        assert (reading.quality, reading.values) == ("good", values)
        assert SunSpecMeter(bus, 1, which="storage").read(0.0).values == {"soc_pct": 12.5}


def test_a_device_without_sunspec_says_so_over_tcp():
    with served({100: 1}) as port, bus_to(port) as bus, pytest.raises(MeterError, match="no SunSpec marker at 40000, 50000, 0; is"):
        SunSpecMeter(bus, 1).read(0.0)


KINDS = {"meter": (201, 202, 203, 204, 211, 212, 213, 214), "inverter": (101, 102, 103, 111, 112, 113, 701), "storage": (124, 713)}
FILLERS = (120, 64001)


class Fickle:
    """A device whose values and scale factors change at every look, and whose models move, vanish, change and come back."""

    def __init__(self, chance: Random) -> None:
        self.chance, self.base = chance, chance.choice([40000, 50000, 0])
        self.maker = chance.choice(["Acme", "SolarEdge", "KOSTAL"])
        self.ids = {which: chance.choice(ids) for which, ids in KINDS.items()}
        self.order, self.away = [*KINDS, *FILLERS], set()
        self.longer = dict.fromkeys(self.order, 0)
        self.words, self.shown = {}, {}
        self.look()

    def look(self):
        """New values, each a random number that no other register holds for long; `shown`: which -> w or soc_pct."""
        chance, parts, self.shown = self.chance, [common(self.maker)], {}
        for name in (name for name in self.order if name not in self.away):
            if name in FILLERS:
                length = 30 + self.longer[name]
                parts.append(Part(name, length=length, words={at: chance.randrange(65536) for at in range(2, length)}))
                continue
            id_ = self.ids[name]
            shown = {"soc_pct": chance.randrange(1001) / 10} if name == "storage" else {"w": chance.randrange(-3200, 3200) * 10}
            self.shown[name] = shown
            more = {} if name == "storage" else {"hz": 50 + chance.randrange(100) / 100, "v_l1": 230, "va": chance.randrange(9000)}
            scales = {"w": chance.choice([0, 1]), "soc_pct": chance.choice([-2, -1])}
            parts.append(Part(id_, {**shown, **more}, scales, LAYOUTS[id_].length + self.longer[name]))
        self.words = image(parts, self.base)

    def headers(self):
        at, found = self.base + 2, []
        while self.words[at] != 0xFFFF:
            found += [at, at + 1]
            at += 2 + self.words[at + 1]
        return [self.base, self.base + 1, *found, at]

    def change(self, fault):
        chance = self.chance
        if fault == "reorder":
            chance.shuffle(self.order)
        elif fault == "length":
            self.longer[chance.choice(self.order)] = chance.randrange(60)
        elif fault == "base":
            self.base = chance.choice([40000, 50000, 0])
        elif fault == "sibling":  # 103 becomes 113, as another firmware would have it
            which = chance.choice(list(KINDS))
            self.ids[which] = chance.choice(KINDS[which])
        elif fault == "vanish":
            self.away ^= {chance.choice(self.order)}
        self.look()
        words = self.words
        if fault == "header":  # a wrong marker, ID or L
            at = chance.choice(self.headers())
            words = {**words, at: chance.choice([chance.randrange(65536), words[at] ^ 1 << chance.randrange(16)])}
        elif fault == "cut":
            last = chance.choice(sorted(words))
            words = {at: word for at, word in words.items() if at < last}
        return words


FAULTS = ("reorder", "length", "base", "sibling", "vanish", "header", "cut", "silent", "busy", "none")


def faulty_rounds(rounds, seed):
    """(faults injected, readings good and right, reads without one, readings good but wrong)."""
    chance, faults, right, refused, wrong = Random(seed), 0, 0, 0, []
    while faults < rounds:
        device, which = Fickle(chance), chance.choice(list(KINDS))
        bus = Pretend(device.words)
        bus.most = chance.choice([125, 125, 50, 20])
        meter = SunSpecMeter(bus, 1, which=which)
        for _ in range(12):
            fault, before = chance.choice(FAULTS), device.shown.get(which)
            faults += fault != "none"
            words = device.change(fault)
            switch = len(bus.asked) + chance.choice([0, chance.randrange(16)])  # in the middle of a read, too

            def fails(n, fault=fault, switch=switch, words=words, bus=bus):
                if n <= switch:
                    return None
                bus.words = words
                return {"silent": MeterError("no answer"), "busy": Refusal("busy", 6)}.get(fault)

            bus.fails = fails
            try:
                reading = meter.read(0.0)
            except MeterError:
                refused += 1
                continue
            finally:
                bus.words = words
            told = {name: value for name, value in reading.values.items() if name in ("w", "soc_pct")}
            if reading.quality != "good":
                refused += 1
            elif told in (before, device.shown.get(which)):
                right += 1
            else:
                wrong.append((fault, which, device.ids[which], device.maker, bus.most, dict(reading.values), before, device.shown))
    return faults, right, refused, wrong


def test_no_fault_makes_a_watt_of_another_register():
    faults, right, refused, wrong = faulty_rounds(ROUNDS, 7)
    assert wrong == []
    assert faults >= ROUNDS
    assert right > ROUNDS / 4
    assert refused > ROUNDS / 10


def test_the_frequency_alone_asks_the_model_that_was_found():
    bus = Pretend(image([common("Acme"), Part(203, {"w": 100, "hz": 49.5})]))
    meter = SunSpecMeter(bus, 1)
    assert meter.hertz(0.0) == 49.5
    assert len(bus.asked) == 7  # the walk, the model, and its frequency
    bus.asked.clear()
    assert meter.hertz(1.0) == 49.5
    assert bus.asked == [(40070 + 16, 1)]
    bus.fails = lambda n: Refusal("busy", 6)
    with pytest.raises(Refusal, match="busy"):
        meter.hertz(2.0)
    bus.fails = silent
    with pytest.raises(MeterError, match="no answer"):
        meter.hertz(3.0)
    bus.fails = lambda n: None
    bus.asked.clear()
    assert meter.hertz(4.0) == 49.5
    assert len(bus.asked) == 7  # another device may answer
    bus.words = image([common("Acme"), Part(713, {"soc_pct": 3})])
    meter = SunSpecMeter(bus, 1, which="storage")
    assert meter.hertz(5.0) is None
