"""Tables behind normalisation, built once at import: letters, countries, states, months, gender words.

Every table is keyed by the bare form of a text (`bare`), so that "N.Y.", "n y" and "NY" are one key.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import pycountry

_NOT_A_Z: Final = re.compile(r"[^a-z]+")
_NOT_A_Z_0_9: Final = re.compile(r"[^a-z0-9]+")
_IN_BRACKETS: Final = re.compile(r"\s*\([^)]*\)")

# Letters that Unicode does not decompose into a base letter and a mark.
_LETTERS: Final = str.maketrans(
    {
        "ß": "ss",
        "ø": "o",
        "ł": "l",
        "æ": "ae",
        "œ": "oe",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ı": "i",
        "ħ": "h",
    }
)


def romanise(text: str) -> str:
    """Lower case with accents taken off Latin letters; letters of other alphabets stay what they are."""
    lowered = text.lower()
    if lowered.isascii():
        return lowered
    decomposed = unicodedata.normalize("NFKD", lowered.translate(_LETTERS))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).lower()


def bare(text: str) -> str:
    """a-z and nothing else, accents taken off; "" when no letter is left."""
    return _NOT_A_Z.sub("", romanise(text))


def bare_with_digits(text: str) -> str:
    """a-z and 0-9 and nothing else, accents taken off; "" when none is left."""
    return _NOT_A_Z_0_9.sub("", romanise(text))


def ascii_digits(text: str) -> str:
    """Digits of every script and width become 0-9, full-width signs their ASCII ones; the rest stays."""
    if text.isascii():
        return text
    return "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character
        for character in unicodedata.normalize("NFKC", text)
    )


# What people write beside the names of ISO 3166, by bare form.
_MORE_COUNTRY_NAMES: Final = {
    "AE": ("uae", "emirates"),
    "AT": ("osterreich", "oesterreich"),
    "BE": ("belgie", "belgique", "belgien"),
    "BN": ("brunei",),
    "BR": ("brasil",),
    "CD": ("democraticrepublicofcongo", "drcongo", "drc", "congokinshasa"),
    "CG": ("congobrazzaville",),
    "CH": ("schweiz", "suisse", "svizzera"),
    "CI": ("ivorycoast",),
    "CV": ("capeverde",),
    "CZ": ("cesko", "ceskarepublika"),
    "DE": ("deutschland",),
    "DK": ("danmark",),
    "EE": ("eesti",),
    "ES": ("espana",),
    "FI": ("suomi",),
    "GB": ("uk", "greatbritain", "britain", "england", "scotland", "wales", "northernireland"),
    "GR": ("el", "hellas"),
    "HR": ("hrvatska",),
    "HU": ("magyarorszag",),
    "IE": ("eire", "republicofireland"),
    "IT": ("italia",),
    "KR": ("korea",),
    "LT": ("lietuva",),
    "LV": ("latvija",),
    "MK": ("macedonia",),
    "MM": ("burma",),
    "MO": ("macau",),
    "NL": ("nederland", "holland"),
    "NO": ("norge",),
    "PL": ("polska",),
    "RU": ("russia",),
    "SE": ("sverige",),
    "SI": ("slovenija",),
    "SK": ("slovensko",),
    "SZ": ("swaziland",),
    "TL": ("easttimor",),
    "TR": ("turkey",),
    "US": ("america",),
    "VA": ("vatican", "vaticancity", "holysee"),
    "VG": ("bvi",),
    "VI": ("usvirginislands",),
}


def country_key(text: str) -> str:
    """The bare form under which `COUNTRIES` knows a name: "the" dropped, "&" and "St." spelled out."""
    words = romanise(text).replace("&", " and ").split()
    if len(words) == 1:  # ST alone is a code
        return bare(words[0])
    if words[:1] == ["the"]:
        words = words[1:]
    return bare("".join("saint" if word in ("st", "st.") else word for word in words))


def _spellings(name: str) -> list[str]:
    """A name of ISO 3166 as it stands, without its brackets, and turned round at its comma."""
    short = _IN_BRACKETS.sub("", name)
    head, comma, tail = short.partition(", ")
    return [name, short, f"{tail} {head}"] if comma else [name, short]


def _country_names() -> dict[str, str]:
    table: dict[str, str] = {}
    heads: dict[str, set[str]] = {}
    for country in pycountry.countries:
        for attribute in ("name", "official_name", "common_name"):
            name: str | None = getattr(country, attribute, None)
            if name is None:
                continue
            for spelling in _spellings(name):
                table[country_key(spelling)] = country.alpha_2
            heads.setdefault(country_key(name.partition(",")[0]), set()).add(country.alpha_2)
        table[country.alpha_3.lower()] = country.alpha_2
    for head, codes in heads.items():  # "Iran" of "Iran, Islamic Republic of", where only one country has it
        if len(codes) == 1:
            table.setdefault(head, next(iter(codes)))
    for code, names in _MORE_COUNTRY_NAMES.items():
        table.update(dict.fromkeys(names, code))
    table.update({country.alpha_2.lower(): country.alpha_2 for country in pycountry.countries})
    return table


# Names, alpha-2 and alpha-3 codes, by `country_key` → alpha-2 in capitals.
COUNTRIES: Final = _country_names()
ALPHA_2: Final = frozenset(COUNTRIES.values())

# Where the states of the United States Postal Service are the states of an address, and its ZIP codes the ZIPs.
US_STATE_COUNTRIES: Final = frozenset({"US", "AS", "GU", "MP", "PR", "UM", "VI"})
US_ZIP_COUNTRIES: Final = US_STATE_COUNTRIES | {"FM", "MH", "PW"}

_US_STATES: Final = {
    "al": ("alabama",),
    "ak": ("alaska",),
    "as": ("americansamoa",),
    "az": ("arizona",),
    "ar": ("arkansas",),
    "ca": ("california",),
    "co": ("colorado",),
    "ct": ("connecticut",),
    "de": ("delaware",),
    "dc": ("districtofcolumbia", "washingtondc", "washingtondistrictofcolumbia"),
    "fl": ("florida",),
    "ga": ("georgia",),
    "gu": ("guam",),
    "hi": ("hawaii",),
    "id": ("idaho",),
    "il": ("illinois",),
    "in": ("indiana",),
    "ia": ("iowa",),
    "ks": ("kansas",),
    "ky": ("kentucky",),
    "la": ("louisiana",),
    "me": ("maine",),
    "md": ("maryland",),
    "ma": ("massachusetts",),
    "mi": ("michigan",),
    "mn": ("minnesota",),
    "ms": ("mississippi",),
    "mo": ("missouri",),
    "mt": ("montana",),
    "ne": ("nebraska",),
    "nv": ("nevada",),
    "nh": ("newhampshire",),
    "nj": ("newjersey",),
    "nm": ("newmexico",),
    "ny": ("newyork",),
    "nc": ("northcarolina",),
    "nd": ("northdakota",),
    "mp": ("northernmarianaislands",),
    "oh": ("ohio",),
    "ok": ("oklahoma",),
    "or": ("oregon",),
    "pa": ("pennsylvania",),
    "pr": ("puertorico",),
    "ri": ("rhodeisland",),
    "sc": ("southcarolina",),
    "sd": ("southdakota",),
    "tn": ("tennessee",),
    "tx": ("texas",),
    "um": ("unitedstatesminoroutlyingislands",),
    "ut": ("utah",),
    "vt": ("vermont",),
    "vi": ("usvirginislands", "virginislandsus", "virginislands"),
    "va": ("virginia",),
    "wa": ("washington",),
    "wv": ("westvirginia",),
    "wi": ("wisconsin",),
    "wy": ("wyoming",),
    # Military mail, addressed like states.
    "aa": ("armedforcesamericas",),
    "ae": ("armedforceseurope",),
    "ap": ("armedforcespacific",),
}


def _us_states() -> dict[str, str]:
    table: dict[str, str] = {}
    for code, names in _US_STATES.items():
        table[code] = table[f"us{code}"] = code  # `us` in front: ISO 3166-2, US-NY
        for name in names:
            table[name] = table[f"{name}state"] = table[f"stateof{name}"] = code
    return table


# By `bare` form → code in lower case.
US_STATES: Final = _us_states()

_MONTH_NAMES: Final = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
# English names and their first three letters, by `bare` form → 01 to 12.
MONTHS: Final = {
    spelling: f"{number:02d}"
    for number, name in enumerate(_MONTH_NAMES, start=1)
    for spelling in (name, name[:3])
} | {"sept": "09"}

# By `bare` form → m or f.
GENDERS: Final = dict.fromkeys(
    (
        *("m", "male", "man", "men", "boy", "masculine", "maennlich", "mannlich", "masculino", "masculin"),
        *("mann", "homme", "hombre", "homem", "uomo"),
    ),
    "m",
) | dict.fromkeys(
    (
        *("f", "female", "woman", "women", "girl", "feminine", "weiblich", "femenino", "feminino", "feminin"),
        *("frau", "femme", "mujer", "mulher", "donna"),
    ),
    "f",
)
