"""What the bus holds back while paho waits for acknowledgements, before a paho that acknowledges when the test says so."""

import sys
import threading

import pytest

from agent.bus import INFLIGHT, Bus


class Paho:
    """Its face as the bus sees it: what it holds of QoS 1 is acknowledged when the test says so."""

    def __init__(self):
        self.sent, self.unacked, self.on_publish = [], 0, None

    def __getattr__(self, name):
        return lambda *args, **kwargs: None

    def is_connected(self):
        return True

    def publish(self, topic, payload, qos, retain):
        assert retain
        self.sent.append(payload)
        self.unacked += qos

    def written(self):
        """A message of QoS 0 is out."""
        self.on_publish(self, None, 0, None, None)

    def acknowledge(self):
        self.on_publish(self, None, 0, None, None)
        self.unacked -= 1


@pytest.fixture
def paho(monkeypatch):
    paho = Paho()
    monkeypatch.setattr("agent.bus._client", lambda *args: paho)
    return paho


def bus_on(paho):
    return Bus("x", "127.0.0.1", 1883, [], "grid/agent/status", lambda event: None)


def test_what_paho_holds_is_bounded_whatever_is_shown_meanwhile(paho):
    bus = bus_on(paho)
    for number in range(3 * INFLIGHT):
        bus.publish("grid/node/x/state", b"%d" % number, sure=True)
    assert paho.unacked == INFLIGHT
    for _ in range(2 * INFLIGHT):
        bus.publish("grid/net", b"view", sure=False)  # overtakes what waits
    assert paho.sent.count(b"view") == 2 * INFLIGHT
    for _ in range(2 * INFLIGHT):
        paho.written()
        assert paho.unacked <= INFLIGHT
    while paho.unacked:
        paho.acknowledge()
        assert paho.unacked <= INFLIGHT
    assert [sent for sent in paho.sent if sent != b"view"] == [b"%d" % number for number in range(3 * INFLIGHT)]


def test_what_was_only_shown_leaves_room_again(paho):
    bus = bus_on(paho)
    for _ in range(INFLIGHT):
        bus.publish("grid/net", b"view", sure=False)
    bus.publish("grid/node/x/state", b"record", sure=True)
    assert paho.unacked == 0  # the broker reads nothing: what is sure waits here
    paho.written()
    assert paho.unacked == 1


def test_two_threads_hand_on_in_order_and_leave_nothing_behind(paho):
    bus, lock, done = bus_on(paho), threading.RLock(), threading.Event()
    send = paho.publish

    def locked(*args, **kwargs):  # as paho: under one lock, with which it also calls back
        with lock:
            send(*args, **kwargs)

    def acknowledging():
        while not done.is_set() or paho.unacked:  # in this order: before it is done, none may be left for a moment
            with lock:
                if paho.unacked:
                    paho.acknowledge()

    paho.publish = locked
    thread = threading.Thread(target=acknowledging)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for number in range(20_000):
            bus.publish("grid/node/x/state", b"%d" % number, sure=True)
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval_s)
    assert paho.sent == [b"%d" % number for number in range(20_000)]


def test_who_finds_the_other_thread_handing_on_leaves_its_message_to_that_one(paho):
    bus, send, waited = bus_on(paho), paho.publish, []

    def publish(topic, payload, qos, retain):
        if payload == b"0":  # the other comes just now; paho's thread would hold locks that this call wants
            other = threading.Thread(target=bus.publish, args=(topic, b"1", True), daemon=True)
            other.start()
            other.join(10)
            waited.append(other.is_alive())
        send(topic, payload, qos=qos, retain=retain)

    paho.publish = publish
    bus.publish("grid/node/x/state", b"0", sure=True)
    assert waited == [False]
    assert paho.sent == [b"0", b"1"]
