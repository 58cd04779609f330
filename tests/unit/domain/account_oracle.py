"""An oracle for accounts: it asks the truth of all calls of all users of an account, at every instant at which anything
could change. Slow on purpose, and it shares no code with the application; who is who, and what holds of one person, is
for tests.unit.domain.identity_oracle and tests.unit.domain.brute_force to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.unit.domain.brute_force import Call, Limits, Oracle, Truth
from tests.unit.domain.identity_oracle import IdentityOracle, NamedCall, Person


class AccountOracle(IdentityOracle):
    """Memberships and transitions of accounts and people; a call of kind `group` is about the account that its `event`
    names. `sent` are the people whose account is in an audience of accounts.
    """

    def __init__(
        self,
        audiences: dict[str, dict[str, Any]],
        traits: dict[str, dict[str, Any]],
        digest: Callable[[str], str],
    ) -> None:
        super().__init__(audiences, traits, digest)
        self.of_accounts = [key for key in audiences if is_of_accounts(audiences[key])]
        self.calls: dict[str, list[Call]] = {}
        self.accounts_of: dict[Person, set[str]] = {}
        self.members: set[tuple[str, str]] = set()
        # The traits of accounts are those of group calls alone.
        self.plain = Oracle(audiences)

    def apply(self, named: NamedCall) -> None:
        super().apply(named)
        call = named.call
        if call.kind == "group":
            self.accounts_of.setdefault(self._resolve(named.in_order), set()).add(call.event)
            self.calls.setdefault(call.event, []).append(replace(call, kind="identify"))

    def _merge(self, person: Person, other: Person) -> None:
        super()._merge(person, other)
        self.accounts_of.setdefault(person, set()).update(self.accounts_of.pop(other, ()))

    def users(self, account: str) -> list[Person]:
        return [person for person in self.people if account in self.accounts_of.get(person, ())]

    def is_in(self, account: str, key: str) -> bool:
        return _OfAccount(self, account).member(key)

    def of_person(self, person: Person) -> _OfPerson:
        profile = "known" if person.identified else "anonymous"
        self._conditions.profiles[profile] = person.calls
        return _OfPerson(self, person, profile)

    @property
    def conditions(self) -> Oracle:
        return self._conditions

    @property
    def sent(self) -> set[tuple[str, str]]:
        """By audience and name, as of the last instant that was looked at."""
        return {
            (key, person.name(self.digest))
            for person in self.people
            for key in person.audiences
            if key in self.of_accounts
        }

    def _look(self) -> None:
        members = {
            (key, account) for key in self.of_accounts for account in self.calls if self.is_in(account, key)
        }
        for key, account in members ^ self.members:
            self.transitions.append((self.clock, key, account, (key, account) in members))
        self.members = members
        for person in self.people:
            truth = self.of_person(person)
            person.audiences = {key for key in self.audiences if truth.member(key)}
            for key in (person.audiences ^ person.before) - set(self.of_accounts):
                transition = (self.clock, key, person.name(self.digest), key in person.audiences)
                self.transitions.append(transition)
            person.before = set(person.audiences)


def is_of_accounts(definition: dict[str, Any]) -> bool:
    return definition.get("entity") == "account"


def limits_of(definition: dict[str, Any], truth: Truth, key: str) -> Limits:
    limits = Limits()
    if not definition.get("include_history", True):
        limits.since = truth.oracle.created(key) or 0
    if "lookback" in definition:
        limits.lookback = int(definition["lookback"][:-1]) * 3_600_000
    return limits


class _OfPerson(Truth):
    def __init__(self, accounts: AccountOracle, person: Person, profile: str) -> None:
        super().__init__(accounts.conditions, profile, accounts.clock)
        self.accounts = accounts
        self.person = person

    def member(self, key: str) -> bool:
        definition = self.oracle.audiences[key]
        if not is_of_accounts(definition):
            return super().member(key)
        if not definition.get("enabled", True):
            return False
        if not self.person.identified and not definition.get("include_anonymous", False):
            return False
        if "require" in definition and not self.holds(
            definition["require"], limits_of(definition, self, key)
        ):
            return False
        accounts = self.accounts.accounts_of.get(self.person, set())
        return any(self.accounts.is_in(account, key) for account in accounts)


class _OfAccount(Truth):
    def __init__(self, accounts: AccountOracle, account: str) -> None:
        accounts.plain.profiles[account] = accounts.calls[account]
        super().__init__(accounts.plain, account, accounts.clock)
        self.accounts = accounts
        self.account = account

    def member(self, key: str) -> bool:
        definition = self.oracle.audiences[key]
        created = self.oracle.created(key)
        if not definition.get("enabled", True) or (created is not None and self.now < created):
            return False
        return self.holds(definition["when"], limits_of(definition, self, key))

    def holds(self, condition: dict[str, Any], limits: Limits) -> bool:
        if "users" not in condition:
            return super().holds(condition, limits)
        [(quantifier, asked)] = condition["users"].items()
        found = [
            self.accounts.of_person(user).holds(asked, limits) for user in self.accounts.users(self.account)
        ]
        if quantifier == "none":
            return True not in found
        return bool(found) and (all(found) if quantifier == "all" else any(found))
