"""The words at accept: given, or from a template, and how often it is rendered."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from notification_engine.domain.errors import InvalidRequest
from notification_engine.domain.notification_type import NotificationType
from notification_engine.domain.template import Compiled, Draft, Parts, Preview, RenderFailed, TemplateUse, Version
from notification_engine.services.content import Content, Contents
from notification_engine.services.requests import NotificationRequest, RecipientRequest

KIND = NotificationType("shop.order", template="shop.order")


class FakeRenderer:
    """Writes what it was asked for; `failing` locales do not render."""

    def __init__(self, *failing: str) -> None:
        self.calls: list[tuple[str | None, str | None]] = []
        self.failing = failing

    async def render(
        self,
        name: str,
        compiled: Compiled,
        parts: Sequence[str],
        context: Mapping[str, Any],
        locale: str | None,
        time_zone: str | None,
    ) -> dict[str, str] | RenderFailed:
        self.calls.append((locale, time_zone))
        if locale in self.failing:
            return RenderFailed("x")
        return {"title": f"T {locale}", "body": f"B {context['recipient']['user_id']}"}

    async def compile(self, draft: Draft, library: Mapping[str, Draft]) -> Compiled:
        raise NotImplementedError

    async def preview(self, *_: Any) -> Preview:
        raise NotImplementedError


class FakeTemplates:
    def __init__(self, **sources: str) -> None:
        self.keys: list[str] = []
        compiled = Compiled.of("en", {"en": {"title": "t", "body": "b"} | sources})
        self._version = Version("shop.order", 3, Draft({"en": Parts(title="t")}), compiled)

    async def current(self, key: str) -> Version | None:
        self.keys.append(key)
        return self._version if key == "shop.order" else None


def request(*recipients: RecipientRequest, **fields: Any) -> NotificationRequest:
    plain: dict[str, Any] = {"title": None, "body": None, "fingerprint": "f"}
    return NotificationRequest("shop.order", recipients or (RecipientRequest("u1"),), **(plain | fields))


async def contents(
    asked: NotificationRequest,
    *,
    kind: NotificationType = KIND,
    templates: FakeTemplates | None = None,
    renderer: FakeRenderer | None = None,
) -> list[Content]:
    given: Any = templates or FakeTemplates()
    return await Contents(given, renderer or FakeRenderer()).of(asked, kind, lambda index: f"ntfy_{index}")


async def test_given_words_are_taken_and_nothing_is_looked_up() -> None:
    templates, renderer = FakeTemplates(), FakeRenderer()
    found = await contents(request(title="T", body=""), templates=templates, renderer=renderer)
    assert found == [Content("T", "")]
    assert (templates.keys, renderer.calls) == ([], [])


async def test_a_missing_title_or_body_comes_from_the_template() -> None:
    use = TemplateUse("shop.order", 3)
    assert await contents(request()) == [Content("T None", "B u1", use)]
    assert await contents(request(title="Mine")) == [Content("Mine", "B u1", use)]
    assert await contents(request(body="")) == [Content("T None", "", use)]


async def test_a_named_template_wins_over_the_type() -> None:
    templates = FakeTemplates()
    await contents(request(template="shop.order"), kind=NotificationType("a.b", template="a.b"), templates=templates)
    assert templates.keys == ["shop.order"]


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({}, NotificationType("a.b"), "title"),
        ({"title": "T"}, NotificationType("a.b"), "body"),
        ({"body": "B"}, NotificationType("a.b", template="not.published"), "title"),
        ({"title": "T", "body": "B", "template": "not.published"}, KIND, "template"),
    ],
)
async def test_what_nobody_gives_is_refused_by_field(
    fields: dict[str, Any], kind: NotificationType, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await contents(request(**fields), kind=kind)
    assert refused.value.field == field


async def test_recipients_of_one_locale_and_zone_share_one_rendering() -> None:
    renderer = FakeRenderer()
    people = [RecipientRequest(f"u{i}", locale="de" if i % 2 else None, time_zone="Asia/Tokyo") for i in range(100)]
    await contents(request(*people), renderer=renderer)
    assert sorted(renderer.calls, key=str) == [("de", "Asia/Tokyo"), (None, "Asia/Tokyo")]


async def test_texts_that_speak_of_the_recipient_are_rendered_for_each() -> None:
    renderer = FakeRenderer()
    people = [RecipientRequest(f"u{i}") for i in range(5)]
    found = await contents(request(*people), templates=FakeTemplates(body="{{ recipient.user_id }}"), renderer=renderer)
    assert [one.body for one in found] == [f"B u{i}" for i in range(5)]
    assert len(renderer.calls) == 5


async def test_one_that_does_not_render_is_nobody_elses() -> None:
    found = await contents(
        request(RecipientRequest("a", locale="fr"), RecipientRequest("b")), renderer=FakeRenderer("fr")
    )
    assert found[0] == Content("shop.order", "", TemplateUse("shop.order", 3, failed=True))
    assert found[1].template == TemplateUse("shop.order", 3)
