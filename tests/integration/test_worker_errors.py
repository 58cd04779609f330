"""One test for each class of Facebook's errors, through a whole worker: what is shown, how long is waited, what becomes a
dead letter, and who is a member in the end. Each has an ad account of its own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.integration.delivery_run import Run, delivering

# Audience -> ad account; an audience's members are those with an event of its name.
ACCOUNTS = {
    "Passing": "act_21",
    "Throttled by minutes": "act_22",
    "Throttled by seconds": "act_23",
    "Token": "act_24",
    "Permission": "act_25",
    "Terms": "act_26",
    "Flagged": "act_27",
    "Out of reach": "act_28",
    "Deleted": "act_29",
    "Poisoned": "act_30",
    "Bad row": "act_31",
    "Wrong audience": "act_32",
    "Unknown": "act_33",
    "Troubled": "act_34",
    "Troubled too": "act_34",
    "Free": "act_35",
}
AUDIENCES = (
    "audiences:\n"
    + "".join(
        f"  - {{name: {name}, when: {{event: {name}}}, facebook: {{ad_account_id: {account}}}}}\n"
        for name, account in ACCOUNTS.items()
    )
    + "  - {name: Shrinking, when: {all: [{event: Shrinking}, {not: {event: Shrunk}}]}, facebook: {ad_account_id: act_36}}\n"
)
PROBE_SECONDS = 2.0


@pytest.fixture(scope="module")
def run(bootstrap_servers: str) -> Iterator[Run]:
    with delivering(bootstrap_servers, AUDIENCES, PROBE_SECONDS) as run:
        yield run


@pytest.fixture(autouse=True)
def no_fault_stays(run: Run) -> Iterator[None]:
    yield
    run.installation.clear_faults()


def waits(run: Run, name: str, sent: int) -> list[float]:
    """Seconds between one request to add people and the next, as far as they hold `sent` rows at least."""
    at = [
        datetime.fromisoformat(request["at"]).timestamp()
        for request in run.requests(name)
        if request["method"] == "POST" and request["rows"] >= sent
    ]
    return [later - earlier for earlier, later in itertools.pairwise(at)]


def held(run: Run, name: str, says: str, pending: int, state: str = "held") -> None:
    run.wait(lambda: run.destination(name)["state"] == state)
    shown = run.destination(name)
    assert says in shown["reason"], shown
    assert " | " in shown["reason"], "Facebook's words, and what to do"
    assert shown["pending"] == pending
    assert run.members(name) == []


def mended(run: Run, name: str, users: set[str]) -> None:
    """Goes on by itself, and has lost nobody."""
    run.installation.clear_faults()
    run.wait_for_members(name, users)
    assert run.members(name) == sorted(users)
    assert run.destination(name)["reason"] is None
    assert run.destination(name)["rejected"] == 0
    assert run.letters(name) == []


# -- retry and throttle ----------------------------------------------------------------------------------------


def test_retry_waits_longer_and_longer_and_loses_nobody(run: Run) -> None:
    run.fault("Passing", {"code": 2, "message": "try later", "is_transient": True}, times=3)
    users = run.enter("Passing")
    run.wait(lambda: "try later" in (run.destination("Passing")["reason"] or ""))
    run.wait_for_members("Passing", users)
    assert run.members("Passing") == sorted(users)
    assert [request["status"] for request in run.requests("Passing")] == [500, 500, 500, 200]
    assert min(waits(run, "Passing", len(users))) >= 2
    assert run.letters("Passing") == []
    assert run.destination("Passing")["reason"] is None


def throttled(code: int, subcode: int, headers: dict[str, Any]) -> dict[str, Any]:
    texts = {name: json.dumps(value) for name, value in headers.items()}
    return {"code": code, "subcode": subcode, "message": "too many calls", "headers": texts}


@pytest.mark.parametrize(
    ("name", "respond", "least"),
    [
        pytest.param(
            "Throttled by seconds",
            throttled(
                613, 5_044_001, {"X-Ad-Account-Usage": {"acc_id_util_pct": 100, "reset_time_duration": 9}}
            ),
            9,
            id="seconds until the account's reset",
        ),
        pytest.param(
            "Throttled by minutes",
            throttled(
                80_003,
                2_446_079,
                {
                    "X-Business-Use-Case-Usage": {
                        "22": [
                            {
                                "type": "custom_audience",
                                "call_count": 101,
                                "total_cputime": 3,
                                "total_time": 7,
                                "estimated_time_to_regain_access": 1,
                            }
                        ]
                    }
                },
            ),
            60,
            id="minutes until access is regained",
        ),
    ],
)
def test_throttle_waits_as_long_as_the_answer_says(
    run: Run, name: str, respond: dict[str, Any], least: float
) -> None:
    run.fault(name, respond, times=1)
    users = run.enter(name)
    run.wait(lambda: run.destination(name)["state"] == "held")
    assert "too many calls" in run.destination(name)["reason"]
    run.wait_for_members("Free", run.enter("Free"))
    assert run.members(name) == []
    run.wait_for_members(name, users)
    assert run.members(name) == sorted(users)
    [waited] = waits(run, name, len(users))
    assert least <= waited
    assert waited < 2 * least or waited < 40, "not in another unit"
    assert run.letters(name) == []


def test_circuit_breaker_is_one_of_an_ad_account(run: Run) -> None:
    run.installation.fault({"drop": "before"}, path="/users$", account="act_34")
    troubled = {name: run.enter(name) for name in ("Troubled", "Troubled too")}
    run.wait(
        lambda: any("act_34 has trouble" in (run.destination(name)["reason"] or "") for name in troubled)
    )
    run.wait(lambda: all(run.destination(name)["state"] == "held" for name in troubled))
    run.wait_for_members("Free", run.enter("Free"))
    assert run.destination("Free")["reason"] is None
    assert [run.members(name) for name in troubled] == [[], []]
    for name, users in troubled.items():
        mended(run, name, users)


# -- needs a person --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "respond", "says"),
    [
        ("Token", {"code": 190, "subcode": 463, "status": 401}, "FACEBOOK_ACCESS_TOKEN"),
        ("Permission", {"code": 200}, "ads_management"),
        ("Terms", {"code": 200, "subcode": 1_870_090}, "tos/?act=26"),
        ("Flagged", {"code": 100, "subcode": 1_713_230}, "appeal in Ads Manager"),
        ("Wrong audience", {"code": 2650}, "Look at the audience in Ads Manager"),
    ],
)
def test_needs_a_person_is_held_with_what_to_do_and_goes_on_by_itself(
    run: Run, name: str, respond: dict[str, Any], says: str
) -> None:
    run.fault(name, respond)
    users = run.enter(name)
    held(run, name, says, len(users))
    tried = len(waits(run, name, len(users)))
    run.wait(lambda: len(waits(run, name, len(users))) >= tried + 2)
    assert min(waits(run, name, len(users))[tried:]) >= PROBE_SECONDS
    users |= run.enter(name, count=2)
    run.wait(lambda: run.destination(name)["pending"] == len(users))
    mended(run, name, users)


# -- audience gone ---------------------------------------------------------------------------------------------


def test_an_ad_account_out_of_reach_is_no_deleted_audience(run: Run) -> None:
    run.installation.fault({"code": 100, "subcode": 33}, account="act_28")
    users = run.enter("Out of reach")
    held(run, "Out of reach", "assign ad account 28", len(users))
    mended(run, "Out of reach", users)


def test_audience_gone_is_not_made_again_and_nothing_becomes_a_letter(run: Run) -> None:
    before = run.enter("Deleted")
    run.wait_for_members("Deleted", before)
    identifier = run.destination("Deleted")["facebook_id"]
    run.fault("Deleted", {"happens": {"audience_deleted": True}}, times=1)
    users = run.enter("Deleted")
    run.wait(lambda: run.destination("Deleted")["state"] == "gone")
    gone = run.destination("Deleted")
    assert "was deleted" in gone["reason"]
    assert (gone["pending"], gone["rejected"]) == (len(users), 0)
    asked = len(run.installation.sandbox_get(f"requests?audience={identifier}"))
    run.wait_for_members("Free", run.enter("Free"))
    assert len(run.installation.sandbox_get(f"requests?audience={identifier}")) == asked, "not for an hour"
    audiences = run.installation.sandbox_get("audiences")
    assert "Deleted" not in {audience["name"] for audience in audiences}
    assert run.letters("Deleted") == []


# -- permanent, single rows, and removals that are held --------------------------------------------------------


def test_permanent_errors_are_bisected_until_the_poison_is_alone(run: Run) -> None:
    users = [f"poison_{number}" for number in range(20)]
    poison = {"poison_3", "poison_4", "poison_17"}
    for user in sorted(poison):
        respond = {"code": 100, "subcode": 1_713_098, "message": f"(#100) {user} is not to our taste"}
        run.fault("Poisoned", respond, row={"EXTERN_ID": user})
    run.installation.produce([{"type": "track", "event": "Poisoned", "userId": user} for user in users])
    run.wait(lambda: run.destination("Poisoned")["rejected"] == 3)
    run.wait_for_members("Poisoned", set(users) - poison)
    assert run.members("Poisoned") == sorted(set(users) - poison)
    letters = {letter["profile"]: letter for letter in run.letters("Poisoned")}
    assert letters.keys() == poison
    for user, letter in letters.items():
        assert (letter["stage"], letter["reason"]) == ("deliver", "rejected_row")
        facebook = letter["facebook"]
        assert (facebook["code"], facebook["subcode"]) == (100, 1_713_098)
        assert facebook["message"] == f"(#100) {user} is not to our taste"
        assert facebook["trace"]
        assert letter["record"] == {"change": "entered", "row": {"EXTERN_ID": user}}
    assert run.destination("Poisoned")["state"] == "live"
    assert run.destination("Poisoned")["sent"] == 17


def test_a_row_that_an_answer_names_is_a_letter_and_is_not_sent_again(run: Run) -> None:
    run.fault("Bad row", {"invalid": "empty inside"}, row={"EXTERN_ID": "bad_1"})
    run.installation.produce(
        [{"type": "track", "event": "Bad row", "userId": f"bad_{number}"} for number in range(3)]
    )
    run.wait(lambda: run.destination("Bad row")["rejected"] == 1)
    run.wait_for_members("Bad row", {"bad_0", "bad_2"})
    [letter] = run.letters("Bad row")
    assert (letter["profile"], letter["reason"]) == ("bad_1", "rejected_row")
    assert letter["facebook"]["message"] == "empty inside"
    assert letter["facebook"]["trace"]
    assert run.members("Bad row") == ["bad_0", "bad_2"]
    assert sum(request["rows"] for request in run.requests("Bad row")) == 3, "each was sent once"


def test_a_refused_removal_waits_while_others_come_in(run: Run) -> None:
    users = run.enter("Shrinking")
    run.wait_for_members("Shrinking", users)
    respond = {"code": 200, "subcode": 1_870_047, "message": "too low"}
    run.fault("Shrinking", respond, method="DELETE")
    leaves = min(users)
    run.installation.produce([{"type": "track", "event": "Shrunk", "userId": leaves}])
    run.wait(lambda: run.destination("Shrinking")["state"] == "held")
    assert "until the audience has grown" in run.destination("Shrinking")["reason"]
    more = run.enter("Shrinking")
    run.wait(lambda: set(run.members("Shrinking")) == users | more)
    assert run.destination("Shrinking")["state"] == "held"
    run.installation.clear_faults()
    run.wait(lambda: set(run.members("Shrinking")) == (users | more) - {leaves})
    run.wait(lambda: run.destination("Shrinking")["state"] == "live")
    assert run.letters("Shrinking") == []


def test_an_unknown_error_gets_what_is_safe_and_is_counted(run: Run) -> None:
    run.fault("Unknown", {"code": 424_242, "subcode": 7, "message": "never heard of"}, times=1)
    users = run.enter("Unknown", count=1)
    run.wait(lambda: run.destination("Unknown")["rejected"] == 1)
    [letter] = run.letters("Unknown")
    assert (letter["facebook"]["code"], letter["facebook"]["message"]) == (424_242, "never heard of")
    assert {letter["profile"]} == users
    stats = run.worker.stats()
    assert stats is not None
    assert stats["unknown_errors"] == {"424242/7": 1}
    assert "424242/7" in run.worker.said
    more = run.enter("Unknown")
    run.wait_for_members("Unknown", more)
    assert run.members("Unknown") == sorted(more)
