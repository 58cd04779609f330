"""The Graph API itself: one call in, the answer's body out, or a GraphError. No HTTP here.

Every call is answered in one go, without awaiting: a request is applied as a whole or not at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app.sandbox import errors, listing, values
from app.sandbox.audience_parameters import read_changes, read_new_audience
from app.sandbox.doors import check_proof, served_version
from app.sandbox.nodes import View, account_node, audience_node, check_audience_fields
from app.sandbox.options import MANAGE, READ, AccessToken, SandboxClock, SandboxOptions
from app.sandbox.people_edges import PeopleEdges
from app.sandbox.request_log import EXCHANGE
from app.sandbox.state import CUSTOM, LOOKALIKE, Audience, SandboxState
from app.sandbox.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.sandbox.call import Call
    from app.sandbox.faults import Happens
    from app.sandbox.usage import Usage

Answer = dict[str, Any]

_AD_ACCOUNT = re.compile(r"act_[0-9]{1,30}").fullmatch
_OBJECT_ID = re.compile(r"[0-9]{1,30}").fullmatch
_EDGES_NOT_SERVED = frozenset(
    [
        "adaccounts",
        "ads",
        "health",
        "salts",
        "shared_account_info",
    ]
)
_OBJECT_AND_EDGE = 2


class GraphApi:
    def __init__(self, state: SandboxState, options: SandboxOptions, clock: SandboxClock) -> None:
        self._state = state
        self._options = options
        self._clock = clock
        self._tokens = Tokens(options, clock)
        state.accounts_without_terms |= options.accounts_without_terms
        state.replacements.use(options.replace)
        people = self._people = PeopleEdges(state, options, clock)
        self._account_routes: dict[tuple[str, str], Callable[[Call, AccessToken, str], Answer]] = {
            ("", "GET"): self._read_account,
            ("customaudiences", "GET"): self._list,
            ("customaudiences", "POST"): self._create,
            ("usersofanyaudience", "DELETE"): self._remove_everywhere,
        }
        self._audience_routes: dict[tuple[str, str], Callable[[Call, Audience], Answer]] = {
            ("", "GET"): self._read,
            ("", "POST"): self._update,
            ("", "DELETE"): self._delete,
            ("users", "POST"): people.add,
            ("users", "DELETE"): people.remove,
            ("usersreplace", "POST"): people.replace,
            ("sessions", "GET"): people.sessions,
        }

    @property
    def options(self) -> SandboxOptions:
        return self._options

    def use(self, options: SandboxOptions) -> None:
        """From now on; but for tokens and accounts, which are as they were."""
        self._options = options
        self._people.use(options)
        self._state.replacements.use(options.replace)

    def answer(self, call: Call) -> Answer:
        """Raises GraphError for everything that is refused."""
        if call.problem is not None:
            raise call.problem
        call.served_version = served_version(call.version, self._options)
        self._state.replacements.settle(self._clock.now())
        if call.segments == EXCHANGE and call.action == "GET":
            return self._tokens.exchange(call.parameters)
        token = self._tokens.of(call)
        check_proof(call, self._options, self._clock.now())
        self._count(call, token)
        if call.segments == ("debug_token",):
            return self._tokens.debug(call.parameters)
        if call.subject is None or len(call.segments) > _OBJECT_AND_EDGE:
            raise errors.unknown_path("/" + "/".join(call.segments))
        if _AD_ACCOUNT(call.subject):
            return self._answer_account(call, token, call.subject)
        if _OBJECT_ID(call.subject):
            return self._answer_audience(call, token, call.subject)
        raise errors.no_alias(call.subject)

    def ad_account_of(self, call: Call) -> str | None:
        """Whose allowance the call is counted against; None when it names nothing that exists."""
        if call.subject is None:
            return None
        if _AD_ACCOUNT(call.subject):
            return call.subject
        audience = self._state.get(call.subject)
        return audience.details.ad_account_id if audience else None

    def usage_of(self, ad_account_id: str) -> Usage:
        """How much of its allowance the account has used up by now."""
        lists = self._state.customer_lists(ad_account_id)
        return self._state.meters.usage(ad_account_id, self._options.limits, lists, self._clock.now())

    def _count(self, call: Call, token: AccessToken) -> None:
        account = self.ad_account_of(call)
        if account is not None and token.reaches(account):
            lists, is_read = self._state.customer_lists(account), call.action == "GET"
            self._state.meters.count(account, self._options.limits, lists, self._clock.now(), is_read=is_read)

    def happen(self, call: Call, happens: Happens) -> None:
        """What a test wants to happen before this call is answered."""
        account = self.ad_account_of(call)
        audience = self._state.get(call.subject or "")
        if happens.terms_accepted is not None and account is not None:
            change = set.discard if happens.terms_accepted else set.add
            change(self._state.accounts_without_terms, account)
        if happens.token_expired is not None and call.token:
            change = set.add if happens.token_expired else set.discard
            change(self._tokens.ended, call.token)
        if audience is not None and happens.flagged is not None:
            audience.details.flagged = list(happens.flagged)
        if audience is not None and happens.audience_deleted:
            self._state.delete(audience.details.id)

    # Rights

    def _check_permission(self, call: Call, token: AccessToken) -> None:
        if MANAGE in token.permissions or (call.action == "GET" and READ in token.permissions):
            return
        raise errors.no_permission(READ if call.action == "GET" else MANAGE)

    def _check_terms(self, ad_account_id: str) -> None:
        if ad_account_id in self._state.accounts_without_terms:
            raise errors.terms_not_accepted(ad_account_id)

    # Ad accounts

    def _answer_account(self, call: Call, token: AccessToken, ad_account_id: str) -> Answer:
        handler = self._account_routes.get((call.edge, call.action))
        if not token.reaches(ad_account_id):
            raise errors.no_object(call.action, ad_account_id)
        if handler is None:
            raise _no_route(call, {edge for edge, _ in self._account_routes})
        self._check_permission(call, token)
        return handler(call, token, ad_account_id)

    def _read_account(self, call: Call, token: AccessToken, ad_account_id: str) -> Answer:
        accepted = ad_account_id not in self._state.accounts_without_terms
        fields = values.texts(call.parameters, "fields") or []
        return account_node(ad_account_id, fields, self._options, token.tasks, terms_accepted=accepted)

    def _remove_everywhere(self, call: Call, token: AccessToken, ad_account_id: str) -> Answer:
        del token
        return self._people.remove_everywhere(call, ad_account_id)

    def _list(self, call: Call, token: AccessToken, ad_account_id: str) -> Answer:
        del token
        audiences = self._state.of_account(ad_account_id)
        return listing.page(audiences, self._view, call.parameters, call.url, call.query)

    def _create(self, call: Call, token: AccessToken, ad_account_id: str) -> Answer:
        self._check_terms(ad_account_id)
        fields = values.texts(call.parameters, "fields") or []
        check_audience_fields(fields)
        attributes = read_new_audience(call.parameters, self._options)
        most = self._options.max_custom_audiences
        if attributes["subtype"] == CUSTOM and self._state.customer_lists(ad_account_id) >= most:
            raise errors.too_many_audiences(most)
        if attributes["subtype"] == LOOKALIKE:
            origin = self._state.get(attributes["origin_audience_id"])
            if origin is None or not token.reaches(origin.details.ad_account_id):
                raise errors.invalid_parameter(
                    "origin_audience_id is no audience", blame="origin_audience_id"
                )
            if origin.details.flagged:
                raise errors.seed_restricted()
        audience = self._state.create(ad_account_id, attributes, self._clock.now())
        return audience_node(self._view(audience), fields)

    # Audiences

    def _answer_audience(self, call: Call, token: AccessToken, audience_id: str) -> Answer:
        audience = self._state.get(audience_id)
        if audience is None or not token.reaches(audience.details.ad_account_id):
            raise errors.no_object(call.action, audience_id)
        handler = self._audience_routes.get((call.edge, call.action))
        if handler is None:
            raise _no_route(call, {edge for edge, _ in self._audience_routes})
        self._check_permission(call, token)
        return handler(call, audience)

    def _view(self, audience: Audience) -> View:
        return View(audience, self._state, self._options, self._clock.now())

    def _read(self, call: Call, audience: Audience) -> Answer:
        fields = values.texts(call.parameters, "fields") or []
        check_audience_fields(fields)
        return audience_node(self._view(audience), fields)

    def _update(self, call: Call, audience: Audience) -> Answer:
        self._check_terms(audience.details.ad_account_id)
        if audience.details.flagged:
            raise errors.audience_not_editable()
        for name, value in read_changes(call.parameters, self._options).items():
            setattr(audience.details, name, value)
        audience.details.time_updated = self._clock.now()
        return {"success": True}

    def _delete(self, call: Call, audience: Audience) -> Answer:
        del call
        if self._state.lookalikes_of(audience.details.id):
            raise errors.lookalikes_depend()
        self._state.delete(audience.details.id)
        return {"success": True}


def _no_route(call: Call, edges: set[str]) -> errors.GraphError:
    if call.edge in edges:
        return errors.unsupported_method(call.action)
    reason = " (this sandbox does not serve it)" if call.edge in _EDGES_NOT_SERVED else ""
    return errors.unknown_path("/" + call.edge, reason)
