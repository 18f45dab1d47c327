"""MJML, CSS and HTML with Jinja tags in every place where they may stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.rendering.markup import MarkupError, check_mjml, compiled
from notification_engine.rendering.mask import JINJA, Masked

PAGE = "<mjml><mj-body><mj-section><mj-column>{}</mj-column></mj-section></mj-body></mjml>"


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("<mj-text>Hi {{ name }}</mj-text>", ["Hi {{ name }}"]),
        ('<mj-button href="{{ url }}">{{ label }}</mj-button>', ['href="{{ url }}"', "{{ label }}"]),
        (
            '<mj-image src="{{ a[\'b\'] }}" alt="{{ c }}"/>',
            ["src=\"{{ a['b'] }}\"", 'alt="{{ c }}"'],
        ),
        (
            "<mj-text>{% if a > 1 %}<b>x</b>{% else %}y{% endif %}</mj-text>",
            ["{% if a > 1 %}<b>x</b>{% else %}y{% endif %}"],
        ),
        ('<mj-text>{{ "<i>&amp;" }}</mj-text>', ['{{ "<i>&amp;" }}']),
        ("{% for t in ts %}<mj-text>{{ t }}</mj-text>{% endfor %}", ["{% for t in ts %}", "{{ t }}", "{% endfor %}"]),
        ('<mj-text color="{{ c }}">x</mj-text>', ["color:{{ c }}"]),
        ("<mj-text><!-- {{ a }} --></mj-text>", ["<!-- {{ a }} -->"]),
        (
            '<mj-text><a {% if x %}class="y"{% endif %} href="z">q</a></mj-text>',
            ["{% if x %}", "{% endif %}", 'href="z"'],
        ),
    ],
)
def test_tags_survive_mjml_and_css(source: str, kept: list[str]) -> None:
    html, _ = compiled(PAGE.format(source), is_mjml=True)
    assert [part for part in kept if part not in html] == []
    assert sorted(set(JINJA.findall(html))) == sorted(set(JINJA.findall(source)))


def test_rows_of_a_loop_stay_in_their_table() -> None:
    source = "<mj-table><tbody>{% for t in ts %}<tr><td>{{ t }}</td></tr>{% endfor %}{{ row(1) }}</tbody></mj-table>"
    html, text = compiled(PAGE.format(source), is_mjml=True)
    table = html[html.index("<tbody>{% for") :]
    assert table.index("{% endfor %}") < table.index("{{ row(1) }}") < table.index("</tbody>")
    assert text.count("{% for") == text.count("{% endfor %}") == 1


def test_style_elements_are_inlined_and_media_queries_stay() -> None:
    source = (
        "<html><head><style>.b { color: {{ c }}; } @media (prefers-color-scheme: dark) { .b { color: #fff } }"
        '[data-ogsc] .b { color: #fff }</style></head><body><p class="b">x</p></body></html>'
    )
    html, _ = compiled(source, is_mjml=False)
    assert '<p class="b" style="color: {{ c }}' in html
    assert "@media (prefers-color-scheme: dark)" in html
    assert "[data-ogsc] .b" in html


def test_nothing_remote_is_asked_for() -> None:
    """Sockets are off here: a fetch would raise."""
    source = '<html><head><link rel="stylesheet" href="http://127.0.0.1:1/x.css"></head><body>x</body></html>'
    html, _ = compiled(source, is_mjml=False)
    assert "x" in html
    font = PAGE.format('<mj-text font-family="Roboto">x</mj-text>')
    assert "fonts.googleapis" not in compiled(font, is_mjml=True)[0]


@pytest.mark.parametrize(
    ("source", "at"),
    [
        (PAGE.format("<mj-txt>x</mj-txt>"), "<mj-txt>"),
        (PAGE.format("<mj-text>x"), "</mj-column>"),
        ("<mjml><mj-body>", "<mj-body>"),
        (PAGE.format("<mj-include path='/etc/passwd'/>"), "<mj-include"),
        ("<mjml></mjml>", "<mjml>"),
        ("</mj-text>", "</mj-text>"),
    ],
)
def test_mjml_that_mrml_would_pass_over_is_refused_in_its_place(source: str, at: str) -> None:
    with pytest.raises(MarkupError) as refused:
        check_mjml(source, whole=True)
    assert refused.value.offset == source.index(at)


def test_a_partial_needs_no_frame() -> None:
    check_mjml("<mj-text>x</mj-text>", whole=False)


JINJA_PIECES = ["{{ a }}", "{% if b %}", "{% endif %}", "{# c #}", "{{ '}}' }}"]
MARKUP_PIECES = [
    "<p>",
    "</p>",
    '<a x="',
    "'",
    '"',
    ">",
    "<!--",
    "-->",
    "<style>",
    "</style>",
    "<tr>",
    "zq",
    "ZQ1z",
    "é",
]


def test_an_expression_alone_in_a_comment_stays_in_it() -> None:
    masked = Masked("<p><!--{{ secret }}--></p>")
    assert masked.restore(masked.source) == "<p><!--{{ secret }}--></p>"


pieces = st.lists(st.sampled_from(JINJA_PIECES + MARKUP_PIECES), max_size=20).map("".join)


@given(pieces)
def test_what_is_hidden_comes_back_as_it_was(source: str) -> None:
    """But for Jinja comments, and spaces between attributes."""
    masked = Masked(source)
    wanted = JINJA.sub(lambda tag: "" if tag[0].startswith("{#") else tag[0], source)
    assert "".join(masked.restore(masked.source).split()) == "".join(wanted.split())
    assert not JINJA.search(masked.source)
