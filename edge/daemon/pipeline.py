"""Takes frames from the camera and makes events of them: one thread prepares frames, and one or more infer."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from edge.daemon.event_maker import EventMaker
from edge.daemon.photo_scheduler import PhotoScheduler
from edge.daemon.streams import EveryLock, FrameOrder
from edge.decision.decider import Decider
from edge.events import Classification, Event, Probabilities
from edge.frames import Frame, Pixels
from edge.status.snapshot import Status
from edge.vision.model import Model

WAIT_S = 0.5  # how long a stage waits before it beats again
# A Pi Zero 2 needs less than a second for one inference. After these limits the watchdog restarts the daemon.
INFERENCE_LIMIT_S = 15.0
PREPARE_LIMIT_S = 15.0
_Buffer = TypeVar("_Buffer")


class FrameSource(Protocol):
    """The part of `camera.Capture` that the pipeline needs."""

    @property
    def live(self) -> bool:
        """Whether old frames may be dropped for new ones; False for a file, of which every frame is classified."""
        ...

    @property
    def ended(self) -> bool:
        """True once there are no more frames."""
        ...

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not taken yet, or None after `timeout_s` without one."""
        ...


@dataclass(slots=True)
class _Prepared(Generic[_Buffer]):
    """One input buffer, the model that it belongs to, and the times of the frame in it."""

    model: Model[_Buffer]
    buffer: _Buffer
    number: int = 0  # in the order in which frames are classified
    captured_ns: int = 0
    classified: Callable[[], None] = lambda: None  # called once the frame's event is made
    latency_ms: dict[str, float] = field(default_factory=dict)  # by stage


