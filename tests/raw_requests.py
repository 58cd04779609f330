"""Requests that an HTTP server refuses while it reads them, each with a text that must not be said anywhere."""

from __future__ import annotations

import socket

CANARY = "zq7rawrequest"

_HOST = b"Host: localhost\r\nConnection: close\r\n"
RAW_REQUESTS: dict[str, bytes] = {
    "a path with a space": b"GET /profiles/jane %b@example.com HTTP/1.1\r\n%b\r\n",
    "a path beyond ASCII": b"GET /profiles/\xe9%b HTTP/1.1\r\n%b\r\n",
    "a blank behind a header's name": b"GET /stats HTTP/1.1\r\nAuthorization : Bearer %b\r\n%b\r\n",
    "a NUL in a header": b"GET /stats HTTP/1.1\r\nX-Person: %b\x00\r\n%b\r\n",
    "a header that is too long": b"GET /stats HTTP/1.1\r\nX-Person: %b" + b"x" * 9_000 + b"\r\n%b\r\n",
    "no HTTP": b"%b wants to be forgotten\r\n%b\r\n",
}


def ask_badly(port: int) -> dict[str, bytes]:
    """Sends each of them to a server on this machine; what it answers, by what is wrong with the request."""
    return {what: _answer(port, request % (CANARY.encode(), _HOST)) for what, request in RAW_REQUESTS.items()}


def _answer(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    return answer
