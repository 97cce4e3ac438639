"""What the box shows a broker, and how it checks the broker: the password, certificates and keys of `[mqtt]`."""

from __future__ import annotations

import ssl
from pathlib import Path

from edge.board.systemd import CREDENTIAL_MQTT_PASSWORD, credential
from edge.errors import BrokerError
from edge.settings.schema import MqttSettings
from edge.text_file import NotTextError, read_text


def read_password(password_file: str) -> str | None:
    """The password from its file, else from systemd's credential, else None.

    Raises:
        BrokerError: the file cannot be read.
    """
    path = Path(password_file) if password_file else credential(CREDENTIAL_MQTT_PASSWORD)
    return None if path is None else _read_line(path, "The broker's password", "mqtt.password_file")


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """The certificates of the settings.

    Raises:
        BrokerError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.ca_file:
            # Python 3.13 sets this flag, and then refuses an authority without a key usage extension. Many home-made
            # ones have none, and mosquitto, OpenSSL's own default and older versions of Python accept them.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file, lambda: _key_password(settings))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = "mqtt.ca_file, cert_file, key_file and key_password_file"
        raise BrokerError(f"The certificates for the broker cannot be loaded ({error}); check {files}.") from error
    return context


def _key_password(settings: MqttSettings) -> str:
    """OpenSSL asks for it if the key is encrypted; without this function it would ask at the terminal, for ever."""
    if not settings.key_password_file:
        raise BrokerError(
            f"The key in {settings.key_file} is encrypted; name a file with its passphrase in mqtt.key_password_file, "
            f"or decrypt it with `openssl pkey -in {settings.key_file} -out FILE`."
        )
    return _read_line(Path(settings.key_password_file), "The key's passphrase", "mqtt.key_password_file")


def _read_line(path: Path, what: str, key: str) -> str:
    try:
        return read_text(path).rstrip("\n")
    except NotTextError as error:
        raise BrokerError(f"{what} cannot be read, because {path} {error}.") from error
    except OSError as error:
        raise BrokerError(f"{what} cannot be read from {path} ({error.strerror}); check {key}.") from error
