"""The proof of the app's secret in both of Meta's forms, and a token that changes."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from app.adapters.facebook_credentials import Credentials
from app.errors import InvalidInputError

TOKEN, SECRET = "EAAsandboxtoken", "sandbox-app-secret"
# Check values of Meta's documents, worked out with another program.
PLAIN = "81e089c3cc221cb0ff43072732be4822a93df06aa7b830d912ab715a76b307d8"
TIMED = "1cca1f9985ed666311653cd798f3171e072d8869e005de8543862e25db119f4c"
NOW = 1_767_225_600_999


def credentials(token: str = TOKEN, **how: bool) -> Credentials:
    return Credentials(SecretStr(token), SecretStr(f" {SECRET}\n"), **how)


def test_the_timed_proof_names_its_second() -> None:
    assert credentials().proof(NOW) == {"appsecret_proof": TIMED, "appsecret_time": "1767225600"}


def test_the_plain_proof_is_of_the_token_alone() -> None:
    assert credentials(timed_proof=False).proof(NOW) == {"appsecret_proof": PLAIN}


def test_without_a_secret_there_is_no_proof() -> None:
    assert Credentials(SecretStr(TOKEN)).proof(NOW) == {}


def test_another_token_is_used_from_then_on_and_the_former_one_stays_secret() -> None:
    held = credentials("EAAfirst")
    held.use(SecretStr("EAAsecond\n"))
    held.use(SecretStr(TOKEN))
    held.use(SecretStr(TOKEN))
    assert held.bearer == f"Bearer {TOKEN}"
    assert held.proof(NOW)["appsecret_proof"] == TIMED
    assert held.secrets() == ("EAAfirst", "EAAsecond", TOKEN, SECRET)


@pytest.mark.parametrize("text", ["", "  ", "two words", "two\nlines", "tökén"])
def test_what_is_no_token_changes_nothing(text: str) -> None:
    held = credentials()
    with pytest.raises(InvalidInputError) as caught:
        held.use(SecretStr(text))
    assert held.token.get_secret_value() == TOKEN
    assert "words" not in str(caught.value)
    assert "lines" not in str(caught.value)


def test_nothing_secret_is_shown() -> None:
    held = credentials()
    held.use(SecretStr("EAAother"))
    for text in (repr(held), str(held), str(vars(held))):
        assert not any(secret in text for secret in held.secrets())
