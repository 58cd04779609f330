"""/metrics: the worker's counters in Prometheus' text format, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.registry import Collector

from app.domain.counters import STAGES, AudienceCounters
from app.web.metric_names import MetricName
from app.web.worker_view import DestinationView, WorkerView, displayable, installed_version
from schemas.dead_letter import DropReason, Reason
from schemas.sync import DestinationState

# Label values, in the order of the metric's labels, and the number.
Sample = tuple[tuple[str, ...], float]


def metrics_registry(worker: WorkerView, ready: Callable[[], bool]) -> CollectorRegistry:
    """A registry of its own: several workers of one test process do not meet in it."""
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(worker, ready))
    ProcessCollector(registry=registry)
    return registry


class WorkerMetrics(Collector):
    """Yields every member of MetricName; one that has no sample now is still described."""

    def __init__(self, worker: WorkerView, ready: Callable[[], bool]) -> None:
        self._worker = worker
        self._ready = ready
        self._version = installed_version() or "unknown"

    def collect(self) -> Iterator[Metric]:
        yield from self._stages()
        yield from self._audiences()
        yield from self._destinations()
        yield from self._facebook()
        yield from self._reconcile()
        yield from self._process()

    def _stages(self) -> Iterator[Metric]:
        counters = self._worker.counters
        stages = [(name, counters.stages[name]) for name in STAGES]
        yield _family(MetricName.RECORDS_IN, (((name,), stage.records_in) for name, stage in stages))
        yield _family(MetricName.RECORDS_OUT, (((name,), stage.records_out) for name, stage in stages))
        # A series that begins at 1 hides its first increase from rate(), so each is there from the start.
        reasons = dict.fromkeys(map(str, DropReason))
        dropped = (
            ((name, reason), stage.dropped[reason])
            for name, stage in stages
            for reason in reasons | dict.fromkeys(map(str, stage.dropped))
        )
        yield _family(MetricName.DROPPED, dropped)
        yield _family(MetricName.STAGE_DEAD_LETTERS, (((name,), stage.dead) for name, stage in stages))
        letters = counters.dead_letters
        dead_reasons = dict.fromkeys(map(str, Reason)) | dict.fromkeys(map(str, letters))
        yield _family(MetricName.DEAD_LETTERS, (((reason,), letters[reason]) for reason in dead_reasons))
        lags = ((name, self._worker.lags.get(name)) for name in STAGES)
        yield _family(MetricName.LAG, (((name,), lag) for name, lag in lags if lag is not None))

    def _audiences(self) -> Iterator[Metric]:
        counted = self._worker.counters.audiences
        audiences = [
            (key, counted.get(key) or AudienceCounters()) for key in self._worker.destinations_by_audience()
        ]
        yield _family(MetricName.MEMBERS, (((key,), audience.members) for key, audience in audiences))
        yield _family(MetricName.ENTERED, (((key,), audience.entered) for key, audience in audiences))
        yield _family(MetricName.EXITED, (((key,), audience.exited) for key, audience in audiences))

    def _destinations(self) -> Iterator[Metric]:
        views = [
            ((audience, identifier), view)
            for audience, owned in self._worker.destinations_by_audience().items()
            for identifier, view in owned.items()
        ]
        states = (
            ((*where, str(state)), float(str(view.state) == state))
            for where, view in views
            for state in DestinationState
        )
        yield _family(MetricName.DESTINATION_STATE, states)

        def each(metric: MetricName, number: Callable[[DestinationView], float | None]) -> Metric:
            numbers = ((where, number(view)) for where, view in views)
            return _family(metric, ((where, value) for where, value in numbers if value is not None))

        since = self._worker.seconds_since
        yield each(MetricName.DESTINATION_SENT, lambda view: view.sent)
        yield each(MetricName.DESTINATION_REJECTED, lambda view: view.rejected)
        yield each(MetricName.DESTINATION_PENDING, lambda view: view.pending)
        yield each(MetricName.DESTINATION_OLDEST_PENDING, lambda view: since(view.oldest_pending_at) or 0.0)
        yield each(MetricName.DESTINATION_LAST_SYNC, lambda view: _unix_seconds(view.last_sync_at))
        yield each(MetricName.DESTINATION_LOWER_BOUND, lambda view: view.lower_bound)
        yield each(MetricName.DESTINATION_UPPER_BOUND, lambda view: view.upper_bound)

    def _facebook(self) -> Iterator[Metric]:
        view = self._worker.facebook()
        token = view.token
        yield _family(MetricName.TOKEN_VALID, [] if token is None else [((), float(token.valid))])
        ends = None if token is None else _unix_seconds(token.expires_at)
        yield _family(MetricName.TOKEN_EXPIRY, [] if ends is None else [((), ends)])
        checked = _unix_seconds(view.checked_at)
        yield _family(MetricName.TOKEN_CHECKED, [] if checked is None else [((), checked)])
        yield _family(MetricName.FACEBOOK_WARNINGS, [((), len(view.warnings))])

    def _reconcile(self) -> Iterator[Metric]:
        view = self._worker.reconcile()
        checked = None if view is None else _unix_seconds(view.checked_at)
        differing = [] if view is None or checked is None else [((), float(view.differing_audiences))]
        yield _family(MetricName.RECONCILE_DIFFERING, differing)
        yield _family(MetricName.RECONCILE_LAST, [] if checked is None else [((), checked)])

    def _process(self) -> Iterator[Metric]:
        behind = self._worker.seconds_since(self._worker.clock())
        yield _family(MetricName.CLOCK_LAG, [] if behind is None else [((), behind)])
        unknown = len(self._worker.counters.unknown_audiences)
        yield _family(MetricName.UNKNOWN_AUDIENCES, [((), unknown)])
        counters = self._worker.counters
        yield _family(MetricName.UNKNOWN_ERRORS, [((), counters.unknown_errors.total())])
        yield _family(MetricName.BLOCKED_IDENTIFIERS, [((), counters.blocked_identifiers)])
        yield _family(MetricName.FORGOTTEN_MESSAGE_IDS, [((), counters.forgotten_ids)])
        yield _family(MetricName.FORGOTTEN_EVENTS, [((), counters.forgotten_events)])
        yield _family(MetricName.CUT_VALUES, [((), counters.cuts.number)])
        yield _family(MetricName.READY, [((), float(self._ready()))])
        yield _family(MetricName.BUILD_INFO, [((self._version,), 1.0)])


def _family(metric: MetricName, samples: Iterable[Sample]) -> Metric:
    definition = metric.value
    family = Metric(definition.name.removesuffix("_total"), definition.meaning, definition.kind)
    for values, number in samples:
        labels = zip(definition.labels, map(displayable, values), strict=True)
        family.add_sample(definition.name, dict[str, str](labels), number)
    return family


def _unix_seconds(instant: int | None) -> float | None:
    return None if instant is None else instant / 1_000
