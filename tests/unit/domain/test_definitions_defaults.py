"""Defaults: what holds for every audience that says nothing else."""

from __future__ import annotations

from app.domain.durations import DAY_MS
from schemas.audience import (
    AllOf,
    DeliveryMode,
    FacebookDestination,
    Window,
)
from tests.unit.domain.written_definitions import event, parse


class TestDefaults:
    def test_key_by_key(self) -> None:
        text = """
        defaults: {include_anonymous: true, description: D, facebook: {mode: dry_run, ad_account_id: act_1}}
        audiences:
          - {name: A, when: {event: E}}
          - {name: B, when: {event: F}, include_anonymous: false, facebook: {mode: live}}
        """
        first, second = parse(text).audiences
        assert (first.include_anonymous, first.description) == (True, "D")
        assert (second.include_anonymous, second.description) == (False, "D")
        assert first.destinations[0].mode is DeliveryMode.DRY_RUN
        assert second.destinations[0].mode is DeliveryMode.LIVE
        assert second.destinations[0].ad_account_id == "act_1"

    def test_mapping_goes_into_each_of_a_list(self) -> None:
        text = """
        defaults: {facebook: {mode: dry_run}}
        audiences: [{name: A, source: engage, facebook: [{ad_account_id: act_1}, {ad_account_id: 2, mode: live}]}]
        """
        modes = [destination.mode for destination in parse(text).audiences[0].destinations]
        assert modes == [DeliveryMode.DRY_RUN, DeliveryMode.LIVE]

    def test_list_replaces_list(self) -> None:
        text = """
        defaults: {facebook: [{ad_account_id: act_1, mode: dry_run}, {ad_account_id: act_2}]}
        audiences:
          - {name: A, source: engage, facebook: [{ad_account_id: act_3}]}
          - {name: B, source: engage}
        """
        first, second = parse(text).audiences
        assert first.destinations == [FacebookDestination(id="a", ad_account_id="act_3")]
        assert [destination.id for destination in second.destinations] == ["b@act_1", "b@act_2"]

    def test_required_of_both(self) -> None:
        text = """
        defaults: {require: {event: D}}
        audiences:
          - {name: A, when: {event: E}}
          - {name: B, source: engage, require: {event: F}}
        """
        first, second = parse(text).audiences
        assert first.require == event(event="D")
        assert second.require == AllOf(conditions=[event(event="D"), event(event="F")])

    def test_whole_condition_is_replaced(self) -> None:
        text = (
            "{defaults: {when: {event: D, within: 1d}}, audiences: [{name: A}, {name: B, when: {event: E}}]}"
        )
        first, second = parse(text).audiences
        assert first.when == event(event="D", window=Window(far_ms=DAY_MS))
        assert second.when == event()

    def test_of_one_file_hold_for_all(self) -> None:
        read = parse("audiences: [{name: A, source: engage}]", "defaults: {enabled: false}")
        assert [one.enabled for one in read.audiences] == [False]
