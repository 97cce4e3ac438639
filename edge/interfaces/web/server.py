"""The web server's thread: binds the port and serves the app; no failure of it ends the daemon.

FastAPI and uvicorn are imported at the first connection, so that they take no memory where the page is not used.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edge.errors import ConfigError
from edge.interfaces.web.addresses import listen_on, url_of, why_not
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.history import SAMPLE_S, History
from edge.interfaces.web.listener import ACCEPTED_AT_ONCE, BoundedListener, OpenConnections
from edge.interfaces.web.log_lines import LogLines
from edge.interfaces.web.refusals import Refusals
from edge.interfaces.web.token import read_token, token_faults
from edge.settings.schema import WebSettings

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger("edge.interfaces.web")
WAIT_S = 0.25  # wait for the first connection between two checks of whether to stop
CLOSE_CONNECTIONS_S = 1  # time for open pages to be disconnected
RETRY_S = 5.0  # between two attempts to read the token and to listen
INSTALL = "run ./install.sh again, or turn web.enabled off"


class WebServer:
    """Owns the thread "web".

    Args:
        settings: the `[web]` section.
        daemon: the parts of the daemon that the routes use.
        gauge: sets the gauges `web` (an address, or "off") and `web_error` (a sentence, or "").
        needs: the packages that serving needs.
    """

    def __init__(
        self,
        settings: WebSettings,
        daemon: DaemonAccess,
        *,
        gauge: Callable[..., None],
        needs: Sequence[str] = ("fastapi", "uvicorn"),
    ) -> None:
        self._settings, self._daemon, self._gauge, self._needs = settings, daemon, gauge, needs
        self._stopping = threading.Event()
        self._log_lines = LogLines()
        self._refusals = Refusals()
        self._connections = OpenConnections(self._refusals)
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self.address = ""  # its URL with the real port, once `listening` is set
        self.listening = threading.Event()

    def start(self) -> None:
        """Start the thread, unless `web.enabled` is false."""
        self._gauge(web="off", web_error="")
        if self._settings.enabled and (missing := [name for name in self._needs if find_spec(name) is None]):
            # Reported now, because the import comes only with the first visitor.
            self._give_up(f"The page is off because {' and '.join(missing)} cannot be imported; {INSTALL}.")
        elif self._settings.enabled:
            logging.getLogger("edge").addHandler(self._log_lines)
            self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Close the connections and end the thread; False if it has not ended in time."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        logging.getLogger("edge").removeHandler(self._log_lines)
        return not self._thread.is_alive()

    def _run(self) -> None:
        found = self._open()
        if found is None:
            return
        token, listeners = found
        for fault in token_faults(self._settings.token_file, token):
            logger.warning("%s The remedy: %s", fault.what, fault.remedy)
        with ExitStack() as open_ones:
            for listener in listeners:
                open_ones.enter_context(listener)
            self._serve(listeners, token)

    def _open(self) -> tuple[str, list[BoundedListener]] | None:
        """The token and the listening sockets, tried again until both are there; None if the daemon stops before.

        At the boot an address may come later than the daemon, and a port may still be in use.
        """
        logged: set[str] = set()
        while True:
            try:
                token = read_token(self._settings.token_file)
                return token, listen_on(self._settings.host, self._settings.port, self._connections)
            except ConfigError as error:
                sentence = f"The page is off, and is tried again every {RETRY_S:g} s: {error}"
            except (OSError, UnicodeError) as error:
                reason = why_not(self._settings.listen, error)
                sentence = f"The page is off because {reason}. It is tried again every {RETRY_S:g} s."
            if sentence not in logged:
                logger.error("%s", sentence)
                logged.add(sentence)
            self._gauge(web="off", web_error=sentence)
            if self._stopping.wait(RETRY_S):
                return None

    def _give_up(self, sentence: str) -> None:
        logger.error("%s", sentence)
        self._gauge(web="off", web_error=sentence)

    def _serve(self, listeners: list[BoundedListener], token: str) -> None:
        self.address = url_of(listeners[0])
        logger.info("The page is at %s", " and ".join(map(url_of, listeners)))
        self._gauge(web=self.address, web_error="")
        self.listening.set()
        history = History(self._daemon.status)
        if self._wait_for_visitor(listeners, history):
            self._run_uvicorn(listeners, history, token)
        self._gauge(web="off")

    def _wait_for_visitor(self, listeners: list[BoundedListener], history: History) -> bool:
        """Wait for the first connection; False if the daemon stops before it."""
        sample_at = time.monotonic()
        while not self._stopping.is_set():
            if select.select(listeners, [], [], WAIT_S)[0]:
                return True
            if time.monotonic() >= sample_at:
                sample_at += SAMPLE_S
                history.sample()
        return False

    def _run_uvicorn(self, listeners: list[BoundedListener], history: History, token: str) -> None:
        try:
            import uvicorn

            from edge.interfaces.web.app import make_app
            from edge.interfaces.web.connection import protocol_of
        except ImportError as error:
            self._give_up(f"The page is off because a part of it cannot be imported ({error}); {INSTALL}.")
            return

        app = make_app(
            *(self._daemon, history, self._log_lines, self._refusals),
            token=token,
            stream=self._settings.stream,
            stopping=self._stopping,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=protocol_of(self._connections),  # of h11, not of httptools, which is compiled and not everywhere
                loop="asyncio",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=ACCEPTED_AT_ONCE,
                timeout_graceful_shutdown=CLOSE_CONNECTIONS_S,
            )
        )
        if not self._stopping.is_set():  # `stop` may have run before `self._server` was set
            # Outside the main thread uvicorn installs no signal handlers.
            self._server.run(sockets=list(listeners))
