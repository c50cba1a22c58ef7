"""The local broker, through paho: callbacks put events and do nothing else."""

import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.events import Connected, Disconnected, Event, Heard
from agent.wire import COMMAND

KEEPALIVE_S = 15
INFLIGHT = 200  # paho's 20 makes a resync of thousands of records crawl
RETRY_S = (0.1, 2.0)  # a broker that restarts for a new bridge is back in 14 to 73 ms; paho's own first delay is 1 s
KEEP_BYTES = 16 * 1024 + 1  # of a payload: enough for the node to see that it is too long


class Login(NamedTuple):
    """What a broker lets an agent in with. The client id is nobody's to guess: who comes with the same one cuts the other off."""

    user: str
    password: str
    client_id: str

    def __repr__(self) -> str:
        return f"<login of {self.user}>"  # no log and no crash report shows the rest


def _client(name: str, login: Login | None = None) -> Client:
    name = name if login is None else login.client_id
    client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
    if login is not None:
        client.username_pw_set(login.user, login.password)
    client.on_socket_open = _no_delay
    return client


def _no_delay(client: Client, data: Any, sock: Any) -> None:
    """Without it, Nagle's algorithm and delayed acknowledgements cost 40 ms a burst."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Bus:
    """One connection to one broker. Whatever comes in goes to `put`; whatever goes out is retained.

    What the broker is too slow for waits here, by reference: paho would hold a condition variable and 1.7 KB for each. Both the
    agent's thread and paho's hand it on. Neither ever waits for the other there, because paho calls back with its locks held.
    """

    def __init__(
        self,
        node: str,
        host: str,
        port: int,
        topics: list[str],
        status: str,
        put: Callable[[Event], None],
        login: Login | None = None,
    ) -> None:
        self._host, self._port, self._topics, self._put = host, port, topics, put
        self._client = client = _client(f"agent-{node}", login)
        client.max_inflight_messages_set(INFLIGHT)
        client.max_queued_messages_set(0)
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._giving = threading.Lock()
        self._shown = 0  # messages of QoS 0 that paho was given; written by the agent's thread alone
        self._given = 0  # of QoS 1; by who has the lock
        self._out = 0  # those of both that are written or acknowledged; by paho's thread alone
        client.on_publish = self._on_publish
        client.reconnect_delay_set(*RETRY_S)  # type: ignore[arg-type]  # annotated int, only compared and slept
        client.will_set(status, b"offline", qos=1, retain=True)
        client.on_connect, client.on_disconnect, client.on_message = self._on_connect, self._on_disconnect, self._on_message
        client.on_connect_fail = lambda client, data: put(Disconnected())  # paho tells a failed try only here

    def open(self) -> None:
        """Connect, and connect again, for ever."""
        self._client.connect_async(self._host, self._port, keepalive=KEEPALIVE_S, clean_start=True)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, sure: bool) -> None:
        """Retained; dropped without a connection, for everything is told again when one comes."""
        if not self._client.is_connected():
            return
        if sure:
            self._waiting.append((topic, payload))
            self._give()
        else:
            self._shown += 1
            self._client.publish(topic, payload, qos=0, retain=True)

    def _give(self) -> None:
        """Hand on what waits, as far as there is room. One thread at a time, so that the order stays.

        Who finds another at it leaves its message or its room to that one, which looks again after it has let go of the lock.
        """
        while self._waiting and self._has_room() and self._giving.acquire(blocking=False):
            try:
                waiting = self._waiting
                if waiting and self._has_room():
                    topic, payload = waiting.popleft()
                    self._given += 1
                    self._client.publish(topic, payload, qos=1, retain=True)
            finally:
                self._giving.release()

    def _has_room(self) -> bool:
        return self._shown + self._given - self._out < INFLIGHT

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if not reason.is_failure:
            self._waiting = deque()  # all is told again; in a new one, for somebody may just take from the old one
            client.drop_out_messages()  # paho would send them once more, after what is newer
            self._out = self._shown + self._given
            # of a command it counts at once whether the broker shall keep it
            options = {
                topic: SubscribeOptions(1, noLocal=True, retainAsPublished=topic.startswith(COMMAND)) for topic in self._topics
            }
            client.subscribe(list(options.items()))
            self._put(Connected())

    def _on_disconnect(
        self, client: Client, data: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._put(Disconnected())

    def _on_publish(self, client: Client, data: Any, mid: int, reason: ReasonCode, properties: Properties) -> None:
        self._out += 1
        self._give()

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        self._put(Heard(message.topic, bytes(message.payload[:KEEP_BYTES]), bool(message.retain)))


def fetch(host: str, port: int, topic: str, wait_s: float) -> tuple[bytes | None, str]:
    """The retained payload of one topic of a broker (None when there is none in time), and our own address on the way there.

    Raises OSError when no broker answers at that address.
    """
    got: list[bytes] = []
    local: list[str] = []
    done = threading.Event()
    client = _client("")

    def on_connect(client: Client, data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            return
        sock: Any = client.socket()
        if sock is not None:
            local.append(sock.getsockname()[0])
        client.subscribe(topic, qos=1)

    def on_message(client: Client, data: Any, message: MQTTMessage) -> None:
        got.append(bytes(message.payload))
        done.set()

    client.on_connect, client.on_message = on_connect, on_message
    client.connect_timeout = wait_s
    client.connect(host, port, keepalive=KEEPALIVE_S)
    client.loop_start()
    done.wait(wait_s)
    client.disconnect()
    client.loop_stop()
    if not local:
        raise ConnectionError("what listens there speaks no MQTT, or does not let us in")
    return (got[0] if got else None), local[0]
