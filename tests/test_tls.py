"""Our certificates as others take them: a real Mosquitto, Python's TLS, OpenSSL by its strict rules."""

import os
import socket
import ssl
import subprocess

import pytest
from members import ELM, NOW, OAK
from patience import wait_until
from ports import free_ports

from agent import broker, seal
from agent.certs import NODE_DAYS

LISTENER = """\
{user}listener {port} 127.0.0.1
allow_anonymous false
cafile {folder}/ca.pem
certfile {folder}/node.pem
keyfile {folder}/node.key
require_certificate true
use_identity_as_username true
tls_version tlsv1.2
log_type all
"""
BRIDGE = """\
{user}listener {port} 127.0.0.1
allow_anonymous true
connection link
address 127.0.0.1:{to}
bridge_cafile {folder}/ca.pem
bridge_certfile {folder}/node.pem
bridge_keyfile {folder}/node.key
bridge_insecure true
bridge_protocol_version mqttv50
restart_timeout 1
topic # out 1
log_type all
"""


def lay(folder, ca, cert, key):
    folder.mkdir()
    for name, data in (("ca.pem", seal.pem_of(ca)), ("node.pem", cert), ("node.key", seal.key_pem(key))):
        (folder / name).write_bytes(data)
    return folder


def admit(folder, authority, id_, days=NODE_DAYS, ca=None):
    key = seal.new_key()
    return lay(folder, ca or authority.ca, authority.issue(id_, seal.public_of(key), False, days, NOW), key)


@pytest.fixture
def brokers(tmp_path):
    running = []

    def start(name, text):
        user = "user root\n" if os.geteuid() == 0 else ""
        config, log = tmp_path / f"{name}.conf", tmp_path / f"{name}.log"
        config.write_text(text.format(user=user))
        with log.open("w") as file:
            running.append(subprocess.Popen([broker.program(), "-c", str(config)], stderr=file, stdout=file))
        return log

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_real_brokers_link_with_it_and_take_no_stranger(brokers, tmp_path):
    x, y = admit(tmp_path / "x", OAK, "x"), admit(tmp_path / "y", OAK, "y")
    strangers = {
        "foreign": admit(tmp_path / "foreign", ELM, "y", ca=OAK.ca),
        "expired": admit(tmp_path / "expired", OAK, "y", days=-1),
    }
    ports = free_ports(2 + len(strangers))
    log = brokers("x-broker", "{user}" + LISTENER.format(user="", port=ports[0], folder=x))
    wait_until(lambda: "running" in log.read_text(), 5)
    brokers("y-broker", "{user}" + BRIDGE.format(user="", port=ports[1], folder=y, to=ports[0]))
    wait_until(lambda: "u'y'" in log.read_text(), 5, log.read_text)  # the certificate's name is who it is
    for port, (name, folder) in zip(ports[2:], strangers.items(), strict=True):
        before = log.read_text().count("certificate verify failed")
        brokers(f"{name}-broker", "{user}" + BRIDGE.format(user="", port=port, folder=folder, to=ports[0]))
        wait_until(lambda n=before: log.read_text().count("certificate verify failed") > n, 5, log.read_text)
    assert log.read_text().count("New client connected") == 1


def test_python_checks_the_same_chain_and_tls_1_3(brokers, tmp_path):
    x, y, foreign = admit(tmp_path / "x", OAK, "x"), admit(tmp_path / "y", OAK, "y"), admit(tmp_path / "f", ELM, "y")
    (port,) = free_ports(1)
    log = brokers("broker", "{user}" + LISTENER.format(user="", port=port, folder=x).replace("tls_version tlsv1.2\n", ""))
    wait_until(lambda: "running" in log.read_text(), 5)

    def shake(folder, name):
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(folder / "node.pem", folder / "node.key")
        with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw, server_hostname=name) as tls:
            return tls.version(), tls.getpeercert()["subject"]

    assert shake(y, "x") == ("TLSv1.3", ((("commonName", "x"),),))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(y, "y")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(foreign, "x")


def test_openssl_takes_the_chain_by_its_strict_rules_at_every_date(tmp_path):
    folder = admit(tmp_path / "x", OAK, "x")
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"]

    def ok(*options):
        return subprocess.run([*verify, *options, "node.pem"], cwd=folder, capture_output=True, check=False).returncode == 0

    assert ok("-purpose", "sslclient", "-attime", "0")  # 1970
    assert ok("-attime", str(int(NOW) + 730 * 86_400 - 1))
    assert not ok("-attime", str(int(NOW) + 730 * 86_400 + 1))
