"""The composition root: builds one node with all its shells from its configuration, and runs it."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from agent import config as configuration
from agent import dial, loop, notify, runtime, wire
from agent.broker import Broker, Process
from agent.bus import Bus
from agent.config import Config, ConfigError, LoadConfig
from agent.control import Control
from agent.events import Answer, Bridges, Complain, Dial, Effect, Event, Light, Post, Publish, Renew, Save, Started, Switch, Warned
from agent.lamp import StatusLamp
from agent.ledger import Copies, Ledger
from agent.loop import End, Inbox
from agent.metering import build, period_s
from agent.node import Node
from agent.own import MeterSlot, Settings
from agent.poll import Poll
from agent.relays import Relays
from agent.store import Store
from agent.switches import Load
from agent.version import VERSION
from agent.watch import Watch
from drivers import catalog
from drivers.reading import Role
from drivers.registers import MapError

log = logging.getLogger("grid")
LEDGER_S = 2 * 86_400.0  # so far back records in the air can still change a slot


def load(path: Path) -> Config:
    """The checked configuration; ConfigError tells all that is wrong with it, meter models and map files included."""
    try:
        config = configuration.load(path)
        build(config.meters)
    except (ConfigError, MapError) as error:
        # all maps are opened only now: it names the line of a model that is not known, together with all else that is wrong
        configuration.load(path, models=catalog.names())
        raise ConfigError(str(error)) from error
    return config


def settings(config: Config) -> Settings:
    """What the core must know of a configuration."""
    tariff, node = config.tariff, config.node
    return Settings(
        id=node.id,
        zone=node.zone,
        rated_w=node.rated_w,
        deadband_w=node.deadband_w,
        tariff=wire.Tariff(
            version=0,
            import_u=tariff.import_u,
            export_u=tariff.export_u,
            floor_u=tariff.floor_u,
            cap_u=tariff.cap_u,
            currency=tariff.currency,
            slot_s=tariff.slot_s,
            rule=tariff.rule,
        ),
        meters=tuple(MeterSlot(meter.name, cast(Role, meter.role), period_s(meter)) for meter in config.meters),
        loads=tuple(_load(load) for load in config.loads),
        place=node.place,
        role=node.role,
        address=str(node.address) if node.address is not None else None,
        join=tuple(str(address) for address in config.network.join),
        shared=config.mqtt.shared,
        agent=VERSION,
        utc_offset_s=time.localtime().tm_gmtoff,
    )


def _load(load: LoadConfig) -> Load:
    return Load(load.name, load.each, load.rated_w, load.kind, load.safe_on, load.min_on_s, load.min_off_s)


def broker(config: Config, directory: Path, put: Callable[[Event], None]) -> Broker:
    view = wire.View(config.node.id, config.mqtt.shared)
    return Broker(config.node.id, directory, config.mqtt.port, config.mqtt.bind, view.sibling(""), put)


def run(config: Config, own_broker: bool = False) -> End:
    """Run one node until it is told to stop. Raises OSError when its state directory cannot be used."""
    inbox, bell = Inbox(maxsize=loop.ROOM), loop.Bell()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(bell, "end", End.STOP))
    threading.excepthook = _die
    store = Store(config.state.dir)
    store.open()
    place, lock = runtime.claim(config.state.dir)
    kept, troubles = store.load()
    ledger = Ledger(config.state.dir)
    unsettled = ledger.open()
    past, damaged = ledger.recent(LEDGER_S)
    copies = Copies(ledger, inbox.put)
    lamp = StatusLamp(config.node.led_pin)
    relays = Relays(config.loads)
    view = wire.View(config.node.id, config.mqtt.shared)
    topics = [
        f"{wire.NODE}#",
        f"{wire.NETWORK}#",
        wire.BROKER_LOG,
        *([] if config.mqtt.shared else [f"{wire.INBOX}#", view.sibling("+")]),
    ]
    topics += [f"{prefix}#" for prefix in view.lists]
    files = broker(config, place, inbox.put)
    files.write_main()
    notify.tell_broker(files.config, os.environ.get("GRID_BROKER"))
    service = notify.from_environment()
    bus = Bus(config.node.id, config.mqtt.host, config.mqtt.port, topics, view.status, inbox.put)
    control = Control(place, inbox.put)
    poll = Poll(config.meters, inbox.put)
    watch = Watch(config, load, inbox.put)
    mosquitto = Process(files.config, inbox.put) if own_broker and files.pid() is None else None

    def perform(effect: Effect) -> Event | None:
        match effect:
            case Publish(topic, payload, sure):
                bus.publish(topic, payload, sure)
            case Save(name, data):
                return Warned("disk", store.save(name, data))
            case Post(rows, unix_s):
                return Warned("ledger", ledger.write(rows, unix_s))
            case Bridges(links):
                return Warned("bridges", files.link(links))
            case Renew():
                files.renew()
            case Dial():
                dial.start(effect, config.mqtt.port, inbox.put)
            case Switch(name, on):
                return relays.set(name, on)
            case Light(shows):
                lamp.show(shows)
            case Answer(request, body):
                control.answer(request, body)
            case Complain(text):
                log.warning("%s", text)
        return None

    def beat(now: float) -> None:
        text = "connected" if node.connected else f"waits for its broker at {config.mqtt.host}:{config.mqtt.port}"
        service.tick(node.connected and node.own.said is not None, f"{config.node.id}: {text}, {len(node.show.alerts)} alerts", now)

    node = Node(settings(config), os.urandom(4).hex())
    now = time.monotonic()
    loop.step(node, Started(kept, time.time(), past), now, perform)
    if unsettled or damaged:
        loop.step(node, Warned("ledger", "; ".join(filter(None, (unsettled, damaged)))), now, perform)
    if troubles:
        loop.step(node, Warned("store", "; ".join(troubles)), now, perform)
    try:
        files.open()
        if mosquitto is not None:
            mosquitto.open()
        bus.open()
        poll.open(node.pulses)
        control.open()
        watch.open()
        copies.open()
        if trouble := lamp.open():
            loop.step(node, Warned("lamp", trouble), time.monotonic(), perform)
        log.info("node %s, broker %s:%d", config.node.id, config.mqtt.host, config.mqtt.port)
        end = loop.run(node, inbox, bell, perform, beat)
        if end is End.STOP:
            service.stopping()
        return end
    finally:
        relays.close()
        lamp.close()
        copies.close()
        watch.close()
        control.close()
        loop.drain(inbox)
        poll.close()
        if poll.pulses:
            store.save("pulses", msgspec.json.encode(poll.pulses))
        loop.drain(inbox)  # a flood fills it again, and paho's thread would wait for room for ever
        bus.close()
        files.close()
        if mosquitto is not None:
            mosquitto.close()
        ledger.close()
        lock.truncate(0)  # a pid that stays would one day be another's
        lock.close()


def _die(hook: threading.ExceptHookArgs) -> None:
    """An exception that nobody foresaw ends the process visibly, on whatever thread: the service manager starts it again."""
    threading.__excepthook__(hook)
    os._exit(70)  # EX_SOFTWARE of sysexits.h


def start_logging() -> None:
    """To stderr; with the service manager's priorities when it listens (man 3 sd-daemon)."""
    priorities = "JOURNAL_STREAM" in os.environ
    handler = logging.StreamHandler(sys.stderr)

    def text(record: logging.LogRecord) -> str:
        level = {"WARNING": "<4>", "ERROR": "<3>", "CRITICAL": "<2>"}.get(record.levelname, "<6>")
        stamp = level if priorities else time.strftime("%H:%M:%S ", time.localtime(record.created))
        return stamp + record.getMessage()

    formatter = logging.Formatter()
    formatter.format = text  # type: ignore[method-assign]
    handler.setFormatter(formatter)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
