"""The composition root: builds one node with all its shells from its configuration, and runs it."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent import authority, dial, loop, notify, runtime, wire
from agent import closed as membership
from agent import config as configuration
from agent.broker import Broker, Process
from agent.bus import Bus
from agent.closed import Closed
from agent.config import Config, ConfigError
from agent.control import Control
from agent.events import (
    Answer,
    Bar,
    Bridges,
    Certify,
    Complain,
    Dial,
    Dialled,
    Effect,
    Event,
    Install,
    Light,
    Post,
    Publish,
    Renew,
    Save,
    SetPoint,
    Started,
    Switch,
    Warned,
)
from agent.lamp import StatusLamp
from agent.ledger import Copies, Ledger
from agent.loop import End, Inbox
from agent.metering import build
from agent.node import Node
from agent.poll import Poll
from agent.relays import Relays
from agent.seal import SealError
from agent.settings import settings
from agent.store import Store
from agent.watch import Watch
from drivers import catalog
from drivers.registers import MapError

log = logging.getLogger("grid")
LEDGER_S = 2 * 86_400.0  # so far back records in the air can still change a slot


def load(path: Path) -> Config:
    """The checked configuration; ConfigError tells all that is wrong with it, meter models and map files included."""
    try:
        config = configuration.load(path)
        build(config.meters, config.battery, config.frequency.meter)
    except (ConfigError, MapError) as error:
        # all maps are opened only now: it names the line of a model that is not known, together with all else that is wrong
        configuration.load(path, models=catalog.names())
        raise ConfigError(str(error)) from error
    return config


def broker(config: Config, directory: Path, put: Callable[[Event], None], closed: Closed | None = None) -> Broker:
    view, mqtt = wire.View(config.node.id, config.mqtt.shared), config.mqtt
    bind = "127.0.0.1" if config.network.closed and closed is None else mqtt.bind  # no bundle yet: it talks to nobody
    ports = closed.broker(mqtt.tls_port, mqtt.read_port) if closed is not None else None
    return Broker(config.node.id, directory, mqtt.port, bind, view.sibling(""), put, ports)


def _say_mode(config: Config, closed: Closed | None) -> None:
    if closed is not None:
        log.info("closed network %r: siblings come in by TLS on port %d", closed.member.network, config.mqtt.tls_port)
    elif config.network.closed:
        log.warning("this node waits for its bundle, and talks to nobody until then: grid join --bundle FILE")
    else:
        log.warning(
            "OPEN network: whoever reaches %s:%d can join and write. In trusted networks only", config.mqtt.bind, config.mqtt.port
        )


def enter_zone(name: str | None) -> None:
    """Local times of this process are those of this IANA time zone; None: the system's."""
    if name is not None:
        os.environ["TZ"] = name
        time.tzset()


def run(config: Config, own_broker: bool = False) -> End:
    """Run one node until it is told to stop. Raises OSError when its state directory cannot be used, ConfigError when its
    certificate or key cannot.
    """
    inbox, bell = Inbox(maxsize=loop.ROOM), loop.Bell()
    enter_zone(config.node.time_zone)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(bell, "end", End.STOP))
    threading.excepthook = _die
    store = Store(config.state.dir)
    store.open()
    try:
        closed = membership.load(config)
    except (SealError, ValueError) as error:
        raise ConfigError(str(error)) from error
    _say_mode(config, closed)
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
        *([] if config.mqtt.shared else view.ours),
        *([f"{wire.COMMAND}#"] if closed is not None else []),
    ]
    topics += [f"{prefix}#" for prefix in view.lists]
    files = broker(config, place, inbox.put, closed)
    files.write_main()
    notify.tell_broker(files.config, os.environ.get("GRID_BROKER"))
    service = notify.from_environment()
    bus = Bus(config.node.id, config.mqtt.host, config.mqtt.port, topics, view.status, inbox.put, closed.login if closed else None)
    control = Control(place, inbox.put)
    poll = Poll(config.meters, inbox.put, config.battery, config.frequency.meter)
    watch = Watch(config, load, inbox.put, os.environ.get("GRID_PROBLEMS"))
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
            case Bar(ids):
                return Warned("access", files.bar(ids))
            case Certify(certs):
                return authority.renewed(closed.folder, certs, time.time()) if closed is not None else None
            case Install(cert):
                return authority.installed(closed.folder, cert) if closed is not None else None
            case Renew():
                files.renew()
            case Dial(address, request) if closed is None and config.network.closed:
                return Dialled(address, None, "this node waits for its bundle: grid join --bundle FILE", None, request)
            case Dial():
                dial.start(
                    effect, config.mqtt.tls_port if closed else config.mqtt.port, inbox.put, closed.folder if closed else None
                )
            case Switch(name, on):
                return relays.set(name, on)
            case SetPoint():
                return poll.set(effect)
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

    node = Node(settings(config, closed), os.urandom(4).hex(), closed.trust if closed else None)
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
