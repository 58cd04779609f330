"""Bad input for the parsers at the edge, and how long each is tried.

A valid record is taken apart and put together wrongly (`mutated`), then written as JSON or MessagePack with whatever no
encoder of ours would write: numbers out of range, NaN, halves of characters, keys that are there twice, nesting without
end. Its bytes may be cut off or changed, and sometimes they are just any bytes.

In the ordinary run of the tests there are few examples, the same each time. FUZZ_SECONDS=300 tries new ones for so long.
"""

from __future__ import annotations

import copy
import json
import math
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
EXAMPLES = 100
# Of one call of Hypothesis in a long run.
_ROUND = 100

# Stands in samples wherever a person is named, and must be in no error text.
CANARY = "Qanary7x"

# What is written in place of such a text, as no value could be: nested too deeply, or a number beyond all bounds.
_DEEP = "\x00deep"
_ENDLESS = "\x00endless"
_DEPTHS = (30, 200, 1_500, 9_000)

TEXTS = (
    "", " ", "\x00", "\ud800", "\udfffx", "é", "😀", "\u2028", "x" * 300, "a|b", "$.traits.$", "NaN", "1e999", "0x1F",
    "９", "true", "null", "-", "act_1", "user_1", f"{CANARY}@example.com", "+4915112345678", "2025-03-01",
    "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z", "2025-02-30T00:00:00Z", "2025-03-01T00:00:00+14:00",
    "1969-12-31T23:59:59-23:59", "2025-03-01T24:00:00Z", "group_id:g1", "email:x", "anonymous_id:", "user_id:user_id:",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 127, 128, 255, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), -(2**63) - 1, 10**30,
    0.5, -0.0, 1e-320, 1e16, 1.7e308, -1.7e308, 9.99e14, math.nan, math.inf, -math.inf,
)  # fmt: skip


def _hostile() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.sampled_from(TEXTS),
        st.sampled_from(NUMBERS),
        st.sampled_from([None, True, False, _DEEP, _ENDLESS]),
        st.text(max_size=8),
        st.integers(-(2**66), 2**66),
        st.floats(),
        st.binary(max_size=12),
        st.sampled_from([[], {}, [[]], [None] * 40, ["a"] * 2_000, {"": {}}, {"a": 1, "b": [1]}]),
        st.integers(1, 600).map(lambda count: {f"k{number}": number for number in range(count)}),
    ).map(copy.deepcopy)


HOSTILE = _hostile()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) within, some hundred at most."""
    found: list[tuple[Any, Any]] = []
    open_ = [value]
    while open_ and len(found) < 400:
        container = open_.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                open_.append(container[key])
    return found


@st.composite
def mutated(draw: st.DrawFn, samples: list[Any]) -> Any:
    """One of the samples (plain values), changed in one to four places; now and then unchanged."""
    value = copy.deepcopy(draw(st.sampled_from(samples)))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3, 4]))):
        places = _places(value) if isinstance(value, dict | list) else []
        if not places or draw(st.integers(0, 60)) == 0:
            return draw(HOSTILE)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        _change(draw, container, key, places)
    return value


def _change(draw: st.DrawFn, container: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    how = draw(st.sampled_from(["replace"] * 4 + ["drop", "wrap", "copy", "rename", "repeat"]))
    if how == "replace":
        container[key] = draw(HOSTILE)
    elif how == "drop":
        del container[key]
    elif how == "wrap":
        container[key] = draw(st.sampled_from([[container[key]], {"a": container[key]}]))
    elif how == "copy":
        other, its = places[draw(st.integers(0, len(places) - 1))]
        container[key] = copy.deepcopy(other[its])
    elif how == "rename" and isinstance(container, dict):
        container[draw(st.sampled_from(TEXTS))] = container.pop(key)
    elif isinstance(container, list):
        container.extend(copy.deepcopy(container[key]) for _ in range(draw(st.sampled_from([1, 20]))))
    else:
        container[key] = [container[key]] * 3


# --- bytes ---


@st.composite
def as_json(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> bytes:
    """The value as a text that may be JSON."""
    value = draw(values)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), default=_plain)
    depth = draw(st.sampled_from(_DEPTHS)) if "\\u0000deep" in text else 0
    opening, closing = draw(st.sampled_from([("[", "]"), ('{"a":', "}")]))
    text = text.replace('"\\u0000deep"', opening * depth + "1" + closing * depth)
    endless = draw(
        st.sampled_from(["1e999", "-1E+9999", "9" * 400, "9" * 5_000, "0." + "1" * 900, "01", "1."])
    )
    text = text.replace('"\\u0000endless"', endless)
    if draw(st.integers(0, 5)) == 0:
        text = _with_a_key_twice(draw, text)
    return _broken(draw, text.encode("utf-8", "surrogatepass"))


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _with_a_key_twice(draw: st.DrawFn, text: str) -> str:
    """Of some object its first key again, with another value."""
    starts = [at for at, sign in enumerate(text[:3_000]) if sign == "{" and text[at + 1 : at + 2] == '"']
    if not starts:
        return text
    at = draw(st.sampled_from(starts))
    end = text.find('"', at + 2)
    again = draw(st.sampled_from(["1", "null", '"x"', "{}", "[]", '"\\ud800"']))
    return f"{text[: at + 1]}{text[at + 1 : end + 1]}:{again},{text[at + 1 :]}" if end > 0 else text


@st.composite
def as_packed(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> bytes:
    """The value as MessagePack, or nearly so."""
    depth = draw(st.sampled_from(_DEPTHS))
    return _broken(draw, _pack(draw(values), depth))


def _pack(value: Any, depth: int) -> bytes:
    """MessagePack's longest forms, as any encoder may write them."""
    if value == _DEEP:
        return b"\x91" * depth + b"\xc0"
    if value == _ENDLESS:
        return b"\xcb\x7f\xf0" + b"\0" * 6
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        if 0 <= value < 128:
            return bytes([value])
        if -(2**63) <= value < 2**64:
            return b"\xcf" + value.to_bytes(8) if value >= 0 else b"\xd3" + value.to_bytes(8, signed=True)
        return b"\xc7\x09\x01" + b"\xff" * 9  # an extension, as MessagePack has no such number
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
        return b"\xdb" + len(encoded).to_bytes(4) + encoded
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4) + value
    if isinstance(value, dict):
        items = b"".join(_pack(key, depth) + _pack(item, depth) for key, item in value.items())
        return (bytes([0x80 + len(value)]) if len(value) < 16 else b"\xdf" + len(value).to_bytes(4)) + items
    head = bytes([0x90 + len(value)]) if len(value) < 16 else b"\xdc" + min(len(value), 65_535).to_bytes(2)
    return head + b"".join(_pack(item, depth) for item in value)


