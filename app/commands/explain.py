"""`audience-sync explain`: why a profile is in which audience."""

from __future__ import annotations

import json
import time
from typing import Any, Final
from urllib.parse import quote, urlsplit

import click
from pydantic import SecretStr

from app.adapters.worker_pages import checked_url, read_page
from app.domain.normalization import Normalized, normalize_email
from app.domain.profile_ids import ACCOUNT, EMAIL, PREFIXES, profile_id_of
from app.errors import InvalidInputError, PermanentError, UnreachableError
from app.settings import Settings, load_settings

UNREACHABLE_SECONDS = 30.0
_PAUSE_SECONDS: Final = 1.0
# Workers asked for one profile at most: an answer that names ever new ones is none of ours.
_MAX_WORKERS: Final = 1_000

# Profiles that have become part of one another.
_MOST_FORWARDS: Final = 100

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_MISDIRECTED: Final = 421
_UNAVAILABLE: Final = 503


@click.command(name="explain")
@click.argument("profile")
@click.option(
    "--url",
    metavar="URL",
    help="Any worker of the installation; default: by the settings WEB_HOST and WEB_PORT.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def command(profile: str, url: str | None, as_json: bool) -> None:
    """Show which audiences PROFILE is in, why, and when that changes by time alone.

    PROFILE is a user id, an anonymous id, or an e-mail address, which is hashed here; `group_id:ID` is an account.
    The worker that owns the profile is asked, wherever it is. `*` marks what the verdict rests on. Status 1 when no
    worker knows the profile.
    """
    names = profile_names(profile)
    settings = load_settings()
    start = checked_url(url or _worker_url(settings))
    for name in names:
        found = _Search(start, settings.web_token).find(name)
        if found is not None:
            click.echo(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(_lines(found)))
            return
    raise PermanentError(
        "no worker knows this profile: it is neither a user id, an anonymous id, an e-mail address nor, as "
        "`group_id:ID` and where there are audiences of accounts, a group id of a call "
        "that has been accepted so far"
    )


def profile_names(text: str) -> list[str]:
    """The profile ids that `text` may stand for, most likely first; none holds an e-mail address or a phone number."""
    if not text.strip():
        raise InvalidInputError("PROFILE is blank: give a user id, an anonymous id or an e-mail address")
    found = [text] if text.startswith((*PREFIXES, ACCOUNT)) and "@" not in text else []
    found += [name for name in (profile_id_of(text, None), profile_id_of(None, text)) if name is not None]
    if "@" in text:
        email = normalize_email(text)
        if isinstance(email, Normalized):
            found.append(f"{EMAIL}{email.value}")
    return list(dict.fromkeys(found))


def _worker_url(settings: Settings) -> str:
    if settings.web_port == 0:
        raise InvalidInputError(
            "AUDIENCE_SYNC_WEB_PORT is 0, which means no pages: give the --url of a worker"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.web_host, settings.web_host)  # noqa: S104 - what the setting says
    return f"http://{host}:{settings.web_port}"


class _Search:
    """Asks workers until one has the profile or all have been asked."""

    def __init__(self, start: str, token: SecretStr | None) -> None:
        self._start = start
        self._token = token
        self._known = [start]
        # Those that did not answer, with what that was.
        self._silent: dict[str, str] = {}

    def find(self, profile: str) -> dict[str, Any] | None:
        """The report; None: the worker that would have the profile has none.

        Raises UnreachableError when no worker has answered for it.
        """
        for _ in range(_MOST_FORWARDS):
            found = self._ask_all(profile)
            if not isinstance(found, str):
                return found
            profile = found
        raise PermanentError("one profile leads to the next without an end")

    def _ask_all(self, profile: str) -> dict[str, Any] | str | None:
        """As `find`, or the profile that this one has become part of, which another worker owns."""
        path = f"/profiles/{quote(profile, safe='')}"
        asked: set[str] = set()
        while (worker := next((url for url in self._known if url not in asked), None)) is not None:
            asked.add(worker)
            if worker in self._silent or len(asked) > _MAX_WORKERS:
                continue
            try:
                status, document = self._ask(worker + path, patient=worker == self._start)
            except UnreachableError as error:
                if worker == self._start:
                    raise
                self._silent[worker] = str(error)
                continue
            if status == _OK:
                return document
            if status == _NOT_FOUND:
                return None
            if status in (_UNAUTHORIZED, _FORBIDDEN):
                raise InvalidInputError(f"{worker}: {document.get('error', f'status {status}')}")
            if status != _MISDIRECTED:
                raise PermanentError(f"{worker}: {document.get('error', f'status {status}')}")
            self._learn(document)
            if document.get("profile", profile) != profile:
                return str(document["profile"])
        raise UnreachableError(
            "the worker that owns this profile was not found: "
            + ("; ".join(self._silent.values()) or "none says it does")
        )

    def _ask(self, url: str, *, patient: bool) -> tuple[int, dict[str, Any]]:
        deadline = time.monotonic() + (UNREACHABLE_SECONDS if patient else 0)
        while True:
            last = time.monotonic() + _PAUSE_SECONDS >= deadline
            try:
                status, document = read_page(url, token=self._token)
            except UnreachableError:
                if last:
                    raise
            else:
                if status != _UNAVAILABLE:
                    return status, document
                if last:
                    raise UnreachableError(f"{checked_url(url)}: {document.get('error', 'not ready')}")
            time.sleep(_PAUSE_SECONDS)

    def _learn(self, document: dict[str, Any]) -> None:
        """Where else to ask: owners first. A worker that listens on 127.0.0.1 only is known by its host's name."""
        named = [
            url for key in ("owners", "workers") for url in document.get(key, ()) if isinstance(url, str)
        ]
        here = urlsplit(self._start)
        for url in named:
            try:
                port = urlsplit(checked_url(url)).port
            except InvalidInputError:
                continue
            host = f"[{here.hostname}]" if ":" in (here.hostname or "") else here.hostname
            for known in (checked_url(url), f"{here.scheme}://{host}:{port}"):
                if known not in self._known:
                    self._known.append(known)


# --- in words -----------------------------------------------------------------------------------------------------


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['profile']} at {found['now']}"]
    lines += [
        f"  {column}: {', '.join(str(value) for value in values)}"
        for column, values in found["identifiers"].items()
    ]
    others = [alias for alias in found["aliases"] if alias != found["profile"]]
    lines += [f"  also: {', '.join(others)}"] if others else []
    for audience in found["audiences"]:
        word = "member" if audience["member"] else "no member"
        change = ""
        if audience["changes_at"] is not None:
            change = f"; {'leaves' if audience['member'] else 'enters'} at {audience['changes_at']} if nothing else happens"
        lines.append(f"{audience['audience']} ({audience['name']}): {word}: {audience['reason']}{change}")
        lines += _condition(audience["condition"], 1)
    if found["known_until"] is not None:
        lines.append(f"What time alone changes is known until {found['known_until']}.")
    return lines


_WHOLES: Final = {"all": "all of", "any": "any of", "not": "not"}


def _condition(part: dict[str, Any], depth: int) -> list[str]:
    text = _WHOLES[part["kind"]] if part["parts"] else part["text"]
    line = f"{'  ' * depth}{'*' if part['deciding'] else ' '} {'true ' if part['holds'] else 'false'} {text}"
    seen = ", ".join(_seen(one) for one in part["seen"])
    line += f" [{seen}]" if seen else ""
    if part["changes_at"] is not None:
        line += f", changes at {part['changes_at']}"
    return [line, *(inner for each in part["parts"] for inner in _condition(each, depth + 1))]


def _seen(seen: dict[str, Any]) -> str:
    value = "none" if seen["value"] is None else json.dumps(seen["value"], ensure_ascii=False)
    return f"{seen['name']}: {value}{' or more' if seen['or_more'] else ''}"
