from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.adapters.definition_files import read_definitions

EXAMPLE = Path(__file__).parents[3] / "examples" / "audiences.yaml"
GOOD = """
defaults: {require: {trait: opt_in, equals: true}}
audiences:
  - {name: Order Completed Last 30Days, when: {event: Order Completed, within: 30d}}
  - name: VIPs
    source: engage
    enabled: false
    include_anonymous: true
    facebook: [{ad_account_id: act_1}, {ad_account_id: act_2, mode: dry_run, fields: {city: $.a}}]
  - {name: Counted, when: {trait: email, exists: true}, facebook: []}
traits:
  orders_30d: {event: Order Completed, count: true, within: 30d}
"""


def validate(
    *arguments: str | Path, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, in an environment without settings of ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_SYNC_")}
    return subprocess.run(
        [sys.executable, "-c", "from app.commands import main; main()", "validate", *map(str, arguments)],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(EXAMPLE.parents[1]), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD, encoding="utf-8")
    return file


def test_reads_definitions_out(good: Path, tmp_path: Path) -> None:
    result = validate(good, cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        (
            "order_completed_last_30days (Order Completed Last 30Days), computed: "
            "Order Completed at least 1 time within 30d; required: opt_in is true [order_completed_last_30days]"
        ),
        (
            "vips (VIPs), engage: computed by Segment Engage; required: opt_in is true "
            "[not enabled; with anonymous people; vips@act_1, vips@act_2 as a dry run with city as mapped, "
            "of calls from now on and, when that is new, of all that the source topic keeps]"
        ),
        "counted (Counted), computed: email has a value; required: opt_in is true [delivered nowhere]",
        "orders_30d, computed trait: the number of Order Completed within 30d",
    ]
    assert result.stderr == (
        f"warning: {good}:10: audiences[2].when: `email` identifies people; what is compared is kept as it is, "
        "without hashing\n"
    )


def test_json(good: Path, tmp_path: Path) -> None:
    result = validate("--audiences", good, "--json", cwd=tmp_path)
    assert result.returncode == 0
    printed = json.loads(result.stdout)
    assert [audience["key"] for audience in printed["audiences"]] == [
        "order_completed_last_30days",
        "vips",
        "counted",
    ]
    definition = printed["audiences"][0].pop("definition")
    assert definition["when"]["window"] == {"far_ms": 2_592_000_000}
    assert printed["audiences"][0] == {
        "key": "order_completed_last_30days",
        "name": "Order Completed Last 30Days",
        "source": "computed",
        "condition": "Order Completed at least 1 time within 30d",
        "require": "opt_in is true",
        "destinations": ["order_completed_last_30days"],
    }
    [trait] = printed["traits"]
    assert trait["definition"]["within_ms"] == 2_592_000_000
    assert (trait["key"], trait["value"]) == ("orders_30d", "the number of Order Completed within 30d")
    assert len(printed["warnings"]) == 1


def test_all_problems_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("audiences:\n  - {name: A}\n  - {when: {event: E, within: soon}}\n")
    result = validate("bad.yaml", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        (
            "error: bad.yaml:2: audiences[0]: `when` is missing: a computed audience needs a condition "
            "(or is it `source: engage`?)"
        ),
        "bad.yaml:3: audiences[1]: `name` is missing",
        "bad.yaml:3: audiences[1].when.within: expected a duration such as 30d, got 'soon'",
    ]


EVERYTHING = """
audiences:
  - name: Order Completed Last 30Days
    when: {event: Order Completed, count: {at_least: 1}, within: 30d}
  - name: Big spenders in Europe
    when:
      all:
        - event: Order Completed
          within: 90d
          where: {currency: {any_of: [EUR, GBP]}}
          sum: {property: revenue, at_least: 500}
        - any: [{trait: country, any_of: [DE, FR, ES]}, {trait: vip, equals: true}]
        - not: {audience: churned}
    facebook:
      ad_account_id: act_123
      description: "..."
      fields:
        email: $.traits.work_email
        phone: [$.traits.phone, $.traits.mobile]
        gender: {const: f}
        value: {trait: lifetime_value}
  - name: Abandoned cart
    when:
      event: Product Added
      between: [7d, 1d]
      then: {event: Order Completed, count: {exactly: 0}, within: 1d, where: {cart_id: {same_as: cart_id}}}
  - {name: Churned, when: {event: Order Completed, count: {exactly: 0}, within: 180d}}
  - {name: Engage VIPs, source: engage}
  - name: Warehouse leads
    source: reverse_etl
    rows: {where: {$.context.protocols.sourceId: src_9}}
    facebook: {sync_mode: mirror}
traits:
  lifetime_value: {event: Order Completed, sum: revenue}
  orders_30d: {event: Order Completed, count: true, within: 30d}
  favourite_category: {event: Product Viewed, most_frequent: category, within: 90d}
"""


def test_a_set_of_every_kind_of_audience_is_valid(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(EVERYTHING)
    result = validate("all.yaml", cwd=tmp_path)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 6 + 3
    assert "[big_spenders_in_europe with email and phone and gender as mapped" in result.stdout
    assert result.stderr == (
        "warning: all.yaml:21: audiences[1].facebook.fields.value: left out: only value-based audiences are sent what "
        "people are worth; to send it, set `value_based: true`\n"
    )
    (tmp_path / "worth.yaml").write_text(
        EVERYTHING.replace("act_123\n", "act_123\n      value_based: true\n")
    )
    worth = validate("worth.yaml", "--json", cwd=tmp_path)
    definition = json.loads(worth.stdout)["audiences"][1]["definition"]
    assert definition["destinations"][0]["fields"]["value"] == [{"trait": "lifetime_value"}]


def test_only_validate_says_what_may_well_be_meant(tmp_path: Path) -> None:
    text = "audiences: [{name: A, when: {trait: vip, equals: 1}}]\ntraits: {vip: {event: E, last: p}}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert "`trait: vip` is this computed trait" in validate("a.yaml", cwd=tmp_path).stderr
    assert len(json.loads(validate("a.yaml", "--json", cwd=tmp_path).stdout)["warnings"]) == 1
    read = read_definitions(tmp_path / "a.yaml")
    assert (read.warnings, len(read.remarks)) == ((), 1)


def test_file_of_the_setting_then_of_the_folder(good: Path, tmp_path: Path) -> None:
    missing = validate(cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("error: audiences.yaml: there is no such file")
    assert validate(cwd=tmp_path, environment={"AUDIENCE_SYNC_AUDIENCES": str(good)}).returncode == 0
    good.rename(tmp_path / "audiences.yaml")
    assert validate(cwd=tmp_path).returncode == 0


def test_the_file_is_given_once(good: Path, tmp_path: Path) -> None:
    result = validate(good, "--audiences", good, cwd=tmp_path)
    assert result.returncode == 2
    assert "give the file once" in result.stderr


def test_example_is_valid_without_warnings(tmp_path: Path) -> None:
    result = validate(EXAMPLE, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 12
    assert (
        "(Business accounts gone quiet), computed of accounts: plan is business and no user with ("
        in result.stdout
    )


def test_example_shows_most_of_the_language() -> None:
    """An example that leaves a key out teaches nobody that key."""
    text = EXAMPLE.read_text(encoding="utf-8")
    words = (
        "defaults require facebook all any not within between count sum where context exclude_sources source "
        "rows id sync_mode entity users"
    )
    assert [word for word in words.split() if f"{word}:" not in text] == []
    assert {audience.source.value for audience in read_definitions(EXAMPLE).audiences} == {
        "computed",
        "engage",
        "reverse_etl",
    }


def test_what_can_be_read_and_not_be_computed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "too_many.yaml"
    file.write_text("audiences:\n  - {name: A, lookback: 30d, when: {event: X, count: {at_least: 50000}}}\n")
    result = validate(file, cwd=tmp_path)
    assert result.returncode == 2
    assert "audience a: a count within a window may be at most 19,999" in result.stderr


def test_a_count_beyond_what_is_kept_is_refused_where_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "too_many.yaml"
    file.write_text("audiences:\n  - name: A\n    when: {event: X, count: {at_least: 20001}, within: 30d}\n")
    result = validate("too_many.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert "too_many.yaml:3: audiences[0].when.count: " in result.stderr
    assert "at most 19,999 events" in result.stderr
    settings = {"AUDIENCE_SYNC_PROFILE_EVENTS": "30000"}
    assert validate("too_many.yaml", cwd=tmp_path, environment=settings).returncode == 0


def test_rows_of_a_warehouse_are_read_out_with_their_sync_mode(tmp_path: Path) -> None:
    rows = "{name: Leads, source: reverse_etl, rows: {topic: segment.events}, facebook: {sync_mode: upsert}}"
    (tmp_path / "rows.yaml").write_text(f"audiences:\n  - {rows}\n")
    result = validate("rows.yaml", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (
        0,
        "leads (Leads), reverse_etl: rows of a warehouse [leads, upsert]\n",
    )


def test_rows_of_a_topic_that_is_written_here_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.yaml").write_text(
        "audiences:\n  - {name: Leads, source: reverse_etl, rows: {topic: eu.dead.letters}}\n"
    )
    assert validate("rows.yaml", cwd=tmp_path).returncode == 0
    environment = {"AUDIENCE_SYNC_TOPIC_PREFIX": "eu."}
    result = validate("rows.yaml", cwd=tmp_path, environment=environment)
    assert result.returncode == 2
    assert (
        "audience leads: `rows: {topic: eu.dead.letters}`: eu.dead.letters is a topic that audience-sync writes itself"
        in result.stderr
    )
