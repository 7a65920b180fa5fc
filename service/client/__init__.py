"""The client of the service for Python programs: `Client`, and `AsyncClient` with asyncio.

It imports nothing of the server and no engine.
"""

from service.client.async_client import AsyncClient
from service.client.client import Client
from service.client.contents import Content, Embedding, Photo, Side, Subject
from service.client.errors import ClientError, NoAnswer, NoFace, NotFound, OutOfTime, SeveralFaces, VultusProblem

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Content",
    "Embedding",
    "NoAnswer",
    "NoFace",
    "NotFound",
    "OutOfTime",
    "Photo",
    "SeveralFaces",
    "Side",
    "Subject",
    "VultusProblem",
]