class Pipeline(Generic[_Buffer]):
    """Threads "prepare" and "inference", and input buffers that rotate between them.

    With a live source a newer frame replaces the prepared one until inference takes it; of a file every frame
    is classified. Requested photos are classified between two frames. The model can be replaced at run time: each
    frame or photo is classified by the model that it was prepared for, so none is lost.

    With several streams there is a thread for each ("inference", "inference 2", …), and each infers another frame.
    They decide in the order of the frames. Only the first one classifies photos.

    Args:
        frames: the source of the frames.
        model: prepares and infers, until `swap` replaces it.
        decider: decides which predictions become events.
        maker: makes the events.
        sink: receives each event; must not block.
        status: gets the beats of "prepare" and "inference", counters and latencies.
        watch: receives each frame before it is prepared, and returns what is called once its event is made; neither
            may block.
        streams: how many frames are inferred at the same time.
    """

    def __init__(
        self,
        frames: FrameSource,
        model: Model[_Buffer],
        decider: Decider,
        maker: EventMaker,
        sink: Callable[[Event], None],
        status: Status,
        *,
        watch: Callable[[Frame], Callable[[], None]] = lambda frame: lambda: None,
        streams: int = 1,
    ) -> None:
        self._frames, self._decider, self._maker = frames, decider, maker
        self._sink, self._status, self._watch = sink, status, watch
        self._inferring = [threading.Lock() for _ in range(streams)]  # each is held during its stream's inferences
        #: Code that holds it runs between two inferences.
        self.inferring: AbstractContextManager[object] = EveryLock(self._inferring)
        self._changed = threading.Condition()
        self._photos = PhotoScheduler(model, self._changed, self._inferring[0], status)
        self._order = FrameOrder()
        self._joined = threading.Barrier(streams)
        self._decider_model = model  # the model whose labels the decider has
        self._model = model
        self._free = self._input_buffers(model)
        self._ready: _Prepared[_Buffer] | None = None
        self._stopping = False
        self._no_more = False  # the source ended and its last frame is prepared
        self.ended = threading.Event()  # the last frame of a source that ends has been classified
        self.failure: BaseException | None = None  # the exception that ended a thread
        stages: dict[str, Callable[[], None]] = {"prepare": self._prepare_frames}
        for stream in range(streams):
            name = f"inference {stream + 1}" if stream else "inference"
            stages[name] = functools.partial(self._classify_frames, name, stream)
        self._streams = streams  # that have not ended
        self._threads = [
            threading.Thread(target=self._run, args=(stage,), name=name, daemon=True) for name, stage in stages.items()
        ]

    def start(self) -> None:
        """Start all threads."""
        for thread in self._threads:
            self._status.watch(thread.name, PREPARE_LIMIT_S if thread.name == "prepare" else INFERENCE_LIMIT_S)
            thread.start()

    def swap(self, model: Model[_Buffer], commit: Callable[[], object] = lambda: None) -> None:
        """Use `model` from the next frame on; callable from any thread.

        `commit` is called once the buffers are allocated. If it raises, the running model stays; nothing after it
        can fail.
        """
        free, photos = self._input_buffers(model), self._photos.new_buffers(model)
        commit()
        with self._changed:
            self._model, self._free = model, free
        self._photos.swap(model, photos)

    def classify(self, pixels: Pixels) -> Future[Classification]:
        """Queue one photo, (height, width, 3) uint8 RGB, to be classified between two frames; from any thread.

        Raises:
            BusyError: `PHOTOS_WAITING` photos are waiting already, or the pipeline is stopping.
        """
        return self._photos.put(pixels)

    def stop(self, timeout_s: float) -> bool:
        """Ask all threads to end; returns whether they did within `timeout_s`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._photos.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        for thread in self._threads:
            self._status.unwatch(thread.name)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as error:  # noqa: BLE001  # service.py raises it again in the main thread
            self.failure = self.failure or error
            self._order.abandon()
            self._joined.abort()

    def _prepare_frames(self) -> None:
        while not self._stopping:
            self._status.beat("prepare")
            frame = self._frames.take(WAIT_S)
            if frame is not None:
                self._prepare(frame, self._watch(frame))
            elif self._frames.ended:
                with self._changed:
                    self._no_more = True
                    self._changed.notify_all()
                self._status.unwatch("prepare")
                return

    def _prepare(self, frame: Frame, classified: Callable[[], None]) -> None:
        with self._changed:
            prepared = self._free.pop()
        began = time.perf_counter_ns()
        prepared.model.prepare(frame.pixels, prepared.buffer)
        preprocess_ms = (time.perf_counter_ns() - began) / 1e6
        prepared.captured_ns, prepared.classified = frame.captured_ns, classified
        prepared.latency_ms = {"capture": frame.capture_s * 1000, "preprocess": preprocess_ms}
        with self._changed:
            while not self._frames.live and self._ready is not None and not self._stopping:
                self._status.beat("prepare")
                self._changed.wait(WAIT_S)
            if self._ready is not None:  # this frame replaces it
                self._give_back(self._ready)
                self._status.count("frames_superseded")
            self._ready = prepared
            self._photos.frame_ready()
            self._changed.notify_all()

    def _classify_frames(self, name: str, stream: int) -> None:
        self._model.join_thread()
        self._joined.wait()  # because no thread may infer before all have joined
        while not self._stopping and self.failure is None:
            self._status.beat(name)
            with self._changed:
                if self._ready is None and not self._no_more:
                    self._idle(serving=stream == 0)
                prepared, self._ready = self._ready, None
                if prepared is not None:
                    prepared.number = self._order.take()
                self._changed.notify_all()
                ended = prepared is None and self._no_more
            if ended:
                self._end_stream(name)
                return
            if prepared is not None:
                self._classify(prepared, stream)
                with self._changed:
                    self._give_back(prepared)
            if stream == 0:
                self._photos.serve()

    def _end_stream(self, name: str) -> None:
        self._status.unwatch(name)
        with self._changed:
            self._streams -= 1
            last = self._streams == 0
        if last:
            self._photos.close()
            self.ended.set()

    def _idle(self, *, serving: bool) -> None:
        """Wait for a frame, the time of the next beat or, if `serving`, a photo; the caller holds the lock."""
        wait_s = self._photos.wait_s if serving else None
        if wait_s == 0:
            return
        began = time.perf_counter()
        self._changed.wait(WAIT_S if wait_s is None else min(WAIT_S, wait_s))
        if serving:
            self._photos.idled(time.perf_counter() - began)

    def _give_back(self, prepared: _Prepared[_Buffer]) -> None:
        """Put a buffer back; the caller holds the lock."""
        if prepared.model is self._model:  # buffers of a replaced model are dropped
            self._free.append(prepared)

    def _classify(self, prepared: _Prepared[_Buffer], stream: int) -> None:
        began = time.perf_counter_ns()
        with self._inferring[stream]:
            probabilities = prepared.model.infer(prepared.buffer)
        prepared.latency_ms["inference"] = (time.perf_counter_ns() - began) / 1e6
        if stream == 0:
            self._photos.frame_classified(prepared.latency_ms["inference"] / 1000)
        if self._order.wait(prepared.number):
            self._decide(prepared, probabilities)
            self._order.finish()

    def _decide(self, prepared: _Prepared[_Buffer], probabilities: Probabilities) -> None:
        """What follows the inference of a frame; called for one frame after the other, in their order."""
        model, captured_ns, latency_ms = prepared.model, prepared.captured_ns, prepared.latency_ms
        self._status.count("frames_classified")
        if model is not self._decider_model:
            self._decider.begin(model.labels)
            self._decider_model = model
        decision = self._decider.decide(probabilities, captured_ns / 1e9)
        if decision is not None:
            self._sink(self._maker.make(decision, model.name, captured_ns, latency_ms))
        prepared.classified()
        for stage, milliseconds in latency_ms.items():
            self._status.observe(stage, milliseconds)

    def _input_buffers(self, model: Model[_Buffer]) -> list[_Prepared[_Buffer]]:
        """One being prepared, one ready, and one being inferred by each stream."""
        return [_Prepared(model, model.new_input()) for _ in range(2 + len(self._inferring))]
