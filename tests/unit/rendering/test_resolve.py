import pytest

from notification_engine.rendering.resolve import MAX_SOURCE_BYTES, Unresolved, resolve

LIBRARY = {
    "frame": "<a>{% block head %}H{% endblock %}|{% block body %}B{% block inner %}I{% endblock %}{% endblock %}</a>",
    "middle": "{% extends 'frame' %}{% block body %}m[{{ super() }}]{% endblock %}",
    "piece": "P{{ x }}",
    "nested": '<{% include "piece" %}>',
    "self": "{% include 'self' %}",
    "ping": "{% extends 'pong' %}",
    "pong": "{% extends 'ping' %}",
    "twice": "{% include 'big' %}{% include 'big' %}",
    "big": "x" * (MAX_SOURCE_BYTES // 2 + 1),
}


@pytest.mark.parametrize(
    ("source", "whole"),
    [
        ("plain {{ x }}", "plain {{ x }}"),
        ("{% include 'nested' %}!", "<P{{ x }}>!"),
        ("{%- include 'piece' -%}", "P{{ x }}"),
        ("{% extends 'frame' %}", "<a>H|BI</a>"),
        ("{% extends 'frame' %}{% block head %}{% include 'piece' %}{% endblock %}", "<a>P{{ x }}|BI</a>"),
        ("{% extends 'frame' %}{% block inner %}i{% endblock inner %}", "<a>H|Bi</a>"),
        ("{% extends 'middle' %}{% block head %}h{% endblock %}", "<a>h|m[BI]</a>"),
        ("{% extends 'middle' %}{% block body %}<{{ super() }}>{% endblock %}", "<a>H|<m[BI]></a>"),
        ("{% extends 'middle' %}{% block inner %}i{% endblock %}", "<a>H|m[Bi]</a>"),
        ('x="{% block c %}red{% endblock %}"', 'x="red"'),
        ("{{ '{% include \"piece\" %}' }}", "{{ 'P{{ x }}' }}"),
    ],
)
def test_references_are_drawn_in(source: str, whole: str) -> None:
    assert resolve(source, LIBRARY.get) == whole


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% include 'self' %}", "circle of templates: self → self"),
        ("{% extends 'ping' %}", "circle of templates: ping → pong → ping"),
        ("{% include 'nowhere' %}", "'nowhere' is not published"),
        ("{% include name %}", "one literal key"),
        ("{% extends 'frame' ~ x %}", "one literal key"),
        ("{% from 'piece' import x %}", "import is not offered"),
        ("{% include 'twice' %}", "larger than"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(source: str, why: str) -> None:
    with pytest.raises(Unresolved, match=why):
        resolve(source, LIBRARY.get)
