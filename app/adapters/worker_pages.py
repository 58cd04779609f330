"""The pages of workers, as commands read them."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.errors import InvalidInputError, UnreachableError

_TIMEOUT_SECONDS: Final = 10.0
_MAX_BYTES: Final = 64 << 20


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """No worker redirects; what does could be meant to send the token elsewhere."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        del args, kwargs


# Workers are on our own network, whatever proxy is set for others.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def checked_url(url: str) -> str:
    """The URL without what may follow the port; raises InvalidInputError when it is none of a worker."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInputError(f"expected the URL of a worker, such as http://127.0.0.1:6066, got {url!r}")
    return f"{parts.scheme}://{parts.netloc}"


def read_page(
    url: str, timeout_seconds: float = _TIMEOUT_SECONDS, token: SecretStr | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of a page, whatever the status is; `url` begins with a checked one.

    `token` is shown to the worker, in a header.
    Raises UnreachableError when there is no answer, or it is no worker's. The path is not repeated in it.
    """
    worker = checked_url(url)
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - `checked_url` lets http and https through
    try:
        with _opener.open(request, timeout=timeout_seconds) as answer:
            status, body = answer.status, answer.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(f"no worker answers at {worker} ({type(reason).__name__})") from None
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise UnreachableError(f"what answers at {worker} is no worker (status {status}, and no JSON object)")
    return status, document
