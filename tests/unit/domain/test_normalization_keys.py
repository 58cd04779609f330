"""Normalisation key by key, each case with its reason."""

import pytest

from app.domain.normalization import (
    MetaKey,
    Normalized,
    Unusable,
    normalize_birthday,
    normalize_email,
    normalize_fields,
    normalize_gender,
    normalize_initial,
    normalize_mobile_id,
    normalize_month,
    normalize_name,
    normalize_phone,
    normalize_value,
    normalize_year,
)
from tests.unit.domain.normalization_cases import OPTIONS, TODAY_YEAR, sha256, text_of


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("\ufeffmary@example.com", "mary@example.com"),  # the mark at the start of an exported file
        ("É@MÜNCHEN.de", "é@münchen.de"),
        ("a@b.c", "a@b.c"),
        ("mary", ""),
        ("mary@", ""),
        ("@example.com", ""),
        ("mary@example", ""),
        ("mary@example.com.", ""),
        ("mary@.com", ""),
        ("mary@example..com", ""),
        ("mary@@example.com", ""),
        ("mary@x@example.com", ""),
        ("mary jones@example.com", ""),
        ("mary\u00a0jones@example.com", ""),
        ("mary\u200b@example.com", ""),  # nobody sees it, and it changes the hash
        ("Mary <mary@example.com>", ""),
        ("mary@example.com;ann@example.com", ""),
        ("mary@example.com,", ""),
        (12345, ""),
    ],
)
def test_email(address: object, text: str) -> None:
    assert text_of(normalize_email(address)) == text


@pytest.mark.parametrize(
    ("number", "country", "text"),
    [
        # As written, where nothing is known about it.
        ("650-555-1212", None, "6505551212"),
        ("(0)30 901820", None, "30901820"),
        (16505551212.0, None, "16505551212"),
        ("tel:+1-650-555-1212", None, "16505551212"),
        ("\u202a+1 650 555 1212\u202c", None, "16505551212"),  # direction marks of an address book
        ("＋４９ ３０ ９０１８２０", None, "4930901820"),
        ("٠١٢٣٤٥", None, "12345"),
        ("12", None, "12"),  # too short for a number, yet digits
        ("000", None, ""),
        ("unknown", None, ""),
        # A trunk zero after the country code goes, where the plan says it is one.
        ("+49 (0)30 901820", None, "4930901820"),
        ("0049 (0)30 901820", None, "4930901820"),
        ("49 (0)30 901820", None, "4930901820"),
        ("+44 020 7946 0958", None, "442079460958"),
        ("+36 06 1 234 5678", None, "3612345678"),  # a trunk prefix of two digits
        ("+7 8 495 123 45 67", None, "74951234567"),  # and one that is no zero
        ("+39 06 1234567", None, "39061234567"),  # Italy's zero belongs to the number
        ("+225 07 12 34 56 78", None, "2250712345678"),
        ("+999 0123", None, "9990123"),  # no country's code
        # Extensions.
        ("+33 1 42 68 53 00 ext. 7", None, "33142685300"),
        ("+33 1 42 68 53 00;ext=7", None, "33142685300"),
        ("+33 1 42 68 53 00 x 7", None, "33142685300"),
        ("+33 1 42 68 53 00 Extension: 7", None, "33142685300"),
        ("+33 1 42 68 53 00 #7", None, "33142685300"),
        ("x7", None, "7"),  # never nothing where there are digits
        ("650xxx1212", None, "6501212"),
        # National numbers of a known country.
        ("650-555-1212", "US", "16505551212"),
        ("(650) 555-1212 x123", "US", "16505551212"),
        ("1 650 555 1212", "US", "16505551212"),
        ("15559876543", "US", "15559876543"),
        ("555-987-6543", "US", "15559876543"),  # fictitious, and of the right form
        ("1-800-FLOWERS", "US", "18003569377"),
        ("555-1212", "US", "5551212"),  # no area code: nothing to put in front of
        ("123", "US", "123"),
        ("030 901820", "DE", "4930901820"),
        ("030/901820", "DE", "4930901820"),
        ("15112345678", "DE", "4915112345678"),  # a spreadsheet ate the zero
        ("07911 123456", "GB", "447911123456"),
        ("01 42 68 53 00", "FR", "33142685300"),
        ("06 12345678", "IT", "390612345678"),
        ("11 91234-5678", "BR", "5511912345678"),
        ("8 916 123 45 67", "RU", "79161234567"),
        ("090-1234-5678", "JP", "819012345678"),
        # International all the same.
        ("+1 650 555 1212", "DE", "16505551212"),
        ("0044 20 7946 0958", "FR", "442079460958"),
        ("0044 20 7946 0958", "US", "442079460958"),  # not how one dials there
        ("011 44 20 7946 0958", "US", "442079460958"),
        ("0011 44 20 7946 0958", "AU", "442079460958"),
        ("33142685300", "FR", "33142685300"),
        ("33142685300", "US", "33142685300"),
        ("33142685300", "DE", "33142685300"),  # a German would write 03314..., so the plus is what is missing
        ("447911123456", "FR", "447911123456"),
        ("6591234567", "US", "6591234567"),  # ten digits, but Singapore's
        # Countries without a numbering plan of their own.
        ("030 901820", "AQ", "30901820"),
        ("0049 030 901820", "AQ", "4930901820"),
    ],
)
def test_phone(number: object, country: str | None, text: str) -> None:
    assert text_of(normalize_phone(number, country)) == text


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("woman", "f"),
        ("GIRL", "f"),
        ("man", "m"),
        ("boy", "m"),
        ("F.", "f"),
        ("Weiblich", "f"),
        ("männlich", "m"),
        ("homme", "m"),
        ("Hombre", "m"),
        ("Mann", "m"),
        ("homem", "m"),
        ("uomo", "m"),
        ("femme", "f"),
        ("Mujer", "f"),
        ("Frau", "f"),
        ("mulher", "f"),
        ("donna", "f"),
    ]
    + [(word, "") for word in ("other", "trans male", "x", "1", 1, "mr", "mmm", "fm")],
)
def test_gender(word: object, text: str) -> None:
    assert text_of(normalize_gender(word)) == text


