"""Where traits come from: from identify calls, or computed from events by a definition of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.domain.computed_traits import compile_trait, reader
from app.domain.feeds import NO_GENERATIONS, Since, filled_by
from app.domain.paths import parse_path
from app.domain.plan import ComputedTrait
from app.domain.references import ranks_of
from app.domain.values import restored
from schemas.audience import TraitReference

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from app.domain.comparing import Read
    from app.domain.date_edges import Watches
    from app.domain.event_conditions import FeedUse
    from app.domain.state import ProfileState
    from schemas.audience import Comparison, ComputedTraitDefinition


# Before the key of a computed trait, where it stands among audiences, whose keys have no point.
TRAIT: Final = "traits."


class TraitSources:
    """The computed traits of a set of definitions, compiled, and how any trait is read.

    `generations` are the versions that filled traits from history, under `traits.KEY`: such a trait shares no events
    with others, or with what it was before. Raises InvalidInputError for a trait that would be computed from itself.
    """

    def __init__(
        self,
        definitions: Sequence[ComputedTraitDefinition],
        generations: Mapping[str, int] = NO_GENERATIONS,
    ) -> None:
        self._generations = generations
        self.computed: dict[str, ComputedTrait] = {}
        self.uses: list[FeedUse] = []
        self.watches: Watches = {}
        # Of each computed trait, through others too: the feeds, and the traits of identify calls.
        self.feeds_of: dict[str, frozenset[str]] = {}
        self.traits_of: dict[str, frozenset[str]] = {}
        by_key = {definition.key: definition for definition in definitions}
        ranks = ranks_of(
            {key: traits_asked_for(definition) & by_key.keys() for key, definition in by_key.items()}
        )
        self._empty = {key: 0 if by_key[key].property_path is None else None for key in by_key}
        for key in sorted(ranks, key=ranks.__getitem__):
            self._add(by_key[key], ranks[key])

    def _add(self, definition: ComputedTraitDefinition, rank: int) -> None:
        paths: set[str] = set()

        def read(path: str) -> Read:
            paths.add(path)
            return self.reader(path)

        key = definition.key
        published = f"{TRAIT}{key}"
        generation = self._generations.get(published)
        since = None if generation is None else Since(filled_by(published, generation), None, None)
        compiled = compile_trait(definition, read, since)
        self.computed[key] = ComputedTrait(key, rank, compiled.value, compiled.empty)
        self.uses += compiled.uses
        self.watches |= compiled.watches
        self.feeds_of[key] = self.feeds(paths) | {use.feed.id for use in compiled.uses}
        self.traits_of[key] = self.traits(paths)

    def reader(self, path: str) -> Read:
        """`path` as definitions write it."""
        key = name_of(path)
        if key in self._empty:
            return reader(key, path, self._empty[key])

        def read(state: ProfileState) -> Any:
            kept = state.traits.get(path)
            return None if kept is None else restored(kept.value)

        return read

    def feeds(self, paths: Iterable[str]) -> frozenset[str]:
        """The feeds that decide the traits at these paths."""
        return frozenset().union(*(self.feeds_of.get(name_of(path), ()) for path in paths))

    def traits(self, paths: Collection[str]) -> frozenset[str]:
        """The paths of identify calls that decide the traits at these paths."""
        own = {path for path in paths if name_of(path) not in self._empty}
        return frozenset(own).union(*(self.traits_of.get(name_of(path), ()) for path in paths))


def name_of(path: str) -> str:
    """The name of the trait that a path begins with."""
    return str(parse_path(path)[0])


def traits_asked_for(definition: ComputedTraitDefinition) -> set[str]:
    """The names of the traits that a computed trait's events are compared with."""
    return {name_of(path) for path in _referred((*definition.where, *definition.context))}


def _referred(comparisons: Iterable[Comparison]) -> Iterator[str]:
    for comparison in comparisons:
        if isinstance(comparison.operand, TraitReference):
            yield comparison.operand.trait
