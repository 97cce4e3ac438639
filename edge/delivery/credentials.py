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
    except OSError as error:  # ssl.SSLError is one
        sentence = f"The authority for the broker cannot be loaded from {settings.ca_file} ({_text(error)})"
        raise BrokerError(f"{sentence}; check mqtt.ca_file, which has to be in PEM format.") from error
    if settings.ca_file:
        # Python 3.13 sets this flag, and then refuses an authority without a key usage extension. Many home-made
        # ones have none, and mosquitto, OpenSSL's own default and older versions of Python accept them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # Python 3.13 sets this one too: an intermediate authority, or the broker's own certificate, is enough. With
        # older versions of Python a file that works on one box would be refused on another.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if settings.cert_file:
        _load_own(context, settings)
    return context


def _load_own(context: ssl.SSLContext, settings: MqttSettings) -> None:
    """Load our certificate and its key; OpenSSL's errors do not name the file that is wrong."""
    for file, key in ((settings.cert_file, "mqtt.cert_file"), (settings.key_file, "mqtt.key_file")):
        try:
            Path(file).read_bytes()
        except OSError as error:
            raise BrokerError(f"{file} cannot be read ({error.strerror}); check {key}.") from error
    is_encrypted = False

    def passphrase() -> str:
        nonlocal is_encrypted
        is_encrypted = True
        return _key_password(settings)

    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, passphrase)
    except (OSError, ValueError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            sentence = f"The key in {settings.key_file} does not belong to the certificate in {settings.cert_file}"
            raise BrokerError(f"{sentence}; check mqtt.cert_file and mqtt.key_file.") from error
        if is_encrypted:
            sentence = f"The key in {settings.key_file} cannot be opened with the passphrase in"
            raise BrokerError(f"{sentence} {settings.key_password_file}; check mqtt.key_password_file.") from error
        sentence = f"The certificate in {settings.cert_file} or the key in {settings.key_file} cannot be loaded"
        raise BrokerError(f"{sentence} ({_text(error)}); check that both are in PEM format.") from error


def _text(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def _key_password(settings: MqttSettings) -> str:
    """The passphrase of an encrypted key; without this callback OpenSSL would wait for it at the terminal."""
    if not settings.key_password_file:
        raise BrokerError(
            f"The key in {settings.key_file} is encrypted; name a file with its passphrase in mqtt.key_password_file, "
            f"or decrypt it with `openssl pkey -in {settings.key_file} -out FILE`."
        )
    return _read_line(Path(settings.key_password_file), "The key's passphrase", "mqtt.key_password_file")


def _read_line(path: Path, what: str, key: str) -> str:
    try:
        line = read_text(path).rstrip("\n")
    except NotTextError as error:
        raise BrokerError(f"{what} cannot be read, because {path} {error}.") from error
    except OSError as error:
        raise BrokerError(f"{what} cannot be read from {path} ({error.strerror}); check {key}.") from error
    if "\n" in line:
        raise BrokerError(f"{what} cannot be read, because {path} has several lines; write nothing else into it.")
    return line
