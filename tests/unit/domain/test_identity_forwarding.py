"""What resolve forwards of calls that name people by several identifiers."""

from __future__ import annotations

from app.domain.plan import Plan
from app.domain.resolution import ResolveOptions, Resolver
from schemas.profile import ProfileEvent
from tests.unit.domain.identity_lines import (
    ORDERED,
    identify,
    line,
    order,
    page,
    sha,
)
from tests.unit.domain.plans import FAR_WALL, plan_of


def forwarded(plan: Plan, *lines: bytes) -> list[list[tuple[str, ProfileEvent]]]:
    resolver = Resolver(plan, ResolveOptions())
    return [
        list(resolver.resolve(one, None, FAR_WALL, "lane", offset).records)
        for offset, one in enumerate(lines)
    ]


def test_ids_that_come_together_again_are_not_forwarded_again() -> None:
    plan = plan_of({"when": {"event": "Needed"}})
    first, again, other, needed, email, email_again = forwarded(
        plan,
        order(0, user="u1", anon="a1"),
        order(1, user="u1", anon="a1"),
        order(2, user="u1", anon="a2"),
        line(3, "track", event="Needed", user="u1", anon="a1"),
        page(4, user="u1", anon="a1", email="jane@example.com"),
        page(5, user="u1", anon="a1", email="jane@example.com"),
    )
    (profile, event) = first[0]
    assert (profile, event.hits, event.linking and event.linking.links) == ("u1", [], ["anonymous_id:a1"])
    assert again == []
    assert [event.linking.links for _, event in other if event.linking] == [["anonymous_id:a2"]]
    assert [event.linking for _, event in needed] == [None]
    (_, event) = email[0]
    assert event.linking is not None
    assert event.linking.links == [f"email:{sha('jane@example.com')}", "anonymous_id:a1"]
    assert email_again == []


def test_nothing_raw_is_written_of_an_email() -> None:
    (records,) = forwarded(plan_of(ORDERED), order(0, anon="jane@example.com", email="jane@example.com"))
    assert "example.com" not in repr(records)


def test_ids_that_came_in_a_refused_call_are_forwarded_with_the_next() -> None:
    plan = plan_of(ORDERED, {"key": "vips", "source": "engage"})
    personas = {"computation_class": "audience", "computation_key": "vips"}
    refused = [
        line(0, "track", event=" ", user="u1", anon="a1", email="jane@example.com"),
        line(0, "group", user="u2", anon="a2", madid="38400000-8cf0-11bd-b23e-10b96e40000d"),
        identify(0, user="u3", anon="a3", traits={"vips": "maybe"}, context={"personas": personas}),
    ]
    good = [
        order(1, user="u1", anon="a1", email="jane@example.com"),
        order(1, user="u2", anon="a2", madid="38400000-8cf0-11bd-b23e-10b96e40000d"),
        identify(1, user="u3", anon="a3", traits={"vips": True}, context={"personas": personas}),
    ]
    *none, first, second, third = forwarded(plan, *refused, *good)
    assert none == [[], [], []]
    assert [
        event.linking and event.linking.links for records in (first, second, third) for _, event in records
    ] == [
        [f"email:{sha('jane@example.com')}", "anonymous_id:a1"],
        ["anonymous_id:a2", "madid:38400000-8cf0-11bd-b23e-10b96e40000d"],
        ["anonymous_id:a3"],
    ]
    assert [set(event.identifiers or {}) for _, event in (*first, *second)] == [{"EMAIL"}, {"MADID"}]
