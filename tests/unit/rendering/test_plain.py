from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import a_message

from notification_engine.domain.notification import Action
from notification_engine.rendering.plain import render_email

TAGS = {"html", "head", "meta", "title", "body", "main", "h1", "p", "br", "div", "a"}
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title><script>",
    "&lt;b&gt;",
    "' onclick='x",
    "]]>",
]
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>&\"'/=\n"), max_size=80)


class Page(HTMLParser):
    """What a mail client would see."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.tags[-1], []).append(data)

    @property
    def links(self) -> list[str]:
        return [value for name, value in self.attributes if name == "href"]


def page(**fields: object) -> Page:
    return Page(render_email(a_message(**fields)).html)


@pytest.mark.parametrize("evil", EVIL)
def test_no_text_of_a_caller_becomes_markup(evil: str) -> None:
    shown = page(title=evil, body=evil, actions=(Action(evil, f"https://x.example/{evil}"),))
    assert set(shown.tags) <= TAGS
    assert {name for name, _ in shown.attributes} <= {"charset", "name", "content", "style", "href"}
    assert (shown.texts["title"], shown.texts["h1"], shown.texts["a"]) == ([evil], [evil], [evil])
    assert shown.links == [f"https://x.example/{evil}"]


@given(texts, texts, texts, texts)
def test_any_text_is_shown_as_it_is_written(title: str, body: str, label: str, path: str) -> None:
    shown = page(title=title, body=body, actions=(Action(label, path),))
    assert set(shown.tags) <= TAGS
    assert shown.tags.count("a") == shown.tags.count("h1") == 1
    assert shown.links == [path]


def test_a_blank_line_makes_a_paragraph_and_a_line_break_a_break() -> None:
    shown = page(body="one\ntwo\n\nthree\n\n \n\nfour")
    assert shown.tags.count("p") == 3
    assert shown.tags.count("br") == 1
    assert "".join(shown.texts["p"] + shown.texts["br"]) == "onethreefourtwo"


def test_the_text_part_is_the_body_and_its_links_unescaped() -> None:
    email = render_email(a_message(body="a < b & c", actions=(Action("Open", "https://x.example/?a=b&c"),)))
    assert email.text == "a < b & c\n\nOpen: https://x.example/?a=b&c\n"


def test_an_e_mail_is_for_one_delivery_and_its_address() -> None:
    email = render_email(a_message(title="Run <7>"))
    assert (email.to, email.subject) == ("ada@example.org", "Run <7>")
    assert email.delivery_id == a_message().delivery_id
    assert render_email(a_message(endpoint=None)).to == ""


def test_without_a_body_or_actions_the_title_stands_alone() -> None:
    shown = page(body="", actions=())
    assert (shown.tags.count("p"), shown.tags.count("a")) == (0, 0)
    assert shown.texts["h1"] == ["Run 7 has ended"]
