"""`explain`: which ids are asked for, which workers are asked, and how it ends."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from app.adapters.kafka_embedded import free_port
from app.commands import explain, main
from app.commands.explain import profile_names
from app.errors import InvalidInputError

EMAIL_HASH = hashlib.sha256(b"ann@example.com").hexdigest()
TYPED_HASH = hashlib.sha256(b"Ann@Example.com").hexdigest()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ann", ["ann", "anonymous_id:ann"]),
        ("anonymous_id:a1", ["anonymous_id:a1", "user_id:anonymous_id:a1", "anonymous_id:anonymous_id:a1"]),
        # As a user id or anonymous id it is hashed as it stands, as an e-mail once normalised.
        ("Ann@Example.com", [TYPED_HASH, f"anonymous_id:{TYPED_HASH}", f"email:{EMAIL_HASH}"]),
        (
            f"email:{EMAIL_HASH}",
            [f"email:{EMAIL_HASH}", f"user_id:email:{EMAIL_HASH}", f"anonymous_id:email:{EMAIL_HASH}"],
        ),
        ("madid:d1", ["madid:d1", "user_id:madid:d1", "anonymous_id:madid:d1"]),
        ("group_id:g1", ["group_id:g1", "user_id:group_id:g1", "anonymous_id:group_id:g1"]),
        (
            "ann@",
            [hashlib.sha256(b"ann@").hexdigest(), f"anonymous_id:{hashlib.sha256(b'ann@').hexdigest()}"],
        ),
    ],
)
def test_what_a_text_may_stand_for(text: str, names: list[str]) -> None:
    assert profile_names(text) == names


@pytest.mark.parametrize(
    "text", ["ann@example.com", "+49301234567", "email:ann@example.com", "anonymous_id:a@b"]
)
def test_personal_data_does_not_leave_the_process(text: str) -> None:
    assert [name for name in profile_names(text) if "@" in name or "+49" in name] == []


def test_a_blank_profile_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="PROFILE is blank"):
        profile_names(" ")


REPORT: dict[str, Any] = {
    "profile": "ann",
    "now": "2026-03-01T00:00:00Z",
    "known_until": None,
    "aliases": ["ann", "anonymous_id:a1"],
    "identifiers": {"EXTERN_ID": ["ann"]},
    "audiences": [
        {
            "audience": "buyers",
            "name": "Buyers",
            "member": True,
            "reason": "the condition holds",
            "changes_at": "2026-03-02T00:00:00Z",
            "condition": {
                "kind": "not",
                "text": "not (Refund)",
                "holds": True,
                "deciding": True,
                "changes_at": None,
                "seen": [],
                "parts": [
                    {
                        "kind": "event",
                        "text": "Refund at least 1 time",
                        "holds": False,
                        "deciding": True,
                        "changes_at": None,
                        "seen": [{"name": "events", "value": 0, "or_more": False}],
                        "parts": [],
                    }
                ],
            },
        }
    ],
}


@dataclass
class FakeWorker:
    """Answers with what `answers` has by profile id, else with `otherwise`; `asked` are the ids, in order, `shown` what
    stood in the header for a token. `location` is where it redirects to.
    """

    otherwise: tuple[int, dict[str, Any]] = (404, {"error": "there is no such profile"})
    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    location: str = ""
    shown: list[str | None] = field(default_factory=list)


@pytest.fixture
def start() -> Iterator[Callable[[FakeWorker], FakeWorker]]:
    servers: list[ThreadingHTTPServer] = []

    def started(worker: FakeWorker) -> FakeWorker:
        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                profile = unquote(self.path.removeprefix("/profiles/"))
                worker.asked.append(profile)
                worker.shown.append(self.headers.get("Authorization"))
                status, document = worker.answers.get(profile, worker.otherwise)
                self.send_response(status)
                if worker.location:
                    self.send_header("Location", f"{worker.location}{self.path}")
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        worker.url = f"http://127.0.0.1:{server.server_port}"
        return worker

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(explain, "UNREACHABLE_SECONDS", 0.0)

    def status(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["audience-sync", "explain", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        return code

    return status


Start = Callable[[FakeWorker], FakeWorker]
Run = Callable[..., int]


def test_the_report_in_words(start: Start, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    worker = start(FakeWorker(answers={"ann": (200, REPORT)}))
    assert run("ann", "--url", worker.url) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ann at 2026-03-01T00:00:00Z",
        "  EXTERN_ID: ann",
        "  also: anonymous_id:a1",
        "buyers (Buyers): member: the condition holds; leaves at 2026-03-02T00:00:00Z if nothing else happens",
        "  * true  not",
        "    * false Refund at least 1 time [events: 0]",
    ]


def test_the_report_as_json(start: Start, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    worker = start(FakeWorker(answers={"ann": (200, REPORT)}))
    assert run("ann", "--json", "--url", worker.url) == 0
    assert json.loads(capsys.readouterr().out) == REPORT


def test_the_owner_is_asked(start: Start, run: Run) -> None:
    owner = start(FakeWorker(answers={"ann": (200, REPORT)}))
    # Of a worker that has been started anew, the former URL may still be known.
    gone = f"http://127.0.0.1:{free_port()}"
    asked = start(
        FakeWorker(otherwise=(421, {"error": "no", "owners": [gone], "workers": [gone, owner.url]}))
    )
    assert run("ann", "--url", asked.url) == 0
    assert owner.asked == ["ann"]


def test_an_owner_that_is_known_by_a_name_that_leads_nowhere(start: Start, run: Run) -> None:
    """It listens on 127.0.0.1, and the group knows it by its host's name."""
    owner = start(FakeWorker(answers={"ann": (200, REPORT)}))
    by_name = owner.url.replace("127.0.0.1", "no-such-host.invalid")
    asked = start(FakeWorker(otherwise=(421, {"error": "no", "owners": [by_name], "workers": [by_name]})))
    assert run("ann", "--url", asked.url) == 0


