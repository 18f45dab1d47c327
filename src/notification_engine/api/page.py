"""The inbox page of development: one plain file, served with a token for the development user."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from notification_engine.api.dependencies import Services
from notification_engine.api.security_headers import inline_policy, page_headers
from notification_engine.domain.caller import Role

router = APIRouter(include_in_schema=False)
PAGE = Path(__file__).with_name("page.html").read_text()
DEVELOPMENT_USER = "dev"
HEADERS = page_headers(f"{inline_policy(PAGE)}; connect-src 'self' ws: wss:; img-src data:")


@router.get("/")
async def page(given: Services) -> HTMLResponse:
    """Development only: the page could be opened by anyone who reaches the port."""
    roles = [Role.USER, Role.SERVICE, Role.OPERATOR]
    token = given.tokens.issue(DEVELOPMENT_USER, roles, given.config.token_minutes)
    html = PAGE.replace("{{token}}", token).replace("{{user}}", DEVELOPMENT_USER)
    return HTMLResponse(html, headers=HEADERS)
