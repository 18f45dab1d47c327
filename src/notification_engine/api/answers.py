"""How routes answer: JSON, and a list a page at a time, with the way to the next one (RFC 8288)."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Query, Request
from fastapi.responses import Response

from notification_engine.services.ports import Page

Batch = TypeVar("Batch")
PageCursor = Annotated[str | None, Query(max_length=256)]
PageLimit = Annotated[int, Query(ge=1, le=100)]


async def first_of(batches: AsyncIterator[Batch], otherwise: Batch) -> Batch:
    """Asked for before the answer begins: a store that is away is a 503, not a broken file. Not by `anext` with a
    default, which Python 3.11 breaks on where there is none."""
    async for batch in batches:
        return batch
    return otherwise


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    encoded = orjson.dumps(body, option=orjson.OPT_UTC_Z)
    return Response(encoded, status_code=status, media_type="application/json", headers=headers)


def next_link(request: Request, cursor: str | None) -> dict[str, str]:
    return {"Link": f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'} if cursor else {}


def page_answer(
    request: Request,
    name: str,
    page: Page,
    view: Callable[[Any], Any],
    *,
    cursor: Callable[[str], str] = lambda cursor: cursor,
) -> Response:
    """The items under their name. `cursor` makes one of what the page says, where that is not one yet."""
    following = cursor(page.next_cursor) if page.next_cursor else None
    body = {name: [view(item) for item in page.items], "next_cursor": following}
    return answer(body, headers=next_link(request, following))
