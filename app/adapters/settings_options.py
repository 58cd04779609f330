"""What the settings say to the stages, for the worker and for the commands that do a part of its work."""

from __future__ import annotations

from app.domain.letter_limits import LetterPolicy
from app.domain.resolution import ResolveOptions
from app.domain.room import Cuts, Room
from app.settings import Settings


def resolve_options(settings: Settings) -> ResolveOptions:
    """How source records are read."""
    return ResolveOptions(
        default_country=settings.default_country.upper() if settings.default_country else None,
        keep_name_blanks=settings.keep_name_blanks,
        romanise_initial=settings.romanise_initial,
        max_event_bytes=settings.max_event_bytes,
        legacy_journeys=settings.legacy_journeys,
        blocked=settings.blocked,
        source_topic=settings.source_topic,
    )


def room(settings: Settings, cuts: Cuts | None = None) -> Room:
    """How much is kept of a profile; `cuts` counts what is cut off."""
    return Room(
        funnel_events=settings.funnel_events,
        profile_events=settings.profile_events,
        message_ids=settings.message_ids,
        value_characters=settings.value_characters,
        value_items=settings.value_items,
        cuts=cuts or Cuts(),
    )


def letter_policy(settings: Settings) -> LetterPolicy:
    """How many dead letters are too many."""
    return LetterPolicy(
        in_a_row=settings.dead_letters_in_a_row,
        ratio=settings.dead_letters_ratio,
        window=settings.dead_letters_window,
    )
