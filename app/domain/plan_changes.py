"""What a new version of the definitions asks of the past.

Only what the version before asks for has been taken from calls. An audience that needs more of the past is filled:
the source topic is read again for it (app.pipeline.backfill), and it has feeds of its own, so that nothing is counted
twice. What cannot be had in this way is refused by name, never half accepted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from app.domain.conditions import compile_audiences, filled_by
from app.errors import InvalidInputError
from schemas.audience import OnDelete

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.domain.definitions import DefinitionSet
    from app.domain.feeds import Feed
    from app.domain.plan import Plan
    from schemas.audience import AudienceDefinition

# Until then at least every worker projects for the new version.
AHEAD_MS: Final = 60_000


def generations_after(
    before: DefinitionSet, after: DefinitionSet, known: Mapping[str, int], number: int, now_ms: int
) -> dict[str, int]:
    """The version that fills each audience from history, where there is one; `number` for those it is needed for now.

    `known` are those of the version before. Raises InvalidInputError with a line for each thing that cannot be done.
    """
    generations = {audience.key: known[audience.key] for audience in after.audiences if audience.key in known}
    first = _Changes(before, after, known, generations, now_ms)
    generations |= dict.fromkeys(first.to_be_filled(), number)
    filled = {key for key, generation in generations.items() if generation == number}
    changes = _Changes(before, after, known, generations, now_ms)
    problems = [*_changed_elsewhere(before, after), *changes.problems(filled, number)]
    if problems:
        raise InvalidInputError("\n".join(problems))
    return generations


class _Changes:
    """Both sets compiled, and which audiences are not as they were."""

    def __init__(
        self,
        before: DefinitionSet,
        after: DefinitionSet,
        known: Mapping[str, int],
        generations: Mapping[str, int],
        now_ms: int,
    ) -> None:
        self.old = compile_audiences(before.audiences, before.traits, known)
        self.new = compile_audiences(after.audiences, after.traits, generations)
        self._now_ms = now_ms
        definitions = {definition.key: definition for definition in before.audiences}
        self._after = {definition.key: definition for definition in after.audiences}
        self._edited = {key for key, value in self._after.items() if definitions.get(key) != value}

    def to_be_filled(self) -> set[str]:
        """Edited audiences with history that need something which is not kept."""
        lacking = {key for _, keys, _ in self._lacking() for key in keys}
        return {key for key in lacking if self._after[key].include_history}

    def problems(self, filled: set[str], number: int) -> Iterator[str]:
        """What is still lacking when these audiences are filled by this version."""
        own = {filled_by(key, number) for key in filled}
        for what, keys, feed in self._lacking():
            if feed is not None and feed.since is not None and feed.since.whose in own:
                continue
            if feed is None and keys and set(keys) <= filled:
                continue
            whose = f"audience {', '.join(keys)}" if keys else "a computed trait"
            yield f"{whose}: needs {what}, of which not enough is kept{_hint(feed)}"

    def _lacking(self) -> Iterator[tuple[str, list[str], Feed | None]]:
        """What, the edited audiences that need it, and the feed where it is one."""
        old, new = self.old, self.new
        for feed_id, need in new.needs.items():
            feed, known = new.feeds[feed_id], old.needs.get(feed_id)
            # The room there is for events is no part of what is kept.
            if known is not None and replace(need.and_of(known), most=known.most) == known:
                continue
            if known is None and _begins_later(feed, old, self._now_ms):
                continue
            keys = [audience.key for audience in new.of_feed[feed_id]]
            yield f"past events {feed.event}", self._of(keys), feed
        for path in sorted(new.of_trait.keys() - old.of_trait.keys()):
            keys = [audience.key for audience in new.of_trait[path]]
            made = path in new.computed_of_trait
            yield f"the trait {path} of past calls", [] if made else self._of(keys), None
        for key in sorted(self._edited):
            audience, before = new.audiences[key], old.audiences.get(key)
            if audience.claimed and self._after[key].include_history and not (before and before.claimed):
                yield "past calls that say who is in it", [key], None
        for anonymous in (False, True):
            if new.holds_for_new(anonymous=anonymous) and not old.holds_for_new(anonymous=anonymous):
                keys = [audience.key for audience in new.initial]
                yield "all profiles that have ever called", self._of(keys), None

    def _of(self, keys: list[str]) -> list[str]:
        return [key for key in keys if key in self._edited]


def _begins_later(feed: Feed, old: Plan, now_ms: int) -> bool:
    """Whether no event that was received before this version is in use counts. An audience that began when it was
    first applied keeps that beginning when it is edited.
    """
    since = feed.since
    if since is None or "#" in since.whose:
        return False
    return since.whose not in old.unapplied if since.given is None else since.given >= now_ms + AHEAD_MS


def _hint(feed: Feed | None) -> str:
    if feed is None:
        return " and which cannot be filled from history yet: give another audience or trait another key"
    if feed.since is None:
        return "; a computed trait is not filled from history yet: give one with another key to an audience of its own"
    if feed.since.given is None:
        return f": define another audience with another key in place of {feed.since.whose}"
    return ": give a `created_at` that is at least a minute ahead, or none"


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
            ("facebook.value_based", _values_differ(other, definition)),
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


def _values_differ(before: AudienceDefinition, after: AudienceDefinition) -> bool:
    """A Facebook audience is value-based for all its life."""
    known = {item.id: item.value_based for item in before.destinations}
    return any(known.get(item.id, item.value_based) != item.value_based for item in after.destinations)
