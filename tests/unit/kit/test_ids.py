import itertools
import re
import time

from hypothesis import given
from hypothesis import strategies as st

from notification_engine.kit.ids import derived_ulid, new_id, new_ulid

ULID = re.compile(r"[0-7][0-9abcdefghjkmnpqrstvwxyz]{25}")
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
moments = st.integers(0, 2**48 - 1)
indexes = st.integers(0, 10_000)


def milliseconds_of(ulid: str) -> int:
    value = 0
    for character in ulid[:10]:
        value = value * 32 + ALPHABET.index(character)
    return value


@given(moments)
def test_a_ulid_holds_its_millisecond(at_ms: int) -> None:
    ulid = new_ulid(at_ms)
    assert ULID.fullmatch(ulid)
    assert milliseconds_of(ulid) == at_ms


def test_a_ulid_of_now_is_of_now() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= milliseconds_of(new_ulid()) <= time.time_ns() // 1_000_000


@given(st.lists(moments, unique=True))
def test_ids_sort_by_the_time_of_acceptance(times: list[int]) -> None:
    in_order = [new_id("ntfy", at_ms) for at_ms in sorted(times)]
    assert in_order == sorted(in_order)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_ulid(1) for _ in range(10_000)}) == 10_000


def test_an_id_is_its_prefix_and_a_ulid() -> None:
    prefix, _, ulid = new_id("ntfy").partition("_")
    assert prefix == "ntfy"
    assert ULID.fullmatch(ulid)


@given(moments, indexes)
def test_a_derived_ulid_is_found_again_and_keeps_the_millisecond(at_ms: int, index: int) -> None:
    ulid = new_ulid(at_ms)
    follower = derived_ulid(ulid, index)
    assert follower == derived_ulid(ulid, index)
    assert ULID.fullmatch(follower)
    assert milliseconds_of(follower) == at_ms


def test_a_thousand_followers_of_ten_requests_of_one_millisecond_all_differ() -> None:
    guards = [new_ulid(1) for _ in range(10)]
    followers = [derived_ulid(guard, index) for guard, index in itertools.product(guards, range(1, 1000))]
    assert len({*guards, *followers}) == 10 * 1000


def test_followers_stay_as_they_were_over_releases() -> None:
    """A request that died half-way under one release is completed under the next."""
    assert derived_ulid("01jnbkz0000000000000000000", 1) == "01jnbkz000zhyqthjtxtt2fdc0"
