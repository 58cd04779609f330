"""The commands that have to do with Facebook audiences themselves, with workers, Kafka and the sandbox."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.integration.audiences_of_traits import AUDIENCES, Make, destination, identify, users, wait_for
from tests.integration.installation import Installation


def made_by_hand(installation: Installation, name: str, account: str = "act_1", **more: str) -> str:
    """An audience that somebody else has made at Facebook; its id."""
    body = {"name": name, "subtype": "CUSTOM", "customer_file_source": "USER_PROVIDED_ONLY", **more}
    request = urllib.request.Request(
        f"{installation.graph_url}/v25.0/{account}/customaudiences",
        data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer token", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["id"])


def run(installation: Installation, *arguments: str) -> Any:
    result = installation.command("audiences", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_what_facebook_has_is_made_listed_connected_and_tried(make: Make) -> None:
    installation = make(AUDIENCES)
    nothing = installation.command("audiences", "create", "active")
    assert nothing.returncode == 2, "nothing is published"
    worker = installation.start_worker(instance="slot")
    wait_for(worker, worker.ready)
    created = run(installation, "create", "active")["facebook_id"]
    installation.wait_until_idle(worker)
    assert run(installation, "create", "active")["facebook_id"] == created, "once"
    installation.produce(identify("active", True, users(0, 20)))
    wait_for(worker, lambda: installation.facebook_members().get("Active") == users(0, 20))

    by_hand = [made_by_hand(installation, f"By hand {number}") for number in range(120)]
    elsewhere = made_by_hand(installation, "Elsewhere", "act_2")
    found = {each["id"]: each for each in run(installation, "list", "--facebook")["audiences"]}
    assert set(by_hand) | {created} < set(found), "all pages"
    assert elsewhere not in found, "not an account of ours"
    ours = found[created]
    assert (ours["name"], ours["destination"], ours["ad_account_id"]) == ("Active", "active", "act_1")
    assert (ours["lower_bound"], ours["operation"]) == (1000, "200 Normal")
    assert ours["created"].endswith("Z")
    assert found[by_hand[0]]["destination"] is None
    assert found[by_hand[0]]["operation"].startswith("410 ")
    lines = installation.command("audiences", "list", "--facebook").stdout
    assert len(lines.splitlines()) == len(found)

    assert installation.command("audiences", "connect", "active", elsewhere).returncode == 2
    assert installation.command("audiences", "connect", "active", "1").returncode == 1
    assert installation.command("audiences", "connect", "nobody", by_hand[0]).returncode == 2
    connected = run(installation, "connect", "active", by_hand[0])
    assert (connected["destination"], connected["version"]) == ("active", 2)
    wait_for(worker, lambda: installation.facebook_members()["By hand 0"] == users(0, 20))
    assert run(installation, "connect", "active", by_hand[0])["version"] == 2, "already"
    assert installation.command("audiences", "connect", "others", by_hand[0]).returncode == 2
    assert installation.facebook_members()["Active"] == users(0, 20), "the former one stays as it is"
    refused = installation.command("audiences", "create", "active")
    assert (refused.returncode, "is connected to" in refused.stderr) == (2, True)

    installation.wait_until_idle(worker)
    tried = run(installation, "test-record", "active")
    assert [(step["step"], step["ok"]) for step in tried["steps"]] == [("add", True), ("remove", True)]
    sent = installation.sandbox_get(f"requests?audience={by_hand[0]}")[-2:]
    assert [one["method"] for one in sent] == ["POST", "DELETE"]
    assert sent[0]["body"] == sent[1]["body"], "who was added was taken out again"
    assert installation.facebook_members()["By hand 0"] == users(0, 20)
    error = {"message": "(#200) words", "code": 200, "error_subcode": 1870090, "type": "OAuthException"}
    installation.fault({"status": 400, "body": {"error": error}}, path="/users$", times=1)
    without_terms = installation.command("audiences", "test-record", "active")
    assert without_terms.returncode == 1
    assert "Accept the Custom Audience terms" in without_terms.stdout
    assert "remove" not in without_terms.stdout, "nobody was added"


def test_an_audience_is_shown_with_its_sizes_its_past_and_what_is_tried_next(make: Make) -> None:
    installation = make(AUDIENCES, AUDIENCE_SYNC_FACEBOOK_PROBE_SECONDS="600")
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    with_email = [
        {"type": "identify", "userId": user, "traits": {"active": True, "email": f"{user}@shown.example"}}
        for user in sorted(users(0, 5))
    ]
    installation.produce(with_email + identify("active", True, users(5, 20)))
    wait_for(worker, lambda: installation.facebook_members().get("Active") == users(0, 20))
    installation.wait_until_idle(worker)
    error = {"message": "words", "code": 190, "error_subcode": 463, "type": "OAuthException"}
    installation.fault({"status": 400, "body": {"error": error}}, path="/users$")
    installation.produce(identify("active", False, users(0, 1)))
    wait_for(worker, lambda: destination(worker, "active")["state"] == "held")

    shown = run(installation, "show", "active")
    assert (shown["key"], shown["when"]["trait"]) == ("active", "active")
    [view] = shown["delivery"]
    assert (view["id"], view["state"], view["ad_account_id"]) == ("active", "held", "act_1")
    assert view["reason"].startswith("Facebook refused (190/463")
    assert view["next_retry_at"] == destination(worker, "active")["next_retry_at"] is not None
    assert view["last_sync_at"].endswith("Z")
    assert view["members"]["told"] == view["members"]["sent"] == 19
    assert view["members"]["keys"] == {
        "EXTERN_ID": {"members": 19, "percent": 100.0},
        "EMAIL": {"members": 4, "percent": 21.1},
    }
    assert [one["state"] for one in view["history"]] == ["new", "live", "held"]
    assert view["history"][-1]["facebook_id"] == view["facebook_id"]
    assert [(one["added"], one["removed"]) for one in view["hours"]] in ([(20, 0)], [(20, 0), (0, 0)])
    words = installation.command("audiences", "show", "active").stdout
    for line in ("  next retry: 2", "  members: 19, 19 with something to send: EXTERN_ID 19, EMAIL 4"):
        assert line in words
    assert "shown.example" not in words
    quick = run(installation, "show", "active", "--no-members")["delivery"][0]
    assert (quick["members"], quick["explanation"]) == (None, None)
    [unchanged] = run(installation, "show", "others")["delivery"]
    assert (unchanged["state"], unchanged["members"]["told"]) == ("live", 0)
    assert unchanged["explanation"], "no size of it is known yet"


def test_what_workers_do_not_make_is_said(make: Make) -> None:
    installation = make(AUDIENCES)
    worker = installation.start_worker()
    installation.wait_until_idle(worker)
    worker.process.kill()
    worker.ended()
    audiences = f"{AUDIENCES}  - {{name: Third, when: {{trait: third, equals: true}}}}\n"
    assert installation.apply(audiences).returncode == 0
    nobody = installation.command("audiences", "create", "third", "--wait", "0")
    assert (nobody.returncode, "no worker has made it" in nobody.stderr) == (1, True)
    assert installation.command("audiences", "test-record", "third").returncode == 2
    assert installation.command("audiences", "pause", "third", "--reason", "not yet").returncode == 0
    paused = installation.command("audiences", "create", "third")
    assert (paused.returncode, "paused: not yet" in paused.stderr) == (2, True)


def test_an_audience_that_somebody_deletes_at_facebook_is_made_anew_by_create(make: Make) -> None:
    installation = make(AUDIENCES)
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    installation.produce(identify("active", True, users(0, 20)))
    wait_for(worker, lambda: installation.facebook_members().get("Active") == users(0, 20))
    installation.wait_until_idle(worker)
    first = destination(worker, "active")["facebook_id"]
    request = urllib.request.Request(
        f"{installation.graph_url}/v25.0/{first}", method="DELETE", headers={"Authorization": "Bearer token"}
    )
    urllib.request.urlopen(request, timeout=10).close()
    installation.produce(identify("active", False, users(0, 5)) + identify("active", True, users(20, 30)))
    wait_for(worker, lambda: destination(worker, "active")["state"] == "gone")
    assert "Active" not in installation.facebook_members(), "nobody has asked for another one"
    worker.process.kill()
    worker.ended()
    worker = installation.start_worker(instance="slot")
    wait_for(worker, worker.ready)

    created = run(installation, "create", "active")["facebook_id"]
    assert created != first
    wait_for(worker, lambda: installation.facebook_members().get("Active") == users(5, 30))
    installation.wait_until_idle(worker)
    assert run(installation, "create", "active")["facebook_id"] == created, "once"
    assert destination(worker, "active")["facebook_id"] == created
    [view] = run(installation, "show", "active")["delivery"]
    assert [one["state"] for one in view["history"]][-1] == "live"
    assert "gone" in [one["state"] for one in view["history"]]


ENGAGE = """
audiences:
  - {name: Placed, source: engage}
  - {name: Fixed, source: engage, facebook: {ad_account_id: act_1}}
