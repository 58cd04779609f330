"""From where a destination goes on, by what the ledger has of it."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.sync_start import starting_state
from schemas.audience import FacebookDestination
from schemas.sync import DestinationState, OffsetRange, ReplaceSession, SyncState

WISHED_AT = 7_000


def known(**fields: Any) -> SyncState:
    """Behind a replaced audience that was sent rows without an external id afterwards; all of 50 offsets confirmed."""
    state = {
        "destination": "vips",
        "audience": "vips",
        "marker": "[audience-sync:test:vips]",
        "updated_at": 1,
    }
    sent = {"facebook_id": "11", "ad_account_id": "act_1", "cursor": 50, "resync_end": 40}
    return SyncState.model_validate({**state, **sent, "resync_left_out": True, **fields})


def started(
    state: SyncState | None, account: str = "act_1", *, dry: bool = False, live: int = 60, **mapping: Any
) -> SyncState:
    destination = FacebookDestination(id="vips", ad_account_id=account, **mapping)
    return starting_state(state, destination, "vips", "test", account, live, dry, 9_000, WISHED_AT)


def log_part(state: SyncState) -> tuple[Any, ...]:
    return state.cursor, state.unconfirmed, state.resync_end, state.resync_left_out, state.replace


NOTHING = (0, (), 0, False, None)
DOUBT = (OffsetRange(first=50, end=55),)


def test_nothing_else_means_nothing_new() -> None:
    assert started(known()) == known()
    assert started(known(unconfirmed=DOUBT, cursor=30)) == known(unconfirmed=DOUBT, cursor=30)


@pytest.mark.parametrize(
    ("account", "mapping"),
    [("act_2", {}), ("act_1", {"audience_id": "22"}), ("act_2", {"audience_id": "22"})],
)
@pytest.mark.parametrize("cursor", [20, 50])
def test_another_audience_has_been_sent_nothing(account: str, mapping: dict[str, Any], cursor: int) -> None:
    state = known(cursor=cursor, unconfirmed=DOUBT, replace=ReplaceSession(end=50))
    found = started(state, account, **mapping)
    assert log_part(found) == NOTHING
    assert (found.facebook_id, found.creating) == (None, True)


@pytest.mark.parametrize("fields", [{"cursor": 61}, {"cursor": 5, "resync_end": 61}])
def test_nor_has_one_whose_offsets_are_of_a_partition_that_is_gone(fields: dict[str, int]) -> None:
    found = started(known(**fields, unconfirmed=DOUBT))
    assert log_part(found) == NOTHING
    assert found.facebook_id == "11"


@pytest.mark.parametrize(
    ("fields", "end"),
    [({}, 50), ({"unconfirmed": DOUBT}, 55), ({"cursor": 20}, 40), ({"cursor": 20, "resync_end": 0}, 20)],
)
@pytest.mark.parametrize("was_dry", [{"dry_run": True}, {"state": DestinationState.DRY_RUN}])
def test_behind_a_dry_run_everything_is_sent_but_what_has_changed_since(
    fields: dict[str, Any], end: int, was_dry: dict[str, Any]
) -> None:
    state = known(**fields, **was_dry)
    found = started(state)
    assert (found.cursor, found.resync_end, found.resync_left_out) == (0, end, False)
    assert found.unconfirmed == state.unconfirmed
    assert log_part(started(state, dry=True)) == log_part(state)


def test_a_new_destination_takes_up_no_earlier_wish() -> None:
    assert started(None).resynced_at == WISHED_AT
    assert started(known(resynced_at=3)).resynced_at == 3


def test_what_a_definition_has_named_ends_with_it() -> None:
    named = started(None, audience_id="22")
    assert named.connected
    named = started(known(facebook_id=named.facebook_id, connected=named.connected), audience_id="22")
    named = named.model_copy(update={"facebook_id": "22"})
    assert started(named, audience_id="22") == named
    own = started(named)
    assert (own.facebook_id, own.connected, own.creating, *log_part(own)) == (None, False, True, *NOTHING)
    assert not started(own).connected


def test_one_of_our_own_is_kept_however_it_is_named() -> None:
    own = known()
    assert started(own, audience_id="11") == own
    assert started(started(own, audience_id="11")) == own


def test_an_audience_is_looked_for_by_the_mark_that_it_has_in_its_ad_account() -> None:
    # From when the destination had another id.
    state = known(marker="[audience-sync:test:vips@act_1]")
    there = started(state, audience_id="22").model_copy(update={"facebook_id": "22"})
    assert started(there).marker == state.marker
    assert started(state, "act_2").marker == "[audience-sync:test:vips]"
