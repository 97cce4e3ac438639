"""The requests that MQTT and the Unix socket accept: snapshot, classify, reload, set, model, use and rollback.

`RequestHandler.handle` checks a request's fields and carries it out; `mqtt_requests.py` and `unix_socket.py` receive
requests and send the answers. A new request needs a class of its fields and a case in `_do` here, and what it acts on
is passed in by `daemon/service.py`.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import nullcontext
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import BusyError, EdgeClassifierError, PhotoError, RequestError
from edge.events import Classification, top_k
from edge.frames import Pixels
from edge.interfaces.json_document import sentence_of
from edge.photos.decode import encode_photo
from edge.printable import shortened
from edge.repeating_fault import RepeatingFault
from edge.settings.schema import FramesPerSecond, Percent
from edge.status.recent import Recent

logger = logging.getLogger("edge.interfaces.requests")

SNAPSHOT_SIDE = 640
FRESH_S = 0.5  # a frame up to this age is used; otherwise the next one is awaited
FRAME_WITHIN_S = 2.0
ANSWER_WITHIN_S = 10.0


class _NoFields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _ClassifyFields(_NoFields):
    image: str = ""  # a photo in base64; empty for the newest frame
    top: int | None = Field(None, ge=1)  # so many classes instead of three


class _SetFields(_NoFields):
    min_confidence: Percent | None = None
    fps: FramesPerSecond | None = None


class _UseFields(_NoFields):
    name: str = Field(max_length=128)  # of an installed bundle


_Fields = TypeVar("_Fields", bound=_NoFields)


class RequestHandler:
    """Carries out requests; `handle` may be called from any thread.

    Args:
        recent: the newest frame.
        decode: the pixels of a photo, from its bytes and its name; raises PhotoError, BusyError.
        classify: queues a photo for the model; raises BusyError.
        reload: makes the service read its settings again.
        change: sets the minimum confidence and the frame rate; None keeps the present value.
        running: returns the name of the bundle in use.
        use: switches to an installed bundle; returns its name.
        rollback: switches back to the bundle in use before; returns its name.
    """

    def __init__(
        self,
        recent: Recent,
        decode: Callable[[bytes, str], Pixels],
        classify: Callable[[Pixels], Future[Classification]],
        *,
        reload: Callable[[], None],
        change: Callable[[float | None, float | None], None],
        running: Callable[[], str],
        use: Callable[[str], str],
        rollback: Callable[[], str],
    ) -> None:
        self._recent, self._decode, self._classify = recent, decode, classify
        self._reload, self._change, self._use, self._rollback = reload, change, use, rollback
        self._running = running
        # Held while a request changes the daemon; pictures and photos need time and change nothing.
        self._changing = threading.Lock()
        self._encoding = RepeatingFault(logger)

    def handle(self, name: str, document: dict[str, Any]) -> Mapping[str, Any]:
        """Carry out a request and return the fields of the answer.

        Raises:
            RequestError: the request is unknown, wrong or cannot be carried out now.
        """
        try:
            with nullcontext() if name in ("snapshot", "classify", "model") else self._changing:
                return self._do(name, document)
        except RequestError:
            raise
        except MemoryError as error:  # a large photo or bundle; both are read as a whole
            raise RequestError("There is not enough memory for this request; the daemon goes on.") from error
        except Exception as error:  # the thread has to serve later requests
            logger.exception("The request %s failed; the daemon goes on.", shortened(name, 40))
            raise RequestError(f"The request failed ({type(error).__name__}); the log shows where.") from error

    def _do(self, name: str, document: dict[str, Any]) -> Mapping[str, Any]:
        match name:
            case "snapshot":
                _checked(_NoFields, document)
                return {"image": base64.b64encode(encode_photo(self._frame(), SNAPSHOT_SIDE)).decode()}
            case "classify":
                return self._classified(_checked(_ClassifyFields, document))
            case "reload":
                _checked(_NoFields, document)
                self._reload()
                return {}
            case "set":
                fields = _checked(_SetFields, document)
                if fields.min_confidence is None and fields.fps is None:
                    raise RequestError("The request set needs min_confidence or fps.")
                self._change(fields.min_confidence, fields.fps)
                return fields.model_dump(exclude_none=True)
            case "use":
                wanted = _checked(_UseFields, document).name
                return _model(lambda: self._use(wanted))
            case "model" | "rollback":
                _checked(_NoFields, document)
                return _model(self._running if name == "model" else self._rollback)
            case _:
                known = "snapshot, classify, reload, set, model, use or rollback"
                raise RequestError(f"There is no request {name:.40}; ask for {known}.")

    def snapshot(self) -> bytes | None:
        """The newest frame as JPEG; None if there is none or it cannot be encoded."""
        try:
            picture = encode_photo(self._frame(), SNAPSHOT_SIDE)
        except RequestError:  # no frame: the status has the reason
            return None
        except Exception as error:  # noqa: BLE001 - logged below; the thread has to serve requests
            self._encoding.happened(f"No snapshot can be made ({type(error).__name__}: {error}); requests go on.")
            return None
        self._encoding.over("Snapshots can be made again.")
        return picture

    def _frame(self) -> Pixels:
        frame = self._recent.frame(FRESH_S, FRAME_WITHIN_S)
        if frame is None:
            raise RequestError("The camera delivers no frames; see the status topic.")
        return frame.pixels

    def _classified(self, fields: _ClassifyFields) -> dict[str, Any]:
        try:
            photo = base64.b64decode(fields.image, validate=True)
            pixels = self._decode(photo, "image") if fields.image else self._frame()
            found = self._classify(pixels).result(ANSWER_WITHIN_S)
        except ValueError as error:  # of base64
            raise RequestError("image is not base64.") from error
        except (PhotoError, BusyError) as error:
            raise RequestError(str(error)) from error
        except (FutureTimeoutError, CancelledError) as error:
            raise RequestError("The model does not answer; see the status topic.") from error
        if fields.top is not None and fields.top > len(found.labels):
            raise RequestError(f"top must be 1 to {len(found.labels)}, the number of classes of the model.")
        labels = found.top if fields.top is None else top_k(found.probabilities, found.labels, fields.top)
        top = [dataclasses.asdict(label) for label in labels]
        return {"top": top, "model": found.model, "latency_ms": found.latency_ms}


def _model(switch: Callable[[], str]) -> dict[str, str]:
    try:
        return {"model": switch()}
    except EdgeClassifierError as error:
        raise RequestError(f"The running model stays: {error}") from error


def _checked(kind: type[_Fields], document: dict[str, Any]) -> _Fields:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise RequestError(sentence_of(error.errors(include_url=False, include_context=False)[:1])) from error
