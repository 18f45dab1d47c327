import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.delivery import Channel
from notification_engine.security.field_encryption import FieldCipher
from notification_engine.security.unsubscribe import Subscription, UnsubscribeTokens

SECRET = "a secret of the tests, 32 bytes or more"
TOKENS = UnsubscribeTokens(SECRET)
ONE = ("u1", "test_execution.completed", Channel.EMAIL)
users = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
kinds = st.from_regex(r"[a-z]{1,60}\.[a-z]{1,60}", fullmatch=True)


@given(users, kinds, st.sampled_from(list(Channel)))
def test_what_is_sealed_opens_again(user: str, kind: str, channel: Channel) -> None:
    token = TOKENS.seal(user, kind, channel)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert TOKENS.open(token) == Subscription(user, kind, channel)


def test_no_two_tokens_are_alike_and_all_are_of_one_length() -> None:
    tokens = [TOKENS.seal(user, kind, Channel.EMAIL) for user in ("a", "b" * 30) for kind in ("a.b", "test.x" * 5)]
    assert len({*tokens, TOKENS.seal(*ONE)}) == 5
    assert len({len(token) for token in tokens}) == 1


@given(st.integers(0, 166), st.integers(1, 63))
def test_a_changed_letter_opens_nothing(index: int, shift: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = TOKENS.seal(*ONE)
    index %= len(token)
    other = alphabet[(alphabet.index(token[index]) + shift) % 64]
    assert TOKENS.open(token[:index] + other + token[index + 1 :]) is None


@given(st.text(max_size=300))
def test_any_text_opens_nothing(text: str) -> None:
    assert TOKENS.open(text) is None


@pytest.mark.parametrize("end", ["=", "==", "A", " ", "\n", "%3D"])
def test_nothing_may_be_added(end: str) -> None:
    assert TOKENS.open(TOKENS.seal(*ONE) + end) is None


def test_a_sealed_secret_of_another_kind_is_no_token() -> None:
    import base64

    sealed = FieldCipher.from_secret(SECRET).encrypt(b'["u1","a.b","email"]')
    assert TOKENS.open(base64.urlsafe_b64encode(sealed).decode().rstrip("=")) is None


def test_another_key_opens_nothing() -> None:
    assert UnsubscribeTokens(SECRET[::-1]).open(TOKENS.seal(*ONE)) is None
