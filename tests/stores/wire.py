"""A wire between a test and a server, to be cut, blocked and mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType


class Wire:
    """Passes bytes on to the server that `url` names. `url` of the wire leads to the same database through it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (
            parts.hostname or "127.0.0.1",
            parts.port or {"mysql": 3306, "https": 443, "http": 80}.get(parts.scheme, 5432),
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        #: How many connections were tried.
        self.tried: int = 0
        port = self._listener.getsockname()[1]
        user = f"{parts.username}@" if parts.username else ""
        self.url: str = parts._replace(netloc=f"{user}127.0.0.1:{port}").geturl()
        threading.Thread(target=self._accept, daemon=True).start()

    def block(self) -> None:
        """From here on nothing gets through, and nobody is told."""
        self._open.clear()

    def cut(self) -> None:
        """End every connection, and take no new one."""
        self._refusing = True
        self._hang_up()

    def mend(self) -> None:
        """Everything gets through again, over new connections."""
        self._hang_up()
        self._refusing = False
        self._open.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._refusing = True
        self._open.set()
        # A thread that waits to accept is not woken by a close.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()

    def _hang_up(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):  # the other side was quicker
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.tried += 1
            if self._refusing:
                near.close()
                continue
            far = socket.create_connection(self._server)
            for end in (near, far):
                # Otherwise what is sent in two pieces waits 40 ms in the midst.
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._open.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
