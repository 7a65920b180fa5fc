"""Routes that answer errors in the form of another product."""

from abc import abstractmethod
from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from models.errors import RequestCancelled, VultusError
from service.api.problems import note_unexpected


class CompatRoute(APIRoute):
    """A route whose handler raises only if no client reads the response."""

    @staticmethod
    @abstractmethod
    def refusal(error: VultusError, state: MutableMapping[str, Any]) -> Response:
        """Return the response for an error."""

    @staticmethod
    @abstractmethod
    def fault(state: MutableMapping[str, Any]) -> Response:
        """Return the response for a fault of the program, whose cause is in the log."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (ClientDisconnect, RequestCancelled):
                raise
            except VultusError as error:
                return self.refusal(error, request.scope["state"])
            except Exception as error:
                note_unexpected(error, request.scope["state"])
                return self.fault(request.scope["state"])

        return answer
