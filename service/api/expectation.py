"""`Expect: 100-continue` (RFC 9110, section 10.1.1): a client that waits for leave to send its body.

The server sends `100 Continue` when the application begins to read the body. If the application answers without reading
it, the client may omit the body or send it, so the connection cannot be used for another request.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ExpectationMiddleware:
    """ASGI middleware that ends a connection whose body was announced and not asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or not expects_continue(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        asked = False

        async def ask() -> Message:
            nonlocal asked
            asked = True
            return await receive()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and not asked:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, ask, answer)


def expects_continue(headers: Headers) -> bool:
    """Return whether the client waits for `100 Continue` before it sends the body."""
    return headers.get("expect", "").lower() == "100-continue"
