"""`GET /console`: the page for people, from files of this package, without any other server."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from service.console.files import PAGE, console_files
from service.errors import RouteUnknown

router = APIRouter(include_in_schema=False)

PATH = "/console"
_NOT_MODIFIED = 304
_HEADERS = {
    # Photos that people choose have addresses of the scheme blob:; nothing else is loaded from anywhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for again, so that the files of one page are of one version
}


@router.get(PATH)
async def page(request: Request) -> Response:
    """Return the page."""
    return _file(PAGE, request)


@router.get(PATH + "/{path:path}")
async def file(path: str, request: Request) -> Response:
    """Return a file of the page; the address with a slash at its end is that of the page.

    Raises:
        RouteUnknown: There is no such file.
    """
    if not path:
        return RedirectResponse("../console", status_code=308)
    return _file(path, request)


def _file(path: str, request: Request) -> Response:
    if path not in console_files():
        raise RouteUnknown("no resource exists at this path")
    file = console_files()[path]
    headers = _HEADERS | {"ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=_NOT_MODIFIED, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
