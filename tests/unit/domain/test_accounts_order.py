"""Accounts hear of their users in another order than it was said."""

from __future__ import annotations

import pytest

from app.domain import accounts as module
from app.domain.compact import audience_id
from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from schemas.membership import Change
from schemas.profile import ENDED, ENTRY, JOIN, MARKER, STANDING, VERSION, ProfileEvent, Standing
from tests.unit.domain.accounts_of_users import Account, of_accounts, users
from tests.unit.domain.identity_lines import changes
from tests.unit.domain.plans import DAY, FAR_WALL, HOUR, START, plan_of


def test_an_end_is_waited_for_when_the_successor_speaks_first() -> None:
    account = Account(users("any"))
    account.hear(STANDING, "new", replaces=("old",))
    # What the one who ended said before that comes late.
    account.hear(STANDING, "old", holds=True)
    assert (account.known, account.is_member) == (["new"], False)
    account.hear(ENDED, "old")
    state = account.partition.states.find("group_id:g1")
    assert state is not None
    assert state.ties is not None
    assert (account.known, state.ties.replaced, state.ties.ended) == (["new"], [], [])


def test_who_ends_counts_until_the_successor_speaks() -> None:
    account = Account(users("any"))
    assert [delta.change for delta in account.hear(STANDING, "old", holds=True).deltas] == [Change.ENTERED]
    assert account.hear(ENDED, "old").deltas == []
    assert (account.known, account.is_member) == (["old"], True)
    assert account.hear(STANDING, "new", holds=True, replaces=("old",)).deltas == []
    assert account.known == ["new"]


def test_a_successor_who_has_ended_too_still_takes_the_place_of_whom_they_replace() -> None:
    account = Account(users("any"))
    account.hear(STANDING, "one", holds=True)
    account.hear(STANDING, "three", holds=True, replaces=("two",))
    account.hear(STANDING, "two", holds=True, replaces=("one",))
    assert account.known == ["three"]
    for name in ("one", "two"):
        account.hear(ENDED, name)
    state = account.partition.states.find("group_id:g1")
    assert state is not None
    assert state.ties is not None
    assert (state.ties.replaced, state.ties.ended) == ([], [])


def test_an_account_is_not_asked_before_all_its_users_have_answered() -> None:
    account = Account(users("none"))
    silent = Standing(user="u1", holds={})
    account.apply(ProfileEvent(VERSION, STANDING, "profiles/u1", 1, 0, START, START, standing=silent))
    assert not account.is_member
    account.hear(STANDING, "u2", holds=False)
    assert not account.is_member
    account.offset += 1
    account.hear(STANDING, "u1", holds=False)
    assert account.is_member


def test_who_is_new_in_an_account_hears_what_it_is_in_and_a_redelivery_says_nothing() -> None:
    account = Account(users("any"))
    outcome = account.hear(STANDING, "u1", holds=True)
    [(profile, event)] = outcome.records
    assert (profile, event.kind) == ("u1", ENTRY)
    assert event.standing == Standing(
        account="group_id:g1", audiences=[audience_id("audience_0")], sequence=1
    )
    [(profile, event)] = account.hear(STANDING, "u2").records
    assert (profile, event.standing) == (
        "u2",
        Standing(account="group_id:g1", audiences=[audience_id("audience_0")], sequence=1),
    )
    account.offset -= 1
    again = account.hear(STANDING, "u2", holds=True)
    assert (again.records, again.deltas) == ([], [])
    assert account.counters.stages["evaluate"].dropped == {"duplicate": 1}


def test_a_change_is_of_the_instant_at_which_it_was_true_of_the_user_and_none_is_before_another() -> None:
    """The clock of the account's partition may be ahead of that of the user's, and users speak from several."""
    account = Account(users("any"), clock=START + DAY)
    assert [delta.at for delta in account.hear(STANDING, "u1", holds=True, at=START + HOUR).deltas] == [
        START + HOUR
    ]
    assert account.hear(STANDING, "u2", holds=True, at=START).deltas == []
    account.hear(STANDING, "u2", at=START + 1)
    [left] = account.hear(STANDING, "u1", at=START + 2).deltas
    assert (left.change, left.at) == (Change.EXITED, START + HOUR)


def test_what_is_heard_before_the_clock_starts_counts_when_it_does() -> None:
    account = Account(users("any"), clock=None)
    assert account.hear(STANDING, "u1", holds=True).deltas == []
    account.move_clock(START)
    assert changes(account.partition.drain().deltas) == [("group_id:g1", "entered", 1)]


def test_an_account_has_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_USERS", 2)
    account = Account(users("any"))
    for number in range(3):
        account.hear(STANDING, f"u{number}", holds=number == 2)
    assert (account.known, account.is_member) == (["u0", "u1"], False)
    assert account.counters.stages["evaluate"].dropped == {"account_full": 1}
    monkeypatch.setattr(module, "MAX_USERS", 9)
    monkeypatch.setattr(module, "MAX_ID_BYTES", 6)
    account.hear(STANDING, "longer")
    account.hear(STANDING, "u3")
    assert account.known == ["u0", "u1", "u3"]
    account.hear(STANDING, "u4", replaces=("u0",))
    assert account.known == ["u1", "u3", "u4"], "a place that has become free"


def test_an_older_word_of_an_account_takes_nothing_back() -> None:
    """What it said to an identifier that has ended since comes by another way, and may be late."""
    partition = AudiencePartition(plan_of(of_accounts(users("any"))), 0, Counters())
    partition.finish_recovery()
    partition.set_wall(FAR_WALL)
    partition.set_expected(["lane"])
    partition.apply_marker(ProfileEvent(VERSION, MARKER, "", 0, 0, START, START, progress={"lane": START}))
    joined = Standing(account="group_id:g1")
    partition.apply("u1", ProfileEvent(VERSION, JOIN, "lane", 1, 1, START, START, standing=joined))
    for offset, sequence, audiences in ((1, 2, [audience_id("audience_0")]), (2, 1, [])):
        said = Standing(account="group_id:g1", audiences=audiences, sequence=sequence)
        partition.apply(
            "u1", ProfileEvent(VERSION, ENTRY, "profiles/7", offset, 0, START, START, standing=said)
        )
    assert changes(partition.drain().deltas) == [("u1", "entered", 1)]
