"""gunicorn's worker with threads, fit for strangers: a slow or silent one holds up nobody else."""

import signal
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from logging import LogRecord
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

SILENCE = 10
"""How many seconds a thread waits for a client's next bytes, or for it to accept ours."""
IDLE = 5
"""How many seconds a connection may be open without a request, or after its last response."""
DEFERRED = 60
"""How many seconds the kernel keeps a connection to itself while nothing is sent on it."""
STOPS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
"""The signals that end a worker. They are blocked while it is forked; it would lose them."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gthread without its ways of waiting for clients.

    gthread gives a thread to each new connection before anything is sent on it, reads and writes
    without a time limit, and closes connections, which may take 2 s each, in the loop that accepts
    them.
    """

    def init_process(self) -> None:
        """Set the options that accepted connections inherit, and run the worker."""
        to_read = struct.pack("ll", SILENCE, 0)
        to_write = struct.pack("ll", SILENCE // 2, 0)  # the kernel gives up the second time
        for listener in self.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, to_read)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, to_write)
            if hasattr(socket, "TCP_DEFER_ACCEPT") and listener.family != socket.AF_UNIX:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFERRED)
        self.log.error_log.addFilter(_is_no_silence)
        super().init_process()

    def init_signals(self) -> None:
        """Handle signals, those included that came since the fork."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection to a thread once there is something to read on it."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
        else:
            self._watch(conn, self.on_pending_socket_readable)

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """Keep a connection, or end it once the client has read its response."""
        if fs.exception() or fs.result():
            super().finish_request(conn, fs)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
        else:  # closing while input is unread would take back the response
            self._watch(conn, self._discard)

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """Close the connections kept for too long, and the oldest if others have no room."""
        excess = max(0, self.nr_conns - self.max_keepalived)
        for conn in islice(self.keepalived_conns, excess):
            conn.timeout = 0
        super().murder_keepalived(force)

    def _watch(self, conn: TConn, on_readable: Callable[[TConn, socket.socket], None]) -> None:
        conn.sock.setblocking(False)  # noqa: FBT003 - socket's
        conn.timeout = time.monotonic() + IDLE
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(on_readable, conn))

    def _discard(self, conn: TConn, client: socket.socket) -> None:
        try:
            more = client.recv(2**16)
        except OSError:
            more = b""
        if not more:
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            self._close(conn)

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def _is_no_silence(record: LogRecord) -> bool:
    """Return whether a line in the log is about anything but a client that fell silent."""
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))