def test_nobody_knows_the_profile(start: Start, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    worker = start(FakeWorker())
    assert run("Ann@Example.com", "--url", worker.url) == 1
    assert worker.asked == [TYPED_HASH, f"anonymous_id:{TYPED_HASH}", f"email:{EMAIL_HASH}"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "no worker knows this profile" in said.err
    assert "xample" not in said.err


def test_a_profile_that_has_become_part_of_another_workers(start: Start, run: Run) -> None:
    """The first worker owns what was asked for and nothing else; what it has become part of is the second one's."""
    owner, asked = start(FakeWorker()), start(FakeWorker())
    elsewhere = {"error": "no", "owners": [owner.url], "workers": [owner.url, asked.url]}
    asked.answers["anonymous_id:a1"] = (421, {**elsewhere, "profile": "ann"})
    asked.answers["ann"] = (421, {**elsewhere, "profile": "ann"})
    owner.answers["ann"] = (200, REPORT)
    assert run("anonymous_id:a1", "--url", asked.url) == 0
    assert (asked.asked, owner.asked) == (["anonymous_id:a1", "ann"], ["ann"])


def test_profiles_that_lead_to_each_other(start: Start, run: Run) -> None:
    asked = start(FakeWorker())
    asked.answers["a"] = (421, {"error": "no", "profile": "b"})
    asked.answers["b"] = (421, {"error": "no", "profile": "a"})
    assert run("a", "--url", asked.url) == 1


def test_the_owner_does_not_answer(start: Start, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    asked = start(FakeWorker(otherwise=(421, {"error": "no", "owners": [gone], "workers": [gone]})))
    assert run("ann", "--url", asked.url) == 3
    assert f"no worker answers at {gone}" in capsys.readouterr().err


def test_no_worker_answers(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("AUDIENCE_SYNC_WEB_PORT", str(port))
    assert run("ann") == 3
    assert f"no worker answers at http://127.0.0.1:{port}" in capsys.readouterr().err


def test_a_worker_that_is_not_ready(start: Start, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    worker = start(FakeWorker(otherwise=(503, {"error": "the worker is starting"})))
    assert run("ann", "--url", worker.url) == 3
    assert "the worker is starting" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["localhost:6066", "file:///etc/passwd", "http://", "http://x:99999"])
def test_a_url_that_is_none(run: Run, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ann", "--url", url) == 2
    assert "http://127.0.0.1:6066" in capsys.readouterr().err


def test_no_pages(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_SYNC_WEB_PORT", "0")
    assert run("ann") == 2
    assert "--url" in capsys.readouterr().err


TOKEN = "zq7-token-of-the-pages"


def test_the_token_is_shown_to_every_worker_that_is_asked(
    start: Start, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUDIENCE_SYNC_WEB_TOKEN", TOKEN)
    owner = start(FakeWorker(answers={"ann": (200, REPORT)}))
    asked = start(FakeWorker(otherwise=(421, {"error": "no", "owners": [owner.url], "workers": []})))
    assert run("ann", "--url", asked.url) == 0
    assert asked.shown == owner.shown == [f"Bearer {TOKEN}"]
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err


def test_no_token_no_header(start: Start, run: Run) -> None:
    worker = start(FakeWorker(answers={"ann": (200, REPORT)}))
    assert run("ann", "--url", worker.url) == 0
    assert worker.shown == [None]


def test_a_redirect_does_not_take_the_token_elsewhere(
    start: Start, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIENCE_SYNC_WEB_TOKEN", TOKEN)
    elsewhere = start(FakeWorker(answers={"ann": (200, REPORT)}))
    worker = start(FakeWorker(otherwise=(302, {"error": "moved"}), location=elsewhere.url))
    assert run("ann", "--url", worker.url) == 1
    assert elsewhere.asked == []


def test_a_worker_that_wants_another_token(
    start: Start, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = start(FakeWorker(otherwise=(401, {"error": "this page asks for the token"})))
    assert run("ann", "--url", worker.url) == 2
    assert "asks for the token" in capsys.readouterr().err
