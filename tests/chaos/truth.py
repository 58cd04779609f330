"""Who has to be a member when a chaos run has calmed down, computed in the plainest way from all calls that were made.

It knows the audiences of `definitions` and imports nothing of the application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.stream import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.stream import Call

# Names of the audiences, as Facebook has them.
BOUGHT, TWICE, SPENT, LOYAL, BROWSERS, GERMANS, HATS = NAMES = (
    "Bought lately",
    "Bought twice",
    "Spent a lot",
    "Loyal",
    "Browsers",
    "Germans",
    "Hat lovers",
)
# Those that no edit takes away.
ALWAYS = NAMES[:-1]


def key_of(name: str) -> str:
    return name.lower().replace(" ", "_")


def definitions(loyal: int, *, hats: bool) -> str:
    """The audiences; `loyal` orders make a loyal customer, and hat lovers may be there or not: that is what is edited."""
    text = f"""\
audiences:
  - {{name: {BOUGHT}, when: {{event: Order Completed, within: 30d}}}}
  - {{name: {TWICE}, when: {{event: Order Completed, count: {{exactly: 2}}}}}}
  - {{name: {SPENT}, when: {{event: Order Completed, within: 90d, sum: {{property: revenue, at_least: 100}}}}}}
  - {{name: {LOYAL}, when: {{event: Order Completed, count: {{at_least: {loyal}}}}}}}
  - name: {BROWSERS}
    when:
      all:
        - {{event: Product Viewed, count: {{at_least: 2}}, within: 30d}}
        - not: {{event: Order Completed}}
  - {{name: {GERMANS}, when: {{trait: country, equals: DE}}}}
"""
    if hats:
        text += (
            f"  - {{name: {HATS}, when: {{event: Product Viewed, where: {{category: hats}}}}, "
            "facebook: {on_delete: clear}}\n"
        )
    return text


def members(calls: Iterable[Call], now: int, loyal: int, *, hats: bool) -> dict[str, set[str]]:
    """User ids per audience at `now`, epoch milliseconds, by the definitions of the same arguments."""
    people = _people(calls)
    found: dict[str, set[str]] = {name: set() for name in NAMES}
    for user, own in people.items():
        orders = [call for call in own if call.event == "Order Completed"]
        views = [call for call in own if call.event == "Product Viewed"]
        lately = [call for call in orders if now - 30 * DAY_MS < call.timestamp]
        spent = sum(call.properties["revenue"] for call in orders if now - 90 * DAY_MS < call.timestamp)
        traits = [call for call in own if "country" in call.traits]
        country = (
            max(traits, key=lambda call: (call.timestamp, call.message_id)).traits["country"]
            if traits
            else None
        )
        holds = {
            BOUGHT: bool(lately),
            TWICE: len(orders) == 2,
            SPENT: spent >= 100,
            LOYAL: len(orders) >= loyal,
            BROWSERS: not orders and sum(now - 30 * DAY_MS < call.timestamp for call in views) >= 2,
            GERMANS: country == "DE",
            HATS: hats and any(call.properties["category"] == "hats" for call in views),
        }
        for name, is_member in holds.items():
            if is_member:
                found[name].add(user)
    return found


def _people(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Every user's calls, each once, with those of the devices that were named together with the user id."""
    calls = list({call.message_id: call for call in calls}.values())
    owner = {call.anonymous: call.user for call in calls if call.user and call.anonymous}
    people: dict[str, list[Call]] = {}
    for call in calls:
        user = call.user or owner.get(call.anonymous or "")
        if user is not None:
            people.setdefault(user, []).append(call)
    return people
