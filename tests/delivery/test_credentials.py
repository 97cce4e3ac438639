"""Tests certificates and keys that other programs accept, and the sentences about those that cannot be used."""

import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from edge.delivery.credentials import read_password, tls_context
from edge.errors import BrokerError
from edge.settings.schema import MqttSettings
from tests.broker import Brokers, Certificates, eventually
from tests.delivery.room import room


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    made = Certificates(tmp_path)
    made.make()
    return made


@pytest.fixture
def files(certificates: Certificates) -> dict[str, str]:
    """A client certificate with an encrypted key, for the settings."""
    certificate, key = certificates.issue("porch")
    locked = key.with_suffix(".locked")
    command = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:open sesame", "-out", locked]
    subprocess.run(command, check=True)
    return {
        "url": "mqtts://127.0.0.1",
        "ca_file": str(certificates.authority),
        "cert_file": str(certificate),
        "key_file": str(locked),
    }


def test_an_authority_without_key_usage_is_accepted_as_by_mosquitto(
    certificates: Certificates, brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.13 sets VERIFY_X509_STRICT; openssl's own `req -x509` makes such an authority."""
    before = ssl.create_default_context

    def as_python_3_13(**options: str) -> ssl.SSLContext:
        context = before(**options)  # type: ignore[arg-type]
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", as_python_3_13)
    server, key = certificates.issue("server")
    broker = brokers.start(f"certfile {server}", f"keyfile {key}")
    url = broker.url.replace("mqtt:", "mqtts:")
    with room(url, tmp_path / "state" / "fallback.db", ca_file=str(certificates.authority)) as box:
        box.wait_online()


def test_a_password_file_with_a_second_line_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n# of the broker on the hill\n")
    with pytest.raises(BrokerError, match=f"{file} has several lines"):
        read_password(str(file))
    file.write_text("secret\n\n")
    assert read_password(str(file)) == "secret"


def test_the_system_s_authorities_are_checked_as_strictly_as_before() -> None:
    ours, python_s = tls_context(MqttSettings(url="mqtts://127.0.0.1")), ssl.create_default_context()
    assert ours.verify_flags == python_s.verify_flags
    assert ours.check_hostname


def test_an_encrypted_key_without_a_passphrase_is_one_sentence(files: dict[str, str]) -> None:
    with pytest.raises(BrokerError, match=r"is encrypted; name a file with its passphrase in mqtt\.key_password_file"):
        tls_context(MqttSettings(**files))


def test_an_encrypted_key_with_its_passphrase_is_loaded(files: dict[str, str], tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    settings = MqttSettings(**files, key_password_file=str(passphrase))
    passphrase.write_text("open sesame\n")
    assert tls_context(settings)
    for wrong in ("wrong\n", ""):
        passphrase.write_text(wrong)
        with pytest.raises(BrokerError, match=rf"opened with the passphrase in {passphrase}; check mqtt\.key_"):
            tls_context(settings)
    passphrase.unlink()
    with pytest.raises(BrokerError, match=r"passphrase cannot be read.*check mqtt\.key_password_file"):
        tls_context(settings)


@pytest.mark.parametrize("cipher", ["-aes256", "-des3"])
def test_an_encrypted_key_in_the_traditional_format_is_loaded(
    files: dict[str, str], tmp_path: Path, cipher: str
) -> None:
    """`openssl ec` and older versions of `openssl rsa` write it."""
    passphrase, locked = tmp_path / "passphrase", tmp_path / "traditional.key"
    passphrase.write_text("open sesame")
    command = ["openssl", "ec", "-in", tmp_path / "porch.key", cipher, "-passout", "pass:open sesame", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    assert b"Proc-Type: 4,ENCRYPTED" in locked.read_bytes()
    assert tls_context(MqttSettings(**files | {"key_file": str(locked)}, key_password_file=str(passphrase)))


def test_the_sentence_names_the_file_that_cannot_be_used(files: dict[str, str], certificates: Certificates) -> None:
    _, other_key = certificates.issue("other")
    nothing = certificates.directory / "nothing"
    empty = certificates.directory / "empty"
    empty.write_text("")
    for wrong, sentence in (
        ({"key_file": other_key}, rf"{other_key} does not belong to the certificate in .*porch\.crt"),
        ({"key_file": nothing}, rf"{nothing} cannot be read \(No such file or directory\); check mqtt\.key_file"),
        ({"cert_file": nothing}, rf"{nothing} cannot be read \(No such file or directory\); check mqtt\.cert_file"),
        ({"cert_file": empty}, r"empty or the key in .* cannot be loaded \(.*\); check that both are in PEM format"),
        ({"ca_file": nothing}, rf"from {nothing} \(No such file or directory\); check mqtt\.ca_file"),
        ({"ca_file": empty}, rf"from {empty} \(.*\); check mqtt\.ca_file, which has to be in PEM format"),
    ):
        with pytest.raises(BrokerError, match=sentence):
            tls_context(MqttSettings(**files | {key: str(file) for key, file in wrong.items()}))


@pytest.mark.parametrize(
    ("server", "lines", "sentence"),
    [
        ("DNS:broker.lan", (), "in mqtt.url, or add this one to it as a subjectAltName"),
        ("IP:127.0.0.1", ("require_certificate true",), "It may demand a client certificate (mqtt.cert_file)."),
    ],
)
def test_what_a_broker_with_tls_lacks_is_in_the_sentence(
    certificates: Certificates, brokers: Brokers, tmp_path: Path, server: str, lines: tuple[str, ...], sentence: str
) -> None:
    certificate, key = certificates.issue("server", server)
    broker = brokers.start(f"certfile {certificate}", f"keyfile {key}", f"cafile {certificates.authority}", *lines)
    url = broker.url.replace("mqtt:", "mqtts:")
    with room(url, tmp_path / "state" / "fallback.db", ca_file=str(certificates.authority)) as box:
        eventually(lambda: sentence in (box.gauge("broker_error") or ""), "the sentence")


def test_a_file_of_several_authorities_is_used(certificates: Certificates, brokers: Brokers, tmp_path: Path) -> None:
    other = Certificates(tmp_path / "other")
    other.directory.mkdir()
    other.make()
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(other.authority.read_bytes() + certificates.authority.read_bytes())
    certificate, key = certificates.issue("server")
    broker = brokers.start(f"certfile {certificate}", f"keyfile {key}")
    with room(broker.url.replace("mqtt:", "mqtts:"), tmp_path / "state" / "fallback.db", ca_file=str(bundle)) as box:
        box.wait_online()


def test_the_broker_s_own_certificate_is_authority_enough_with_every_version_of_python(
    certificates: Certificates, brokers: Brokers, tmp_path: Path
) -> None:
    """Python 3.13 accepts what is in the file without the authority above it; so do the boxes with 3.11."""
    certificate, key = certificates.issue("server")
    broker = brokers.start(f"certfile {certificate}", f"keyfile {key}")
    url = broker.url.replace("mqtt:", "mqtts:")
    with room(url, tmp_path / "state" / "fallback.db", ca_file=str(certificate)) as box:
        box.wait_online()


def test_a_handshake_that_hangs_ends_within_seconds_whatever_the_keep_alive_is(tmp_path: Path) -> None:
    """paho 2.0 and 2.1 wait for as long as the keep-alive."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtts://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        with room(url, tmp_path / "state" / "fallback.db", keepalive_s=3600) as box:
            eventually(lambda: "does not answer" in (box.gauge("broker_error") or ""), "the sentence")
    assert time.monotonic() - began < 10.0
