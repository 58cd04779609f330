"""`doctor` against a real Kafka and the stand-in of the Graph API: what it finds, and what to do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from app.adapters.kafka_embedded import free_port
from app.commands import doctor, main
from tests.integration.installation import Installation

AUDIENCES = """
audiences:
  - {name: Buyers, when: {event: Order Completed, within: 30d}}
"""
TOKEN = "zq7-access-token"
PAGES_TOKEN = "zq7-token-of-the-pages"


@pytest.fixture(scope="module")
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}.", AUDIENCES)) as made:
        yield made


Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def examine(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Doctor:
    """Its status, and its findings by check; no secret is in them."""

    def run(**settings: str) -> tuple[int, dict[str, dict[str, Any]]]:
        given = {**installation.environment(6066, None), "FACEBOOK_ACCESS_TOKEN": TOKEN, **settings}
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            patch.setattr("sys.argv", ["audience-sync", "doctor", "--json"])
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        assert PAGES_TOKEN not in said.out + said.err
        assert isinstance(ended.value.code, int)
        document = json.loads(said.out)
        assert document["ok"] == (ended.value.code == 0)
        return ended.value.code, {check["check"]: check for check in document["checks"]}

    return run


def failed(checks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: check for name, check in checks.items() if check["status"] == "failed"}


def test_a_sound_installation(
    examine: Doctor,
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, checks = examine()
    assert status == 0
    # The default version of the API may be near its end when this runs.
    assert {check["status"] for name, check in checks.items() if name != "version"} == {"ok"}
    assert checks["version"]["status"] in ("ok", "warning")
    topics = {f"topic {spec.name}" for spec in installation.catalog.all()}
    assert set(checks) == {
        "definitions",
        "pages",
        "kafka",
        *topics,
        "token",
        "facebook act_1",
        "version",
        "clock",
    }
    # In words: a line each.
    for name, value in installation.environment(6066, None).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["audience-sync", "doctor"])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(checks)
    assert all(line.startswith("ok ") for line in lines if " version: " not in line)


def test_settings_that_no_worker_would_start_with(examine: Doctor) -> None:
    status, checks = examine(
        AUDIENCE_SYNC_WEB_HOST="0.0.0.0",  # noqa: S104 - what it warns of
        AUDIENCE_SYNC_AUDIENCES="/nowhere.yaml",
        FACEBOOK_ACCESS_TOKEN="",
    )
    assert status == 1
    assert set(failed(checks)) == {"definitions", "pages", "token"}
    assert "/nowhere.yaml" in checks["definitions"]["text"]
    assert "AUDIENCE_SYNC_WEB_TOKEN_FILE" in checks["pages"]["fix"]
    assert "FACEBOOK_ACCESS_TOKEN_FILE" in checks["token"]["fix"]
    assert checks["facebook"]["status"] == "skipped"


def test_the_ad_account_of_the_settings_is_asked_without_definitions_too(examine: Doctor) -> None:
    status, checks = examine(
        AUDIENCE_SYNC_AUDIENCES="/nowhere.yaml", AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID="act_1"
    )
    assert (status, set(failed(checks))) == (1, {"definitions"})
    assert checks["facebook act_1"]["status"] == "ok"
    assert "facebook" not in checks


def test_pages_with_a_token_may_be_for_everybody(examine: Doctor) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - as above
    status, checks = examine(AUDIENCE_SYNC_WEB_HOST=everywhere, AUDIENCE_SYNC_WEB_TOKEN=PAGES_TOKEN)
    assert (status, checks["pages"]["status"]) == (0, "ok")


def test_topics_that_do_not_exist(examine: Doctor) -> None:
    status, checks = examine(AUDIENCE_SYNC_TOPIC_PREFIX=f"test-{uuid.uuid4().hex[:12]}.")
    assert status == 1
    missing = failed(checks)
    assert len(missing) == 7
    assert all("`audience-sync topics` creates it" in check["fix"] for check in missing.values())


def test_topics_that_are_laid_out_otherwise(examine: Doctor, installation: Installation) -> None:
    _, checks = examine(AUDIENCE_SYNC_PARTITIONS="8")
    assert f"topic {installation.catalog.control.name}" not in failed(checks)
    assert len(failed(checks)) == 6
    memberships = installation.catalog.memberships.name
    assert failed(checks)[f"topic {memberships}"]["text"] == "4 partitions, and 8 are configured"
    _set(installation, memberships, "cleanup.policy", "delete")
    try:
        status, checks = examine()
        assert (status, set(failed(checks))) == (1, {f"topic {memberships}"})
        assert "cleanup.policy is delete, and compact is needed" in checks[f"topic {memberships}"]["text"]
    finally:
        _set(installation, memberships, "cleanup.policy", "compact")
    lag = "max.compaction.lag.ms"
    _set(installation, memberships, lag, "604800001")
    try:
        status, checks = examine()
        assert (status, set(failed(checks))) == (1, {f"topic {memberships}"})
        assert f"{lag} is 604800001, and 604800000 at most" in checks[f"topic {memberships}"]["text"]
        assert f"--topic {memberships} --add-config {lag}=604800000`" in checks[f"topic {memberships}"]["fix"]
        _set(installation, memberships, lag, "86400000")
        assert examine()[0] == 0
    finally:
        _set(installation, memberships, lag, "604800000")


def _set(installation: Installation, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": installation.bootstrap_servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)


def test_no_kafka(examine: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "UNREACHABLE_SECONDS", 0.5)
    status, checks = examine(KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    assert (status, set(failed(checks))) == (1, {"kafka"})
    assert "KAFKA_BOOTSTRAP_SERVERS" in checks["kafka"]["fix"]
    assert checks["topics"]["status"] == "skipped"


def test_a_certificate_that_cannot_be_read(examine: Doctor) -> None:
    status, checks = examine(KAFKA_SECURITY_PROTOCOL="ssl", KAFKA_SSL_CA_LOCATION="/nowhere/ca.pem")
    assert (status, set(failed(checks))) == (1, {"kafka"})
    assert "KAFKA_SSL_CA_LOCATION" in checks["kafka"]["text"]


def test_a_version_that_meta_has_ended(examine: Doctor) -> None:
    status, checks = examine(AUDIENCE_SYNC_FACEBOOK_API_VERSION="v24.0")
    assert (status, set(failed(checks))) == (1, {"version"})
    assert "AUDIENCE_SYNC_FACEBOOK_API_VERSION" in checks["version"]["fix"]


def test_no_facebook(examine: Doctor) -> None:
    status, checks = examine(AUDIENCE_SYNC_FACEBOOK_API_URL=f"http://127.0.0.1:{free_port()}")
    assert (status, set(failed(checks))) == (1, {"facebook act_1"})
    assert "AUDIENCE_SYNC_FACEBOOK_API_URL" in checks["facebook act_1"]["fix"]
    assert checks["clock"]["status"] == "skipped"


def test_a_token_that_facebook_does_not_take(examine: Doctor, installation: Installation) -> None:
    error = {"message": f"Malformed access token {TOKEN}", "code": 190, "type": "OAuthException"}
    installation.fault({"status": 401, "body": {"error": error}})
    try:
        status, checks = examine()
    finally:
        installation.clear_faults()
    assert (status, set(failed(checks))) == (1, {"facebook act_1"})
    assert "190" in checks["facebook act_1"]["text"]
    assert "token" in checks["facebook act_1"]["fix"]


@pytest.mark.parametrize(
    ("date", "said"),
    [("Sat, 01 Jan 2000 00:00:00 GMT", "ahead of"), ("Wed, 01 Jan 2070 00:00:00 GMT", "behind")],
)
def test_a_clock_that_is_wrong(examine: Doctor, installation: Installation, date: str, said: str) -> None:
    installation.fault(
        {"status": 200, "body": {"data": []}, "headers": {"Date": date}}, path="/customaudiences"
    )
    try:
        status, checks = examine()
    finally:
        installation.clear_faults()
    assert (status, set(failed(checks))) == (1, {"clock"})
    assert said in checks["clock"]["text"]
    assert "NTP" in checks["clock"]["fix"]
