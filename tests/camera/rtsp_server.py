"""A network camera: RTSP (RFC 2326) with interleaved RTP, pictures as RTP/JPEG (RFC 2435), Basic authentication."""

from __future__ import annotations

import base64
import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np

from edge.frames import Pixels

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track0\r\n"
FRAGMENT = 1400


class RtspCamera:
    """Serves one picture repeatedly, to one client after the other.

    The test changes `picture`, makes it `silent` (connections stay open, nothing is sent), or closes connections.
    """

    def __init__(self, picture_bgr: Pixels, user: str = "", password: str = "", claimed_fps: str = "") -> None:
        self.picture = picture_bgr
        self.stamp: Callable[[int], int] = lambda frame: frame * 3600  # the RTP timestamp of a frame, in 1/90,000 s
        self._sdp = SDP + (f"a=framerate:{claimed_fps}\r\n" if claimed_fps else "")
        self.silent = False
        self.played = 0  # how often a client has begun
        self._login = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._clients: list[socket.socket] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="rtsp-camera")
        self._thread.start()

    def hang_up(self) -> None:
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.hang_up()
        self._thread.join(10)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._clients = [client]
            with client, contextlib.suppress(OSError):
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        while True:
            lines = []
            while (line := reader.readline().decode().strip()) != "":
                lines.append(line)
            if not lines:
                return
            method, url = lines[0].split()[:2]
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            self._answer(client, method, url, headers)
            if method == "PLAY":
                self.played += 1
                self._play(client)
                return

    def _answer(self, client: socket.socket, method: str, url: str, headers: dict[str, str]) -> None:
        status, more, body = "200 OK", "", ""
        if self._login and headers.get("authorization") != f"Basic {self._login}" and method != "OPTIONS":
            status, more = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n'
        elif method == "OPTIONS":
            more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            more, body = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\n", self._sdp
        elif method == "SETUP":
            if "TCP" not in headers.get("transport", ""):
                status = "461 Unsupported Transport"
            more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        more += "Session: 1\r\n" if status == "200 OK" else ""
        head = f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        client.sendall((head + body).encode())

    def _play(self, client: socket.socket) -> None:
        packet_numbers = itertools.count()
        for frame in itertools.count():
            if self._stopping.wait(0.04):
                return
            while self.silent and not self._stopping.is_set():
                time.sleep(0.02)
            for payload, last in rtp_jpeg(self.picture):
                number = next(packet_numbers) & 0xFFFF
                header = struct.pack(
                    ">BBHII", 0x80, 26 | (0x80 if last else 0), number, self.stamp(frame) & 0xFFFFFFFF, 1
                )
                client.sendall(b"$\0" + struct.pack(">H", len(header) + len(payload)) + header + payload)


def rtp_jpeg(picture_bgr: Pixels) -> list[tuple[bytes, bool]]:
    """The payloads of one picture and whether each is the last; width and height must be multiples of 16."""
    height, width = picture_bgr.shape[:2]
    _, encoded = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
    data = np.asarray(encoded).tobytes()
    tables, at = b"", 2
    while True:  # from segment to segment up to the start of the scan
        marker, length = struct.unpack_from(">HH", data, at)
        segment = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xFFDB:  # quantization: one identifier, 64 values, repeatedly
            tables += b"".join(segment[i + 1 : i + 65] for i in range(0, len(segment), 65))
        elif marker == 0xFFDA:
            break
    scan = data[at:-2]
    packets = []
    for offset in range(0, len(scan), FRAGMENT):
        header = struct.pack(">IBBBB", offset, 1, 255, width // 8, height // 8)  # type 1: 4:2:0, standard Huffman
        if offset == 0:
            header += struct.pack(">HH", 0, len(tables)) + tables
        packets.append((header + scan[offset : offset + FRAGMENT], offset + FRAGMENT >= len(scan)))
    return packets
