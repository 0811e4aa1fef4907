"""Odd HTTP, byte by byte: each request is refused or read in only one way, by either parser.

After each odd request the same connection carries a good one, which is answered only if the odd one
was read to its end: after a refusal nothing more is read. So the answers on a connection also show
that no part of a body was taken for a request.
"""

import json
import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
import requests

from tests.support.databases import Database, NewDatabase
from tests.support.server import Server, create_bot

KIB = 1024
BODY = b'{"name":"Ann"}'
CHUNKS = b"e\r\n" + BODY + b"\r\n0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
CONTROLS = bytes({*range(32), 127} - set(b"\t"))


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


def get(*headers: bytes, line: bytes = b"GET /health HTTP/1.1") -> bytes:
    return head(line, b"Host: x", *headers)


def post(*headers: bytes, version: bytes = b"1.1") -> bytes:
    line = b"POST /teams/new HTTP/" + version
    return get(b"Authorization: Basic CREDENTIALS", *headers, line=line)


def target(value: bytes) -> bytes:
    return get(line=b"GET " + value + b" HTTP/1.1")


def sized(length: bytes) -> bytes:
    return post(b"Content-Length: " + length) + BODY


def coded(coding: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + coding) + CHUNKS


def chunk(size: bytes, after: bytes = b"\r\n0\r\n\r\n") -> bytes:
    return post(CHUNKED) + size + b"\r\n" + BODY + after


NEXT = get(b"X-Request-ID: next")
SMUGGLED = target(b"/smuggled")

