from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import Metric, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.domain.access_tokens import FacebookView, TokenFacts
from app.domain.counters import AudienceCounters, StageCounters
from app.domain.reconciling import ReconcileView
from app.web.metric_names import PROCESS_METRICS, MetricName, page
from app.web.metrics import WorkerMetrics, metrics_registry
from schemas.dead_letter import DropReason, Reason
from schemas.sync import DestinationState
from tests.unit.web.fake_worker import NOW, Destination, FakeWorker

ROOT = Path(__file__).parents[3]


def scraped(worker: FakeWorker) -> dict[str, Metric]:
    """What Prometheus reads, by the name that stands in the text."""
    text = generate_latest(metrics_registry(worker.view(), lambda: worker.ready)).decode()
    families = list(text_string_to_metric_families(text))
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family for family in families
    }


def samples(families: dict[str, Metric], metric: MetricName) -> dict[tuple[str, ...], float]:
    """Numbers by label values, in the order of the definition."""
    found: dict[tuple[str, ...], float] = {}
    for sample in families[metric.value.name].samples:
        assert sample.name == metric.value.name
        assert set(sample.labels) == set(metric.value.labels)
        values = tuple(sample.labels[label] for label in metric.value.labels)
        assert values not in found
        found[values] = sample.value
    return found


@pytest.fixture
def busy() -> FakeWorker:
    """Every number is another one, so that a mix-up shows."""
    worker = FakeWorker(
        audiences=["vips", "empty"], lags={"resolve": 21, "expire": None, "batch": 0}, clock=NOW - 1_500
    )
    counters = worker.counters
    counters.stages["resolve"] = StageCounters(11, 12, Counter({DropReason.ALIAS: 13}), 14)
    counters.stages["evaluate"] = StageCounters(15, 16, Counter({"duplicate": 17}), 0)
    counters.dead_letters[Reason.TOO_LARGE] = 18
    counters.audiences["vips"] = AudienceCounters(members=31, entered=32, exited=1)
    counters.count_unknown_audience("who")
    worker.destinations["vips@act_1"] = Destination(
        state=DestinationState.CATCHING_UP,
        sent=41,
        rejected=42,
        pending=43,
        oldest_pending_at=NOW - 44_000,
        lower_bound=45,
        upper_bound=46,
        last_sync_at=NOW - 47_500,
    )
    worker.destinations["vips@act_2"] = Destination()
    return worker


def test_stages(busy: FakeWorker) -> None:
    families = scraped(busy)
    idle = {(stage,): 0 for stage in ("resolve", "evaluate", "expire", "batch", "deliver")}
    assert samples(families, MetricName.RECORDS_IN) == idle | {("resolve",): 11, ("evaluate",): 15}
    assert samples(families, MetricName.RECORDS_OUT) == idle | {("resolve",): 12, ("evaluate",): 16}
    assert samples(families, MetricName.STAGE_DEAD_LETTERS) == idle | {("resolve",): 14}
    assert samples(families, MetricName.LAG) == {("resolve",): 21, ("batch",): 0}


def test_reasons_are_there_before_they_happen(busy: FakeWorker) -> None:
    families = scraped(busy)
    assert samples(families, MetricName.DEAD_LETTERS) == {
        (reason.value,): 18 if reason is Reason.TOO_LARGE else 0 for reason in Reason
    }
    dropped = samples(families, MetricName.DROPPED)
    assert len(dropped) == 5 * len(DropReason)
    assert {labels: number for labels, number in dropped.items() if number} == {
        ("resolve", "alias"): 13,
        ("evaluate", "duplicate"): 17,
    }


def test_audiences(busy: FakeWorker) -> None:
    families = scraped(busy)
    assert samples(families, MetricName.MEMBERS) == {("vips",): 31, ("empty",): 0}
    assert samples(families, MetricName.ENTERED) == {("vips",): 32, ("empty",): 0}
    assert samples(families, MetricName.EXITED) == {("vips",): 1, ("empty",): 0}


@pytest.mark.parametrize(
    ("metric", "first", "second"),
    [
        (MetricName.DESTINATION_SENT, 41, 0),
        (MetricName.DESTINATION_REJECTED, 42, 0),
        (MetricName.DESTINATION_PENDING, 43, 0),
        (MetricName.DESTINATION_OLDEST_PENDING, 44, 0),  # nothing waits: no delay
        (MetricName.DESTINATION_LOWER_BOUND, 45, None),
        (MetricName.DESTINATION_UPPER_BOUND, 46, None),
        (MetricName.DESTINATION_LAST_SYNC, (NOW - 47_500) / 1_000, None),
    ],
)
def test_destinations(busy: FakeWorker, metric: MetricName, first: float, second: float | None) -> None:
    expected = {("vips", "vips@act_1"): first}
    if second is not None:
        expected["vips", "vips@act_2"] = second
    assert samples(scraped(busy), metric) == expected


def test_a_destination_is_in_one_state(busy: FakeWorker) -> None:
    states = samples(scraped(busy), MetricName.DESTINATION_STATE)
    assert len(states) == 2 * len(DestinationState)
    assert {labels for labels, number in states.items() if number == 1} == {
        ("vips", "vips@act_1", "catching_up"),
        ("vips", "vips@act_2", "live"),
    }
    assert set(states.values()) == {0, 1}


