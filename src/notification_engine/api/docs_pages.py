"""`/docs` and `/redoc` without the internet: the static files of fastapi-offline, pages and a policy of our own."""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse
from starlette.exceptions import HTTPException

from notification_engine.api.security_headers import page_headers

router = APIRouter(include_in_schema=False)
_OURS = Path(__file__).with_name("documentation")
_SWAGGER, _REDOC = ((_OURS / name).read_text() for name in ("swagger.html", "redoc.html"))
_POLICY = (
    "script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:"
)
_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}
_OUR_FILES = {"swagger.js": "text/javascript", "redoc.css": "text/css"}


def _packaged() -> Path:
    """Where the package's files are; its code is not run."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("fastapi-offline is not installed")
    return Path(spec.origin).with_name("static")


@router.get("/docs")
async def swagger() -> HTMLResponse:
    return HTMLResponse(_SWAGGER, headers=page_headers(_POLICY))


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    return HTMLResponse(_REDOC, headers=page_headers(_POLICY))


@router.get("/docs/static/{name}")
async def file(name: str) -> FileResponse:
    """Only these, whatever else lies beside them."""
    if name in _FILES:
        path, kind = _packaged() / name, _FILES[name]
    elif name in _OUR_FILES:
        path, kind = _OURS / name, _OUR_FILES[name]
    else:
        raise HTTPException(404)
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "public, max-age=3600"})
