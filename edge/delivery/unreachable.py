"""Why the broker cannot be reached and what to do: one sentence for each error of DNS, TCP and TLS."""

from __future__ import annotations

import socket
import ssl

from edge.settings.schema import MqttSettings

OTHER_NAME = (62, 64)  # OpenSSL's codes for a certificate of another host name or IP address


def why_unreachable(error: Exception, settings: MqttSettings) -> str:
    """The sentence for an error that opening a connection raised."""
    where = settings.address
    match error:
        case ssl.SSLCertVerificationError():
            why = f"The broker's certificate at {where} is not accepted ({error.verify_message.rstrip('.')})"
            advice = "check mqtt.ca_file, the certificate and this box's clock"
            if error.verify_code in OTHER_NAME:
                advice = "write a name of the certificate in mqtt.url, or add this one to it as a subjectAltName"
        case ssl.SSLError():
            why = f"TLS with the broker at {where} fails ({error.reason or error})"
            advice = "check mqtts:// and the certificates"
        case socket.gaierror():
            why = f"The broker's name {settings.host} is not known ({error.strerror})"
            advice = "check mqtt.url and DNS"
        case TimeoutError():
            why, advice = f"The broker at {where} does not answer", "check mqtt.url and the network"
        case ConnectionRefusedError():
            why, advice = f"No broker listens at {where} (connection refused)", "start it or check mqtt.url"
        case ConnectionResetError() if settings.tls:
            why, advice = f"TLS with the broker at {where} fails ({error.strerror})", "check mqtts:// and its port"
        case _:
            why, advice = f"The broker at {where} cannot be reached ({error})", "check mqtt.url and the network"
    return f"{why}; {advice}."