@pytest.mark.parametrize(
    ("year", "text"),
    [
        (1900, "1900"),
        ("2026", "2026"),
        ("1899", ""),
        ("2027", ""),
        ("87", ""),
        ("1987 AD", ""),
        ("１９８７", "1987"),
    ],
)
def test_year(year: object, text: str) -> None:
    assert text_of(normalize_year(year, TODAY_YEAR)) == text


@pytest.mark.parametrize(
    ("month", "text"),
    [("1", "01"), (1, "01"), ("01", "01"), ("January", "01"), ("JAN", "01"), ("sept.", "09"), ("may", "05")]
    + [(month, "") for month in (0, 13, "001", "-1", "1.5", "Janvier", "j", "ja")],
)
def test_month(month: object, text: str) -> None:
    assert text_of(normalize_month(month)) == text


@pytest.mark.parametrize(
    ("birthday", "parts"),
    [
        ("1990-05-04", ("1990", "05", "04")),
        ("1990-5-4", ("1990", "05", "04")),
        ("1990/05/04", ("1990", "05", "04")),
        ("1990-05-04T00:00:00.000Z", ("1990", "05", "04")),
        ("1990-05-04T23:59:00-08:00", ("1990", "05", "04")),  # the date as written: no zone moves a birthday
        ("1990-05-04 00:00:00", ("1990", "05", "04")),
        ("19900504", ("1990", "05", "04")),
        (19900504, ("1990", "05", "04")),
        ("--02-29", (None, "02", "29")),
        ("1604-02-29", ("", "02", "29")),  # address books write 1604 where they know no year
        ("0000-05-04", ("", "05", "04")),
        ("2027-01-01", ("", "01", "01")),
        ("4", (None, None, "04")),
        (31, (None, None, "31")),
        ("32", (None, None, "")),
        ("0", (None, None, "")),
        ("1990-02-30", ("", "", "")),  # no such day: none of its parts can be trusted
        ("1990-13-01", ("", "", "")),
        ("04/05/1990", ("", "", "")),  # April or May
        ("1990/05-04", ("", "", "")),
        ("1990", ("", "", "")),
        ("641779200000", ("", "", "")),
        ("next Friday", ("", "", "")),
        (True, ("", "", "")),
        ("9" * 1_001, ("", "", "")),
        (None, (None, None, None)),
    ],
)
def test_birthday(birthday: object, parts: tuple[str | None, ...]) -> None:
    assert tuple(map(text_of, normalize_birthday(birthday, TODAY_YEAR))) == parts


@pytest.mark.parametrize(
    ("birth", "birthday", "parts"),
    [
        ({"year": 1987}, "1990-05-04", ("1987", "05", "04")),
        ({"year": 2023, "month": 2, "day": 30}, None, ("", "", "")),
        ({"year": "2023", "month": "February", "day": "29"}, None, ("", "", "")),
        ({"year": 2024, "month": 2, "day": 29}, None, ("2024", "02", "29")),
        ({"day": 31}, "1990-04-04", ("", "", "")),
        ({"month": 2, "day": 30}, None, (None, "02", "30")),  # of which year is not known
        ({"month": "", "day": "-"}, "1990-05-04", ("1990", "05", "04")),
        ({"month": "13"}, "1990-05-04", ("1990", "", "04")),  # given and wrong is not the same as not given
        ({"day": 3}, "17", (None, None, "03")),
        ({"day": 3}, "nonsense", ("", "", "03")),
        (
            ["1987"],
            "1990-05-04",
            ("1990", "05", "04"),
        ),  # a broken birth spoils only what birthday does not give
        ("1990-05-04", "17", ("", "", "17")),
        ("1990-05-04", None, ("", "", "")),
    ],
)
def test_birth_beats_birthday(birth: object, birthday: object, parts: tuple[str | None, ...]) -> None:
    columns = normalize_fields({"birth": birth, "birthday": birthday}, OPTIONS)
    assert tuple(text_of(columns.get(key)) for key in (MetaKey.DOBY, MetaKey.DOBM, MetaKey.DOBD)) == parts


