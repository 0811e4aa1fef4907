"""Requests to other servers: each on its own, whatever the other server does."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from integrations.http import Answer, HungUpError, UnreachableError, fetch

ANSWER = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}"


def test_no_connection_is_used_twice_and_no_cookie_kept() -> None:
    asked: list[tuple[int, bytes]] = []

    def answer_all(number: int, connection: socket.socket) -> None:
        """Leave the connection open for more requests, whatever the client wants."""
        with connection:
            while text := connection.recv(65536):
                asked.append((number, text))
                connection.sendall(ANSWER)

    def serve(server: socket.socket) -> None:
        with suppress(OSError):
            for number in range(100):
                Thread(target=answer_all, args=(number, server.accept()[0])).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=serve, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        for _ in range(3):
            assert fetch("GET", url, headers={}, seconds=5, read=100).body == b"{}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert [number for number, _ in asked] == [0, 1, 2]
    assert not any(b"cookie" in text.lower() for _, text in asked)


@contextmanager
def answering(answer: bytes, *, read: bool = True) -> Iterator[str]:
    """Return the URL of a server that hangs up after its answer, sent once or forever."""

    def serve(server: socket.socket) -> None:
        with suppress(OSError), server.accept()[0] as connection:
            if read:
                connection.recv(65536)
            connection.sendall(answer)
            while answer.endswith(b"more"):
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=serve, args=(server,))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join()


def get(url: str) -> Answer:
    return fetch("GET", url, headers={}, seconds=5)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
def test_who_hangs_up_was_reached(answer: bytes, read: bool) -> None:
    with (
        answering(answer, read=read) as url,
        pytest.raises(HungUpError, match="no HTTP response: "),
    ):
        get(url)


def test_who_is_not_there_was_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    with pytest.raises(UnreachableError, match="Connection refused") as raised:
        get(url)
    assert raised.type is UnreachableError


@pytest.mark.parametrize("location", ["/elsewhere", "http://[", "\xff"])
def test_a_redirect_is_an_answer_like_any_other(location: str) -> None:
    """Its body is not read: that may have no end."""
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\nmore".encode("latin-1")
    with answering(head) as url:
        assert get(url).status == 302
