"""The camera's newest frame as JPEG: a single picture at `/snapshot.jpg`, a few a second at `/stream.mjpg`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import anyio.to_thread
from fastapi import APIRouter, HTTPException
from fastapi.responses import Response, StreamingResponse

from edge.interfaces.web.closing_stream import ClosingStream
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.problem_details import documented
from edge.photos.decode import encode_photo

MAX_SIDE = 1280
STREAM_SIDE = 640
FRESH_S = 0.2  # requests within this time share one encoding
WAIT_S = 1.5
STREAM_EVERY_S = 0.125
MAX_STREAMS = 4


class FrameEncoder:
    """Encodes each frame at most once for each size, for all clients together; any thread.

    Args:
        daemon: source of the frames.
    """

    def __init__(self, daemon: DaemonAccess) -> None:
        self._daemon = daemon
        self._lock = threading.Lock()
        self._encoded: dict[int, tuple[int, bytes]] = {}  # longest side → (sequence, JPEG)

    def jpeg(self, side: int) -> bytes:
        """The newest frame with no side longer than `side`. Blocks.

        Raises:
            HTTPException: 503 while the camera delivers none.
        """
        frame = None
        if self._daemon.status().gauges.get("camera") != "waiting":  # then an old picture would pass for a current one
            frame = self._daemon.recent.frame(FRESH_S, WAIT_S)
        if frame is None:
            raise HTTPException(503, "The camera delivers no frames; see /api/status.", {"Retry-After": "2"})
        with self._lock:
            sequence, content = self._encoded.get(side, (-1, b""))
            if sequence != frame.sequence:
                content = encode_photo(frame.pixels, side)
                self._encoded[side] = (frame.sequence, content)
            return content


def make_router(daemon: DaemonAccess, stream: bool, stopping: threading.Event) -> APIRouter:
    """The routes of the two pictures.

    Args:
        daemon: source of the frames.
        stream: whether /stream.mjpg is on.
        stopping: ends every stream once set.
    """
    router = APIRouter()
    encoder = FrameEncoder(daemon)
    streams = asyncio.Semaphore(MAX_STREAMS)

    @router.get(
        "/snapshot.jpg",
        summary="The newest frame",
        tags=["camera"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "JPEG"}, **documented(401, 403, 503)},
    )
    def snapshot() -> Response:
        return Response(encoder.jpeg(MAX_SIDE), media_type="image/jpeg")

    @router.get(
        "/stream.mjpg",
        summary="The live picture",
        description="Off unless web.stream is true.",
        tags=["camera"],
        response_class=StreamingResponse,
        responses={
            200: {"content": {"multipart/x-mixed-replace": {}}, "description": "never ends"},
            **documented(401, 403, 404, 429, 503),
        },
    )
    async def mjpeg() -> StreamingResponse:
        if not stream:
            raise HTTPException(404, "The live picture is off; set web.stream = true, or use /snapshot.jpg.")
        parts = one_client()
        await anext(parts)
        return ClosingStream(parts, media_type="multipart/x-mixed-replace; boundary=frame")

    async def one_client() -> AsyncGenerator[bytes, None]:
        if streams.locked():
            raise HTTPException(429, f"{MAX_STREAMS} clients watch already; use /snapshot.jpg.", {"Retry-After": "10"})
        async with streams:
            content = await anyio.to_thread.run_sync(encoder.jpeg, STREAM_SIDE)
            yield b""  # taken by `mjpeg`: errors before this become the response, which begins now
            while not stopping.is_set():
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(content)
                yield head + content + b"\r\n"
                await asyncio.sleep(STREAM_EVERY_S)
                try:
                    content = await anyio.to_thread.run_sync(encoder.jpeg, STREAM_SIDE)
                except HTTPException:
                    return  # too late for an error response; the client sees the end of the stream

    return router
