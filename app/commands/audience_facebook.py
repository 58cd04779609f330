"""`audiences list --facebook`, `create`, `connect` and `test-record`: what has to do with Facebook audiences
themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import click

from app.adapters.clock import SystemClock
from app.adapters.facebook_connection import facebook_graph
from app.adapters.facebook_graph import FacebookGraph
from app.commands.audience_states import control_of, known_state, published_now, recorded_states
from app.domain.connecting import one_destination, to_connect
from app.domain.delivery import GraphRefusal, classify, reason
from app.domain.instants import format_instant
from app.domain.pausing import to_recreate
from app.domain.published import Published, definitions_of
from app.domain.sync_start import ad_account_of, marker_of
from app.domain.users_requests import LOOKALIKE_VALUE
from app.errors import InvalidInputError
from app.ports import AudienceStatus, ListedAudience, UsersAnswer
from app.settings import Settings, load_settings
from schemas.audience import DeliveryMode
from schemas.sync import DestinationState, SyncState

UNREACHABLE_SECONDS = 30.0
_CREATED_POLL_SECONDS = 0.5
_ID = re.compile(r"[0-9]{1,40}")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")


# -- list --facebook -------------------------------------------------------------------------------------------


def list_at_facebook(settings: Settings, published: Published, *, as_json: bool) -> int:
    """Prints all audiences of the ad accounts in use; the exit status."""
    states = recorded_states(settings)
    found, refused = asyncio.run(_list_accounts(settings, _accounts(settings, published, states)))
    owned = _destinations(settings, published, states)
    audiences = [_described(account, one, owned, states) for account, one in found]
    if as_json:
        click.echo(json.dumps({"audiences": audiences, "refused": refused}, ensure_ascii=False))
    else:
        for audience in audiences:
            click.echo(_line(audience))
    for account, why in refused.items():
        click.echo(f"{account}: {why}", err=True)
    return 1 if refused else 0


def _accounts(settings: Settings, published: Published, states: Mapping[str, SyncState]) -> list[str]:
    newest = published.newest
    audiences = () if newest is None else definitions_of(newest).audiences
    used = {
        ad_account_of(destination, settings.facebook_ad_account_id, states.get(destination.id))
        for audience in audiences
        for destination in audience.destinations
    }
    if settings.facebook_ad_account_id is not None:
        used.add(f"act_{settings.facebook_ad_account_id.removeprefix('act_')}")
    return sorted(account for account in used if account is not None)


async def _list_accounts(
    settings: Settings, accounts: list[str]
) -> tuple[list[tuple[str, ListedAudience]], dict[str, str]]:
    found: list[tuple[str, ListedAudience]] = []
    refused: dict[str, str] = {}
    async with _graph(settings) as graph:
        for account in accounts:
            try:
                async with aclosing(graph.list_audiences(account, details=True)) as pages:
                    found += [(account, one) async for one in pages]
            except GraphRefusal as error:
                refused[account] = _why(error, account)
    return found, refused


def _destinations(
    settings: Settings, published: Published, states: Mapping[str, SyncState]
) -> dict[str, str]:
    """Destination ids by what shows which Facebook audience is theirs: its id, else the marker in its description."""
    newest = published.newest
    found: dict[str, str] = {}
    for audience in () if newest is None else definitions_of(newest).audiences:
        for destination in audience.destinations:
            known = states.get(destination.id)
            facebook_id = destination.audience_id or (known.facebook_id if known else None)
            found[facebook_id or marker_of(settings.catalog.app_id, destination.id)] = destination.id
    return found


def _described(
    account: str, one: ListedAudience, owned: Mapping[str, str], states: Mapping[str, SyncState]
) -> dict[str, Any]:
    marked = (id_ for key, id_ in owned.items() if key.startswith("[") and key in (one.description or ""))
    destination = owned.get(one.id) or next(marked, None)
    known = states.get(destination) if destination is not None else None
    members = known.brake.members if known is not None and known.brake is not None else None
    return {
        "id": one.id,
        "ad_account_id": account,
        "name": one.name,
        "subtype": one.subtype,
        "destination": destination,
        "members": members,
        "lower_bound": one.lower_bound,
        "upper_bound": one.upper_bound,
        "operation": one.operation,
        "delivery": one.delivery,
        "created": None if one.created is None else format_instant(one.created * 1_000),
    }


def _line(audience: dict[str, Any]) -> str:
    low, high = audience["lower_bound"], audience["upper_bound"]
    size = "size unknown" if low is None or low < 0 else f"{low:,} to {high:,} people"
    ours = f"delivered by {audience['destination']}" if audience["destination"] else "not ours"
    if audience["members"] is not None:
        ours += f" with {audience['members']:,} members"
    words = [f"{audience['id']} {audience['name']} ({audience['subtype']})", size, ours]
    words += [f"{what} {audience[what]}" for what in ("operation", "delivery", "created") if audience[what]]
    return f"{audience['ad_account_id']}: {', '.join(words)}"


# -- create ----------------------------------------------------------------------------------------------------


@click.command(name="create")
@click.argument("target", metavar="KEY|DESTINATION")
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(0, 3_600),
    default=60.0,
    show_default=True,
    help="So many seconds at most.",
)
@_as_json
def create(target: str, seconds: float, as_json: bool) -> int:
    """Wait until a worker has made the Facebook audience, and print its id.

    Workers make it by themselves, once, under the name and description of the definition. In place of one that is gone,
    as it was deleted at Facebook, they make a new one, and all members are sent there. Status 1 when there is none after
    the wait, with the state of the destination; 2 for what workers make none for: a destination that is paused, in a dry
    run, or connected to an audience that exists.
    """
    settings = load_settings()
    published = published_now(settings)
    audience, destination = one_destination(published, target)
    if destination.audience_id is not None:
        raise InvalidInputError(
            f"{destination.id} is connected to the Facebook audience {destination.audience_id}"
        )
    if DeliveryMode.DRY_RUN in (destination.mode, settings.facebook_mode):
        raise InvalidInputError(f"{destination.id} is in a dry run: nothing is made at Facebook")
    deadline = time.monotonic() + seconds
    wished_at = _wish_anew(settings, published, audience.key, destination.id)
    while True:
        states = recorded_states(settings)
        known = states.get(destination.id)
        if known is not None and known.recreated_at < wished_at:
            known = None  # what is gone
        shown = known_state(published, states, audience.key, destination.id)
        if known is not None and known.facebook_id is not None:
            break
        if shown["state"] == "paused":
            raise InvalidInputError(f"{destination.id} is paused: {shown['reason']}")
        if time.monotonic() >= deadline:
            break
        time.sleep(_CREATED_POLL_SECONDS)
    facebook_id = None if known is None else known.facebook_id
    if as_json:
        click.echo(json.dumps({"destination": destination.id, "facebook_id": facebook_id, **shown}))
    elif facebook_id is not None:
        click.echo(f"{destination.id} {facebook_id}")
    if facebook_id is None:
        why = shown["reason"] or "no worker has made it: does one run?"
        click.echo(f"{destination.id} has no Facebook audience after {seconds:g} s: {why}", err=True)
        return 1
    return 0


def _wish_anew(settings: Settings, published: Published, audience: str, destination: str) -> int:
    """Asks for a new Facebook audience where the one there was is gone; when that was asked for, 0: it was not."""
    states = recorded_states(settings)
    if known_state(published, states, audience, destination)["state"] != DestinationState.GONE:
        return 0
    now_ms = time.time_ns() // 1_000_000
    control_of(settings).publish(lambda known: to_recreate(known, destination, now_ms))
    return now_ms


# -- connect ---------------------------------------------------------------------------------------------------


@click.command(name="connect")
@click.argument("target", metavar="KEY|DESTINATION")
@click.argument("facebook_id")
@_as_json
def connect(target: str, facebook_id: str, as_json: bool) -> int:
    """Deliver to a Facebook audience that exists.

    Publishes a version of the definitions with that `facebook.audience_id`; all members are sent there, the former
    Facebook audience stays as it is. Status 1 when the token may not read it, 2 when it is no customer list of the
    destination's ad account. Put the id into the definitions, too: an `apply` without it takes it back.
    """
    if not _ID.fullmatch(facebook_id):
        raise InvalidInputError("A Facebook audience id consists of digits")
    settings = load_settings()
    published = published_now(settings)
    _, destination = one_destination(published, target)
    account = ad_account_of(destination, settings.facebook_ad_account_id, None)
    try:
        found = asyncio.run(_read(settings, facebook_id))
    except GraphRefusal as error:
        click.echo(_why(error, account), err=True)
        return 1
    _refuse_other_kinds(found, account)
    now_ms = time.time_ns() // 1_000_000
    control = control_of(settings)
    result = control.publish(
        lambda known: to_connect(known, target, facebook_id, settings.partitions, now_ms)
    )
    version = result.newest.number if result.newest is not None else 0
    if as_json:
        click.echo(
            json.dumps({"destination": destination.id, "facebook_id": facebook_id, "version": version})
        )
    else:
        click.echo(f"{destination.id} is connected to {facebook_id} ({found.name}) by version {version}")
    click.echo(f"put audience_id: {facebook_id!r} into the definition of {destination.id}, too", err=True)
    return 0


def _refuse_other_kinds(found: AudienceStatus, account: str | None) -> None:
    if found.subtype not in (None, "CUSTOM"):
        raise InvalidInputError(f"{found.id} is no customer list but of subtype {found.subtype}")
    own = (account or "").removeprefix("act_")
    if own and found.ad_account is not None and found.ad_account.removeprefix("act_") != own:
        raise InvalidInputError(
            f"{found.id} is in the ad account act_{found.ad_account.removeprefix('act_')}, not in act_{own}"
        )


async def _read(settings: Settings, facebook_id: str) -> AudienceStatus:
    async with _graph(settings) as graph:
        return await graph.read_audience(facebook_id)


# -- test-record -----------------------------------------------------------------------------------------------


@click.command(name="test-record")
@click.argument("target", metavar="KEY|DESTINATION")
@_as_json
def test_record(target: str, as_json: bool) -> int:
    """Add a made-up person to the Facebook audience, take them out again, and print what Facebook says.

    Shows whether token, permission and terms let people be added. Status 1 when one of the two is refused.
    """
    settings = load_settings()
    published = published_now(settings)
    _, destination = one_destination(published, target)
    known = recorded_states(settings).get(destination.id)
    facebook_id = destination.audience_id or (known.facebook_id if known is not None else None)
    if facebook_id is None:
        raise InvalidInputError(f"{destination.id} has no Facebook audience yet")
    account = ad_account_of(destination, settings.facebook_ad_account_id, known)
    steps = asyncio.run(_try(settings, facebook_id, account, value_based=destination.value_based))
    if as_json:
        click.echo(json.dumps({"destination": destination.id, "facebook_id": facebook_id, "steps": steps}))
    else:
        for step in steps:
            click.echo(f"{step['step']}: {step['answer']}")
    return 0 if all(step["ok"] for step in steps) else 1


async def _try(
    settings: Settings, facebook_id: str, account: str | None, *, value_based: bool
) -> list[dict[str, Any]]:
    # Nobody has this address, so nobody who is meant to be in the audience can be taken out by it.
    address = f"test-record-{secrets.token_hex(16)}@example.invalid"
    email = hashlib.sha256(address.encode()).hexdigest()
    schema, row = (["EMAIL", LOOKALIKE_VALUE], [email, 0]) if value_based else (["EMAIL"], [email])
    steps = []
    async with _graph(settings) as graph:
        for step, call, keys, cells in (
            ("add", graph.add_users, schema, row),
            ("remove", graph.remove_users, schema[:1], row[:1]),
        ):
            try:
                steps.append(_answered(step, await call(facebook_id, keys, [cells])))
            except GraphRefusal as error:
                steps.append({"step": step, "ok": False, "answer": _why(error, account)})
                break
    return steps


def _answered(step: str, answer: UsersAnswer) -> dict[str, Any]:
    why = "".join(f", {text}" for text in answer.invalid.values())
    trace = f", trace {answer.trace}" if answer.trace else ""
    text = f"{answer.received} received, {answer.invalid_count} refused{why}{trace}"
    return {"step": step, "ok": answer.invalid_count == 0, "answer": text}


# -- for all ---------------------------------------------------------------------------------------------------


def _graph(settings: Settings) -> FacebookGraph:
    return facebook_graph(settings, SystemClock(), UNREACHABLE_SECONDS)


def _why(error: GraphRefusal, account: str | None) -> str:
    return reason(error.refusal, classify(error.refusal), account)
