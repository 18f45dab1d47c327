"""What a template may do and what not, in this process; limits of memory and time need a child."""

from typing import Any

import pytest

from notification_engine.rendering.sandbox import Record, Refused, Sandbox, Values, plain


def rendered(source: str, part: str = "text", **data: Any) -> str:
    sandbox = Sandbox()
    sandbox.put("d", {part: source})
    return sandbox.render("d", [part], data, "en", None)[part].removesuffix("\n")


def missing(source: str, **data: Any) -> list[str]:
    sandbox = Sandbox()
    sandbox.put("d", {"text": source})
    return sandbox.missing("d", ["text"], data, "en", None)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ a.b }}|{{ a['b'] }}|{{ c[0] }}|{{ c | length }}", "1|1|2|2"),
        ("{% for k, v in a | items %}{{ k }}={{ v }}{% endfor %}", "b=1"),
        ("{{ a | tojson }} {{ c | join('-') }} {{ 2 in c }} {{ 'b' in a }}", '{"b": 1} 2-3 True True'),
        ("{{ count.items }}", "7"),
        ("{{ nothing }}{{ nothing.at.all }}{{ nothing | datetime }}", ""),
        ("{% if a is mapping and c is sequence %}yes{% endif %}", "yes"),
        ("{{ c | map('string') | list | length }}{{ rows | map(attribute='n') | join }}", "212"),
    ],
)
def test_plain_data_is_read(source: str, text: str) -> None:
    assert rendered(source, a={"b": 1}, c=[2, 3], count={"items": 7}, rows=[{"n": 1}, {"n": 2}]) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ a.__class__ }}",
        "{{ a['__class__'] }}",
        "{{ a.items.__self__ }}",
        "{{ a._x }}",
        "{{ a | attr('x') }}",
        "{{ debug() }}",
    ],
)
def test_private_names_and_ways_round_them_are_refused(source: str) -> None:
    with pytest.raises(Refused):
        rendered(source, a={"x": 1})


@pytest.mark.parametrize("name", sorted(n for n in dir(dict) if not n.startswith("_") and n != "items"))
def test_methods_of_records_cannot_be_reached(name: str) -> None:
    assert rendered(f"{{{{ a.{name} }}}}{{{{ a['{name}'] }}}}", a={"x": 1}) == ""
    with pytest.raises(Refused):
        rendered(f"{{{{ a.{name}() }}}}", a={"x": 1})


@pytest.mark.parametrize("name", sorted(n for n in dir(list) if not n.startswith("_")))
def test_methods_of_lists_cannot_be_reached(name: str) -> None:
    assert rendered(f"{{{{ a.{name} }}}}", a=[1]) == ""


def test_only_json_values_come_in() -> None:
    held = plain({"a": [1, {"b": None}], "c": True})
    assert (type(held), type(held["a"])) == (Record, Values)
    with pytest.raises(TypeError):
        plain({"a": object()})


def test_html_is_escaped_and_text_is_not() -> None:
    assert rendered("{{ a }}", "html", a="<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert rendered("{{ a }}", a="<b>") == "<b>"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}", "OutOfFuel"),
        ("{% for i in range(40) %}{{ a }}{% endfor %}", "OutputTooLarge"),
        ("{{ 1 | nothing }}", "UnknownFilter"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "InvalidOperation"),
        ("{{ 'soon' | date }}", "ValueError"),
    ],
)
def test_what_cannot_be_rendered_says_why_without_data(source: str, kind: str) -> None:
    with pytest.raises(Refused) as refused:
        rendered(source, a="secret " * 5000)
    assert refused.value.kind == kind
    assert kind in refused.value.safe
    assert "secret" not in refused.value.safe
    assert refused.value.limit is (kind in {"OutOfFuel", "OutputTooLarge"})


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [("{{ x", 1, 4), ("a\n b {{ é foo }}", 2, 9), ("{% if x %}\n\n{{ x._y }}{% endif %}", 3, 5)],
)
def test_a_fault_has_a_place(source: str, line: int, column: int) -> None:
    with pytest.raises(Refused) as refused:
        rendered(source)
    assert (refused.value.line, refused.value.column) == (line, column)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{{ a }} {{ b.c }} {{ d | upper }} {{ e | datetime }}", ["a", "b", "b.c", "d", "e"]),
        ("{{ known.x }} {{ known.y }}", ["known.y"]),
        ("{% if a %}{{ a }}{% endif %}{{ b | default('x') }}{% if c is defined %}{{ c }}{% endif %}", []),
        ("{% for t in ts %}{{ t.x }}{% endfor %}", ["ts"]),
        ("{% set q = 1 %}{{ q }}{% macro m(z) %}{{ z }}{% endmacro %}{{ m(1) }}", []),
        ("{{ n | plural(one='# x', other='# y') }}", ["n"]),
    ],
)
def test_missing_variables_are_named(source: str, names: list[str]) -> None:
    assert missing(source, known={"x": 1}) == names


def test_the_oldest_template_is_forgotten() -> None:
    sandbox = Sandbox(keep=2)
    for digest in "abc":
        sandbox.put(digest, {"text": digest})
    assert sandbox.render("c", ["text"], {}, "en", None) == {"text": "c\n"}
    with pytest.raises(KeyError):
        sandbox.render("a", ["text"], {}, "en", None)
