"""`normalize`: identifiers in, one JSON object per line, and out what Meta would be sent for each."""

from __future__ import annotations

import difflib
import json
import re
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn

import click
import orjson

from app.domain.normalization import (
    ALPHA_2,
    INPUT_KEYS,
    NormalizationOptions,
    Normalized,
    Unusable,
    normalize_fields,
)
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MAX_NOTES: Final = 100
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}(?:\.[A-Za-z_][A-Za-z0-9_]{0,31})?")

_READ_KEYS: Final = [
    path for key, inner in INPUT_KEYS.items() for path in ([f"{key}.{name}" for name in inner] or [key])
]
# Names of traits that people send elsewhere, in lower case and without underscores.
_OTHER_SPELLINGS: Final = {
    "advertisingid": "mobile_advertiser_id",
    "birthday": "birthday",
    "birthmonth": "birth.month",
    "birthyear": "birth.year",
    "countrycode": "country",
    "dateofbirth": "birthday",
    "dob": "birthday",
    "firstname": "name.first",
    "lastname": "name.last",
    "madid": "mobile_advertiser_id",
    "phonenumber": "phone",
    "postalcode": "zip",
    "userid": "external_id",
}


@click.command()
@click.option("--country", metavar="XX", help="Country of people whose row names none, ISO 3166-1 alpha-2.")
@click.option("--keep-name-blanks", is_flag=True, help='Keep one blank between words of a name: "mary ann".')
@click.option("--romanise-initial", is_flag=True, help='Take the accent off the first initial: "e" for "é".')
def command(country: str | None, keep_name_blanks: bool, romanise_initial: bool) -> None:
    """Normalise and hash identifiers: NDJSON on stdin, exactly one line on stdout for each.

    Input keys: external_id, email, phone, birth {year, month, day}, birthday, name {first, last, first_initial},
    gender, city, state, zip, country, mobile_advertiser_id, value. --country guides phone, state and zip and is
    never sent itself.

    EXTERN_ID is shown in clear text, whatever it is; a delivery sends one that looks like an e-mail address or a phone
    number as its hash, and every one with `external_id: sha256`.
    """
    options = NormalizationOptions(
        today_year=datetime.now(UTC).year,
        default_country=_alpha_2(country),
        keep_name_blanks=keep_name_blanks,
        romanise_initial=romanise_initial,
    )
    _normalize_lines(click.get_binary_stream("stdin"), click.get_binary_stream("stdout"), options)


def _alpha_2(country: str | None) -> str | None:
    if country is None:
        return None
    code = country.strip().upper()
    if code not in ALPHA_2:
        raise InvalidInputError(
            "--country takes a two-letter country code of ISO 3166-1, such as US, GB (not UK) or DE"
        )
    return code


def _normalize_lines(lines: IO[bytes], output: IO[bytes], options: NormalizationOptions) -> None:
    """One line out for each line in, written at once: the other side of a pipe may be waiting for it."""
    noted: set[str] = set()
    for number, line in enumerate(lines, start=1):
        fields = _json_object(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line)
        if isinstance(fields, Unusable):
            result: dict[str, Any] = {"error": fields.error}
        else:
            _note_unknown_keys(fields, number, noted)
            result = {
                key.value: _column(outcome) for key, outcome in normalize_fields(fields, options).items()
            }
        output.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE))
        output.flush()


def _column(outcome: Normalized | Unusable) -> dict[str, str | float]:
    if isinstance(outcome, Unusable):
        return {"error": outcome.error}
    if outcome.normalized is None:
        return {"value": outcome.value}
    return {"normalized": outcome.normalized, "value": outcome.value}


def _json_object(line: bytes) -> dict[str, Any] | Unusable:
    if not line.strip():
        return Unusable("an empty line: expected a JSON object")
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:  # half a character (a lone surrogate) spoils one field, not its line
            value = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return Unusable("not valid JSON in UTF-8: expected a JSON object")
    return value if isinstance(value, dict) else Unusable("not a JSON object")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _note_unknown_keys(fields: dict[str, Any], number: int, noted: set[str]) -> None:
    """Say on stderr, once per key, that it is not read. A key that looks like data is not repeated."""
    for name in _unknown_keys(fields):
        if name in noted or len(noted) >= _MAX_NOTES:
            continue
        noted.add(name)
        if _PLAIN_KEY.fullmatch(name):
            click.echo(f'note: line {number}: the key "{name}" is not read{_hint(name)}', err=True)
        else:
            click.echo(f"note: line {number}: a key of {len(name)} characters is not read", err=True)


def _unknown_keys(fields: dict[str, Any]) -> Iterator[str]:
    for key, value in fields.items():
        inner = INPUT_KEYS.get(key)
        if inner is None:
            yield key
        elif inner and isinstance(value, dict):
            yield from (f"{key}.{name}" for name in value if name not in inner)


def _hint(name: str) -> str:
    meant = _OTHER_SPELLINGS.get(name.lower().replace("_", ""))
    nearest = [meant] if meant else difflib.get_close_matches(name, _READ_KEYS, n=1)
    return f', did you mean "{nearest[0]}"?' if nearest else ""
