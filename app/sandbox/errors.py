"""The errors of the Graph API as data: one function per refusal, each giving code, subcode, type and status.

The codes and the few recorded texts are the API's; where it documents no text, the text is ours. Clients
are meant to decide by code and subcode.
"""

from __future__ import annotations

from typing import Any

MISMATCH = "(#100) Data is missing or does not match schema"

_ACTIONS = {"GET": "get", "POST": "post", "DELETE": "delete"}


class GraphError(Exception):
    """A request that is refused as a whole. Nothing of it has been applied."""

    def __init__(
        self,
        message: str,
        *,
        code: int,
        subcode: int | None = None,
        http_status: int = 400,
        kind: str = "OAuthException",
        title: str | None = None,
        explanation: str | None = None,
        blame: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.subcode = subcode
        self.http_status = http_status
        self.kind = kind
        self.title = title
        self.explanation = explanation
        self.blame = blame

    def envelope(self, trace: str, *, is_transient: bool = False) -> dict[str, Any]:
        """The body of the answer; `trace` is the request id that the headers carry too."""
        error: dict[str, Any] = {"message": self.message, "type": self.kind, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        error["is_transient"] = is_transient
        if self.title is not None:
            error["error_user_title"] = self.title
            error["error_user_msg"] = self.explanation or self.title
        if self.blame is not None:
            error["error_data"] = {"blame_field_specs": [[self.blame]]}
        error["fbtrace_id"] = trace
        return {"error": error}

    def challenge(self) -> str:
        """The value of WWW-Authenticate, with nothing in it that a header may not hold."""
        reason = "invalid_token" if self.code in {102, 190} else "invalid_request"
        text = "".join(sign if " " <= sign <= "~" and sign != '"' else "'" for sign in self.message)
        return f'OAuth "Facebook Platform" "{reason}" "{text}"'


# The status that a code was seen with, where it is not 400.
_STATUS = {1: 500, 2: 500, 4: 403, 10: 403, 200: 403, 803: 404}
_GRAPH_METHOD = {(100, 33)}


def ordered_error(code: int, subcode: int | None, message: str | None, status: int | None) -> GraphError:
    """An error that a test wants, as the API shapes it."""
    known = 400 if subcode is not None else _STATUS.get(code, 400)
    kind = "GraphMethodException" if (code, subcode) in _GRAPH_METHOD else "OAuthException"
    text = message or f"(#{code}) ordered by a test"
    return GraphError(text, code=code, subcode=subcode, http_status=status or known, kind=kind)


def no_version() -> GraphError:
    return GraphError(
        "(#2635) You are calling a deprecated version of the Ads API: the path names no version, such as /v25.0/",
        code=2635,
    )


def ended_version(version: str) -> GraphError:
    return GraphError(
        f"(#2635) You are calling a deprecated version of the Ads API: {version} is served no longer",
        code=2635,
    )


def proof_required() -> GraphError:
    return GraphError(
        "API calls from the server require an appsecret_proof argument", code=100, kind="GraphMethodException"
    )


def wrong_proof() -> GraphError:
    return GraphError(
        "Invalid appsecret_proof provided in the API argument", code=100, kind="GraphMethodException"
    )


def too_many_calls(ad_account_id: str) -> GraphError:
    return GraphError(
        "(#80003) There have been too many calls to this ad-account. Wait a bit and try again."
        f" ({ad_account_id})",
        code=80003,
        subcode=2446079,
    )


def score_reached(which: str) -> GraphError:
    """`which` of the two codes that the API documents for its second limiter."""
    if which == "17":
        return GraphError("(#17) User request limit reached", code=17, subcode=2446079)
    return GraphError("(#613) Calls to this api have exceeded the rate limit.", code=613, subcode=1487742)


def no_token() -> GraphError:
    return GraphError("An access token is required to request this resource.", code=104)


def unknown_token() -> GraphError:
    return GraphError("Invalid OAuth access token - Cannot parse access token", code=190)


def expired_token() -> GraphError:
    return GraphError(
        "Error validating access token: the session has expired. Get a new token.", code=190, subcode=463
    )


def unknown_app() -> GraphError:
    return GraphError("Error validating application. Cannot get application info.", code=101)


def wrong_app_secret() -> GraphError:
    return GraphError("Error validating client secret.", code=1)


def no_permission(permission: str) -> GraphError:
    return GraphError(f"(#200) This call requires the {permission} permission", code=200, http_status=403)


def no_object(method: str, object_id: str) -> GraphError:
    return GraphError(
        f"Unsupported {_ACTIONS.get(method, 'get')} request. Object with ID '{object_id}' does not exist, cannot be"
        " loaded due to missing permissions, or does not support this operation.",
        code=100,
        subcode=33,
        kind="GraphMethodException",
    )


def no_alias(name: str) -> GraphError:
    return GraphError(
        f"(#803) Some of the aliases you requested do not exist: {name}", code=803, http_status=404
    )


def unknown_path(path: str, reason: str = "") -> GraphError:
    return GraphError(f"Unknown path components: {path}{reason}", code=2500)


def unsupported_method(method: str) -> GraphError:
    return GraphError(f"(#100) Unsupported {method} request", code=100, kind="GraphMethodException")


def invalid_parameter(message: str, blame: str | None = None) -> GraphError:
    return GraphError(f"(#100) {message}", code=100, blame=blame)


def unknown_field(name: str, node_type: str) -> GraphError:
    return GraphError(
        f"(#100) Tried accessing nonexisting field ({name}) on node type ({node_type})", code=100
    )


def data_mismatch() -> GraphError:
    return GraphError(MISMATCH, code=100)


def too_many_rows_unknown() -> GraphError:
    return GraphError("An unknown error occurred", code=1, subcode=99)


def terms_not_accepted(ad_account_id: str) -> GraphError:
    return GraphError(
        "Permissions error",
        code=200,
        subcode=1870090,
        title="Custom Audience Terms Not Accepted",
        explanation="A person has to accept the terms at https://business.facebook.com/ads/manage/customaudiences/tos/"
        f"?act={ad_account_id.removeprefix('act_')}",
    )


def too_many_audiences(limit: int) -> GraphError:
    return GraphError(
        f"(#2654) Failed to create custom audience: this ad account has {limit} customer lists already",
        code=2654,
    )


def lookalikes_depend() -> GraphError:
    return GraphError("(#2656) Failed to delete custom audience: lookalike audiences depend on it", code=2656)


def not_a_customer_list(subtype: str) -> GraphError:
    return GraphError(
        f"(#2650) Failed to update the custom audience: people cannot be uploaded to subtype {subtype}",
        code=2650,
    )


def audience_too_small(people: int) -> GraphError:
    return GraphError(
        "Permissions error",
        code=200,
        subcode=1870047,
        title="Audience Size too Low",
        explanation="You cannot remove users from this audience because it would leave"
        f" {people}, which is too few.",
    )


def upload_blocked() -> GraphError:
    return _flagged(1713230, "Audience Upload Blocked")


def audience_not_editable() -> GraphError:
    return _flagged(1713228, "Custom Audience Cannot Be Edited")


def seed_restricted() -> GraphError:
    return _flagged(1713232, "Seed audience restricted")


def _flagged(subcode: int, title: str) -> GraphError:
    return GraphError("(#100) Invalid parameter", code=100, subcode=subcode, title=title)


def too_large_to_replace() -> GraphError:
    return _no_replace("the audience has too many members to be replaced", 1870144)


def replace_failed() -> GraphError:
    return _no_replace("the list was not fully updated", 1870148)


def being_replaced() -> GraphError:
    return _no_replace("the audience is being replaced", 1870145)


def first_batch_missing() -> GraphError:
    return _no_replace("the first batch of the session was never received", 1870147)


def replace_window_over() -> GraphError:
    return _no_replace("the session began more than 90 minutes ago", 1870158)


def replace_closed() -> GraphError:
    return _no_replace("the last batch of the session was received already", 1870159)


def replace_schema_changed() -> GraphError:
    return _no_replace("all batches of a session must have the same schema", None)


def replace_value_based() -> GraphError:
    return _no_replace("a value-based list stays one, and a plain one too", None)


def _no_replace(why: str, subcode: int | None) -> GraphError:
    return GraphError(f"(#2650) Failed to update the custom audience: {why}", code=2650, subcode=subcode)


def mixed_schema_styles(built_with: str, sent: str) -> GraphError:
    return GraphError(
        f"(#2650) Failed to update the custom audience: its data source is {built_with},"
        f" which does not accept data of {sent}",
        code=2650,
    )
