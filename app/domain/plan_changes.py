"""What a new version of the definitions asks of the past, and what of that is not kept.

Only what the version before asks for has been taken from calls. A definition that needs more of the past would have
to be backfilled, which is not built: such a change is refused by name, never half accepted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from app.domain.conditions import compile_audiences
from app.errors import InvalidInputError
from schemas.audience import OnDelete

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from app.domain.definitions import DefinitionSet
    from app.domain.feeds import Feed
    from app.domain.plan import CompiledAudience, Plan
    from schemas.audience import AudienceDefinition

# Until then at least every worker projects for the new version.
AHEAD_MS: Final = 60_000


def refuse_unsupported_changes(before: DefinitionSet, after: DefinitionSet, now_ms: int) -> None:
    """Raises InvalidInputError with a line for each thing in `after` that cannot be done without what is gone."""
    changes = _Changes(before, after)
    problems = [
        *_changed_elsewhere(before, after),
        *_missing_feeds(changes, now_ms),
        *_missing_traits(changes),
        *_missing_claims(changes, after),
        *_missing_existence(changes),
    ]
    if problems:
        raise InvalidInputError("\n".join(problems))


class _Changes:
    """Both sets compiled, and which audiences are not as they were."""

    def __init__(self, before: DefinitionSet, after: DefinitionSet) -> None:
        self.old = compile_audiences(before.audiences, before.traits)
        self.new = compile_audiences(after.audiences, after.traits)
        known = {definition.key: definition for definition in before.audiences}
        self._edited = {audience.key for audience in after.audiences if known.get(audience.key) != audience}

    def lack(self, audiences: Iterable[CompiledAudience], what: str) -> str:
        """Of these audiences, those that were edited need what is not there; else it is a computed trait."""
        keys = [audience.key for audience in audiences if audience.key in self._edited]
        whose = f"audience {', '.join(keys)}" if keys else "a computed trait"
        return (
            f"{whose}: needs {what}, of which not enough is kept. Reading the source topic's history again "
            "(a backfill) is not supported yet"
        )


def _missing_feeds(changes: _Changes, now_ms: int) -> Iterator[str]:
    old, new = changes.old, changes.new
    for feed_id, need in new.needs.items():
        feed, known = new.feeds[feed_id], old.needs.get(feed_id)
        audiences = new.of_feed[feed_id]
        if known is not None:
            # The room there is for events is no part of what is kept.
            if replace(need.and_of(known), most=known.most) != known:
                yield changes.lack(audiences, f"more of the past events {feed.event}")
        elif not _begins_later(feed, old, now_ms):
            yield changes.lack(audiences, f"past events {feed.event}") + _hint(feed)


def _begins_later(feed: Feed, old: Plan, now_ms: int) -> bool:
    """Whether no event that was received before this version is in use counts. An audience that began when it was
    first applied keeps that beginning when it is edited.
    """
    since = feed.since
    if since is None:
        return False
    return since.whose not in old.unapplied if since.given is None else since.given >= now_ms + AHEAD_MS


def _hint(feed: Feed) -> str:
    if feed.since is None:
        return ": give `include_history: false`"
    if feed.since.given is None:
        return f": define another audience with another key in place of {feed.since.whose}"
    return ": give a `created_at` that is at least a minute ahead, or none"


def _missing_traits(changes: _Changes) -> Iterator[str]:
    of_trait = changes.new.of_trait
    for path in sorted(of_trait.keys() - changes.old.of_trait.keys()):
        yield changes.lack(of_trait[path], f"the trait {path} of past calls")


def _missing_claims(changes: _Changes, after: DefinitionSet) -> Iterator[str]:
    for definition in after.audiences:
        known = changes.old.audiences.get(definition.key)
        if definition.when is None and definition.include_history and (known is None or not known.claimed):
            audience = changes.new.audiences[definition.key]
            lack = changes.lack([audience], "past calls that say who is in it")
            yield f"{lack}: give `include_history: false`"


def _missing_existence(changes: _Changes) -> Iterator[str]:
    old, new = changes.old, changes.new
    for anonymous, who in ((False, "profiles"), (True, "anonymous profiles")):
        if new.holds_for_new(anonymous=anonymous) and not old.holds_for_new(anonymous=anonymous):
            yield changes.lack(new.initial, f"all {who} that have ever called")


def _changed_elsewhere(before: DefinitionSet, after: DefinitionSet) -> Iterator[str]:
    """Changes of who decides, or of who is told of what, which would leave Facebook with what was true before."""
    known = {definition.key: definition for definition in before.audiences}
    for definition in after.audiences:
        other = known.get(definition.key)
        if other is None:
            continue
        for name, changed in (
            ("source", definition.source != other.source),
            ("rows", definition.rows != other.rows),
            ("facebook.sync_mode", _modes_differ(other, definition)),
        ):
            if changed:
                yield (
                    f"audience {definition.key}: changing `{name}` is not supported yet: define another audience "
                    "with another key"
                )
        yield from _destinations_differ(other, definition)


def _destinations_differ(before: AudienceDefinition, after: AudienceDefinition) -> Iterator[str]:
    ids = {item.id for item in before.destinations}, {item.id for item in after.destinations}
    if all(ids) and (after.key in ids[0]) != (after.key in ids[1]):
        # The ids say which audience at Facebook is meant, and are others for one account than for several.
        yield (
            f"audience {after.key}: going from one ad account to a list of several, or back, is not supported yet: "
            "define another audience with another key for the others"
        )
    for item in before.destinations:
        if item.id not in ids[1] and item.on_delete is OnDelete.CLEAR:
            yield (
                f"audience {after.key}: {item.id} is left out, and emptying one Facebook audience of an audience that "
                "stays is not supported yet: set its `on_delete` to keep first"
            )


def _modes_differ(before: AudienceDefinition, after: AudienceDefinition) -> bool:
    modes: Mapping[str, object] = {item.id: item.sync_mode for item in before.destinations}
    return any(modes.get(item.id, item.sync_mode) != item.sync_mode for item in after.destinations)