CASES = {
    # How long a body is
    "a length": (sized(b"14"), "201 next"),
    "a length, a blank after it": (sized(b"14 "), "201 next"),
    "a length with a zero before it": (sized(b"014"), "201 next"),
    "a length with a sign": (sized(b"+14"), "400"),
    "a hexadecimal length": (sized(b"0xe"), "400"),
    "a length with a blank in it": (sized(b"1 4"), "400"),
    "a length with an underscore": (sized(b"1_4"), "400"),
    "a length with a fraction": (sized(b"14.0"), "400"),
    "a list of lengths": (sized(b"14, 14"), "400"),
    "a length in another script": (sized("¹".encode("latin-1")), "400"),
    "an empty length": (sized(b""), "400"),
    "a negative length": (sized(b"-14"), "400"),
    "a length over 1 MiB": (sized(b"2147483648"), "413"),
    "a length over 32 bits that ends in the right one": (sized(b"4294967310"), "413"),
    "a length of 5,000 digits": (sized(b"9" * 5000), "400"),
    "two equal lengths": (post(b"Content-Length: 14", b"Content-Length: 14") + BODY, "400"),
    "two lengths": (post(b"Content-Length: 14", b"Content-Length: 2") + BODY, "400"),
    "a length, then chunks": (post(b"Content-Length: 14", CHUNKED) + CHUNKS, "400"),
    "chunks, then a length": (post(CHUNKED, b"Content-Length: 4") + CHUNKS, "400"),
    "a length with an underscore in its name": (
        post(b"Content_Length: 2", b"Content-Length: 14") + BODY,
        "201 next",
    ),
    # How a body is coded
    "chunks": (coded(b"chunked"), "201 next"),
    "Chunks": (coded(b"Chunked"), "201 next"),
    "chunks as they are": (coded(b"identity, chunked"), "201 next"),
    "chunks of something else": (coded(b"gzip, chunked"), "201"),
    "chunks of chunks": (coded(b"chunked, chunked"), "400"),
    "chunks of chunks, in two headers": (post(CHUNKED, CHUNKED) + CHUNKS, "400"),
    "something else after chunks": (coded(b"chunked, gzip"), "400"),
    "no chunks": (coded(b"gzip"), "400"),
    "no coding": (coded(b"identity"), "400"),
    "no coding, with a length": (
        post(b"Content-Length: 14", b"Transfer-Encoding: identity") + BODY,
        "400",
    ),
    "chunks after a control character": (coded(b"\x0bchunked"), "400"),
    "chunks before a NUL": (coded(b"chunked\0"), "400"),
    "chunks, with a blank before the colon": (post(b"Transfer-Encoding : chunked"), "400"),
    "a coding with an underscore in its name": (
        post(b"Transfer_Encoding: chunked", b"Content-Length: 14") + BODY,
        "201 next",
    ),
    "chunks in HTTP/1.0": (post(CHUNKED, version=b"1.0") + CHUNKS, "400"),
    "chunks in HTTP/1.0, kept": (
        post(CHUNKED, b"Connection: keep-alive", version=b"1.0") + CHUNKS,
        "400",
    ),
    # Chunks
    "a size with zeros before it": (chunk(b"0" * 20 + b"e"), "201 next"),
    "a size in capitals": (chunk(b"E"), "201 next"),
    "a size with a sign": (chunk(b"+e"), "400"),
    "a negative size": (chunk(b"-e"), "400"),
    "a size with 0x": (chunk(b"0xe"), "400"),
    "a size with an underscore": (chunk(b"0_e"), "400"),
    "a size after a blank": (chunk(b" e"), "400"),
    "a size before a blank": (chunk(b"e "), "400"),
    "a size with junk": (chunk(b"eg"), "400"),
    "a size with a NUL": (chunk(b"e\0"), "400"),
    "no size": (chunk(b""), "400"),
    "a size over 64 bits that ends in the right one": (chunk(b"1" + b"0" * 15 + b"e"), "400"),
    "a size of 100 digits": (chunk(b"f" * 100), "400"),
    "a size one too small": (chunk(b"d"), "400"),
    "a size one too large": (chunk(b"f"), "400"),
    "an extension": (chunk(b"e;a=b"), "201 next"),
    "an extension in quotes": (chunk(b'e;a="b;c"'), "201 next"),
    "an extension among blanks": (chunk(b"e ; a"), "201 next"),
    "an empty extension": (chunk(b"e;"), "400"),
    "an extension without a semicolon": (chunk(b"e a=b"), "400"),
    "an extension with a blank": (chunk(b"e;a b"), "400"),
    "an extension with a CR": (chunk(b"e;a\rb"), "400"),
    "an extension with an LF": (chunk(b"e;a\nb"), "400"),
    "an extension of 100 KiB": (chunk(b"e;a=" + b"b" * 100 * KIB), "400"),
    "chunks that end with LF": (post(CHUNKED) + CHUNKS.replace(b"\r", b""), "400"),
    "a size that ends with LF": (post(CHUNKED) + CHUNKS.replace(b"\r", b"", 1), "400"),
    "a size that ends with CR": (post(CHUNKED) + CHUNKS.replace(b"\n", b"", 1), "400"),
    "a last LF": (post(CHUNKED) + CHUNKS[:-2] + b"\n", "400"),
    "a request instead of the last chunk": (chunk(b"e", b"\r\n"), "400"),
    "a request instead of the trailer": (chunk(b"e", b"\r\n0\r\n"), "400"),
    "a last chunk of two zeros": (chunk(b"e", b"\r\n00\r\n\r\n"), "201 next"),
    "a last chunk with an extension": (chunk(b"e", b"\r\n0;a\r\n\r\n"), "201 next"),
    "a trailer": (chunk(b"e", b"\r\n0\r\nA: b\r\n\r\n"), "201 next"),
    "a trailer that is no header": (chunk(b"e", b"\r\n0\r\nA\r\n\r\n"), "400"),
    "a length in the trailer": (chunk(b"e", b"\r\n0\r\nContent-Length: 5\r\n\r\n"), "400"),
    "credentials in the trailer": (chunk(b"e", b"\r\n0\r\nAuthorization: a\r\n\r\n"), "400"),
    "bad chunks for what takes no body": (get(CHUNKED) + b"+1\r\na\r\n0\r\n\r\n", "400"),
    # One request after another
    "a request behind a body": (sized(b"14") + get(), "201 200 next"),
    "a request in a body": (
        get(b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED,
        "200 next",
    ),
    "a request in chunks": (
        get(CHUNKED) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
        "200 next",
    ),
    "a request behind a body of nothing": (get(b"Content-Length: 0") + SMUGGLED, "200 404 next"),
    "requests of all kinds": (get() + coded(b"chunked") + SMUGGLED + get(), "200 201 404 200 next"),
    "a last request": (get(b"Connection: close"), "200"),
    "a CRLF behind a body": (sized(b"14") + b"\r\n", "201 next"),
    "two CRLFs behind a body": (sized(b"14") + b"\r\n\r\n", "201 400"),
    "a CRLF before a request": (b"\r\n" + get(), "200 next"),
    "two CRLFs before a request": (b"\r\n\r\n" + get(), "400"),
    "an LF before a request": (b"\n" + get(), "400"),
    # Lines and headers
    "LF at the end of all lines": (get().replace(b"\r", b""), "400"),
    "LF at the end of the first line": (get().replace(b"\r", b"", 1), "400"),
    "LF between headers": (get(b"A: b\nC: d"), "400"),
    "LF at the end of the head": (get()[:-2] + b"\n", "400"),
    "LF before the end of the head": (get()[:-4] + b"\n\r\n", "400"),
    "CR at the end of all lines": (get().replace(b"\n", b""), "400"),
    "a blank before a colon": (get(b"A : b"), "400"),
    "a tab before a colon": (get(b"A\t: b"), "400"),
    "no colon": (get(b"A"), "400"),
    "no name": (get(b": b"), "400"),
    "a first header that is folded": (head(b"GET /health HTTP/1.1", b" Host: x"), "400"),
    "a header folded with a blank": (get(b"A: b\r\n c"), "400"),
    "a header folded with a tab": (get(b"A: b\r\n\tc"), "400"),
    "a header folded with nothing": (get(b"A: b\r\n "), "400"),
    "a folded length": (post(b"Content-Length:\r\n 14") + BODY, "400"),
    "bytes over 127 in a header": (get(b"A: \x80\xff"), "200 next"),
    "bytes over 127 in a header's name": (get(b"A\xff: b"), "400"),
    "bytes over 127 in the target": (target(b"/health\xff"), "400"),
    # Methods, targets, versions
    "a method in small letters": (get(line=b"get /health HTTP/1.1"), "400"),
    "a method of one letter": (get(line=b"G /health HTTP/1.1"), "400"),
    "no method": (get(line=b" /health HTTP/1.1"), "400"),
    "an unknown method": (get(line=b"FROB /health HTTP/1.1"), "405 next"),
    "TRACE": (get(line=b"TRACE /health HTTP/1.1"), "405 next"),
    "CONNECT": (get(line=b"CONNECT x:80 HTTP/1.1"), "404"),
    "CONNECT to a path": (get(line=b"CONNECT /health HTTP/1.1"), "405"),
    "OPTIONS of the server": (get(line=b"OPTIONS * HTTP/1.1"), "404 next"),
    "GET of the server": (target(b"*"), "400"),
    "a target with a host": (target(b"http://x/health"), "200 next"),
    "a target with another host": (target(b"http://y/health"), "200 next"),
    "a target with a host alone": (target(b"http://x"), "308 next"),
    "a target with half a host": (target(b"http://[x/health"), "400"),
    "a target that is a host": (target(b"x:80"), "400"),
    "a target without a slash": (target(b"health"), "400"),
    "a target with dots": (target(b"/docs/../health"), "404 next"),
    "a target with a fragment": (target(b"/health#a"), "200 next"),
    "a target with an escaped NUL": (target(b"/health%00"), "404 next"),
    "a target with an escaped line end": (target(b"/health%0d%0aA:b"), "404 next"),
    "a target with half an escape": (target(b"/health%"), "404 next"),
    "a blank in the target": (target(b"/health x"), "400"),
    "a blank behind the version": (get(line=b"GET /health HTTP/1.1 "), "400"),
    "tabs in the first line": (get(line=b"GET\t/health\tHTTP/1.1"), "400"),
    "HTTP/0.9": (b"GET /health\r\n", "400"),
    "HTTP/0.9 by name": (get(line=b"GET /health HTTP/0.9"), "400"),
    "HTTP/1.0": (get(line=b"GET /health HTTP/1.0"), "200"),
    "HTTP/1.0, kept": (get(b"Connection: keep-alive", line=b"GET /health HTTP/1.0"), "200 next"),
    "HTTP/1.0 without a host": (head(b"GET /health HTTP/1.0"), "200"),
    "HTTP/1": (get(line=b"GET /health HTTP/1"), "400"),
    "HTTP/1.10": (get(line=b"GET /health HTTP/1.10"), "400"),
    "HTTP/2.0": (get(line=b"GET /health HTTP/2.0"), "400"),
    "http/1.1": (get(line=b"GET /health http/1.1"), "400"),
    # Hosts
    "no host": (head(b"GET /health HTTP/1.1"), "200 next"),
    "an empty host": (head(b"GET /health HTTP/1.1", b"Host:"), "200 next"),
    "an invalid host": (head(b"GET /health HTTP/1.1", b"Host: .."), "400 next"),
    "two hosts": (get(b"Host: y"), "400"),
    "the same host twice": (get(b"Host: x"), "400"),
    # Other protocols, and names that mean something to servers
    "an upgrade to HTTP/2": (
        get(
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        ),
        "200 next",
    ),
    "an upgrade to WebSocket": (get(b"Connection: Upgrade", b"Upgrade: websocket"), "400 next"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200, "400"),
    "the PROXY protocol": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(), "400"),
    "the PROXY protocol, version 2": (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(range(12)) + get(),
        "400",
    ),
    "SCRIPT_NAME that would hide a part of the path": (
        get(b"SCRIPT_NAME: /health", line=b"GET /health/health HTTP/1.1"),
        "404 next",
    ),
    "Script-Name that would hide a part of the path": (
        get(b"Script-Name: /health", line=b"GET /health/health HTTP/1.1"),
        "404 next",
    ),
    "SCRIPT_NAME that is not in the path": (
        get(b"SCRIPT_NAME: /a", b"Script-Name: /a"),
        "200 next",
    ),
    "PATH_INFO": (get(b"PATH_INFO: /smuggled", b"Path-Info: /smuggled"), "200 next"),
    # Before a body
    "an expectation": (
        post(b"Expect: 100-continue", b"Content-Length: 14") + BODY,
        "100 201 next",
    ),
    "an expectation without a body": (get(b"Expect: 100-continue"), "100 200 next"),
    "an expectation in HTTP/1.0": (
        post(b"Expect: 100-continue", b"Content-Length: 14", version=b"1.0") + BODY,
        "201",
    ),
    "an expectation of something else": (
        post(b"Expect: 200-ok", b"Content-Length: 14") + BODY,
        "417",
    ),
    # Size
    "a header of 100 KiB": (get(b"A: " + b"b" * 100 * KIB), "431"),
    "a header's name of 100 KiB": (get(b"A" * 100 * KIB + b": b"), "431"),
    "100 headers of 1 KiB": (get(*[b"A: " + b"b" * KIB] * 99), "200 next"),
    "101 headers of 1 KiB": (get(*[b"A: " + b"b" * KIB] * 100), "431"),
    "a method of 100 KiB": (get(line=b"A" * 100 * KIB + b" / HTTP/1.1"), "414"),
    "a target of 100 KiB": (target(b"/" + b"a" * 100 * KIB), "414"),
    "a query of 100 KiB": (target(b"/health?" + b"a" * 100 * KIB), "414"),
}

