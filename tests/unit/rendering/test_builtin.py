"""Every built-in type in every locale: complete, without a tag or a hole, and true to its sample data."""

import re

import pytest

from notification_engine.domain.template import Draft, TemplateKind, one_line
from notification_engine.rendering.builtin import builtin_templates
from notification_engine.rendering.compile import compile_draft
from notification_engine.rendering.sandbox import Sandbox
from notification_engine.services.builtin_types import BUILTIN_TYPES
from notification_engine.services.templates import context

TEMPLATES = builtin_templates()
LIBRARY = {key: draft.as_dict() for key, draft in TEMPLATES.items() if draft.kind is TemplateKind.PARTIAL}
LOCALES = ("en", "de")
CASES = [(key, locale) for key in sorted(BUILTIN_TYPES) for locale in LOCALES]
PARTS = ["title", "body", "subject", "text", "html"]


def rendered(draft: Draft, locale: str, **data: object) -> tuple[dict[str, str], list[str]]:
    sandbox = Sandbox()
    sandbox.put("d", compile_draft(draft.as_dict(), LIBRARY)[locale])
    told = {"id": "ntfy_01kb0c5s2m8v7k3r9x4w6y1z0a", "title": "Inbox title", "body": "Inbox body"}
    given = context({**draft.sample_data, **data}, notification=told, recipient={"user_id": "u1"})
    arguments = ("d", PARTS, given, locale, "Europe/Berlin")
    return sandbox.render(*arguments), sandbox.missing(*arguments)


def test_every_built_in_type_has_a_template_and_no_template_lacks_its_type() -> None:
    messages = {key for key, draft in TEMPLATES.items() if draft.kind is TemplateKind.MESSAGE}
    assert messages == set(BUILTIN_TYPES)
    assert {kind.template for kind in BUILTIN_TYPES.values()} == messages


@pytest.mark.parametrize(("key", "locale"), CASES)
def test_a_built_in_template_is_complete(key: str, locale: str) -> None:
    parts, missing = rendered(TEMPLATES[key], locale)
    assert missing == []
    assert [name for name in PARTS if not parts[name].strip()] == []
    assert [name for name in PARTS if re.search(r"\{[{%#]|[#%}]\}|None|zq\d|built-in", parts[name])] == []
    assert one_line(parts["subject"]) == parts["subject"].replace("\xa0", " ")
    assert "mj-" not in re.sub(r"mj-(column|outlook)[\w-]*", "", parts["html"])
    assert f'lang="{locale}"' in parts["html"]


@pytest.mark.parametrize(("key", "locale"), CASES)
def test_its_e_mail_shows_the_sample_data_and_a_link(key: str, locale: str) -> None:
    parts, _ = rendered(TEMPLATES[key], locale)
    url = str(TEMPLATES[key].sample_data["url"])
    assert f": {url}" in parts["text"]
    assert url.replace("/", "&#x2f;") in parts["html"]
    assert parts["text"].count("\n\n\n") == 0


@pytest.mark.parametrize(("key", "locale"), CASES)
def test_a_message_without_a_link_has_no_button(key: str, locale: str) -> None:
    parts, _ = rendered(TEMPLATES[key], locale, url=None)
    assert "href" not in parts["html"]


@pytest.mark.parametrize("locale", LOCALES)
def test_the_frame_is_safe_for_dark_mode_and_phones(locale: str) -> None:
    html = rendered(TEMPLATES["system.outage"], locale)[0]["html"]
    assert '<meta name="color-scheme" content="light dark">' in html
    assert "@media (prefers-color-scheme: dark)" in html
    assert "[data-ogsc]" in html
    assert "max-width: 480px" in html or "max-width:480px" in html
    assert "http://" not in re.sub(r'xmlns(:\w)?="[^"]*"', "", html)  # nothing is loaded from anywhere
    assert "<img" not in html


def test_data_cannot_break_out_of_the_page() -> None:
    parts, _ = rendered(TEMPLATES["test_execution.failed"], "en", error="<script>alert(1)</script>")
    assert "<script" not in parts["html"]
    assert "<script>alert(1)</script>" in parts["text"]


def test_the_footer_offers_to_unsubscribe_only_where_there_is_a_way() -> None:
    draft = TEMPLATES["quality.report_ready"]
    assert "Unsubscribe" not in rendered(draft, "en")[0]["html"]
