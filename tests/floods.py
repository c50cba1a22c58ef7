"""Attacks by mass and by form: floods, invented ids and inboxes, packets too large or broken, clients that never finish."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from foes import Foe, connect, half_open, malformed, publish, throw
from forgeries import WATTS, above, kinds, signed
from scene import FOE, Scene, Watch

from agent import wire

LONG = "GRID_ATTACKS" in os.environ  # all at full length: 10^5 ids, ten seconds of flood
FLOOD_S = 10.0 if LONG else 2.0
RATE = 10_000
IDS = 100_000 if LONG else 15_000
LORIS = 350  # of each kind; this process's own select() takes 1,024 in all


def oversized(scene: Scene, watch: Watch) -> None:
    """17 KiB, 900 KiB and 2 MiB, from every side."""
    broker = scene.link()
    for size in (17 << 10, 900 << 10, 2 << 20):
        blob = b'{"version":1,"x":"' + b"x" * size + b'"}'
        for topic in (f"$grid/in/{FOE}/{FOE}/info", "grid/node/b/state", "grid/net"):
            broker.write(*watch.forge(topic, blob))
        with suppress(OSError), scene.sibling() as foe:
            foe.write(f"$grid/in/{FOE}/{FOE}/forecast", blob)
        with suppress(OSError), Foe(scene.a.port, "local") as foe:
            foe.write("grid/node/b/info" if scene.closed else f"$grid/in/{FOE}/{FOE}/info", blob)
    time.sleep(1.0)


def broken_packets(scene: Scene, watch: Watch) -> str:
    """Packets that no MQTT is: to the local port, to the siblings' with and without TLS, and down the link."""
    broker = scene.link()
    sent = throw(scene.a.port) + throw(scene.a.door)
    if scene.closed:
        sent += throw(scene.a.door, scene.context(), lambda number: connect(FOE))
    for data in malformed():
        broker.push(data)
        sent += 1
        time.sleep(0.05)
    time.sleep(1.0)
    return f"{sent} packets"


def loris(scene: Scene, watch: Watch) -> str:
    """Many connections that begin and never go on, to both ports; meanwhile somebody reads and the link works."""
    held = half_open(scene.a.door, LORIS) + half_open(scene.a.door, LORIS, b"\x16\x03\x01\x02")
    held += half_open(scene.a.port, 100, b"\x10")
    try:
        began_s = time.monotonic()
        price = scene.a.read("grid/price")
        reads_s = time.monotonic() - began_s
        assert price
        with scene.sibling():
            pass
        time.sleep(1.0)
    finally:
        for sock in held:
            sock.close()
    return f"{len(held)} held; a reader waits {1000 * reads_s:.0f} ms"


def invented(scene: Scene, watch: Watch) -> str:
    """As many ids as there is room for, and more."""
    payload = signed(scene, "", {**WATTS, "version": 1}, "letters")
    made = [publish(f"$grid/in/{FOE}/id{number}/state", payload) for number in range(IDS)]
    with scene.sibling() as foe:
        began_s = time.monotonic()
        sent = foe.flood(made, RATE, IDS / RATE)
        while scene.a.status()["refused"] < 1 and time.monotonic() - began_s < 10:
            time.sleep(0.1)
    return f"{sent} ids"


def inboxes(scene: Scene, watch: Watch) -> str:
    """Records as long as can be, of makers that nobody knows, in the inboxes of siblings that there are none."""
    broker = scene.link()
    count, blob = (20_000 if LONG else 4000), "x" * 12_000
    payload = signed(scene, "", {**WATTS, "version": 1, "blob": blob}, "letters")
    for number in range(count):
        broker.write(f"$grid/in/s{number}/z{number}/state", payload, retain=False)
    time.sleep(1.0)
    return f"{count} records, {count * len(payload) >> 20} MB"


def flood(scene: Scene, watch: Watch) -> str:
    """Bad signatures in the names of others and its own, as fast as they are read."""
    version = above(scene)
    made = [
        publish(wire.inbox_topic(FOE, topic), signed(scene, topic, {**keys, "version": version + number}, "letters"))
        for number in range(200)
        for topic, keys in kinds(scene, version).items()
        if topic.startswith(("grid/node/b", "grid/network"))
    ]
    with scene.sibling() as foe:
        return _timed(scene, lambda: foe.flood(made, RATE, FLOOD_S))


def flood_by_broker(scene: Scene, watch: Watch) -> str:
    """The same down the link, laid to the honest b, and a's own view with it."""
    broker = scene.link()
    (link,) = broker.links.values()
    topic = "grid/node/b/state"
    made = [
        publish(*watch.forge(place, signed(scene, topic, {**WATTS, "version": above(scene) + number}, "letters")))
        for number in range(100)
        for place in ("$grid/in/b/b/state", "$grid/in/b/z/state", topic)
    ] + [publish(*watch.forge("grid/price", b"9.%02d" % number)) for number in range(100)]
    foe = Foe.__new__(Foe)
    foe.wire = link
    told = _timed(scene, lambda: foe.flood(made, RATE, FLOOD_S))
    while LONG and "b" in scene.a.status()["cut"]:  # for a while the wrong one may be cut, too
        time.sleep(0.2)
    return told


def _timed(scene: Scene, work: Callable[[], int]) -> str:
    """How old the honest b's state and the own meter's reading grew at a meanwhile, and how long the agent took to answer."""
    sent: list[int] = []
    thread = threading.Thread(target=lambda: sent.append(work()))
    thread.start()
    ages, meters, answers = [0.0], [0.0], [0.0]
    while thread.is_alive():
        began_s = time.monotonic()
        status = scene.a.status()
        if status:
            answers.append(time.monotonic() - began_s)
            ages.append(status["nodes"]["b"]["age_s"] or 0.0)
            meters.append(status["meters"][0]["age_s"] or 0.0)
        time.sleep(0.05)
    thread.join()
    return f"{sent[0]} sent; b's state {max(ages):.0f} s old at most, own meter {max(meters):.1f} s, answer in {max(answers):.1f} s"
