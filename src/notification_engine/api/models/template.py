"""Templates and types over HTTP: what goes in, what comes out, and the examples of the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from notification_engine.api.models.send import (
    Channels,
    Flag,
    LocaleName,
    Strict,
    TemplateKey,
    Text,
    TimeZone,
    storable,
)
from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import OnUnknown, Priority
from notification_engine.domain.template import MAX_LOCALES, MAX_PART_BYTES, Draft, Parts, TemplateKind

_MJML = """<mjml>
  <mj-body>
    <mj-section><mj-column>
      <mj-text>Hello {{ name }}, {{ count | plural(one="# test has", other="# tests have") }} failed.</mj-text>
      {% if url %}<mj-button href="{{ url }}">Open</mj-button>{% endif %}
    </mj-column></mj-section>
  </mj-body>
</mjml>"""
DRAFT_EXAMPLE: dict[str, Any] = {
    "description": "Tells who owns a suite that it fails.",
    "default_locale": "en",
    "locales": {
        "en": {
            "subject": '{{ count | plural(one="# test", other="# tests") }} failed',
            "mjml": _MJML,
            "title": '{{ count | plural(one="# test", other="# tests") }} failed',
            "body": "Hello {{ name }}, have a look.",
        },
        "de": {"subject": '{{ count | plural(one="# Test", other="# Tests") }} fehlgeschlagen'},
    },
    "sample_data": {"name": "Ada", "count": 3, "url": "https://app.example.org/runs/7"},
}
PREVIEW_EXAMPLE: dict[str, Any] = {"data": {"name": "Ada", "count": 1}, "locale": "de-CH", "time_zone": "Europe/Zurich"}
TYPE_EXAMPLE: dict[str, Any] = {
    "description": "An order has left the house.",
    "channels": ["in_app", "email"],
    "priority": "medium",
    "on_unknown": "hold",
    "transactional": False,
    "template": "shop.order_sent",
    "retention_days": 90,
    "sensitive": False,
}

Source = Annotated[Text, Field(max_length=MAX_PART_BYTES, pattern=r"^[^\x00]*$")]


RetentionDays = Annotated[int, Field(ge=0, le=36_500)]


class PartsIn(Strict):
    """One locale. `mjml` or `html`, not both; `text` is made from it when absent."""

    subject: Annotated[Text, Field(max_length=2000)] | None = None
    text: Source | None = None
    mjml: Source | None = None
    html: Source | None = None
    title: Annotated[Text, Field(max_length=2000)] | None = None
    body: Source | None = None

    @model_validator(mode="after")
    def _one_markup(self) -> "PartsIn":
        if self.mjml is not None and self.html is not None:
            raise ValueError("either mjml or html, not both")
        return self


class DraftIn(Strict):
    """`kind: partial` is a layout or a piece that others draw in with `{% extends %}` or `{% include %}`."""

    kind: TemplateKind = TemplateKind.MESSAGE
    description: Annotated[Text, Field(max_length=500)] = ""
    default_locale: LocaleName = "en"
    locales: Annotated[dict[LocaleName, PartsIn], Field(min_length=1, max_length=MAX_LOCALES)]
    sample_data: Annotated[dict[str, Any], AfterValidator(storable)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_default(self) -> "DraftIn":
        if self.default_locale not in self.locales:
            raise ValueError("default_locale: must be one of locales")
        return self

    def to_draft(self) -> Draft:
        locales = {name: Parts(**parts.model_dump()) for name, parts in self.locales.items()}
        return Draft(locales, self.default_locale, self.kind, self.description, self.sample_data)


class PreviewIn(Strict):
    """`draft` shows what is not saved yet; without it the saved draft is shown. `data` None: its sample data."""

    data: Annotated[dict[str, Any], AfterValidator(storable)] | None = None
    locale: LocaleName | None = None
    time_zone: TimeZone | None = None
    draft: DraftIn | None = None


class PublishIn(Strict):
    """`version`: makes an earlier version current again, in place of publishing the draft."""

    version: Annotated[int, Field(ge=1, strict=True)] | None = None


class PartsOut(Strict):
    subject: str | None = None
    text: str | None = None
    mjml: str | None = None
    html: str | None = None
    title: str | None = None
    body: str | None = None


class DraftOut(Strict):
    kind: TemplateKind
    description: str
    default_locale: str
    locales: dict[str, PartsOut]
    sample_data: dict[str, Any]


class TemplateSummaryOut(Strict):
    key: str
    kind: TemplateKind
    description: str
    locales: list[str]
    published_version: int | None
    builtin: bool
    updated_at: datetime | None


class TemplateOut(TemplateSummaryOut):
    """`published_version` 0 is the template that comes with the engine."""

    draft: DraftOut
    created_at: datetime | None
    updated_by: str | None


class TemplatesOut(Strict):
    templates: list[TemplateSummaryOut]
    next_cursor: str | None


class VersionOut(Strict):
    key: str
    version: int
    published_at: datetime | None
    published_by: str | None
    uses: dict[str, int]
    draft: DraftOut


class VersionsOut(Strict):
    versions: list[VersionOut]


class PreviewOut(Strict):
    """`missing`: variables that were asked for and not found; what is only tested or has a default is not."""

    locale: str
    subject: str | None
    title: str | None
    body: str | None
    text: str | None
    html: str | None
    missing: list[str]


class TypeIn(Strict):
    """`on_unknown` null: by the priority. `transactional`: what the recipient asked for, never to be unsubscribed.
    `retention_days` null: NOTIFICATION_RETENTION_DAYS; 0: without end. `sensitive`: title, body, data and actions are
    stored encrypted, and shown to nobody but the recipient."""

    description: Annotated[Text, Field(max_length=500)] = ""
    channels: Channels = (Channel.IN_APP,)
    priority: Priority = Priority.MEDIUM
    on_unknown: OnUnknown | None = None
    transactional: Flag = False
    template: TemplateKey | None = None
    retention_days: RetentionDays | None = None
    sensitive: Flag = False


class TypeChangeIn(Strict):
    """At least one; null is for `on_unknown`, `template` and `retention_days` alone."""

    description: Annotated[Text, Field(max_length=500)] | None = None
    channels: Channels | None = None
    priority: Priority | None = None
    on_unknown: OnUnknown | None = None
    transactional: Flag | None = None
    template: TemplateKey | None = None
    retention_days: RetentionDays | None = None
    sensitive: Flag | None = None

    @model_validator(mode="after")
    def _something(self) -> "TypeChangeIn":
        if not self.model_fields_set:
            raise ValueError("name at least one field")
        for name in self.model_fields_set - {"on_unknown", "template", "retention_days"}:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: must not be null")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set}


class TypeOut(Strict):
    """`builtin`: the code knows it; `overridden`: operators changed or made it."""

    name: str
    description: str
    channels: list[Channel]
    priority: Priority
    on_unknown: OnUnknown | None
    transactional: bool
    template: str | None
    retention_days: int | None
    sensitive: bool
    builtin: bool
    overridden: bool
    updated_at: datetime | None


class TypesOut(Strict):
    types: list[TypeOut]
    next_cursor: str | None
