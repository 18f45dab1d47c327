from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.channels.email.message import ascii_address, build
from notification_engine.rendering.plain import MAX_HEADER_URL, Email, unsubscribe_headers

EMAIL = Email("dlv_1_0", "ada@example.org", "Run 7 has ended", "All 41 tests passed.\n", "<p>All passed.</p>")
NAMES = ["From", "To", "Subject", "Date", "Message-ID", "X-Notification-Delivery-Id", "MIME-Version", "Content-Type"]
CONTROL = [chr(c) for c in (*range(32), 127, 0x80, 0x85, 0x9B, 0x9F)]


def on_the_wire(**fields: str) -> EmailMessage:
    data = build(replace(EMAIL, **fields), "engine@example.org", "Engine").as_bytes()
    parsed = message_from_bytes(data, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def parts(message: EmailMessage) -> dict[str, str]:
    return {part.get_content_type(): part.get_content() for part in message.walk() if not part.is_multipart()}


def test_a_message_carries_both_parts_and_our_delivery_id() -> None:
    message = on_the_wire()
    assert message.keys() == NAMES
    assert message["Message-ID"] == "<dlv_1_0@example.org>"
    assert message["X-Notification-Delivery-Id"] == "dlv_1_0"
    assert (message["From"], message["To"]) == ("Engine <engine@example.org>", "ada@example.org")
    assert parts(message) == {"text/plain": EMAIL.text, "text/html": EMAIL.html + "\n"}


@pytest.mark.parametrize("control", CONTROL, ids=repr)
@pytest.mark.parametrize("field", ["subject", "to"])
@pytest.mark.parametrize("place", ["{0}{1}", "{1}{0}", "{0}{1}Bcc: eve@example.org"])
def test_a_control_character_never_reaches_a_header(control: str, field: str, place: str) -> None:
    value = place.format(getattr(EMAIL, field), control)
    with pytest.raises(ValueError, match=r".+"):
        build(replace(EMAIL, **{field: value}), "engine@example.org", "Engine")


@pytest.mark.parametrize("control", CONTROL, ids=repr)
def test_a_control_character_in_the_sender_is_refused(control: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        build(EMAIL, "engine@example.org", f"Engine{control}x")


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?=0d=0aBcc:_eve@example.org?=",
        "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLm9yZw==?=",
        "Run =?iso-8859-1?q?7=0AX-Evil:_1?= ended",
        "=?utf-8?q?bell=07?=",
    ],
)
def test_a_line_break_hidden_in_an_encoded_word_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        build(replace(EMAIL, subject=subject), "engine@example.org", "Engine")


@given(st.text(max_size=300))
def test_any_subject_is_refused_or_adds_no_header(subject: str) -> None:
    try:
        message = on_the_wire(subject=subject)
    except ValueError:
        return
    assert message.keys() == NAMES
    assert message["To"] == EMAIL.to


@pytest.mark.parametrize("subject", ["Grüße", "プルリクエスト 🚀", 'a: b, <c> "d"', "x" * 200, "ü" * 200, "100 % =?"])
def test_a_plain_subject_arrives_as_it_is(subject: str) -> None:
    assert on_the_wire(subject=subject)["Subject"] == subject


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=300))
def test_a_text_arrives_as_it_is(text: str) -> None:
    assert parts(on_the_wire(text=text + "\n"))["text/plain"] == text + "\n"


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ada",
        "ada@",
        "@example.org",
        "ada ada@example.org",
        "ada@eve@example.org",
        "ada@example.org, eve@example.org",
        "ada@example.org;eve@example.org",
        "ada@example.org eve@example.org",
        "<ada@example.org>",
        "Ada <ada@example.org>",
        "(comment)ada@example.org",
        " ada@example.org",
        "ada@example.org\u2028",
        "ada@[127.0.0.1]",
        "ada@-example.org",
        "ada..ada@example.org",
        "àda@example.org",
        ",",
        "\ud800@example.org",
        "x" * 300 + "@example.org",
    ],
    ids=lambda to: repr(to)[:30],
)
def test_what_is_not_one_bare_address_is_refused(to: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        build(replace(EMAIL, to=to), "engine@example.org", "Engine")


@given(st.text(max_size=60))
def test_any_address_is_refused_or_stands_alone(to: str) -> None:
    try:
        message = on_the_wire(to=to)
    except ValueError:
        return
    (address,) = message["To"].addresses
    assert address.addr_spec == ascii_address(to)
    assert address.addr_spec.isascii()


def test_a_domain_in_another_script_travels_in_its_ascii_form() -> None:
    assert on_the_wire(to="ada@bücher.example")["To"] == "ada@xn--bcher-kva.example"
    assert ascii_address("ada@faß.de") == "ada@xn--fa-hia.de"


@pytest.mark.parametrize("name", ["Ünï", 'Eng "x" <eve@example.org>', "a, b", "a@b"])
def test_a_sender_name_cannot_change_the_sender(name: str) -> None:
    parsed = message_from_bytes(build(EMAIL, "engine@example.org", name).as_bytes(), policy=policy.default)
    (address,) = parsed["From"].addresses
    assert (address.display_name, address.addr_spec) == (name, "engine@example.org")


def test_a_long_address_in_a_header_stays_whole_on_one_line() -> None:
    """The standard library would make encoded words of it, which no mail client takes for an address."""
    url = f"https://notify.example.org/{'aB-_9' * 150}"
    assert len(url) < MAX_HEADER_URL
    email = replace(EMAIL, headers=unsubscribe_headers(url))
    raw = build(email, "engine@example.org", "Engine").as_bytes()
    lines = raw.partition(b"\n\n")[0].decode("ascii").split("\n")
    assert f"List-Unsubscribe: <{url}>" in lines
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines


def test_an_address_too_long_for_a_line_makes_no_header() -> None:
    assert unsubscribe_headers("https://notify.example.org/" + "a" * MAX_HEADER_URL) == ()


@pytest.mark.parametrize("end", ["\r\nBcc: eve@example.org", "\n x", "\x00"])
def test_no_header_takes_a_second_line(end: str) -> None:
    email = replace(EMAIL, headers=(("List-Unsubscribe", f"<https://notify.example.org/{end}>"),))
    with pytest.raises(ValueError, match=r"\w"):
        build(email, "engine@example.org", "Engine")
