"""The form of keys, and what people mistype."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import KeyInvalid, KeyMalformed
from service.security.keys.rates import parse_lifetime, parse_rate
from service.security.keys.tokens import digest_of, new_token, parse_token

TOKEN = new_token()


def test_a_token_has_the_form_that_scanners_find() -> None:
    assert re.fullmatch(r"vultus_[0-9a-z]{12}_[0-9A-Za-z]{46}", TOKEN.text)
    assert parse_token(TOKEN.text) == TOKEN
    assert len({new_token().text for _ in range(1000)}) == 1000


@given(position=st.integers(0, len(TOKEN.text) - 1), character=st.sampled_from("0aZ_ \n\x00é"))
def test_one_wrong_character_is_told_from_a_wrong_key(position: int, character: str) -> None:
    altered = TOKEN.text[:position] + character + TOKEN.text[position + 1 :]
    if altered != TOKEN.text:
        with pytest.raises(KeyMalformed):
            parse_token(altered)


@given(text=st.text(max_size=200))
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(KeyMalformed):
        parse_token(text)


@pytest.mark.parametrize("text", ["", TOKEN.text[:-1], TOKEN.text + "a", TOKEN.text.upper(), f" {TOKEN.text}"])
def test_cut_and_decorated_tokens_are_refused(text: str) -> None:
    with pytest.raises(KeyMalformed):
        parse_token(text)


def test_the_digest_depends_on_the_server_secret() -> None:
    assert len(digest_of(TOKEN, b"a" * 32)) == 32
    assert digest_of(TOKEN, b"a" * 32) != digest_of(TOKEN, b"b" * 32)


@pytest.mark.parametrize(
    ("text", "rate"), [("50/s", (50, 1)), ("1/min", (1, 60)), ("1000/h", (1000, 3600)), ("9/d", (9, 86400))]
)
def test_rates(text: str, rate: tuple[int, int]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0/s", "50", "50/sec", "-1/s", "1.5/s", "50 /s", "１/s", "9999999999/s"])
def test_refuses_what_is_not_a_rate(text: str) -> None:
    with pytest.raises(KeyInvalid, match="is not a rate"):
        parse_rate(text)


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("30min", 1800), ("12h", 43200), ("90d", 7776000)])
def test_lifetimes(text: str, seconds: float) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "-1d", "1w", "1e3s", "99999999d"])
def test_refuses_what_is_not_a_lifetime(text: str) -> None:
    with pytest.raises(KeyInvalid, match="is not a time"):
        parse_lifetime(text)
