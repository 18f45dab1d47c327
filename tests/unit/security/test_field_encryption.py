import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.errors import ConfigurationError
from notification_engine.security.field_encryption import FieldCipher

CIPHER = FieldCipher.from_secret("a secret of the tests, 32 bytes or more")
PLAIN = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_what_is_encrypted_comes_back(plain: bytes, secret: str) -> None:
    sealed = FieldCipher.from_secret(secret).encrypt(plain)
    assert FieldCipher.from_secret(secret).decrypt(sealed) == plain


def test_the_same_secret_is_never_sealed_alike_and_never_shows() -> None:
    sealed = {CIPHER.encrypt(PLAIN) for _ in range(100)}
    assert len(sealed) == 100
    assert len({s[1:13] for s in sealed}) == 100, "a nonce came twice"
    assert not any(PLAIN[:8] in s for s in sealed)


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    sealed = CIPHER.encrypt(PLAIN)
    for position in range(len(sealed) * 8):
        tampered = bytearray(sealed)
        tampered[position // 8] ^= 1 << position % 8
        with pytest.raises(ConfigurationError):
            CIPHER.decrypt(bytes(tampered))


def test_a_cut_anywhere_is_noticed() -> None:
    sealed = CIPHER.encrypt(PLAIN)
    for length in range(len(sealed)):
        with pytest.raises(ConfigurationError):
            CIPHER.decrypt(sealed[:length])


def test_another_key_is_told_by_the_name_of_its_variable_and_not_by_its_value() -> None:
    other = FieldCipher.from_secret("another secret of the tests")
    with pytest.raises(ConfigurationError, match="FIELD_ENCRYPTION_KEY") as refused:
        other.decrypt(CIPHER.encrypt(PLAIN))
    assert "another secret" not in str(refused.value)


def test_the_key_is_derived_and_not_the_secret_itself() -> None:
    secret = "x" * 32
    with pytest.raises(ConfigurationError):
        FieldCipher(secret.encode()).decrypt(FieldCipher.from_secret(secret).encrypt(PLAIN))