def _broken(draw: st.DrawFn, encoded: bytes) -> bytes:
    """Mostly as it is; else cut off, changed in a byte, or with more within or behind it."""
    how = draw(st.sampled_from(["whole"] * 7 + ["cut", "byte", "more", "behind", "any"]))
    at = draw(st.integers(0, max(0, len(encoded) - 1)))
    if how == "cut":
        return encoded[:at]
    if how == "byte" and encoded:
        return encoded[:at] + bytes([draw(st.integers(0, 255))]) + encoded[at + 1 :]
    if how == "more":
        more = draw(
            st.sampled_from([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\0", b"\xef\xbb\xbf", b"\\ud83d", b"{"])
        )
        return encoded[:at] + more + encoded[at:]
    if how == "behind":
        return encoded + draw(st.binary(max_size=6))
    return draw(st.binary(max_size=60)) if how == "any" else encoded


# --- running ---


def fuzzed(strategy: st.SearchStrategy[Any]) -> Callable[[Callable[[Any], str]], Callable[[], None]]:
    """A test of `check`, which gets a value and says in a word what came of it."""

    def decorate(check: Callable[[Any], str]) -> Callable[[], None]:
        outcomes: dict[str, int] = {}
        slowest = 0.0

        def once(value: Any) -> None:
            nonlocal slowest
            started = time.process_time()
            outcome = check(value)
            slowest = max(slowest, time.process_time() - started)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

        once.__name__ = once.__qualname__ = check.__name__
        long = SECONDS > 0
        tried = settings(
            max_examples=_ROUND if long else EXAMPLES,
            derandomize=not long,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )(given(strategy)(once))

        @pytest.mark.timeout(SECONDS + 300)
        def test() -> None:
            started = time.monotonic()
            tried()
            while time.monotonic() < started + SECONDS:
                tried()
            if long:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024
                found = ", ".join(f"{name} {count:,}" for name, count in sorted(outcomes.items()))
                seconds = time.monotonic() - started
                print(
                    f"\n{check.__name__}: {seconds:.0f} s, {found}; slowest {slowest * 1_000:.0f} ms of CPU, "
                    f"at most {peak} MiB",
                    file=sys.stderr,
                )
            # What is only ever refused has not been read.
            assert {"accepted", "refused"} <= outcomes.keys(), outcomes

        test.__name__ = check.__name__
        test.__doc__ = check.__doc__
        test.__module__ = check.__module__
        return test

    return decorate