DIFFERENCES: dict[str, tuple[bytes, dict[str, str]]] = {
    "a length over 63 bits": (sized(b"9" * 19), {"python": "413", "fast": "400"}),
    "an unknown coding": (coded(b"xchunked"), {"python": "501", "fast": "400"}),
    "an unknown coding before chunks": (coded(b"x, chunked"), {"python": "501", "fast": "400"}),
    "a coding in quotes": (coded(b'"chunked"'), {"python": "501", "fast": "400"}),
    "a coding with a parameter": (coded(b"chunked;a"), {"python": "501", "fast": "400"}),
    "half a list of codings": (coded(b"chunked,"), {"python": "501", "fast": "400"}),
    "an empty coding": (coded(b""), {"python": "501", "fast": "400"}),
    "two blanks before the target": (target(b" /health"), {"python": "400", "fast": "200 next"}),
    "two blanks behind the target": (target(b"/health "), {"python": "400", "fast": "200 next"}),
    "HTTP/1.2": (get(line=b"GET /health HTTP/1.2"), {"python": "200 next", "fast": "400"}),
}
"""Requests that gunicorn's own parser and the one in C answer differently."""


@pytest.fixture(scope="module", params=["python", "fast"])
def parser(request: pytest.FixtureRequest) -> str:
    """Return the name of each parser that gunicorn may use."""
    if request.param == "fast":
        pytest.importorskip("gunicorn_h1c", reason="gunicorn's parser in C is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def server(parser: str, new_database: NewDatabase, empty_database: Database) -> Iterator[Server]:
    """Return a server with this parser, for all these tests."""
    arguments = f"--http-parser={parser}"
    with (
        new_database(empty_database) as database,
        Server(database, GUNICORN_CMD_ARGS=arguments) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def credentials(server: Server) -> bytes:
    """Make an app that may create teams."""
    return b64encode(":".join(create_bot(server.database, "--all")).encode())


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def receive(connection: socket.socket) -> bytes:
    """Return everything that comes until the server closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(64 * KIB):
            received += data
    return received


def converse(server: Server, sent: bytes, piece: int) -> bytes:
    """Send bytes, some at a time, and then no more; return everything that comes back."""
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # it may be refused before all of it is sent
            for start in range(0, len(sent), piece):
                connection.sendall(sent[start : start + piece])
            connection.shutdown(socket.SHUT_WR)
        return receive(connection)


def answers(received: bytes) -> str:
    """Return the statuses of all answers, with "next" for the last request."""
    statuses = []
    while received:
        lines, _, received = received.partition(b"\r\n\r\n")
        start = re.match(rb"HTTP/1\.\d (\d{3}) ", lines)
        assert start, lines
        length = re.search(rb"\r\nContent-Length: (\d+)", lines)
        size = int(length[1]) if length else 0
        body, received = received[:size], received[size:]
        status = start[1].decode()
        if b"\r\nX-Request-ID: next" in lines:
            assert (status, json.loads(body)) == ("200", {"status": "ok"})
            status = "next"
        elif b"\r\nX-Request-ID: " in lines and status >= "400":
            assert list(json.loads(body)) == ["detail"]
        statuses.append(status)
    return " ".join(statuses)


def count_teams(server: Server) -> int:
    response = requests.get(f"{server.url}/teams/search", timeout=60)
    assert response.status_code == 200
    return int(response.json()["results"])


def check(server: Server, sent: bytes, expected: str) -> None:
    """Send a request at once and byte by byte; compare answers, and count what it created."""
    for piece in (len(sent), 1):
        before = count_teams(server)
        assert answers(converse(server, sent, piece)) == expected
        assert count_teams(server) - before == expected.count("201")


@pytest.mark.parametrize(("sent", "expected"), CASES.values(), ids=CASES)
def test_an_odd_request(server: Server, credentials: bytes, sent: bytes, expected: str) -> None:
    check(server, sent.replace(b"CREDENTIALS", credentials) + NEXT, expected)


@pytest.mark.parametrize(("sent", "expected"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_what_the_parsers_read_differently(
    server: Server, parser: str, credentials: bytes, sent: bytes, expected: dict[str, str]
) -> None:
    check(server, sent.replace(b"CREDENTIALS", credentials) + NEXT, expected[parser])


@pytest.mark.parametrize(
    "request_",
    [
        target(b"/hea?lth"),
        get(line=b"GE?T /health HTTP/1.1"),
        get(line=b"GET /health HTTP/1.1?"),
        get(b"A?: b"),
        get(b"A: b?c"),
    ],
    ids=["target", "method", "version", "name", "value"],
)
def test_control_characters(server: Server, request_: bytes) -> None:
    found = {
        code: answers(converse(server, request_.replace(b"?", bytes([code])) + NEXT, KIB))
        for code in CONTROLS
    }
    assert found == dict.fromkeys(CONTROLS, "400")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (get()[:-2], ""),
        (sized(b"100"), "400"),
        (post(b"Content-Length: 14"), "400"),
        (chunk(b"e", b""), "400"),
        (chunk(b"e", b"\r\n"), "400"),
        (chunk(b"e", b"\r\n0\r\n"), "400"),
    ],
    ids=[
        "half a head",
        "the whole object",
        "no body",
        "no end of the chunk",
        "no last chunk",
        "no trailer",
    ],
)
def test_a_request_that_breaks_off(
    server: Server, credentials: bytes, sent: bytes, expected: str
) -> None:
    """Half a request is no request, even if its body looks complete."""
    check(server, sent.replace(b"CREDENTIALS", credentials), expected)


def test_clients_that_do_not_hang_up(server: Server) -> None:
    """A connection that its client leaves open keeps nobody else waiting."""
    with ExitStack() as held, ThreadPoolExecutor(30) as pool:
        connections = [held.enter_context(connect(server)) for _ in range(30)]
        for connection in connections:
            connection.sendall(get(b"Connection: close"))
        assert [answers(received) for received in pool.map(receive, connections)] == ["200"] * 30
