"""Schemas of the response on what the key of a request may do."""

from typing import Annotated, Self

from pydantic import Field

from service.api.wire.responses import ResponseModel
from service.security.guard import Access
from service.security.scopes import SCOPES, Scope
from service.times import written_time


class OwnKeyOut(ResponseModel):
    """The key of the request, without its secret."""

    id: str
    name: str
    expires: Annotated[str | None, Field(description="When it expires; `null` for never.")]


class LimitsOut(ResponseModel):
    """The limits of the key's requests."""

    rate: Annotated[str | None, Field(description="Maximum rate of its requests, such as `50/s`; `null` for no limit.")]
    concurrency: Annotated[
        int | None, Field(description="Maximum number of its requests at the same time; `null` for no limit.")
    ]


class AccessResponse(ResponseModel):
    """What the request may do."""

    key: Annotated[OwnKeyOut | None, Field(description="`null` if the service is open to the request.")]
    scopes: Annotated[
        list[Scope], Field(description="All scopes of the key, in the documented order; `admin` includes all others.")
    ]
    galleries: Annotated[
        list[str] | None,
        Field(
            description="The galleries that the key reaches, by name, or by the beginning of their names with `*` at "
            "its end; `null` for all galleries."
        ),
    ]
    limits: LimitsOut

    @classmethod
    def of(cls, access: Access) -> Self:
        """Describe what a request was admitted with."""
        key, grant = access.key, access.grant
        described = None
        if key is not None:
            expires = None if key.expires is None else written_time(key.expires)
            described = OwnKeyOut(id=key.id, name=key.name, expires=expires)
        return cls(
            key=described,
            scopes=[scope for scope in SCOPES if grant.allows(scope)],
            galleries=None if grant.galleries is None else list(grant.galleries),
            limits=LimitsOut(rate=key.rate if key else None, concurrency=key.concurrency if key else None),
        )
