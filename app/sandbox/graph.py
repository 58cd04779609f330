"""The Graph API itself: one call in, the answer's body out, or a GraphError. No HTTP here.

Every call is answered in one go, without awaiting: a request is applied as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from app.sandbox import errors, listing, values
from app.sandbox.audience_parameters import read_changes, read_new_audience
from app.sandbox.nodes import View, account_node, audience_node, check_audience_fields
from app.sandbox.options import MANAGE, READ, AccessToken, SandboxClock, SandboxOptions
from app.sandbox.request_log import EXCHANGE
from app.sandbox.state import CUSTOM, LOOKALIKE, Audience, SandboxState
from app.sandbox.tokens import Tokens
from app.sandbox.validation import VALUE_KEY, Upload, read_session, read_upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.sandbox.call import Call

Answer = dict[str, Any]

_AD_ACCOUNT = re.compile(r"act_[0-9]{1,30}").fullmatch
_OBJECT_ID = re.compile(r"[0-9]{1,30}").fullmatch
_EDGES_NOT_SERVED = frozenset(
    [
        "adaccounts",
        "ads",
        "health",
        "salts",
        "sessions",
        "shared_account_info",
        "usersofanyaudience",
    ]
)
_OBJECT_AND_EDGE = 2
_DATA_SOURCE = "FILE_IMPORTED."


class GraphApi:
    def __init__(self, state: SandboxState, options: SandboxOptions, clock: SandboxClock) -> None:
        self._state = state
        self._options = options
        self._clock = clock
        self._tokens = Tokens(options, clock)
        state.replacements.use(options.replace)
        self._account_routes: dict[tuple[str, str], Callable[[Call, AccessToken, str], Answer]] = {
            ("", "GET"): self._read_account,
            ("customaudiences", "GET"): self._list,
            ("customaudiences", "POST"): self._create,
        }
        self._audience_routes: dict[tuple[str, str], Callable[[Call, Audience], Answer]] = {
            ("", "GET"): self._read,
            ("", "POST"): self._update,
            ("", "DELETE"): self._delete,
            ("users", "POST"): self._add_users,
            ("users", "DELETE"): self._remove_users,
            ("usersreplace", "POST"): self._replace_users,
        }

    def answer(self, call: Call) -> Answer:
        """Raises GraphError for everything that is refused."""
        if call.problem is not None:
            raise call.problem
        if call.version is None:
            raise errors.no_version()
        if self._options.ended_version == "refused" and call.version in self._options.ended_versions:
            raise errors.ended_version(call.version)
        self._state.replacements.settle(self._clock.now())
        if call.segments == EXCHANGE and call.action == "GET":
            return self._tokens.exchange(call.parameters)
        token = self._tokens.of(call)
        if call.segments == ("debug_token",):
            return self._tokens.debug(call.parameters)
        if call.subject is None or len(call.segments) > _OBJECT_AND_EDGE:
            raise errors.unknown_path("/" + "/".join(call.segments))
        if _AD_ACCOUNT(call.subject):
            return self._answer_account(call, token, call.subject)
        if _OBJECT_ID(call.subject):
            return self._answer_audience(call, token, call.subject)
        raise errors.no_alias(call.subject)

    def version_of(self, call: Call) -> str | None:
        """Which answers: the one that is asked for, or the next one that is served in place of one that has ended."""
        version = call.version
        while self._options.ended_version == "upgraded" and version in self._options.ended_versions:
            version = f"v{int(version[1:].partition('.')[0]) + 1}.0"
        return version

    def ad_account_of(self, call: Call) -> str | None:
        """Whose allowance the call is counted against; None when it names nothing that exists."""
        if call.subject is None:
            return None
        if _AD_ACCOUNT(call.subject):
            return call.subject
        audience = self._state.get(call.subject)
        return audience.details.ad_account_id if audience else None

    # Rights

    def _check_permission(self, call: Call, token: AccessToken) -> None:
        if MANAGE in token.permissions or (call.action == "GET" and READ in token.permissions):
            return
        raise errors.no_permission(READ if call.action == "GET" else MANAGE)

    def _check_terms(self, ad_account_id: str) -> None:
        if ad_account_id in self._options.accounts_without_terms:
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
        fields = values.texts(call.parameters, "fields") or []
        return account_node(ad_account_id, fields, self._options, token.tasks)

    def _list(self, call: Call, token: AccessToken, ad_account_id: str) -> Answer:
        del token
        audiences = self._state.of_account(ad_account_id)
        return listing.page(audiences, self._view, call.parameters, call.url, call.query)

    def _create(self, call: Call, token: AccessToken, ad_account_id: str) -> Answer:
        self._check_terms(ad_account_id)
        fields = values.texts(call.parameters, "fields") or []
        check_audience_fields(fields)
        attributes = read_new_audience(call.parameters, self._options)
        if attributes["subtype"] == CUSTOM:
            lists = sum(one.details.subtype == CUSTOM for one in self._state.of_account(ad_account_id))
            if lists >= self._options.max_custom_audiences:
                raise errors.too_many_audiences(self._options.max_custom_audiences)
        if attributes["subtype"] == LOOKALIKE:
            origin = self._state.get(attributes["origin_audience_id"])
            if origin is None or not token.reaches(origin.details.ad_account_id):
                raise errors.invalid_parameter(
                    "origin_audience_id is no audience", blame="origin_audience_id"
                )
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

    # People

    def _add_users(self, call: Call, audience: Audience) -> Answer:
        upload = self._read_users(call, audience)
        self._state.replacements.check_people_may_change(audience.details.id)
        _check_values(audience, upload)
        if upload.rows:
            audience.details.data_source = upload.data_source
        return self._apply(call, audience, upload, add=upload.rows)

    def _remove_users(self, call: Call, audience: Audience) -> Answer:
        upload = self._read_users(call, audience)
        self._state.replacements.check_people_may_change(audience.details.id)
        return self._apply(call, audience, upload, remove=upload.rows)

    def _replace_users(self, call: Call, audience: Audience) -> Answer:
        upload = self._read_users(call, audience)
        session = read_session(call.parameters)
        if session is None:
            raise errors.invalid_parameter("The parameter session is required", blame="session")
        if audience.details.is_value_based is not (VALUE_KEY in upload.schema):
            raise errors.replace_value_based()
        received = self._state.replacements.receive(audience.details.id, session, upload, self._clock.now())
        audience.details.data_source = upload.data_source
        return self._counted(audience, upload, session.id, received)

    def _read_users(self, call: Call, audience: Audience) -> Upload:
        details = audience.details
        self._check_terms(details.ad_account_id)
        values.boolean(call.parameters, "customer_consent")
        if details.subtype != CUSTOM:
            raise errors.not_a_customer_list(details.subtype)
        upload = read_upload(call.parameters, self._options)
        if details.data_source not in {None, upload.data_source}:
            raise errors.mixed_schema_styles(
                f"{_DATA_SOURCE}{details.data_source}", f"{_DATA_SOURCE}{upload.data_source}"
            )
        return upload

    def _apply(
        self,
        call: Call,
        audience: Audience,
        upload: Upload,
        add: list[dict[str, Any]] | None = None,
        remove: list[dict[str, Any]] | None = None,
    ) -> Answer:
        session = read_session(call.parameters)
        now = self._clock.now()
        details, people = audience.details, audience.people
        self._state.change_people(audience, add or [], remove or [], now)
        if people.matched or details.sizes:
            details.publish(now, self._options.size_delay_seconds, people.matched)
        received = upload.received
        if session is not None:
            received = self._state.received_in_session(details.id, session.id, received, now)
        shown = session.id if session else _server_session(call.action, upload.schema)
        return self._counted(audience, upload, shown, received)

    def _counted(self, audience: Audience, upload: Upload, session_id: str, received: int) -> Answer:
        samples: Any = upload.samples
        if not samples and self._options.empty_samples_as_list:
            samples = []
        return {
            "audience_id": audience.details.id,
            "session_id": session_id,
            "num_received": received,
            "num_invalid_entries": upload.invalid,
            "invalid_entry_samples": samples,
        }


def _check_values(audience: Audience, upload: Upload) -> None:
    """LOOKALIKE_VALUE belongs to value-based lists, and to every upload to one."""
    named = VALUE_KEY in upload.schema
    if audience.details.is_value_based and not named:
        raise errors.invalid_parameter(f"A value-based list needs {VALUE_KEY} in the schema", blame="schema")
    if named and not audience.details.is_value_based:
        raise errors.invalid_parameter(f"{VALUE_KEY} is for value-based lists only", blame="schema")


def _server_session(action: str, schema: list[str] | str) -> str:
    """The number the API shows when none was sent: equal for equal method and schema, so no unique key."""
    digest = hashlib.sha256(f"{action} {schema}".encode()).digest()
    return str(int.from_bytes(digest[:8], "big") >> 1 | 1 << 61)


def _no_route(call: Call, edges: set[str]) -> errors.GraphError:
    if call.edge in edges:
        return errors.unsupported_method(call.action)
    reason = " (this sandbox does not serve it)" if call.edge in _EDGES_NOT_SERVED else ""
    return errors.unknown_path("/" + call.edge, reason)
