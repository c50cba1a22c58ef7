"""What Mosquitto's files say: how it listens, who may do what, one bridge a sibling; texts alone, nothing is opened here."""

import base64
import hashlib
from collections.abc import Iterable

from agent.events import Bridge

MAX_BYTES = 1024 * 1024  # a summary of 10,000 members fits; what is larger is cut off at the door, and the broker's log says so
AGENT, PERSON = "_agent", "_person"  # the broker's password users: no id of a node has this form
ROUNDS = 101
MAX_LINKS = 1000  # at the siblings' port, begun ones too: each costs Mosquitto about 32 KB with TLS, and goes after a minute

MAIN = """\
# Written by the Grid agent at each start; edit grid.toml instead.
{user}{listeners}{closed}allow_anonymous true
persistence false
pid_file {directory}/mosquitto.pid
log_dest stderr
log_dest topic
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S
max_queued_messages 0
max_inflight_messages 200
max_packet_size {max_bytes}
set_tcp_nodelay true
include_dir {directory}/bridges
"""

# Siblings come in by TLS and are called what their certificate says: %u is that id, and no client id can be another's. Whoever
# comes without a certificate reads; the password users are called as no node can be.
CLOSED = """\
listener {tls_port} {bind}
cafile {trust}/ca.pem
certfile {trust}/node.pem
keyfile {trust}/node.key
require_certificate true
use_identity_as_username true
use_username_as_clientid true
tls_version tlsv1.2
max_connections {most}
{reading}password_file {directory}/passwords
acl_file {directory}/acl
"""

# man 5 mosquitto.conf, acl_file: lines before the first user are for clients without a name
ACL = """\
# Written by the Grid agent.
topic read grid/#
topic read $SYS/#
topic deny $SYS/broker/log/#
{commands}
user {agent}
topic readwrite #
topic readwrite $grid/#
topic read $SYS/#

user {person}
topic read grid/#
topic read $SYS/#
topic deny $SYS/broker/log/#
topic write $grid/set/+/+

{denied}pattern write $grid/in/%u/#
pattern read grid/node/#
pattern read grid/network/#
"""

TLS = """\
bridge_cafile {trust}/ca.pem
bridge_certfile {trust}/node.pem
bridge_keyfile {trust}/node.key
bridge_insecure true
"""

BRIDGE = """\
# Written by the Grid agent: 'grid join' and 'grid leave' change it.
connection {me}-{sibling}
address {host}:{port}
local_clientid bridge-to-{sibling}
remote_clientid {me}
bridge_protocol_version mqttv50
cleansession true
restart_timeout 1 2
keepalive_interval 5
notifications true
notification_topic {notification}
notifications_local_only true
bridge_attempt_unsubscribe false
{tls}topic # out 1 grid/node/ $grid/in/{me}/
topic # in 1 $grid/in/{sibling}/ grid/node/
topic # out 1 grid/network/ $grid/in/{me}/network/
topic # in 1 $grid/in/{sibling}/network/ grid/network/
"""


def main(directory: str, port: int, bind: str, user: str | None, closed: str | None) -> str:
    """The file that it is started with. `user`: who started it, if that is root; `closed`: what `siblings_port` gives.

    In a closed network `port` is for this machine alone.
    """
    here = closed is not None or bind in ("127.0.0.1", "localhost")
    hosts = ["127.0.0.1"] if here else [bind] if bind in ("0.0.0.0", "::") else ["127.0.0.1", bind]
    return MAIN.format(
        # started by root, Mosquitto would become a user who cannot write the pid file; it stays who the agent is
        user=f"user {user}\n" if user is not None else "",
        listeners="".join(f"listener {port} {host}\n" for host in hosts),
        closed=closed or "",
        directory=directory,
        max_bytes=MAX_BYTES,
    )


def siblings_port(directory: str, trust: str, tls_port: int, bind: str, read_port: int | None) -> str:
    """A closed network's part of that file."""
    reading = f"listener {read_port} {bind}\n" if read_port is not None else ""
    return CLOSED.format(most=MAX_LINKS, tls_port=tls_port, bind=bind, trust=trust, reading=reading, directory=directory)


def access(barred: Iterable[str], read_port: int | None) -> str:
    """Who may do what in a closed network; those ids neither read nor write."""
    # with a port for reading from outside, who comes without a name may be anywhere: then commands need a name
    commands = "topic write $grid/set/+/+\n" if read_port is None else ""
    denied = "".join(f"user {id_}\ntopic deny #\ntopic deny $grid/#\n\n" for id_ in sorted(barred))
    return ACL.format(commands=commands, agent=AGENT, person=PERSON, denied=denied)


def bridge(me: str, link: Bridge, notification: str, trust: str | None) -> str:
    """One sibling's include file. `notification`: below it the broker says whether the link is up; `trust`: the certificate's
    directory, for TLS.
    """
    return BRIDGE.format(
        me=me,
        sibling=link.sibling,
        host=link.host,
        port=link.port,
        notification=notification + link.sibling,
        tls=TLS.format(trust=trust) if trust is not None else "",
    )


def password_line(user: str, password: str) -> str:
    """As mosquitto_passwd -H sha512-pbkdf2 writes it: $7$, rounds, salt, hash. Few rounds, for what is 256 random bits.

    The salt comes from the password, so that the file stays as it is from start to start.
    """
    salt = hashlib.blake2b(password.encode(), digest_size=12, person=b"grid-salt").digest()
    hash_ = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
    return f"{user}:$7${ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(hash_).decode()}\n"
