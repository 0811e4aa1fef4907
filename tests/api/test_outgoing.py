"""Requests to other servers: each on its own, whatever the other server does."""

import socket
from contextlib import suppress
from threading import Thread

from integrations.http import fetch

ANSWER = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}"


def test_no_connection_is_used_twice_and_no_cookie_kept() -> None:
    asked: list[tuple[int, bytes]] = []

    def answer_all(number: int, connection: socket.socket) -> None:
        """Leave the connection open for more, whatever the client wants."""
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
