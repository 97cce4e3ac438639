"""What may be asked over MQTT and on the box: a snapshot, a classification, a reload, a threshold, a rate, a model."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import BusyError, EdgeClassifierError, PhotoError, RequestError
from edge.events import Classification
from edge.frames import Pixels
from edge.photos.decode import decode_photo, encode_photo
from edge.repeating_fault import RepeatingFault
from edge.status.recent import Recent

logger = logging.getLogger("edge.requests")

SNAPSHOT_SIDE = 640
FRESH_S = 0.5
FRAME_WITHIN_S = 2.0
ANSWER_WITHIN_S = 10.0
_Fields = TypeVar("_Fields", bound="Nothing")


class Nothing(BaseModel):
    """A request without fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ClassifyFields(Nothing):
    """A photo in base64; without one the newest frame."""

    image: str = ""


class SetFields(Nothing):
    """What to change until the next reload or restart."""

    min_confidence: float | None = Field(default=None, ge=0, le=100)
    fps: float | None = Field(default=None, ge=0, le=240)


class UseFields(Nothing):
    """The name of an installed bundle."""

    name: str = Field(max_length=128)


class RemoteRequests:
    """Does what is asked, one request after the other, whichever thread calls `handle`.

    Args:
        recent: the newest frame.
        classify: the queue between two frames; raises BusyError.
        reload: asks the service to read the settings again.
        change: takes a minimum confidence and a frame rate, None for what stays.
        use: puts an installed bundle in the place of the running one; returns its name.
        rollback: goes back to the bundle that was in use before; returns its name.
    """

    def __init__(
        self,
        recent: Recent,
        classify: Callable[[Pixels], Future[Classification]],
        *,
        reload: Callable[[], None],
        change: Callable[[float | None, float | None], None],
        use: Callable[[str], str],
        rollback: Callable[[], str],
    ) -> None:
        self._recent, self._classify = recent, classify
        self._reload, self._change, self._use, self._rollback = reload, change, use, rollback
        self._one_at_a_time = threading.Lock()
        self._encoding = RepeatingFault(logger)

    def handle(self, name: str, document: dict[str, Any]) -> Mapping[str, Any]:
        """Do one request; returns the fields of the answer.

        Raises:
            RequestError: the request is unknown, wrong or cannot be done now.
        """
        with self._one_at_a_time:
            try:
                return self._do(name, document)
            except RequestError:
                raise
            except MemoryError as error:  # of a photo, or of a bundle, which is read as a whole
                raise RequestError("There is not enough memory for this request; the daemon goes on.") from error
            except Exception as error:  # one request must not end the thread that every later one needs
                logger.exception("The request %.40s failed; the daemon goes on.", name)
                raise RequestError(f"The box failed at this ({type(error).__name__}); its log says where.") from error

    def _do(self, name: str, document: dict[str, Any]) -> Mapping[str, Any]:
        match name:
            case "snapshot":
                _checked(Nothing, document)
                return {"image": base64.b64encode(encode_photo(self._frame(), SNAPSHOT_SIDE)).decode()}
            case "classify":
                return self._answer(_checked(ClassifyFields, document))
            case "reload":
                _checked(Nothing, document)
                self._reload()
                return {}
            case "set":
                fields = _checked(SetFields, document)
                if fields.min_confidence is None and fields.fps is None:
                    raise RequestError("The request set needs min_confidence or fps.")
                self._change(fields.min_confidence, fields.fps)
                return fields.model_dump(exclude_none=True)
            case "use":
                wanted = _checked(UseFields, document).name
                return {"model": _or_refuse(lambda: self._use(wanted))}
            case "rollback":
                _checked(Nothing, document)
                return {"model": _or_refuse(self._rollback)}
            case _:
                known = "snapshot, classify, reload, set, use or rollback"
                raise RequestError(f"There is no request {name:.40}; ask for {known}.")

    def snapshot(self) -> bytes | None:
        """The newest frame as JPEG; None: there is none, or it cannot be encoded."""
        try:
            picture = encode_photo(self._frame(), SNAPSHOT_SIDE)
        except RequestError:  # there is no frame, which the status says
            return None
        except Exception as error:  # noqa: BLE001 - told below; the thread has requests to answer too
            self._encoding.happened(f"No snapshot can be made ({type(error).__name__}: {error}); requests go on.")
            return None
        self._encoding.over("Snapshots can be made again.")
        return picture

    def _frame(self) -> Pixels:
        frame = self._recent.frame(FRESH_S, FRAME_WITHIN_S)
        if frame is None:
            raise RequestError("The camera delivers no frames; see the status topic.")
        return frame.pixels

    def _answer(self, fields: ClassifyFields) -> dict[str, Any]:
        try:
            pixels = (
                decode_photo(base64.b64decode(fields.image, validate=True), "image") if fields.image else self._frame()
            )
            found = self._classify(pixels).result(ANSWER_WITHIN_S)
        except (binascii.Error, ValueError) as error:
            raise RequestError("image is not base64.") from error
        except (PhotoError, BusyError) as error:
            raise RequestError(str(error)) from error
        except (FutureTimeoutError, CancelledError) as error:
            raise RequestError("The model does not answer; see the status topic.") from error
        top = [dataclasses.asdict(label) for label in found.top]
        return {"top": top, "model": found.model, "latency_ms": dict(found.latency_ms)}


def _or_refuse(change: Callable[[], str]) -> str:
    try:
        return change()
    except EdgeClassifierError as error:
        raise RequestError(f"The running model stays: {error}") from error


def _checked(kind: type[_Fields], document: dict[str, Any]) -> _Fields:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise RequestError(f"{'.'.join(map(str, first['loc'])) or 'The request'}: {first['msg']}.") from error
