"""The daemon's lifetime: builds the stages, starts them, runs the main loop, and stops them in reverse order."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edge import __version__
from edge.board import foreign_logs, host
from edge.board.systemd import LOGGER_NAME, Notifier
from edge.camera.capture import Capture
from edge.daemon.event_maker import EventMaker
from edge.daemon.health import Health
from edge.daemon.model_switch import ModelSwitch
from edge.daemon.pipeline import Pipeline
from edge.daemon.signals import ending_at_once, signals_queued
from edge.decision.decider import Decider
from edge.delivery.delivery import Delivery
from edge.delivery.inspect import newest_events
from edge.errors import ConfigError
from edge.events import Event
from edge.interfaces.home_assistant import discovery_payload
from edge.interfaces.mqtt_requests import MqttRequests
from edge.interfaces.requests import RequestHandler
from edge.interfaces.unix_socket import SOCKET, SocketServer
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.server import WebServer
from edge.photos.decoder import PhotoDecoder
from edge.settings.live_change import live_change
from edge.settings.schema import ModelSettings, Settings
from edge.settings.toml_file import load_settings, mask
from edge.status.recent import Recent
from edge.status.snapshot import Status
from edge.vision.bundle import Bundle

if TYPE_CHECKING:
    from edge.vision.classifier import Classifier

logger = logging.getLogger("edge.daemon.service")
TICK_S = 0.5
STOP_WITHIN_S = 5.0  # SIGTERM to exit
EXIT_STUCK = 75  # EX_TEMPFAIL: a call never returned; systemd restarts the daemon


def load_classifier(bundle: Bundle, settings: ModelSettings) -> Classifier:
    """A `Classifier`. It is imported here because importing torch takes seconds, in which the camera can open."""
    # Debian's torch loads UCX, which would handle SIGHUP itself; the daemon needs it to reload its settings.
    os.environ.setdefault("UCX_DEBUG_SIGNO", "0")
    from edge.vision.classifier import Classifier

    return Classifier(bundle, settings)


class Service:
    """One run of the daemon.

    Args:
        settings: the settings to run with.
        config: the file that SIGHUP reads again; None for the installed one.
        make_capture: makes the source of the frames.
        make_classifier: verifies a bundle and loads its model; raises BundleError.
    """

    def __init__(
        self,
        settings: Settings,
        config: Path | None,
        *,
        make_capture: Callable[..., Capture] = Capture,
        make_classifier: Callable[[Bundle, ModelSettings], Classifier] = load_classifier,
    ) -> None:
        self._settings = settings
        self._config = config
        self._state = settings.fallback.path.parent  # the directory of what must survive a restart
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._notifier = Notifier()
        self._status = Status()
        self._model = ModelSwitch(settings.model.with_threads_of_streams(), self._status, make_classifier)
        boot = host.boot_id()
        self._status.gauge(device=settings.device.name, version=__version__, board=host.board(), boot=boot)
        self._delivery = Delivery(settings.mqtt, settings.fallback, settings.device.name, boot, self._status)
        self._recent = Recent()
        self._capture = make_capture(settings.camera, self._status, on_camera=self._delivery.set_camera)
        self._photos = PhotoDecoder()
        self._maker = EventMaker(settings.device.name, boot)
        self._health = Health(
            self._status,
            self._state / "counters.json",
            limit_fps=self._capture.set_board_limit,
            on_synchronised=self._delivery.clock_synchronised,
        )
        self._overrides: dict[str, float] = {}  # settings that requests have changed since the last reload
        self._status.gauge(overrides={})
        self._stop_by = float("inf")
        self._stuck = False  # a thread is in a call that does not return

    def run(self) -> int:
        """Run until a signal or the end of a file source; returns the exit code.

        Raises:
            BundleError: the model bundle cannot be used.
            Exception: what ended one of the pipeline's threads.
        """
        try:
            self._run()
        finally:
            if self._stuck:  # Python's own exit would wait for that thread
                if (error := sys.exc_info()[1]) is not None:
                    logger.critical("Ended by an unexpected error", exc_info=error)
                logging.shutdown()
                os._exit(EXIT_STUCK if error is not None else 0)
        return 0

    def _run(self) -> None:
        with ExitStack() as signals, ExitStack() as stack:
            signals.enter_context(signals_queued(self._signals, signal.SIGHUP))
            stack.callback(self._notifier.close)
            # The camera opens while the model loads, which takes longest.
            self._capture.start()
            stack.callback(self._stop_capture)
            # Until here there is nothing to lose: SIGTERM and Ctrl-C end the process, whichever thread imports torch.
            with ending_at_once(signal.SIGTERM, signal.SIGINT):
                classifier = self._model.load()
            signals.enter_context(signals_queued(self._signals, signal.SIGTERM, signal.SIGINT))
            self._delivery.start()
            stack.callback(lambda: self._delivery.stop(self._time_left(STOP_WITHIN_S)))
            self._decider = Decider(self._settings.decision, classifier.labels)
            self._pipeline = Pipeline(
                *(self._capture, classifier, self._decider, self._maker, self._publish, self._status),
                watch=self._recent.offer,
                streams=self._settings.model.streams or len(os.sched_getaffinity(0)),
            )
            self._pipeline.start()
            stack.callback(self._stop_pipeline)
            self._web = WebServer(self._settings.web, self._daemon_access(), gauge=self._status.gauge)
            self._web.start()
            stack.callback(self._stop_web)
            requests = self._make_requests()
            self._mqtt_requests = self._make_mqtt_requests(requests)
            self._mqtt_requests.start()
            stack.callback(lambda: self._mqtt_requests.stop(self._time_left(0.5)))
            socket_server = SocketServer(self._state / SOCKET, requests.handle)
            socket_server.start()
            stack.callback(lambda: socket_server.stop(self._time_left(0.5)))
            source = mask(self._settings.camera.source)
            logger.info("edge-classifier %s watches %s with %s.", __version__, source, classifier.name)
            del classifier  # lets its memory be freed when another model replaces it
            self._notifier.ready(self._status.snapshot().to_line())
            stack.callback(self._photos.close)  # first, because the page and the requests may wait for a photo
            stack.callback(self._start_stopping)
            self._loop()

    def _publish(self, event: Event) -> None:
        """Deliver an event and keep it for the page; called by the inference thread."""
        self._delivery.put(event)
        self._recent.add(event)

    def _daemon_access(self) -> DaemonAccess:
        return DaemonAccess(
            status=self._status.snapshot,
            recent=self._recent,
            top=lambda: self._decider.top,
            decode=self._photos.decode,
            classify=self._pipeline.classify,
            model=lambda: self._model.description,
            labels=lambda: self._model.labels,
            logged=lambda limit, until: newest_events(self._settings.fallback.path, limit, until),
        )

    def _make_requests(self) -> RequestHandler:
        return RequestHandler(
            *(self._recent, self._photos.decode, self._pipeline.classify),
            reload=lambda: self._signals.put(signal.SIGHUP),
            change=self._change,
            running=lambda: str(self._model.description["name"]),
            use=lambda name: self._model.use(name, self._pipeline),
            rollback=lambda: self._model.rollback(self._pipeline),
        )

    def _make_mqtt_requests(self, requests: RequestHandler) -> MqttRequests:
        return MqttRequests(
            self._settings.mqtt,
            self._settings.device.name,
            self._announcement(),
            handle=requests.handle,
            snapshot=requests.snapshot,
            identity=self._state / "mqtt-topics.json",
            gauge=self._status.gauge,
        )

    def _announcement(self) -> bytes:
        settings = self._settings
        name, heartbeat_s = settings.device.name, settings.decision.heartbeat_s
        return discovery_payload(settings.mqtt, name, __version__, host.board(), heartbeat_s)

    def _change(self, min_confidence: float | None, fps: float | None) -> None:
        """Set another threshold or rate until the next reload; called by the threads that answer requests."""
        if min_confidence is not None:
            self._decider.settings = self._decider.settings.model_copy(update={"min_confidence": min_confidence})
        if fps is not None:
            self._capture.set_fps(fps)
        wanted = {"decision.min_confidence": min_confidence, "camera.fps": fps}
        # A new dictionary, because the status hands out the one before.
        self._overrides = self._overrides | {key: value for key, value in wanted.items() if value is not None}
        self._status.gauge(overrides=self._overrides)
        logger.info("Changed by a request: %s.", self._overrides)

    def _loop(self) -> None:
        tick_s = min(TICK_S, self._notifier.watchdog_interval_s or TICK_S)
        while not self._pipeline.ended.is_set():
            number = None
            with suppress(queue.Empty):
                number = self._signals.get(timeout=tick_s)
            if number == signal.SIGHUP:
                self._reload()
            elif number is not None:
                logger.info("Stopping on %s.", signal.Signals(number).name)
                self._notifier.stopping("Stopping: moving what is unsent to the fallback log")
                return
            self._check_stages()
            self._health.tick()
            foreign_logs.settle()
            self._notifier.status(self._status.snapshot().to_line())
        logger.info("The source has ended and its last frame is classified; stopping.")
        self._notifier.stopping("The source has ended")

    def _check_stages(self) -> None:
        """Feed the watchdog while every stage is alive; if one is stuck, end the process, and systemd restarts it."""
        if self._pipeline.failure is not None:
            raise self._pipeline.failure
        overdue = self._status.overdue()
        if not overdue:
            self._notifier.watchdog()
            return
        stuck = ", ".join(f"{stage} has not moved for {age:.0f} s" for stage, age in sorted(overdue.items()))
        if "camera" in overdue:
            self._status.count("camera_restarts")
        # A blocked thread cannot be replaced, and picamera2 frees its camera only at the end of the process.
        sentence = f"Restarting because {stuck}; what is unsent goes to the fallback log first."
        logger.error("%s", sentence)
        self._notifier.stopping(sentence)
        if not self._delivery.flush(STOP_WITHIN_S / 2):
            logger.error("The fallback log did not take everything; the gap in the event ids shows what is missing.")
        self._health.save()
        logging.shutdown()
        os._exit(EXIT_STUCK)

    def _reload(self) -> None:
        logger.info("Reloading the settings.")
        self._notifier.reloading(time.monotonic_ns() // 1000)
        try:
            wanted = load_settings(self._config)
        except ConfigError as error:
            logger.error("Keeping the running settings: %s", error)
        else:
            self._settings, waiting = live_change(self._settings, wanted)
            self._decider.settings = self._settings.decision
            self._mqtt_requests.announce(self._announcement())
            self._capture.set_fps(self._settings.camera.fps)
            self._overrides = {}
            self._status.gauge(overrides={})
            logging.getLogger(LOGGER_NAME).setLevel(self._settings.log.level.upper())
            logger.info("Settings reloaded%s.", f"; a restart is needed for {', '.join(waiting)}" if waiting else "")
        self._notifier.ready(self._status.snapshot().to_line())

    # Stopping: in the reverse order of starting, within STOP_WITHIN_S in all.

    def _start_stopping(self) -> None:
        self._stop_by = time.monotonic() + STOP_WITHIN_S - 0.5

    def _time_left(self, at_most_s: float) -> float:
        return max(0.1, min(at_most_s, self._stop_by - time.monotonic()))

    def _stop_web(self) -> None:
        if not self._web.stop(self._time_left(1.0)):
            logger.warning("The page's connections did not close in time; stopping without waiting any longer.")

    def _stop_pipeline(self) -> None:
        if not self._pipeline.stop(self._time_left(1.5)):
            self._stuck = True
            logger.error("The inference did not return in time; stopping without waiting any longer.")

    def _stop_capture(self) -> None:
        if not self._capture.stop(self._time_left(1.0)):
            self._stuck = True
            logger.error("The camera did not close in time; stopping without waiting any longer.")
        self._health.save()
        counters = self._status.snapshot().counters
        logger.info(
            "Stopped: %d frames classified, %d events made, %d of them published, %d in the fallback log.",
            *(counters.get(name, 0) for name in ("frames_classified", "events_made", "events_published")),
            self._status.snapshot().gauges.get("log_depth", 0),
        )