"""


def claims(key: str, value: bool, people: set[str], personas: dict[str, Any]) -> list[dict[str, Any]]:
    context = {"personas": {"computation_class": "audience", "computation_key": key, **personas}}
    return [
        {"type": "identify", "userId": user, "traits": {key: value}, "context": context}
        for user in sorted(people)
    ]


def test_engage_calls_say_where_their_audience_is_and_definitions_go_before(make: Make) -> None:
    installation = make(ENGAGE)
    theirs = made_by_hand(installation, "Made by Engage", "act_7")
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    said = {"external_audience_id": theirs, "audience_settings": {"engageAdAccountId": "7"}}
    installation.produce(
        claims("placed", True, users(0, 20), said) + claims("fixed", True, users(0, 9), said)
    )
    wait_for(worker, lambda: installation.facebook_members()["Made by Engage"] == users(0, 20))
    installation.wait_until_idle(worker)
    assert installation.facebook_members()["Fixed"] == users(0, 9), "its definition names another account"
    shown = destination(worker, "placed")
    assert (shown["facebook_id"], shown["ad_account_id"]) == (theirs, "act_7")
    # Somebody from before, whom Engage takes out.
    installation.produce(claims("placed", False, {"user_3", "stranger"}, said))
    wait_for(worker, lambda: "user_3" not in installation.facebook_members()["Made by Engage"])
    installation.wait_until_idle(worker)
    removed = [
        row
        for one in installation.sandbox_get(f"requests?audience={theirs}")
        if one["method"] == "DELETE"
        for row in one["body"]["payload"]["data"]
    ]
    assert sorted(row[0] for row in removed) == ["stranger", "user_3"]
    worker.process.kill()
    worker.ended()
    worker = installation.start_worker(instance="slot")
    installation.produce(claims("placed", True, {"user_50"}, said))
    wait_for(worker, lambda: "user_50" in installation.facebook_members()["Made by Engage"])
    assert run(installation, "list")["version"] == 2, "published once"


def test_one_ad_account_becomes_several_and_one_again_with_the_audiences_there_are(make: Make) -> None:
    several = "facebook: [{ad_account_id: act_1}, {ad_account_id: act_2}]"
    one = "audiences: [{name: Active, when: {trait: active, equals: true}}]"
    both = one.replace("}}]", f"}}, {several}}}]")
    other = both.replace("{ad_account_id: act_1}, ", "")
    installation = make(one)
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    installation.produce(identify("active", True, users(0, 20)))
    wait_for(worker, lambda: installation.facebook_members().get("Active") == users(0, 20))

    def members() -> dict[str, tuple[str, set[str]]]:
        return {
            audience["ad_account_id"]: (
                audience["id"],
                {
                    member["EXTERN_ID"]
                    for member in installation.sandbox_get(f"audiences/{audience['id']}/members")["members"]
                },
            )
            for audience in installation.sandbox_get("audiences")
        }

    first = members()["act_1"][0]
    assert installation.command("audiences", "pause", "active").returncode == 0
    wait_for(worker, lambda: destination(worker, "active")["state"] == "paused")
    installation.produce(identify("active", False, users(0, 5)))
    assert installation.apply(both).returncode == 0
    worker.process.kill()
    worker.ended()
    worker = installation.start_worker(instance="slot")
    assert installation.command("audiences", "resume", "active").returncode == 0
    installation.produce(identify("active", True, users(20, 30)))
    wait_for(worker, lambda: [one[1] for one in members().values()] == [users(5, 30)] * 2)
    installation.wait_until_idle(worker)
    assert (members()["act_1"][0], len(members())) == (first, 2)
    second = members()["act_2"][0]
    ids = {one["id"]: one["facebook_id"] for one in run(installation, "show", "active")["delivery"]}
    assert ids == {"active@act_1": first, "active@act_2": second}

    assert installation.apply(other).returncode == 0
    # Until it has been let go of, it is told.
    wait_for(worker, lambda: len((worker.stats() or {})["audiences"]["active"]["destinations"]) == 1)
    installation.produce(identify("active", False, users(5, 9)))
    wait_for(worker, lambda: members()["act_2"][1] == users(9, 30))
    assert members() == {"act_1": (first, users(5, 30)), "act_2": (second, users(9, 30))}
    assert [one["facebook_id"] for one in run(installation, "show", "active")["delivery"]] == [second]
