"""`GET /docs`: the description of the API as pages (Swagger UI), from files of a package, without any other server."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from service.errors import RouteUnknown

router = APIRouter(include_in_schema=False)

PATH = "/docs"
_PACKAGE = "fastapi_offline"  # https://github.com/turettn/fastapi-offline, MIT; Swagger UI is Apache-2.0
_TYPES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Vultus API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="pages"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#pages",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
_HEADERS = {
    # Swagger UI sets styles of its elements by script, which the policy permits, and has its icons as data.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@router.get(PATH, response_class=HTMLResponse)
async def pages() -> HTMLResponse:
    """Return the page, on which requests can be tried with a key."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get(PATH + "/start.js")
async def start() -> Response:
    """Return the script that starts Swagger UI; the policy permits no script in the page itself."""
    return Response(_START, media_type="text/javascript", headers=_HEADERS)


@router.get(PATH + "/{name}")
async def asset(name: str) -> Response:
    """Return a file of Swagger UI.

    Raises:
        RouteUnknown: There is no such file.
    """
    if name not in _TYPES:
        raise RouteUnknown("no resource exists at this path")
    return Response(_content(name), media_type=_TYPES[name], headers=_HEADERS | {"Cache-Control": "max-age=86400"})


@cache
def _content(name: str) -> bytes:
    return files(_PACKAGE).joinpath("static", name).read_bytes()
