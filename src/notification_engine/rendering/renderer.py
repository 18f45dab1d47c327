"""Compiles and renders through the pool of child processes. The parent's half: jobs out, texts or refusals in."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from notification_engine.domain.errors import InvalidRequest
from notification_engine.domain.template import (
    INBOX_PARTS,
    STAND_INS,
    Compiled,
    Draft,
    Preview,
    RenderFailed,
    formatting_locale,
    one_line,
)
from notification_engine.rendering.pool import Job, Pool
from notification_engine.rendering.worker import Frame

COMPILE_PATIENCE = 10.0  # MJML and CSS in fifty locales take longer than a page with its data
_ORDER = ("subject", "title", "body", "html", "text")


class PoolRenderer:
    """Implements `services.ports.Renderer`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def compile(self, draft: Draft, library: Mapping[str, Draft]) -> Compiled:
        drafts = {key: other.as_dict() for key, other in library.items()}
        frame = {"draft": draft.as_dict(), "library": drafts}
        job = Job(f"compile:{digest_of(frame)}", frame, patience=COMPILE_PATIENCE)
        answer = await self._pool.run(job, aside=True)
        return Compiled.of(draft.default_locale, _ok(answer, "locales"))

    async def render(
        self,
        name: str,
        compiled: Compiled,
        parts: Sequence[str],
        context: Mapping[str, Any],
        locale: str | None,
        time_zone: str | None,
    ) -> dict[str, str] | RenderFailed:
        written = _written(parts, compiled.locales[compiled.pick(locale)])
        answer = await self._pool.run(_job(name, compiled, written.values(), context, locale, time_zone))
        if "error" in answer:
            return RenderFailed(f"{name}: {answer.get('safe', 'it does not render')}")
        return _cleaned({part: answer["ok"][source] for part, source in written.items()})

    async def preview(
        self, name: str, compiled: Compiled, context: Mapping[str, Any], locale: str | None, time_zone: str | None
    ) -> Preview:
        picked = compiled.pick(locale)
        name = f"{name}:{compiled.digest}"  # a mended draft does not pay for the one before
        context = await self._with_inbox_words(name, compiled, context, locale, time_zone)
        written = _written(_ORDER, compiled.locales[picked])
        job = _job(name, compiled, written.values(), context, locale, time_zone, missing=True)
        ok = _ok(await self._pool.run(job, aside=True), f"locales.{picked}")
        shown = {part: ok["parts"][source] for part, source in written.items()}
        return Preview(picked, _cleaned(shown), ok["missing"])

    async def _with_inbox_words(
        self, name: str, compiled: Compiled, context: Mapping[str, Any], locale: str | None, time_zone: str | None
    ) -> Mapping[str, Any]:
        """An e-mail may speak of `notification.title` and `.body`, which a send knows from the accept."""
        written = _written(INBOX_PARTS, compiled.locales[compiled.pick(locale)])
        job = _job(name, compiled, written.values(), context, locale, time_zone)
        words = (await self._pool.run(job, aside=True)).get("ok", {})  # a fault is told with the other parts
        told = {part: words.get(source, "") for part, source in written.items()}
        return {**context, "notification": {**told, **context.get("notification", {})}}


def digest_of(frame: Frame) -> str:
    """Names a draft for the pool's memory of what passed its limits."""
    return hashlib.sha256(orjson.dumps(frame)).hexdigest()[:32]


def _written(parts: Sequence[str], sources: Mapping[str, str]) -> dict[str, str]:
    """Each part and the one that it is rendered from: itself, or its stand-in; left out where there is neither."""
    wanted = {part: part if part in sources else STAND_INS.get(part, "") for part in parts}
    return {part: source for part, source in wanted.items() if source in sources}


def _job(
    name: str,
    compiled: Compiled,
    parts: Iterable[str],
    context: Mapping[str, Any],
    locale: str | None,
    time_zone: str | None,
    *,
    missing: bool = False,
) -> Job:
    picked = compiled.pick(locale)
    sources = dict(compiled.locales[picked])
    frame: Frame = {
        "parts": list(dict.fromkeys(parts)),
        "context": context,
        "locale": formatting_locale(locale, picked),
        "time_zone": time_zone,
    }
    if missing:
        frame["missing"] = True
    return Job(name, frame, f"{compiled.digest}:{picked}", sources)


def _ok(answer: Frame, part_of: str) -> Any:
    if "error" not in answer:
        return answer["ok"]
    field = str(answer.get("field") or part_of)
    if not field.startswith("locales"):
        field = f"{part_of}.{field}"
    raise InvalidRequest(str(answer["error"]), field=field, line=answer.get("line"), column=answer.get("column"))


def _cleaned(parts: dict[str, str]) -> dict[str, str]:
    """Titles and subjects are lines: data cannot put a header or a second line into them."""
    return {name: one_line(text) if name in {"subject", "title"} else text for name, text in parts.items()}
