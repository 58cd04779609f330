"""What an audience of accounts asks of their users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.audience import AllOf, AnyOf, Not, UsersCondition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.audience import Condition


def users_conditions(condition: Condition) -> Iterator[UsersCondition]:
    """Every `users` in it, each as often as it is written."""
    ahead = [condition]
    while ahead:
        part = ahead.pop()
        if isinstance(part, UsersCondition):
            yield part
        elif isinstance(part, AllOf | AnyOf):
            ahead += reversed(part.conditions)
        elif isinstance(part, Not):
            ahead.append(part.condition)
