import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.delivery import Channel
from notification_engine.domain.suppression import normalised, suppression_id


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        (" ada@example.org\n", "ada@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@straße.example", "ada@xn--strae-oqa.example"),
        ("ada+tag@example.org", "ada+tag@example.org"),
        ("ÄDA@example.org", "äda@example.org"),
    ],
)
def test_one_address_has_one_spelling(address: str, expected: str) -> None:
    assert normalised(address) == expected
    assert suppression_id(Channel.EMAIL, address) == suppression_id(Channel.EMAIL, expected)


@given(st.text(max_size=80))
def test_any_text_has_a_spelling_that_stays(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


def test_an_id_shows_no_address_and_tells_channels_apart() -> None:
    ids = [suppression_id(channel, "ada@example.org") for channel in Channel]
    assert len(set(ids)) == len(ids)
    assert all(i.startswith("sup_") and len(i) == 36 and "ada" not in i for i in ids)
