"""The demo reads who is in which audience only from a system at rest: over HTTP, from stand-ins of worker and sandbox."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from app.commands import demo_readings, demo_replay
from app.commands.demo_oracle import QUERIES
from app.commands.demo_progress import Totals
from app.commands.demo_replay import Held, Replay
from app.commands.demo_system import DemoSystem
from app.errors import PermanentError

FIRST, SECOND, *_ = QUERIES


class StandIn:
    """Worker and sandbox in one HTTP server. `documents` by path; `on_request` is called before each answer."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {
            "/stats": {
                "stages": {
                    name: {"in": 9, "rate": 1.0, "lag": 0}
                    for name in ("resolve", "evaluate", "expire", "batch", "deliver")
                },
                "audiences": {
                    key: {
                        "members": 2,
                        "entered": 2,
                        "exited": 0,
                        "destinations": [
                            {"id": key, "state": "live", "sent": 2, "pending": 0, "facebook_id": str(number)}
                        ],
                    }
                    for number, key in enumerate(QUERIES)
                },
                "dead_letters": {},
                "clock_lag_seconds": 0.1,
            },
            "/_sandbox/audiences": [
                {"id": str(number), "name": key, "ad_account_id": "act_1", "count": 2}
                for number, key in enumerate(QUERIES)
            ],
            **{
                f"/_sandbox/audiences/{number}/members": {
                    "count": 2,
                    "members": [{"EXTERN_ID": "00001", "EMAIL": "ab12"}, {"EXTERN_ID": "00002"}],
                }
                for number, _ in enumerate(QUERIES)
            },
        }
        self.asked: list[str] = []
        self.on_request: Callable[[str], None] = lambda _path: None
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.asked.append(self.path)
                stand_in.on_request(self.path)
                document = stand_in.documents.get(self.path)
                self.send_response(200 if document is not None else 503)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


class StandInWorker:
    kills = own_exits = life = 0
    first_ready_at = 0.0

    @staticmethod
    def last_lines() -> str:
        return "; its last lines:\nready"


