import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.errors import ConfigurationError, Unreadable
from notification_engine.security.envelope import OVERHEAD, DataKey, LocalKeys, Sealer
from notification_engine.security.field_encryption import FieldCipher

KEY = DataKey.new()
PLAIN, PLACE = b"ada@example.org", ("address", "u1", "ntfy_1")
OLD, NEW = "an old master key of 32 bytes or more", "a new master key of 32 bytes or more"


@given(st.binary(max_size=200), st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_what_is_sealed_opens_in_its_context(plain: bytes, context: list[str]) -> None:
    sealed = KEY.seal(plain, *context)
    assert KEY.open(sealed, *context) == plain
    assert len(sealed) == len(plain) + OVERHEAD


@pytest.mark.parametrize(
    "moved",
    [
        ("text", "u1", "ntfy_1"),
        ("address", "u2", "ntfy_1"),
        ("address", "u1", "ntfy_2"),
        ("address", "u1"),
        ("address", "u1", "ntfy_1", ""),
        ("address", "u1ntfy_1", ""),
        ("addressu1", "ntfy_1"),
        (),
    ],
)
def test_what_is_moved_to_another_place_does_not_open(moved: tuple[str, ...]) -> None:
    with pytest.raises(Unreadable) as error:
        KEY.open(KEY.seal(PLAIN, *PLACE), *moved)
    assert not error.value.gone


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    sealed = KEY.seal(PLAIN, *PLACE)
    for position in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(Unreadable):
            KEY.open(bytes(altered), *PLACE)


def test_nothing_cut_off_or_added_opens() -> None:
    sealed = KEY.seal(PLAIN, *PLACE)
    for other in [sealed[:length] for length in range(len(sealed))] + [sealed + b"\0", b"\0" + sealed, sealed * 2]:
        with pytest.raises(Unreadable):
            KEY.open(other, *PLACE)


def test_the_same_value_is_never_sealed_alike() -> None:
    sealed = {KEY.seal(PLAIN, *PLACE) for _ in range(1000)}
    assert len({s[9:21] for s in sealed}) == 1000, "a nonce came twice"
    assert not any(PLAIN[:6] in s for s in sealed)


def test_each_place_has_a_key_of_its_own_so_that_equal_nonces_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one key and nonce for two plain texts their XOR would show."""
    monkeypatch.setattr(os, "urandom", lambda count: bytes(count))
    first, second = KEY.seal(PLAIN, "a"), KEY.seal(PLAIN, "b")
    assert first[9:21] == second[9:21]
    assert first[21:] != second[21:]


def test_another_key_says_that_the_first_is_gone() -> None:
    with pytest.raises(Unreadable) as error:
        DataKey.new().open(KEY.seal(PLAIN, *PLACE), *PLACE)
    assert error.value.gone


def test_a_digest_finds_the_same_and_nothing_else() -> None:
    assert KEY.digest("email", "ada@example.org") == KEY.digest("email", "ada@example.org")
    others = {KEY.digest("email", "eve@example.org"), KEY.digest("webhook", "ada@example.org"), KEY.secret("email")}
    assert len(others | {KEY.digest("email", "ada@example.org")}) == 4
    assert DataKey.new().digest("email", "ada@example.org") not in others


def test_no_text_of_an_error_holds_what_was_sealed() -> None:
    with pytest.raises(Unreadable) as error:
        KEY.open(KEY.seal(PLAIN, *PLACE), "elsewhere")
    assert "ada" not in str(error.value)
    assert error.value.__cause__ is None


async def test_a_data_key_wrapped_by_a_former_master_key_still_opens() -> None:
    wrapped = await LocalKeys(OLD).wrap(KEY.material, "purpose")
    keys = LocalKeys(NEW, [OLD])
    assert await keys.unwrap(wrapped, "purpose") == KEY.material
    rewrapped = await keys.rewrap(wrapped, "purpose")
    assert await LocalKeys(NEW).unwrap(rewrapped, "purpose") == KEY.material


async def test_a_wrong_master_key_is_refused_by_its_variable() -> None:
    wrapped = await LocalKeys(OLD).wrap(KEY.material, "purpose")
    with pytest.raises(ConfigurationError, match=r"^FIELD_ENCRYPTION_KEY: .*FIELD_ENCRYPTION_KEY_PREVIOUS") as error:
        await LocalKeys(NEW).unwrap(wrapped, "purpose")
    assert OLD not in str(error.value)
    assert NEW not in str(error.value)


@pytest.mark.parametrize("change", [lambda w: w[:-1], lambda w: w[:-1] + bytes([w[-1] ^ 1]), lambda w: w[:9]])
async def test_an_altered_data_key_is_refused(change: object) -> None:
    keys = LocalKeys(OLD)
    wrapped = await keys.wrap(KEY.material, "purpose")
    with pytest.raises(ConfigurationError, match="FIELD_ENCRYPTION_KEY"):
        await keys.unwrap(change(wrapped), "purpose")  # type: ignore[operator]


async def test_a_data_key_does_not_open_for_another_purpose() -> None:
    keys = LocalKeys(OLD)
    with pytest.raises(ConfigurationError, match="FIELD_ENCRYPTION_KEY"):
        await keys.unwrap(await keys.wrap(KEY.material, "webhook secrets"), "user keys")


def test_a_master_key_is_named_without_being_shown() -> None:
    names = {LocalKeys(secret).master for secret in (OLD, NEW)}
    assert len(names) == 2
    assert all(name.startswith("local:") and len(name) == len("local:") + 16 for name in names)


def test_what_an_engine_before_the_data_keys_sealed_still_opens() -> None:
    old = FieldCipher.from_secret(OLD).encrypt(b"whsec_1")
    for keys in (LocalKeys(OLD), LocalKeys(NEW, [OLD]), LocalKeys(OLD, [NEW])):
        assert Sealer("webhook secrets", lambda: KEY, keys.open_legacy).open(old, "whk_1") == b"whsec_1"
    with pytest.raises(ConfigurationError, match="FIELD_ENCRYPTION_KEY"):
        LocalKeys(NEW).open_legacy(old)


def test_keys_that_are_added_leave_the_known_ones_open() -> None:
    keys = LocalKeys(OLD)
    before = keys.master
    keys.add(NEW)
    assert keys.master != before
    assert keys.open_legacy(FieldCipher.from_secret(OLD).encrypt(b"x")) == b"x"
