"""Normalisation of cities, states, postal codes and countries, each case with its reason."""

import pytest

from app.domain.normalization import (
    normalize_city,
    normalize_country,
    normalize_state,
    normalize_zip,
)
from tests.unit.domain.normalization_cases import text_of


@pytest.mark.parametrize(
    ("city", "text"),
    [
        ("Łódź", "lodz"),
        ("Tromsø", "tromso"),
        ("Gießen", "giessen"),
        ("GIEẞEN", "giessen"),
        ("Diyarbakır", "diyarbakir"),
        ("İstanbul", "istanbul"),
        ("Paris 13", "paris"),
        ("東京 Tokyo", "tokyo"),
        ("東京", ""),
        ("75018", ""),
    ],
)
def test_city(city: str, text: str) -> None:
    assert text_of(normalize_city(city)) == text


@pytest.mark.parametrize(
    ("state", "country", "text"),
    [
        # One state, however it is written.
        ("New York", None, "ny"),
        ("NY", None, "ny"),
        ("n.y.", None, "ny"),
        (" new  york ", "US", "ny"),
        ("N. Y.", "US", "ny"),
        ("US-NY", None, "ny"),
        ("New York State", "US", "ny"),
        ("Washington, D.C.", None, "dc"),
        ("Puerto Rico", "PR", "pr"),
        ("Armed Forces Pacific", "US", "ap"),
        ("Georgia", None, "ga"),
        # Elsewhere a name stays a name.
        ("Georgia", "GE", "georgia"),
        ("Western Australia", "AU", "westernaustralia"),
        ("WA", "AU", "wa"),
        ("Maryland", "LR", "maryland"),
        ("California", "MX", "california"),
        ("2A", "FR", "2a"),
        ("Bayern", "US", "bayern"),  # no state there: the country may be the default one
        ("東京", "JP", ""),
    ],
)
def test_state(state: str, country: str | None, text: str) -> None:
    assert text_of(normalize_state(state, country)) == text


@pytest.mark.parametrize(
    ("code", "country", "text"),
    [
        ("94035-1234", "US", "94035"),
        ("94035 1234", "US", "94035"),
        ("940351234", "US", "94035"),
        ("94035–1234", None, "94035"),  # an en dash
        ("00901-1234", "PR", "00901"),
        ("94035-1234", "DE", "940351234"),  # ZIP+4 is an American form
        ("940351234", None, "940351234"),
        ("110001", "US", "110001"),  # six digits are no ZIP code
        ("110001", "IN", "110001"),
        ("01310-100", None, "01310100"),
        ("01310-100", "BR", "01310100"),
        ("12345-678", None, "12345678"),
        ("m1-1ae", "GB", "m11ae"),
        ("M1  1AE", None, "m11ae"),
        ("M1 1AE", "US", "m11ae"),
        ("〒１００－０００１", "JP", "1000001"),
        (94035, None, "94035"),
        ("--", None, ""),
    ],
)
def test_zip(code: object, country: str | None, text: str) -> None:
    assert text_of(normalize_zip(code, country)) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("UK", "gb"),
        ("Great Britain", "gb"),
        ("England", "gb"),
        ("USA", "us"),
        ("U.S.A.", "us"),
        ("the United States of America", "us"),
        ("DEU", "de"),
        ("Deutschland", "de"),
        ("NA", "na"),  # Namibia, and no blank
        ("ST", "st"),
        ("St. Lucia", "lc"),
        ("Trinidad & Tobago", "tt"),
        ("Korea, Republic of", "kr"),
        ("Republic of Korea", "kr"),
        ("south korea", "kr"),
        ("North Korea", "kp"),
        ("Iran", "ir"),
        ("Congo", "cg"),
        ("Democratic Republic of the Congo", "cd"),
        ("Côte d’Ivoire", "ci"),
        ("Ivory Coast", "ci"),
        ("Turkey", "tr"),
        ("Türkiye", "tr"),
        ("Czech Republic", "cz"),
        ("Russia", "ru"),
        ("Viet Nam", "vn"),
        ("Vietnam", "vn"),
        ("Falkland Islands", "fk"),
        ("The Netherlands", "nl"),
        ("Virgin Islands", ""),  # two countries
        ("XX", ""),
        ("EU", ""),
        ("Narnia", ""),
        ("840", ""),  # a number is as likely a dialling code
        ("日本", ""),
    ],
)
def test_country(name: str, text: str) -> None:
    assert text_of(normalize_country(name)) == text