def test_the_process(busy: FakeWorker) -> None:
    families = scraped(busy)
    assert samples(families, MetricName.CLOCK_LAG) == {(): 1.5}
    assert samples(families, MetricName.UNKNOWN_AUDIENCES) == {(): 1}
    assert samples(families, MetricName.READY) == {(): 1}
    assert list(samples(families, MetricName.BUILD_INFO).values()) == [1]
    busy.ready, busy.clock = False, None
    assert samples(scraped(busy), MetricName.READY) == {(): 0}
    assert samples(scraped(busy), MetricName.CLOCK_LAG) == {}


def test_the_access_token() -> None:
    worker = FakeWorker()
    families = scraped(worker)
    for metric in (MetricName.TOKEN_VALID, MetricName.TOKEN_EXPIRY, MetricName.TOKEN_CHECKED):
        assert samples(families, metric) == {}  # nobody has asked
    assert samples(families, MetricName.FACEBOOK_WARNINGS) == {(): 0}
    worker.facebook = FacebookView("v25.0", TokenFacts(True, (), NOW + 1_500), NOW, None, ("a", "b"))
    families = scraped(worker)
    assert samples(families, MetricName.TOKEN_VALID) == {(): 1}
    assert samples(families, MetricName.TOKEN_EXPIRY) == {(): (NOW + 1_500) / 1_000}
    assert samples(families, MetricName.TOKEN_CHECKED) == {(): NOW / 1_000}
    assert samples(families, MetricName.FACEBOOK_WARNINGS) == {(): 2}
    worker.facebook = FacebookView("v25.0", TokenFacts(False), NOW)
    families = scraped(worker)
    assert samples(families, MetricName.TOKEN_VALID) == {(): 0}
    assert samples(families, MetricName.TOKEN_EXPIRY) == {}


def test_the_names_are_a_closed_set_and_all_are_shown(busy: FakeWorker) -> None:
    shown = list(WorkerMetrics(busy.view(), lambda: True).collect())
    assert len({family.name for family in shown}) == len(shown)
    families = scraped(busy)
    ours = {name: families[name] for name in families if not name.startswith("process_")}
    definitions = {metric.value.name: metric.value for metric in MetricName}
    assert set(ours) == set(definitions)
    for name, family in ours.items():
        assert (family.type, family.documentation) == (definitions[name].kind, definitions[name].meaning)


@pytest.mark.parametrize("metric", MetricName)
def test_names_follow_prometheus(metric: MetricName) -> None:
    definition = metric.value
    assert re.fullmatch(r"audience_sync(_[a-z]+)+", definition.name)
    assert definition.name.endswith("_total") == (definition.kind == "counter")
    assert not set(definition.name.split("_")) & {"milliseconds", "ms", "minutes", "kilobytes"}


def test_process_metrics_are_described() -> None:
    collected = list(ProcessCollector(registry=None).collect())
    if not collected:
        pytest.skip("this system has no /proc")
    names = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in collected}
    assert names == set(PROCESS_METRICS)


def test_the_page_of_the_documentation_is_current() -> None:
    written = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m app.web.metric_names > docs/metrics.md"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ('quote " backslash \\ brace }', 'quote " backslash \\ brace }'),
        ("two\nlines", "two\nlines"),
        ('"} 1\naudience_sync_ready 7\n', '"} 1\naudience_sync_ready 7\n'),  # would be a sample of its own
        ("\r\x00\u2028\N{SNOWMAN}", "\r\x00\u2028\N{SNOWMAN}"),
        ("\\n is not a line end", "\\n is not a line end"),
        ("half \ud83d of a pair", "half ? of a pair"),  # UTF-8 has no such thing
    ],
)
def test_hostile_label_values(hostile: str, shown: str) -> None:
    worker = FakeWorker(audiences=[hostile])
    worker.counters.stages["resolve"].dropped[hostile] = 2
    worker.counters.dead_letters[hostile] = 3
    worker.counters.count_unknown_audience(hostile)
    worker.destinations[hostile] = Destination(audience=hostile, sent=4, reason=hostile, facebook_id=hostile)
    families = scraped(worker)
    assert samples(families, MetricName.MEMBERS) == {(shown,): 0}
    assert samples(families, MetricName.DROPPED)["resolve", shown] == 2
    assert samples(families, MetricName.DEAD_LETTERS)[shown,] == 3
    assert samples(families, MetricName.DESTINATION_SENT) == {(shown, shown): 4}
    assert samples(families, MetricName.READY) == {(): 1}


def test_what_comes_in_with_events_makes_no_series() -> None:
    worker = FakeWorker()

    def series() -> int:
        return sum(len(family.samples) for family in scraped(worker).values())

    before = series()
    for number in range(500):
        worker.counters.count_unknown_audience(f"key {number}")
    assert series() == before
    assert samples(scraped(worker), MetricName.UNKNOWN_AUDIENCES) == {(): 500}


def test_the_scheduled_look_is_of_the_worker_that_looks() -> None:
    metrics = (MetricName.RECONCILE_DIFFERING, MetricName.RECONCILE_LAST)
    for nothing in (None, ReconcileView()):
        families = scraped(FakeWorker(reconcile=nothing))
        assert [samples(families, metric) for metric in metrics] == [{}, {}]
    families = scraped(FakeWorker(reconcile=ReconcileView(NOW, 7, 2)))
    assert [samples(families, metric) for metric in metrics] == [{(): 2}, {(): NOW / 1_000}]
