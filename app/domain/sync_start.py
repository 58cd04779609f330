"""From where a destination goes on when a worker becomes its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.audience import FacebookDestination
from schemas.sync import DestinationState, SyncState

if TYPE_CHECKING:
    from collections.abc import Mapping


def marker_of(installation: str, destination: str) -> str:
    """What an audience's description carries to be found again."""
    return f"[audience-sync:{installation}:{destination}]"


def ad_account_of(mapping: FacebookDestination, default: str | None, known: SyncState | None) -> str | None:
    """The ad account in Facebook's spelling; without one in definition and settings, the one used so far."""
    given = mapping.ad_account_id or default or (known.ad_account_id if known else None)
    return f"act_{given.removeprefix('act_')}" if given else None


def inherited(
    own: SyncState | None,
    states: Mapping[str, SyncState],
    audience: str,
    destination: str,
    account: str | None,
) -> SyncState | None:
    """What a destination goes on from: its own newest state, or that which the audience's destination in this ad account
    had under another id, if that is newer. An id is another for one ad account than for one of several.
    """
    others = [
        one
        for one in states.values()
        if one.audience == audience
        and one.destination != destination
        and account is not None
        and one.ad_account_id == account
    ]
    newest = max(others, key=lambda one: one.updated_at, default=None)
    if newest is None or (own is not None and own.updated_at >= newest.updated_at):
        return own
    return newest.model_copy(update={"destination": destination, "former": newest.destination})


def starting_state(
    known: SyncState | None,
    mapping: FacebookDestination,
    audience: str,
    installation: str,
    account: str | None,
    live_offset: int,
    dry_run: bool,
    now_ms: int,
) -> SyncState:
    """What the ledger says, but from offset 0 where its cursor speaks of something else.

    That is: another Facebook audience or ad account than the definition's now, a dry run that sent nothing, or a
    partition that ends before the cursor, which must have been made anew.
    """
    marker = marker_of(installation, mapping.id)
    if known is None:
        return SyncState(
            destination=mapping.id, audience=audience, marker=marker, updated_at=now_ms, dry_run=dry_run
        )
    was_dry = known.dry_run or known.state is DestinationState.DRY_RUN
    # What a dry run sends nothing for, it does not replace either.
    session = None if dry_run else known.replace
    known = known.model_copy(update={"dry_run": dry_run, "replace": session})
    if _is_other_audience(known, mapping, account):
        # Not the first audience of this destination: one may be there from an earlier time, so look before creating.
        changes = {
            "facebook_id": None,
            "creating": True,
            "cursor": 0,
            "unconfirmed": (),
            "marker": marker,
            "replace": None,
        }
        return known.model_copy(update=changes)
    if known.cursor > live_offset or (was_dry and not dry_run):
        return known.model_copy(update={"cursor": 0, "unconfirmed": (), "replace": None})
    return known


def _is_other_audience(known: SyncState, mapping: FacebookDestination, account: str | None) -> bool:
    if mapping.audience_id is not None:
        return known.facebook_id not in (None, mapping.audience_id)
    return known.ad_account_id not in (None, account)
