"""What the Graph API answers, body and headers: a checked answer or a GraphRefusal, and a reaction to either."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import strategies as st
from pydantic import BaseModel

from app.adapters.facebook_answers import AnswerReader, RawAnswer, header_text, read_usage
from app.domain.delivery import (
    GraphRefusal,
    Refusal,
    UsageMeter,
    classify,
    pace,
    reason,
    throttle_wait,
    usage_of,
    words,
)
from app.domain.delivery_errors import Scope
from app.domain.users_requests import UsersRequest, refused_rows
from schemas.facebook import AudienceAnswer, CreatedAnswer, ErrorObject, ListAnswer, UsersEdgeAnswer
from tests.unit.fuzz.inputs import as_json, fuzzed, mutated

TOKEN, APP_SECRET = "EAAB" + "q7Zk" * 12, "0f" * 16
ROWS: list[list[str | float]] = [["a1", "user_1"], ["b2", "user_2"], ["b2", "user_2"]]
STATUS = {"code": 200, "description": "ok"}
NODE = {
    "id": "120210000000000001",
    "name": "A",
    "subtype": "CUSTOM",
    "account_id": "1",
    "approximate_count_lower_bound": 1000,
    "approximate_count_upper_bound": "1200",
    "operation_status": STATUS,
    "delivery_status": STATUS,
    "time_created": 1_700_000_000,
}
BODIES: list[Any] = [
    NODE,
    {"id": 120210000000000001},
    {"data": [NODE, NODE], "paging": {"cursors": {"before": "a", "after": "b"}, "next": "https://graph.example"}},
    {"audience_id": "1", "session_id": "2", "num_received": 3, "num_invalid_entries": 1, "invalid_entry_samples": {orjson.dumps(ROWS[1]).decode(): "bad"}},
    {"num_received": 3, "num_invalid_entries": 2, "invalid_entry_samples": [{"x": "y"}, orjson.dumps(ROWS[0]).decode()]},
    {"success": False},
    {"error": "Malformed"},
    *(
        {
            "error": {
                "message": f"(#{code}) Malformed access token {TOKEN} of {APP_SECRET}",
                "type": "OAuthException",
                "code": code,
                "error_subcode": subcode,
                "is_transient": False,
                "error_user_title": "T",
                "fbtrace_id": "AbC",
                "error_data": {"blame_field_specs": [["x"]]},
            }
        }
        for code, subcode in ((100, 1_713_098), (190, 463), (613, 5_044_001), (200, 1_870_047), (-3, 2_650), (80_003, None))
    ),
    {"error": {"message": "x" * 1_990 + TOKEN, "code": 1}},
]  # fmt: skip
METER = {
    "type": "custom_audience",
    "call_count": 97,
    "total_cputime": 20,
    "total_time": 20,
    "estimated_time_to_regain_access": 3,
}
HEADERS: list[Any] = [
    {"1": [METER, METER], "77": [METER]},
    {"call_count": 50, "total_time": 25, "total_cputime": 25},
    {"acc_id_util_pct": 9.67, "reset_time_duration": 345, "ads_api_access_tier": "standard_access"},
]
NAMES = ("x-app-usage", "x-ad-account-usage", "x-business-use-case-usage")
MODELS: tuple[type[BaseModel], ...] = (AudienceAnswer, CreatedAnswer, ListAnswer, UsersEdgeAnswer)
REQUEST = UsersRequest(False, ("EMAIL", "EXTERN_ID"), ROWS, [], {})
READER = AnswerReader(lambda: (TOKEN, APP_SECRET))

TEXT_OF_HEADER = as_json(mutated(HEADERS)).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
ANSWERS = st.tuples(
    st.sampled_from([200, 200, 201, 400, 401, 403, 429, 500, 503, 304]),
    as_json(mutated(BODIES)),
    st.dictionaries(st.sampled_from(NAMES), TEXT_OF_HEADER, max_size=2),
)


@fuzzed(ANSWERS)
def test_answers(given: tuple[int, bytes, dict[str, str]]) -> str:
    status, body, headers = given
    outcomes = [read(RawAnswer(status, body, headers), model) for model in MODELS]
    return "accepted" if any(outcomes) else "refused"


def read(answer: RawAnswer, model: type[BaseModel]) -> bool:
    """Whether the answer is one of that model."""
    try:
        found, usage = READER.read(answer, model)
    except GraphRefusal as error:
        reacted_to(error.refusal)
        return False
    meters(usage)
    assert model.model_validate(orjson.loads(orjson.dumps(found.model_dump(mode="json")))) == found
    if isinstance(found, UsersEdgeAnswer):
        places = refused_rows(REQUEST, found.invalid_entry_samples)
        assert all(0 <= place < len(ROWS) for place, _ in places)
    return True


def reacted_to(refusal: Refusal) -> None:
    decision = classify(refusal)
    for text in (words(refusal), reason(refusal, decision, "act_1"), refusal.message or ""):
        assert TOKEN not in text
        assert APP_SECRET not in text
        assert text.isprintable() or not text.isascii(), text
        assert len(text) < 6_000
    assert 0 <= throttle_wait(decision, refusal.usage, 3, 0.5) <= 100_000
    meters(refusal.usage)


def meters(usage: tuple[UsageMeter, ...]) -> None:
    assert len(usage) <= 64
    for meter in usage:
        assert math.isfinite(meter.percent)
        assert math.isfinite(meter.wait_seconds)
    for scope in Scope:
        assert 0 <= pace(usage_of(usage, "act_1"), scope) <= 100_000


@fuzzed(st.tuples(st.sampled_from(NAMES), TEXT_OF_HEADER))
def test_headers(given: tuple[str, str]) -> str:
    name, text = given
    usage = read_usage({name: text})
    meters(usage)
    version = header_text({"facebook-api-version": text}, "facebook-api-version")
    assert version is None or (version.isprintable() and len(version) <= 300)
    return "accepted" if usage else "refused"


def test_a_token_that_is_cut_off_is_struck_out_too() -> None:
    body = orjson.dumps({"error": {"message": "x" * 1_990 + TOKEN}})
    with pytest.raises(GraphRefusal) as caught:
        READER.read(RawAnswer(400, body, {}), CreatedAnswer)
    assert TOKEN[:8] not in (caught.value.refusal.message or "")
    assert ErrorObject.model_validate({"message": "y" * 3_000}).message == "y" * 2_000