def test_a_hashed_birthday_is_the_days() -> None:
    day = sha256("04")
    assert normalize_fields({"birthday": day.upper()}, OPTIONS) == {MetaKey.DOBD: Normalized(day, None)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Mary\t Ann", "maryann"),
        ("d`Artagnan", "dartagnan"),
        ("Kaʻahumanu", "kaahumanu"),  # an apostrophe that Unicode calls a letter
        ("J. R. R.", "jrr"),
        ("Mary 2nd", "marynd"),  # a digit is no letter
        ("Mary ❤️", "mary"),
        ("राम", "राम"),  # a vowel sign is a mark, and part of the name
        ("علی\u200cرضا", "علیرضا"),  # a joiner is not
        ("葛\U000e0100城", "葛城"),  # nor is the choice of a glyph
        ("サトー", "サトー"),  # but the sign for a long vowel is
        ("E-\u0301", "é"),  # composed after what stood between has gone
        ("...", ""),
        ("❤️", ""),
        ("007", ""),
        ("\u0301", ""),
    ],
)
def test_name(name: str, text: str) -> None:
    assert text_of(normalize_name(name)) == text


def test_name_with_blanks_kept() -> None:
    assert text_of(normalize_name("  Mary -\t Ann . ", keep_blanks=True)) == "mary ann"


@pytest.mark.parametrize(
    ("name", "romanised", "text"),
    [
        ("'s-Gravesande", False, "s"),
        ("정", False, "정"),
        ("정", True, "정"),  # has no Roman form that one letter could stand for
        ("Émile", True, "e"),
        ("Ægir", True, "a"),
        ("İbrahim", False, "i"),
        ("1", False, ""),
    ],
)
def test_initial(name: str, romanised: bool, text: str) -> None:
    assert text_of(normalize_initial(name, romanised=romanised)) == text


def test_the_initial_comes_only_from_first_initial() -> None:
    columns = normalize_fields({"name": {"first": "Mary", "last": "Jones"}}, OPTIONS)
    assert list(columns) == [MetaKey.LN, MetaKey.FN]


def test_a_name_that_is_no_object_is_unusable() -> None:
    columns = normalize_fields({"name": "Mary Jones"}, OPTIONS)
    assert list(columns) == [MetaKey.LN, MetaKey.FN]
    assert all(isinstance(column, Unusable) for column in columns.values())


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        (" 38400000-8CF0-11BD-B23E-10B96E40000D ", "38400000-8cf0-11bd-b23e-10b96e40000d"),
        ("00000000-0000-0000-0000-000000000000", ""),  # every phone whose owner opted out
        ("mary@example.com", ""),  # must not leave in the clear
        ("+1 650 555 1212", ""),
    ],
)
def test_mobile_id(identifier: str, text: str) -> None:
    outcome = normalize_mobile_id(identifier)
    assert (outcome.value if isinstance(outcome, Normalized) else "") == text


@pytest.mark.parametrize(
    ("value", "number", "text"),
    [
        (44.5, 44.5, "44.5"),
        (" 44.50 ", 44.5, "44.5"),
        (100, 100.0, "100"),
        ("1e3", 1000.0, "1000"),
        (".5", 0.5, "0.5"),
        (0, 0.0, "0"),
        (-0.0, 0.0, "0"),
        (1e300, 1e300, "1e+300"),
    ],
)
def test_value(value: object, number: float, text: str) -> None:
    outcome = normalize_value(value)
    assert outcome == Normalized(number, text)
    assert not str(outcome.value).startswith("-")  # -0.0 equals 0.0, and is another text


@pytest.mark.parametrize(
    "value", [-1, "-0.01", "1,5", "€5", "nan", "Infinity", "1e999", "1_000", 10**400, "5 EUR"]
)
def test_value_unusable(value: object) -> None:
    assert isinstance(normalize_value(value), Unusable)


@pytest.mark.parametrize(
    "value",
    [
        "6505551212",
        "+16505551212",
        "john-smith",
        "o-brien",
        "de9086d4a6d64dcf9e229c3c5a7429e7",  # as likely the MD5 of something else
        "de9086d4-a6d6-4dcf-9e22-9c3c5a7429e7a",
        "de9086d4-a6d6-4dcf-9e22",
    ],
)
def test_nothing_that_could_be_another_identifier_is_sent_as_an_advertising_id(value: str) -> None:
    outcome = normalize_fields({"mobile_advertiser_id": value}, OPTIONS)[MetaKey.MADID]
    assert isinstance(outcome, Unusable)
    assert value not in outcome.error
