import pytest

from notification_engine.domain.template import Compiled, Draft, Parts, chain, formatting_locale, one_line


@pytest.mark.parametrize(
    ("locale", "steps"),
    [("de-CH", ["de-CH", "de"]), ("zh-Hant-HK", ["zh-Hant-HK", "zh-Hant", "zh"]), ("en", ["en"]), ("", []), (None, [])],
)
def test_a_locale_falls_back_step_by_step(locale: str | None, steps: list[str]) -> None:
    assert chain(locale) == steps


@pytest.mark.parametrize(
    ("locale", "picked"),
    [("de-CH", "de"), ("de", "de"), ("fr-CH", "en"), (None, "en"), ("en-GB", "en-GB"), ("en-US", "en")],
)
def test_the_best_locale_of_a_template_is_picked(locale: str | None, picked: str) -> None:
    assert Compiled.of("en", {"en": {}, "de": {}, "en-GB": {}}).pick(locale) == picked


@pytest.mark.parametrize(
    ("recipient", "text", "formats"),
    [("de-CH", "de", "de-CH"), ("en-GB", "en", "en-GB"), ("fr", "en", "en"), (None, "de", "de"), ("de", "de-AT", "de")],
)
def test_formats_follow_the_recipient_within_the_language_of_the_text(
    recipient: str | None, text: str, formats: str
) -> None:
    assert formatting_locale(recipient, text) == formats


def test_a_digest_names_the_content() -> None:
    one, other = Compiled.of("en", {"en": {"title": "a"}}), Compiled.of("en", {"en": {"title": "b"}})
    assert one.digest == Compiled.of("en", {"en": {"title": "a"}}).digest
    assert one.digest != other.digest


def test_references_are_read_from_every_part() -> None:
    parts = Parts(subject="{% include 'a' %}", mjml='{%- extends "b.c" -%}{% include x %}', body="include 'no'")
    assert Draft({"en": parts, "de": Parts(text="{% include 'd' %}")}).references() == {"a", "b.c", "d"}


def test_a_draft_survives_its_stored_form() -> None:
    draft = Draft({"de": Parts(title="t", html="h")}, "de", description="d", sample_data={"a": [1]})
    assert Draft.of(draft.as_dict()) == draft


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\r\nBcc: x@y.example", "a Bcc: x@y.example"),
        ("  a \t b\x00\x7f c\u2028d  ", "a b c d"),
        ("x" * 300, "x" * 199 + "…"),
        ("ä ö 漢字 🎉", "ä ö 漢字 🎉"),
    ],
)
def test_a_title_is_one_line(text: str, line: str) -> None:
    assert one_line(text) == line