class StandInSystem:
    """Notes what it was tended with."""

    def __init__(self, url: str) -> None:
        self.worker_url = self.sandbox_url = url
        self.worker = StandInWorker()
        self.may_kill: list[bool] = []

    def tend(self, *, may_kill: bool) -> None:
        self.may_kill.append(may_kill)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(demo_readings, "STABLE_SECONDS", 0.05)
    monkeypatch.setattr(demo_readings, "MIDNIGHT_SECONDS", 0.0)
    monkeypatch.setattr(demo_replay, "POLL_SECONDS", 0.02)
    stand_in = StandIn()
    thread = threading.Thread(target=stand_in.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stand_in
    stand_in.server.shutdown()
    thread.join()
    stand_in.server.server_close()


@pytest.fixture
def system(stand_in: StandIn) -> StandInSystem:
    return StandInSystem(stand_in.url)


def replay_of(system: StandInSystem) -> Replay:
    return Replay(cast("DemoSystem", system), lambda _totals: None)


def test_engine_and_sandbox_are_read(stand_in: StandIn, system: StandInSystem) -> None:
    stand_in.documents["/stats"]["audiences"][SECOND]["members"] = 3
    stand_in.documents["/_sandbox/audiences"][1]["count"] = 4
    holdings = replay_of(system).run()
    assert set(holdings.audiences) == set(QUERIES)
    assert holdings.audiences[FIRST] == Held(2, 2, ["00001", "00002"])
    assert holdings.audiences[SECOND] == Held(3, 4, ["00001", "00002"])


def test_work_is_waited_for_and_may_be_disturbed_until_it_is_done(
    stand_in: StandIn, system: StandInSystem
) -> None:
    destination = stand_in.documents["/stats"]["audiences"][FIRST]["destinations"][0]
    destination["pending"] = 5

    def delivered(path: str) -> None:
        if path == "/stats" and stand_in.asked.count("/stats") == 4:
            destination["pending"] = 0

    stand_in.on_request = delivered
    replay_of(system).run()
    assert system.may_kill[:4] == [True] * 4
    assert set(system.may_kill[4:]) == {False}
    before = stand_in.asked[: [i for i, path in enumerate(stand_in.asked) if path == "/stats"][3]]
    assert [path for path in before if path.endswith("/members")] == []


def test_what_moves_while_it_is_read_is_read_again(stand_in: StandIn, system: StandInSystem) -> None:
    def moved(path: str) -> None:
        # Behind the first audience's members, and before the last one's.
        if path.endswith("/1/members") and stand_in.asked.count(path) == 1:
            stand_in.documents["/_sandbox/audiences"][0]["count"] = 3
            stand_in.documents["/_sandbox/audiences/0/members"] = {
                "count": 3,
                "members": [{"EXTERN_ID": "00001"}, {"EXTERN_ID": "00002"}, {"EXTERN_ID": "00003"}],
            }

    stand_in.on_request = moved
    held = replay_of(system).run().audiences[FIRST]
    assert held == Held(2, 3, ["00001", "00002", "00003"])


def test_a_day_that_ends_while_it_is_read_begins_the_reading_again(
    stand_in: StandIn, system: StandInSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    midnight = 20_000 * demo_readings.DAY_MS
    now = [midnight - 1]
    monkeypatch.setattr(demo_replay, "_now_ms", lambda: now[0])

    def midnight_passes(path: str) -> None:
        if path.endswith("/3/members"):
            now[0] = midnight + 60_000

    stand_in.on_request = midnight_passes
    assert replay_of(system).run().at_ms == midnight + 60_000
    assert stand_in.asked.count("/_sandbox/audiences/0/members") == 2


def test_a_worker_that_does_not_answer_is_waited_for(stand_in: StandIn, system: StandInSystem) -> None:
    document = stand_in.documents.pop("/stats")

    def started(path: str) -> None:
        if path == "/stats" and stand_in.asked.count("/stats") == 3:
            stand_in.documents["/stats"] = document

    stand_in.on_request = started
    assert replay_of(system).run().audiences[FIRST] == Held(2, 2, ["00001", "00002"])


def test_an_audience_that_facebook_never_got_is_not_an_empty_one(
    stand_in: StandIn, system: StandInSystem
) -> None:
    del stand_in.documents["/_sandbox/audiences"][0]
    assert replay_of(system).run().audiences[FIRST] == Held(2, None, ())


def test_a_member_without_an_external_id_is_seen(stand_in: StandIn, system: StandInSystem) -> None:
    stand_in.documents["/_sandbox/audiences/0/members"]["members"][1] = {"EMAIL": "ab12"}
    assert replay_of(system).run().audiences[FIRST].sandbox_members == ["00001", ""]


def test_a_standstill_with_work_left_is_a_failure_in_words(
    stand_in: StandIn, system: StandInSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_readings, "STALLED_SECONDS", 0.1)
    stand_in.documents["/stats"]["audiences"][FIRST]["destinations"][0] |= {
        "state": "held",
        "reason": "the token may not write",
    }
    told = rf"nothing moves any more.*{FIRST} is held \(the token may not write\); its last lines:\nready"
    with pytest.raises(PermanentError, match=told):
        replay_of(system).run()


def test_it_does_not_go_on_for_ever(
    stand_in: StandIn, system: StandInSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_replay, "GIVE_UP_SECONDS", 0.2)
    destination = stand_in.documents["/stats"]["audiences"][FIRST]["destinations"][0]

    def never_done(path: str) -> None:
        if path == "/stats":
            destination["pending"] += 1

    stand_in.on_request = never_done
    with pytest.raises(PermanentError, match="minutes have passed, and not everything is done"):
        replay_of(system).run()


def test_stats_of_another_form_are_a_failure_at_once(stand_in: StandIn, system: StandInSystem) -> None:
    del stand_in.documents["/stats"]["audiences"]
    with pytest.raises(PermanentError, match="/stats has not the expected form"):
        replay_of(system).run()


def test_every_poll_is_shown(stand_in: StandIn, system: StandInSystem) -> None:
    shown: list[int] = []

    def show(totals: Totals) -> None:
        shown.append(totals.audiences[FIRST].members)

    Replay(cast("DemoSystem", system), show).run()
    assert set(shown) == {2}
    assert len(shown) >= 2
