"""Requests to other servers, each within one time limit for name look-up, connection and answer.

`requests` limits only the wait for each piece of an answer, so one that drips would hold a request
forever, and does not limit the wait for a name server at all. So each request runs in a thread of
its own, which is left behind when its time is up: its socket is shut down or, if it has none yet,
it will send nothing.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from socket import SHUT_RDWR
from threading import Thread, current_thread
from typing import Any

from requests import Response, Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class UnreachableError(Exception):
    """The other server could not be reached, or did not answer in time; the message says which."""


class HungUpError(UnreachableError):
    """The other server was reached, but ended the connection without an answer."""


@dataclass(frozen=True)
class Answer:
    """The other server's answer, with as much of the body as was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Request(Thread):
    """A request on its way."""

    def __init__(self, method: str, url: str, seconds: float, read: int, **options: Any) -> None:
        super().__init__(daemon=True)
        self.method, self.url, self.seconds, self.read = method, url, seconds, read
        self.options = options
        self.connection: HTTPConnection | None = None
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.abandoned = False
        self.connected = False

    def run(self) -> None:
        try:
            with _session.request(
                self.method,
                self.url,
                timeout=self.seconds,
                allow_redirects=False,
                auth=lambda prepared: prepared,  # keep our header, whatever the URL says
                stream=True,
                **self.options,
            ) as response:
                body = response.raw.read(self.read, decode_content=True) if self.read else b""
                self.answer = Answer(response.status_code, response.headers, body)
        except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
            self.error = error

    def abandon(self) -> None:
        """Stop as soon as possible, and send nothing more."""
        self.abandoned = True
        if self.connection and self.connection.sock:
            with suppress(OSError):
                self.connection.sock.shutdown(SHUT_RDWR)


class _Abandonable(HTTPConnection):
    """A connection that its request's thread can be made to give up."""

    def connect(self) -> None:
        """Connect, unless nobody is waiting any more."""
        request = current_thread()
        assert isinstance(request, _Request)  # noqa: S101 - nothing else makes these
        request.connection = self
        super().connect()
        if request.abandoned:
            self.close()
            raise TimeoutError
        request.connected = True


class _AbandonableTLS(_Abandonable, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Abandonable

    def _put_conn(self, conn: Any) -> None:
        """Reuse no connection: only a new one belongs to its request."""
        if conn:
            conn.close()
        super()._put_conn(conn)


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _AbandonableTLS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Use connections that can be abandoned."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}


class _Session(Session):
    """A session that ignores redirects: otherwise it would read the whole body of one."""

    def get_redirect_target(self, resp: Response) -> None:
        """Return None: a redirect is an answer like any other."""


def _make_session() -> Session:
    """Return the session of all requests, which remembers nothing from one to the next."""
    session = _Session()
    session.trust_env = False  # ignore the host's proxies and .netrc
    session.headers["Connection"] = "close"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("http://", _Adapter())
    session.mount("https://", _Adapter())
    return session


_session = _make_session()


def fetch(  # noqa: PLR0913 - what a request has
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    seconds: float,
    data: bytes | None = None,
    read: int = 0,
) -> Answer:
    """Make one request and return its answer, with up to `read` bytes of the body.

    Redirects are not followed. Raises `UnreachableError`, after `seconds` at the latest;
    `HungUpError` if there was a connection to send the request on.
    """
    request = _Request(method, url, seconds, read, headers=dict(headers), data=data)
    try:
        request.start()
    except RuntimeError as error:  # the system has no thread to spare
        raise UnreachableError(str(error)) from None
    request.join(seconds)
    if request.answer:
        return request.answer
    if request.is_alive():
        request.abandon()
        raise UnreachableError(f"no answer within {seconds:g} s")
    cause = _cause(request.error)
    if isinstance(cause, TimeoutError):
        raise UnreachableError("no answer in time")
    reason = getattr(cause, "strerror", None) or type(cause).__name__
    if request.connected:
        raise HungUpError(f"no HTTP response: {reason}")
    raise UnreachableError(reason)


def _cause(error: BaseException | None) -> BaseException | None:
    """Return the error at the bottom of another, without the request that it is about."""
    while error and (below := error.__cause__ or error.__context__):
        error = below
    return error
