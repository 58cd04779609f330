"""All pages: commands can be run, names exist, links lead somewhere, numbers are those of the code."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner

from app.adapters.faust_worker import HEARTBEATS_PER_SESSION
from app.adapters.kafka_options import OPTION_VARIABLES
from app.adapters.kafka_transactions import TRANSACTION_TIMEOUT_MS
from app.commands import COMMANDS, cli
from app.commands.events import DEFAULT_RECORDS
from app.commands.validate import SURVEYED_RECORDS
from app.domain.bisection import MOST, MOST_AT_FIRST
from app.domain.delivery import USAGE_SLOW, USAGE_STOP
from app.domain.event_survey import MAX_DEPTH, MAX_EVENTS, MAX_PATHS
from app.domain.fold import MAX_OF_ONE_KIND, REMEMBERED_MS
from app.domain.profile_report import MAX_STEPS
from app.domain.room import MESSAGE_IDS, PROFILE_EVENTS
from app.pipeline.delivery_options import DeliveryOptions
from app.pipeline.evaluate import IDLE_COMMIT_SECONDS, MAX_UNCOMMITTED
from app.pipeline.expire import MARKER_SECONDS
from app.settings import FROM_FILES, PREFIX, SETTINGS_FILE, Settings
from app.web.metric_names import MetricName
from app.wiring import EARLY_MS
from tests.acceptance.markdown_pages import (
    PAGES,
    ROOT,
    anchor,
    blocks,
    headings,
    links,
    name_of,
    quoted,
    read,
    words,
)

UNPREFIXED = ("KAFKA_", "FACEBOOK_ACCESS_TOKEN", "FACEBOOK_APP_SECRET")
NAMES = {name.upper() for name in Settings.model_fields}
VARIABLES = {
    SETTINGS_FILE,
    *(name if name.startswith(UNPREFIXED) else f"{PREFIX}{name}" for name in NAMES),
    *(f"{name}_FILE" for name in FROM_FILES),
}
# Where the names of whole families of variables begin.
FAMILIES = {PREFIX, *OPTION_VARIABLES, "KAFKA_", "FACEBOOK_"}
# What a line may use beyond what is here.
OTHERS = {"curl", "openssl"}
TARGETS = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
FOLDERS = ("app/", "docs/", "examples/", "schemas/", "tests/", "topics/")

by_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def check_arguments(arguments: list[str]) -> None:
    """`audience-sync` with these arguments gets as far as doing its work; its --help can be read."""
    command = cli.get_command(Context(cli), arguments[0])
    assert command is not None, f"there is no command {arguments[0]}"
    with Context(command, info_name=command.name) as context:
        command.make_parser(context).parse_args(list(arguments[1:]))
    shown = CliRunner().invoke(cli, [arguments[0], "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


def check_line(line: str) -> None:
    """A line of a shell block; whatever is neither a target, a command, a setting nor one of OTHERS is
    refused.
    """
    parts = shlex.split(line)
    if parts[0] == "export":
        parts = parts[1:]
    while parts and "=" in parts[0]:
        assert parts.pop(0).partition("=")[0] in VARIABLES
    if not parts:
        return
    program, *arguments = parts
    if program in OTHERS:
        return
    if program == "make":
        assert arguments
        assert set(arguments) <= TARGETS
    elif program.endswith("python") and arguments[:1] == ["-m"]:
        assert importlib.util.find_spec(arguments[1]) is not None
    elif program == ".venv/bin/pytest":
        assert [name for name in arguments if not name.startswith("-") and not (ROOT / name).exists()] == []
    else:
        assert program == "audience-sync"
        check_arguments(arguments)


@pytest.mark.parametrize(
    "line",
    sorted(
        {
            line
            for page in PAGES
            for block in blocks(page.read_text("utf-8"), "sh")
            for line in block.splitlines()
        }
    ),
)
def test_shell_lines_can_be_run(line: str) -> None:
    check_line(line)


@pytest.mark.parametrize(
    "line", ["make tea", "audience-sync fly", "AUDIENCE_SYNC_SPEED=1 audience-sync worker", "ls"]
)
def test_lines_that_cannot_be_run_are_found(line: str) -> None:
    with pytest.raises(AssertionError):
        check_line(line)


@by_page
def test_commands_in_the_text_exist(page: Path) -> None:
    for text in quoted(page.read_text("utf-8")):
        if text.startswith("audience-sync "):
            check_arguments(shlex.split(text)[1:])
        if text.startswith("make "):
            check_line(text)


@by_page
def test_variables_are_settings(page: Path) -> None:
    named = set(re.findall(r"\b(?:AUDIENCE_SYNC|KAFKA|FACEBOOK)_[A-Z_]+\b", page.read_text("utf-8")))
    assert named - VARIABLES - FAMILIES == set()


@by_page
def test_metrics_exist(page: Path) -> None:
    named = {text for text in quoted(page.read_text("utf-8")) if re.fullmatch(r"audience_sync_[a-z_]+", text)}
    assert named - {metric.value.name for metric in MetricName} == set()


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        path, _, part = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.is_file(), link
        if part:
            assert part in {anchor(heading) for heading in headings(target.read_text("utf-8"))}, link


@by_page
def test_files_in_the_text_exist(page: Path) -> None:
    named = {text.split()[0] for text in quoted(page.read_text("utf-8")) if text.startswith(FOLDERS)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_every_command_is_named_in_the_changelog() -> None:
    named = set(quoted(read("CHANGELOG.md")))
    assert COMMANDS.keys() - named == set()


def test_the_changelog_has_the_version_that_is_built() -> None:
    version = re.search(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    assert version
    assert headings(read("CHANGELOG.md"))[1] == f"[{version[1]}] - Unreleased"


# --- decision records ---

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
INDEX = read("docs/decisions/README.md")


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_says_what_was_rejected_and_is_listed(page: Path) -> None:
    title, *parts = headings(page.read_text("utf-8"))
    assert parts == ["Context", "Decision", "Consequences", "Rejected"]
    number, _, name = title.partition(". ")
    assert int(number) == int(page.name[:4])
    assert f"[{number}]({page.name}) | {name} |" in INDEX


_HOURS = REMEMBERED_MS // 3_600_000
_TRIES = DeliveryOptions("").rejected_requests

# Page, words with the number that the code has.
NUMBERS = [
    ("docs/decisions/0002-one-transaction-per-group-commit.md", f"at most {MAX_UNCOMMITTED:,} records"),
    (
        "docs/decisions/0002-one-transaction-per-group-commit.md",
        f"at most every {IDLE_COMMIT_SECONDS:.0f} seconds",
    ),
    (
        "docs/decisions/0002-one-transaction-per-group-commit.md",
        f"after {TRANSACTION_TIMEOUT_MS // 1000} seconds",
    ),
    (
        "docs/decisions/0003-recovery-by-batches-from-a-settled-log.md",
        f"{TRANSACTION_TIMEOUT_MS // 1000} seconds",
    ),
    ("docs/decisions/0004-lanes-and-redelivery.md", f"for {_HOURS} hours of the partition's clock"),
    ("docs/decisions/0004-lanes-and-redelivery.md", f"{MESSAGE_IDS:,} by default"),
    ("docs/decisions/0005-the-clock-of-a-partition.md", f"up to {EARLY_MS // 1000} seconds ahead"),
    ("docs/decisions/README.md", f"{EARLY_MS // 1000} s early"),
    ("docs/decisions/0006-filters-where-events-come-in.md", f"at most {PROFILE_EVENTS:,} events"),
    ("docs/decisions/0007-profile-ids-and-hashing.md", f"{MAX_OF_ONE_KIND} of each kind"),
    ("docs/operations.md", f"within {_HOURS} hours"),
    ("docs/operations.md", f"in at most {MAX_STEPS} steps"),
    ("docs/operations.md", f"reads the newest {DEFAULT_RECORDS:,} records"),
    ("docs/operations.md", f"not among the newest {SURVEYED_RECORDS:,} records"),
    ("docs/operations.md", f"At most {MAX_EVENTS:,} events, {MAX_PATHS} paths each, {MAX_DEPTH} levels deep"),
    ("docs/operations.md", f"every {DeliveryOptions('').person_probe_seconds / 60:.0f} minutes"),
    (
        "docs/operations.md",
        f"after {DeliveryOptions('').tries} times every {DeliveryOptions('').outage_probe_seconds / 60:.0f} minutes",
    ),
    ("docs/operations.md", f"When {DeliveryOptions('').tries} such calls in a row fail"),
    ("docs/operations.md", f"from {USAGE_SLOW:.0f} % of any of its usage headers"),
    ("docs/operations.md", f"at {USAGE_STOP:.0f} % they stop"),
]
SPELT = {3: "three", 5: "Five"}


@pytest.mark.parametrize(("page", "said"), NUMBERS)
def test_numbers_are_those_of_the_code(page: str, said: str) -> None:
    assert said in words(read(page))


def test_numbers_in_words_are_those_of_the_code() -> None:
    times = SPELT[round(1 / MARKER_SECONDS)]
    assert f"{times} times a second" in words(read("docs/decisions/0005-the-clock-of-a-partition.md"))
    delivery = words(read("docs/decisions/0010-delivery-at-least-once.md"))
    assert f"behind {SPELT[_TRIES]} requests in a row of which nothing was taken" in delivery
    assert f"behind {MOST_AT_FIRST} refusals" in delivery
    assert f"and {MOST} in all" in delivery
    assert f"behind {SPELT[_TRIES]} in a row" in words(read("docs/operations.md"))
    defaults = DeliveryOptions("")
    assert (defaults.outage_probe_seconds, defaults.gone_probe_seconds) == (300, 3600)
    assert HEARTBEATS_PER_SESSION > 2, "half a session without a heartbeat has to be unusual"
    assert defaults.policy.max_pending == 3 * defaults.batch_rows
    assert "(3 batches)" in read("docs/decisions/0008-memberships-by-audience-one-cursor-per-destination.md")
