"""The edges that change who is in an audience: `users`, `usersreplace`, `usersofanyaudience`, and what `sessions` tells.

Rights are checked before; a call is applied as a whole or refused by raising GraphError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.sandbox import errors, sessions, values
from app.sandbox.state import CUSTOM, Audience, SandboxState
from app.sandbox.validation import VALUE_KEY, Upload, read_session, read_upload

if TYPE_CHECKING:
    from app.sandbox.call import Call
    from app.sandbox.options import SandboxClock, SandboxOptions
    from app.sandbox.validation import Session

Answer = dict[str, Any]
Rows = Sequence[dict[str, Any]]

_DATA_SOURCE = "FILE_IMPORTED."


class PeopleEdges:
    def __init__(self, state: SandboxState, options: SandboxOptions, clock: SandboxClock) -> None:
        self._state = state
        self._options = options
        self._clock = clock

    def use(self, options: SandboxOptions) -> None:
        self._options = options

    def add(self, call: Call, audience: Audience) -> Answer:
        upload = self._read_users(call, audience)
        self._state.replacements.check_people_may_change(audience.details.id)
        _check_values(audience, upload)
        if upload.rows:
            audience.details.data_source = upload.data_source
        return self._apply(call, audience, upload, add=upload.rows)

    def remove(self, call: Call, audience: Audience) -> Answer:
        upload = self._read_users(call, audience)
        self._state.replacements.check_people_may_change(audience.details.id)
        self._check_size(audience, upload)
        return self._apply(call, audience, upload, remove=upload.rows)

    def _check_size(self, audience: Audience, upload: Upload) -> None:
        if self._options.min_people_left:
            leaving = audience.people.removed_by(upload.rows, self._clock.now())
            left = len(audience.people) - leaving
            if leaving and left < self._options.min_people_left:
                raise errors.audience_too_small(left)

    def remove_everywhere(self, call: Call, ad_account_id: str) -> Answer:
        """From all customer lists of the account."""
        self._check_terms(ad_account_id)
        upload = read_upload(call.parameters, self._options, call.refused_rows)
        session = read_session(call.parameters)
        now = self._clock.now()
        for audience in self._state.of_account(ad_account_id):
            if audience.details.subtype == CUSTOM:
                self._change(audience, (), upload.rows, now)
        shown = session.id if session else _server_session(call.action, upload.schema)
        return self._counters(upload, shown, upload.received)

    def replace(self, call: Call, audience: Audience) -> Answer:
        upload = self._read_users(call, audience)
        session = read_session(call.parameters)
        if session is None:
            raise errors.invalid_parameter("The parameter session is required", blame="session")
        if audience.details.is_value_based is not (VALUE_KEY in upload.schema):
            raise errors.replace_value_based()
        now = self._clock.now()
        self._state.replacements.check_size(len(audience.people))
        received = self._state.replacements.receive(audience.details.id, session, upload, now)
        audience.details.data_source = upload.data_source
        self._state.sessions.take(
            audience.details.id, "replace", session, upload, audience.people.matched, now
        )
        return self._counted(audience, upload, session.id, received)

    def sessions(self, call: Call, audience: Audience) -> Answer:
        fields = values.texts(call.parameters, "fields") or list(sessions.FIELDS)
        for name in fields:
            if name not in sessions.FIELDS:
                raise errors.unknown_field(name, "CustomAudienceSession")
        wanted = values.integer(call.parameters, "session_id", 1, 2**63 - 1)
        found = self._state.sessions.shown(
            audience.details.id, None if wanted is None else str(wanted), self._clock.now()
        )
        return {"data": [{name: one[name] for name in fields} for one in found]}

    def _check_terms(self, ad_account_id: str) -> None:
        if ad_account_id in self._state.accounts_without_terms:
            raise errors.terms_not_accepted(ad_account_id)

    def _read_users(self, call: Call, audience: Audience) -> Upload:
        details = audience.details
        self._check_terms(details.ad_account_id)
        values.boolean(call.parameters, "customer_consent")
        if details.subtype != CUSTOM:
            raise errors.not_a_customer_list(details.subtype)
        if details.flagged:
            raise errors.upload_blocked()
        upload = read_upload(call.parameters, self._options, call.refused_rows)
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
        if session is None:
            self._change(audience, add or (), remove or (), self._clock.now())
            shown = _server_session(call.action, upload.schema)
            return self._counted(audience, upload, shown, upload.received)
        return self._apply_in_session(call, audience, upload, session, add or (), remove or ())

    def _apply_in_session(
        self, call: Call, audience: Audience, upload: Upload, session: Session, add: Rows, remove: Rows
    ) -> Answer:
        now = self._clock.now()
        known = self._state.sessions.find(audience.details.id, call.action, session.id)
        if add and known is not None and known.end_of(now) is not None:
            # Too late: discarded, and nobody is told.
            return self._counted(audience, upload, session.id, known.received)
        self._change(audience, add, remove, now)
        taken = self._state.sessions.take(
            audience.details.id, call.action, session, upload, audience.people.matched, now
        )
        return self._counted(audience, upload, session.id, taken.received)

    def _change(self, audience: Audience, add: Rows, remove: Rows, now: float) -> None:
        self._state.change_people(audience, add, remove, now)
        if audience.people.matched or audience.details.sizes:
            audience.details.publish(now, self._options.size_delay_seconds, audience.people.matched)

    def _counted(self, audience: Audience, upload: Upload, session_id: str, received: int) -> Answer:
        return {"audience_id": audience.details.id, **self._counters(upload, session_id, received)}

    def _counters(self, upload: Upload, session_id: str, received: int) -> Answer:
        samples: Any = upload.samples
        if not samples and self._options.empty_samples_as_list:
            samples = []
        return {
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
