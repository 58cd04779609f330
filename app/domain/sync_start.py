"""From where a destination goes on when a worker becomes its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.audience import FacebookDestination
from schemas.sync import DestinationState, SyncState

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a record says of the log of which this Facebook audience has been sent nothing.
_NOTHING_SENT: Final = {
    "cursor": 0,
    "unconfirmed": (),
    "resync_end": 0,
    "resync_left_out": False,
    "replace": None,
    "rejected_in_a_row": 0,
}


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
    resync_at: int,
) -> SyncState:
    """What the ledger says, but from offset 0 where its cursor speaks of something else.

    That is: another Facebook audience or ad account than the definition's now, a dry run that sent nothing, or a
    partition that ends before the cursor, which must have been made anew. `resync_at` is the newest wish that everything
    be sent again (`DesiredRecord.resync_at`): what is new sends everything, and an older wish, which may have been to
    replace everybody, was about others.
    """
    marker = marker_of(installation, mapping.id)
    named = mapping.audience_id is not None
    if known is None:
        return SyncState(
            destination=mapping.id,
            audience=audience,
            marker=marker,
            updated_at=now_ms,
            dry_run=dry_run,
            resynced_at=resync_at,
            connected=named,
        )
    was_dry = known.dry_run or known.state is DestinationState.DRY_RUN
    # What a dry run sends nothing for, it does not replace either.
    session = None if dry_run else known.replace
    known = known.model_copy(update={"dry_run": dry_run, "replace": session})
    if _is_other_audience(known, mapping, account):
        # Not the first audience of this destination: one may be there from an earlier time, so look before creating.
        # In this ad account it has the mark that the destination had then, maybe under another id.
        in_this_account = known.ad_account_id in (None, account)
        changes = {
            "facebook_id": None,
            "connected": named,
            "creating": True,
            "marker": known.marker if in_this_account else marker,
        }
        return known.model_copy(update={**_NOTHING_SENT, **changes})
    if known.facebook_id is None:
        known = known.model_copy(update={"connected": named})
    if max(known.cursor, known.resync_end) > live_offset:
        return known.model_copy(update=_NOTHING_SENT)
    if was_dry and not dry_run:
        # Below that something may have been sent before the dry run; what was in doubt then is in doubt still.
        ends = (known.cursor, known.resync_end, *(span.end for span in known.unconfirmed))
        return known.model_copy(
            update={"cursor": 0, "resync_end": max(ends), "resync_left_out": False, "replace": None}
        )
    return known


def _is_other_audience(known: SyncState, mapping: FacebookDestination, account: str | None) -> bool:
    if mapping.audience_id is not None:
        return known.facebook_id not in (None, mapping.audience_id)
    return known.connected or known.ad_account_id not in (None, account)
