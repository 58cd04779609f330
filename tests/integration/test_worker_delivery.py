"""What Facebook answers, faults and all, and what becomes of the rows; each test has an ad account of its own."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.delivery_run import Run, delivering
from tests.integration.installation import Installation, wait_until
from topics.partitioning import partition_for

# Audience -> ad account; an audience's members are those with an event of its name.
ACCOUNTS = {
    "Stumbling": "act_11",
    "Cut off": "act_12",
    "Throttled": "act_13",
    "Same account": "act_13",
    "Free": "act_14",
    "Near its limit": "act_15",
    "Locked out": "act_16",
    "Refused": "act_17",
    "Picky": "act_18",
    "Deleted": "act_19",
}
AUDIENCES = "audiences:\n" + "".join(
    f"  - {{name: {name}, when: {{event: {name}}}, facebook: {{ad_account_id: {account}}}}}\n"
    for name, account in ACCOUNTS.items()
)


@pytest.fixture(scope="module")
def run(bootstrap_servers: str) -> Iterator[Run]:
    with delivering(bootstrap_servers, AUDIENCES, probe_seconds=1) as run:
        yield run


@pytest.fixture(autouse=True)
def no_fault_stays(run: Run) -> Iterator[None]:
    yield
    run.installation.clear_faults()


def refusal(code: int, subcode: int | None = None, **more: Any) -> dict[str, Any]:
    error = {
        "message": f"(#{code}) sandbox says no",
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "Atrace",
    }
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"status": 400, "body": {"error": {**error, **more}}}


def test_server_error_is_tried_again_until_it_works(run: Run) -> None:
    run.fault("Stumbling", {"status": 500, "body": "<html>oops</html>"}, times=1)
    run.fault("Stumbling", {**refusal(2, is_transient=True), "status": 500}, times=1)
    users = run.enter("Stumbling")
    run.wait(lambda: "HTTP 500" in (run.destination("Stumbling")["reason"] or ""))
    run.wait_for_members("Stumbling", users)
    statuses = [request["status"] for request in run.requests("Stumbling")]
    assert statuses[:2] == [500, 500]
    assert set(statuses[2:]) == {200}
    assert run.destination("Stumbling")["sent"] == len(users)
    assert run.destination("Stumbling")["reason"] is None
    assert run.letters("Stumbling") == []


def test_cut_connection_after_the_write_doubles_nobody(run: Run) -> None:
    run.fault("Cut off", {"drop": "after"}, times=1)
    users = run.enter("Cut off")
    run.wait(lambda: run.destination("Cut off")["sent"] == len(users))
    assert len(run.requests("Cut off")) > 1, "it was not cut off"
    assert run.members("Cut off") == sorted(users)
    assert run.letters("Cut off") == []


def test_throttle_holds_its_ad_account_and_no_other(run: Run) -> None:
    meter = {"call_count": 100, "total_cputime": 20, "total_time": 20, "type": "custom_audience"}
    usage = {"13": [{**meter, "estimated_time_to_regain_access": 0}]}
    throttled = {**refusal(613, 5_044_001), "headers": {"X-Business-Use-Case-Usage": json.dumps(usage)}}
    run.fault("Throttled", throttled, times=1)
    users = run.enter("Throttled")
    run.wait(lambda: run.destination("Throttled")["state"] == "held")
    assert "613" in run.destination("Throttled")["reason"]
    in_the_account, elsewhere = run.enter("Same account"), run.enter("Free")
    run.wait_for_members("Free", elsewhere)
    assert not set(run.members("Throttled")) & users, "it went on before the others were looked at"
    assert not set(run.members("Same account")) & in_the_account
    run.wait_for_members("Throttled", users)
    run.wait_for_members("Same account", in_the_account)
    assert run.letters("Throttled") == []


def test_rests_when_an_answer_says_that_the_limit_is_near(run: Run) -> None:
    usage = {"acc_id_util_pct": 96.5, "reset_time_duration": 600}
    run.fault("Near its limit", {"headers": {"X-Ad-Account-Usage": json.dumps(usage)}}, times=1)
    first = run.enter("Near its limit", count=1)
    run.wait(lambda: set(run.members("Near its limit")) >= first)
    second = run.enter("Near its limit")
    run.wait(lambda: run.destination("Near its limit")["state"] == "held")
    assert "act_15 is near its limit" in run.destination("Near its limit")["reason"]
    run.wait_for_members("Free", run.enter("Free"))
    assert not set(run.members("Near its limit")) & second
    assert run.destination("Near its limit")["pending"] == len(second)


def test_expired_token_holds_with_what_to_do_and_goes_on_after(run: Run) -> None:
    run.fault("Locked out", {**refusal(190, 463), "status": 401})
    users = run.enter("Locked out")
    run.wait(lambda: run.destination("Locked out")["state"] == "held")
    held = run.destination("Locked out")
    assert "190/463" in held["reason"]
    assert "FACEBOOK_ACCESS_TOKEN" in held["reason"]
    assert held["pending"] == len(users)
    more = run.enter("Locked out")
    run.wait_for_members("Free", run.enter("Free"))
    assert run.members("Locked out") == []
    run.installation.clear_faults()
    run.wait_for_members("Locked out", users | more)
    assert run.destination("Locked out")["reason"] is None
    assert run.letters("Locked out") == []


def test_refused_request_is_a_dead_letter_for_each_row(run: Run) -> None:
    run.fault("Refused", refusal(100, 1_713_098))
    users = run.enter("Refused", count=3)
    run.wait(lambda: run.destination("Refused")["rejected"] == len(users))
    letters = run.letters("Refused")
    assert sorted(letter["profile"] for letter in letters) == sorted(users)
    topic = run.installation.catalog.memberships.name
    for letter in letters:
        assert (letter["stage"], letter["reason"]) == ("deliver", "rejected_request")
        assert letter["facebook"] == {
            "code": 100,
            "subcode": 1_713_098,
            "message": "(#100) sandbox says no",
            "trace": "Atrace",
        }
        assert letter["record"] == {"change": "entered", "row": {"EXTERN_ID": letter["profile"]}}
        assert (letter["audience"], letter["sequence"], letter["attempts"]) == ("refused", 1, 1)
        assert letter["origin"]["topic"] == topic
        assert letter["origin"]["partition"] == partition_for(b"refused", run.installation.partitions)
        assert letter["origin"]["key"] == f"refused|{letter['profile']}"
    assert len({letter["id"] for letter in letters}) == len(users)
    assert run.destination("Refused")["sent"] == 0
    assert run.members("Refused") == []
    run.installation.clear_faults()
    run.wait_for_members("Refused", run.enter("Refused"))


def test_refused_row_is_a_dead_letter_and_the_others_arrive(run: Run) -> None:
    sample = {json.dumps(["user_picky_2"]): "the id is not to our taste"}
    answer = {"num_received": 3, "num_invalid_entries": 1, "invalid_entry_samples": sample}
    identifier = run.destination("Picky")["facebook_id"]
    body = {"audience_id": identifier, "session_id": "1", **answer}
    run.fault("Picky", {"status": 200, "body": body}, times=1, row={"EXTERN_ID": "user_picky_2"})
    events = [{"type": "track", "event": "Picky", "userId": f"user_picky_{n}"} for n in (1, 2, 3)]
    run.installation.produce(events)
    run.wait(lambda: run.destination("Picky")["rejected"] == 1)
    run.wait(lambda: run.destination("Picky")["sent"] == 2)
    [letter] = run.letters("Picky")
    assert (letter["stage"], letter["reason"], letter["profile"]) == (
        "deliver",
        "rejected_row",
        "user_picky_2",
    )
    assert letter["facebook"]["message"] == "the id is not to our taste"
    assert letter["record"] == {"change": "entered", "row": {"EXTERN_ID": "user_picky_2"}}
    assert run.destination("Picky")["state"] == "live"


def test_deleted_audience_is_gone_and_not_made_again(run: Run) -> None:
    run.wait_for_members("Deleted", run.enter("Deleted"))
    identifier = run.destination("Deleted")["facebook_id"]
    request = urllib.request.Request(
        f"{run.installation.graph_url}/v25.0/{identifier}",
        headers={"Authorization": "Bearer x"},
        method="DELETE",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    users = run.enter("Deleted")
    run.wait(lambda: run.destination("Deleted")["state"] == "gone")
    gone = run.destination("Deleted")
    assert "deleted" in gone["reason"]
    assert gone["pending"] == len(users)
    run.wait_for_members("Free", run.enter("Free"))
    names = [audience["name"] for audience in run.installation.sandbox_get("audiences")]
    assert sorted(names) == sorted(set(ACCOUNTS) - {"Deleted"})


def test_kill_while_audiences_are_created_never_makes_two(bootstrap_servers: str) -> None:
    """The calls are under way when the worker dies, and Facebook makes the audiences while the next one starts."""
    installation = Installation(
        bootstrap_servers,
        f"test-{uuid.uuid4().hex[:12]}.",
        AUDIENCES,
        settings={"AUDIENCE_SYNC_FACEBOOK_TIMEOUT_SECONDS": "10"},
    )
    try:
        installation.fault({"delay_ms": 8_000}, method="POST", path="customaudiences$")
        first = installation.start_worker(instance="slot")

        def creating() -> bool:
            assert first.process.poll() is None, first.said
            return bool(created(installation))

        wait_until(creating, lambda: first.said)
        first.process.kill()
        under_way = len(created(installation))
        installation.clear_faults()
        second = installation.start_worker(instance="slot")
        installation.wait_until_idle(second)
        names = [audience["name"] for audience in installation.sandbox_get("audiences")]
        assert sorted(names) == sorted(ACCOUNTS)
        assert under_way > 0
        assert len(created(installation)) == len(ACCOUNTS), "one was asked for twice"
    finally:
        installation.close()


def created(installation: Installation) -> list[dict[str, Any]]:
    return [
        request
        for request in installation.sandbox_get("requests")
        if request["method"] == "POST" and request["path"].endswith("/customaudiences")
    ]
