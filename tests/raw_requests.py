"""Requests that no web server can read, for what it says of them."""

from __future__ import annotations

import socket


def ask_badly(port: int, canary: str) -> None:
    """Sends them to a server on this machine, with the canary in each; all are refused."""
    for request in (
        f"GET /profiles/some {canary} HTTP/1.1\r\n\r\n",
        f"GET /profiles/\u00e9{canary} HTTP/1.1\r\n\r\n",
        f"GET /stats HTTP/1.1\r\nAuthorization : Bearer {canary}\r\n\r\n",
        f"GET /stats HTTP/1.1\r\nCookie: \0{canary}\r\n\r\n",
        f"GET /stats HTTP/1.1\r\nCookie: {canary}{'x' * 20_000}\r\n\r\n",
        f"{canary} wants to be forgotten\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request.encode())
            assert b" 400 " in connection.recv(65_536).split(b"\r\n")[0], request
