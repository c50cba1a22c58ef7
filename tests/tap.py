"""A stranger at a broker, for tests."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions


class Message(NamedTuple):
    topic: str
    payload: bytes
    retained: bool


class Refused(AssertionError):
    """A broker let somebody in at the door, and no further."""


class Tap:
    """A stranger at a broker: hears what it asks for, says what it likes."""

    def __init__(
        self, port: int, *filters: str, trust: Path | None = None, user: str = "", password: str | None = None, client_id: str = ""
    ) -> None:
        """`trust`: come by TLS with the certificate that lies there."""
        self.heard: list[Message] = []
        self._whole, self._joined, self._subscribed = Event(), Event(), Event()
        self._in = False
        self._client = client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
        if trust is not None:
            client.tls_set(str(trust / "ca.pem"), str(trust / "node.pem"), str(trust / "node.key"))
            client.tls_insecure_set(True)
        if user:
            client.username_pw_set(user, password)
        client.max_inflight_messages_set(200)
        client.max_queued_messages_set(0)
        client.on_message = self._on_message
        client.on_connect = self._on_connect
        client.on_subscribe = lambda *_: self._subscribed.set()
        try:
            client.connect("127.0.0.1", port)
        except OSError:
            self._let_go()
            raise
        client.loop_start()
        if not self._joined.wait(5) or not self._in:
            self.close()
            raise Refused(f"the broker on port {port} does not let us in")
        if filters:
            client.subscribe([(one, SubscribeOptions(qos=0)) for one in filters])
            if not self._subscribed.wait(10):  # what others say from now on is heard
                self.close()
                raise AssertionError("the broker does not answer")
        # always retained, and asked for last: when it comes, all retained messages before it have come
        client.subscribe("$SYS/broker/version", options=SubscribeOptions(qos=0))

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._in = not reason.is_failure
        self._joined.set()

    def _on_message(self, client: Client, data: Any, message: Any) -> None:
        if message.topic == "$SYS/broker/version":
            self._whole.set()
        else:
            self.heard.append(Message(message.topic, bytes(message.payload), bool(message.retain)))

    def retained(self) -> list[Message]:
        """What the broker held of the filters when we came."""
        assert self._whole.wait(10), "the broker does not answer"
        return [message for message in self.heard if message.retained]

    def say(self, topic: str, payload: bytes | str, retain: bool = True, qos: int = 1) -> None:
        done = self._client.publish(topic, payload, qos=qos, retain=retain)
        if qos:
            done.wait_for_publish(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._let_go()

    def _let_go(self) -> None:
        """Without this circle paho closes its own pair of sockets at once, and not when the collector comes and warns of them."""
        self._client.on_message = self._client.on_connect = self._client.on_subscribe = None

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def held(come: Callable[..., Tap], *filters: str) -> dict[str, bytes]:
    """All retained messages, by topic, that these filters match at the broker that one comes to; {} while it does not answer."""
    try:
        with come(*filters) as tap:
            return {message.topic: message.payload for message in tap.retained()}
    except OSError:
        return {}
