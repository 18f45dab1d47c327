from typing import Any

import pytest

from notification_engine.rendering.compile import CompileError, compile_draft


def draft(kind: str = "message", **locales: dict[str, str]) -> dict[str, Any]:
    return {"kind": kind, "default_locale": "en", "locales": {k.replace("_", "-"): v for k, v in locales.items()}}


def test_a_locale_falls_back_part_by_part() -> None:
    made = compile_draft(
        draft(
            en={"subject": "S", "title": "T", "body": "B", "html": "<p>en</p>"},
            de={"subject": "S-de", "html": "<p>de</p>"},
            de_CH={"title": "T-ch"},
        ),
        {},
    )
    assert made["de-CH"] | {"html": ""} == {"subject": "S-de", "title": "T-ch", "body": "B", "html": "", "text": "de\n"}
    assert "de" in made["de-CH"]["html"]


def test_a_text_belongs_to_the_markup_of_its_own_locale() -> None:
    made = compile_draft(draft(en={"title": "T", "html": "<p>en</p>", "text": "own"}, de={"html": "<p>de</p>"}), {})
    assert (made["en"]["text"], made["de"]["text"]) == ("own", "de\n")


def test_a_partial_is_checked_and_gives_nothing_to_send() -> None:
    assert compile_draft(draft("partial", en={"mjml": "<mj-text>x</mj-text>"}), {}) == {}
    with pytest.raises(CompileError):
        compile_draft(draft("partial", en={"mjml": "<mj-text>{% if %}</mj-text>"}), {})


def test_a_layout_gives_the_same_part_in_the_same_locale() -> None:
    layout = draft(
        "partial", en={"html": "<i>{% block c %}{% endblock %}</i>", "text": "= {% block c %}{% endblock %} ="}
    )
    layout["locales"]["de"] = {"html": "<b>{% block c %}{% endblock %}</b>"}
    source = "{% extends 'frame' %}{% block c %}x{% endblock %}"
    both = draft(en={"title": "T", "html": source, "text": source}, de={"html": source})
    made = compile_draft(both, {"frame": layout})
    assert ("<i>x</i>" in made["en"]["html"], made["en"]["text"]) == (True, "= x =")
    assert ("<b>x</b>" in made["de"]["html"], made["de"]["text"]) == (True, "x\n")


@pytest.mark.parametrize(
    ("parts", "field", "why"),
    [
        ({"text": "x"}, "locales.en", "subject or a title"),
        ({"title": "{% include 'nowhere' %}"}, "locales.en.title", "not published"),
        ({"title": "t", "html": "<p {% if a %}>{% endif %}</p>{{"}, "locales.en.html", "unexpected end"),
        ({"title": "t", "mjml": "{% extends 'nowhere' %}"}, "locales.en.mjml", "not published"),
    ],
)
def test_what_an_author_did_wrong_is_told_by_field(parts: dict[str, str], field: str, why: str) -> None:
    with pytest.raises(CompileError, match=why) as refused:
        compile_draft(draft(en=parts), {})
    assert refused.value.field == field


def test_statements_that_a_table_moves_are_refused() -> None:
    """`{% endif %}` in an attribute of a cell that the parser drops."""
    with pytest.raises(CompileError, match="cross each other"):
        compile_draft(draft(en={"title": "t", "html": "<table>{% if a %}<tr></tr></table><p x='{% endif %}'</p>"}), {})
