"""Explain in one sentence why the Hub did not give a file.

Messages of the library are not repeated: they name addresses, which may hold signatures.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from models.errors import HubAccessDenied, HubNotFound, SourceUnavailable, StorageFailed, VultusError
from models.hub.library import import_library

_DENIED = (401, 403)
_TOO_MANY = 429
_AGAIN = "run the command again"


@contextmanager
def explained(repository: str, what: str, revision: str | None, endpoint: str) -> Iterator[None]:
    """Raise what the library raises as an error with its own sentence.

    Args:
        repository: Owner and name of the repository.
        what: What is asked for, a file or `the list of files`.
        revision: Branch, tag or commit; None for the default branch.
        endpoint: Address of the Hub.

    Raises:
        HubNotFound: There is no such repository, revision or file.
        HubAccessDenied: The repository is gated or private.
        SourceUnavailable: The Hub cannot be reached, or its answer is not complete.
        StorageFailed: The file system refused to write to the library's cache.
    """
    try:
        yield
    except VultusError:
        raise
    except Exception as error:  # the library, its HTTP client and its Xet client have no common base
        raise _explain(error, repository, what, revision, endpoint) from error


def _explain(error: Exception, repository: str, what: str, revision: str | None, endpoint: str) -> VultusError:
    errors = import_library().errors
    where = f"the Hub at {endpoint}"
    match error:
        case errors.OfflineModeIsEnabled():
            return SourceUnavailable(f"{what} of {repository} cannot be fetched, because HF_HUB_OFFLINE is set")
        case errors.GatedRepoError():
            return HubAccessDenied(
                f"{repository} is gated: accept its terms at {endpoint}/{repository}, and set HF_TOKEN to a token of "
                "that account"
            )
        case errors.RevisionNotFoundError():
            return HubNotFound(f"{repository} has no revision {revision or 'main'}")
        case errors.RepositoryNotFoundError():
            return HubNotFound(
                f"{where} has no repository {repository}, or it is private and HF_TOKEN does not open it"
            )
        case errors.RemoteEntryNotFoundError():
            return HubNotFound(f"{repository} has no file {what}")
        case errors.HfHubHTTPError():
            return _of_status(error.response.status_code, repository, what, where)
        case errors.LocalEntryNotFoundError():  # the library looked in its cache after it could not ask the Hub
            cause = error.__cause__
            if isinstance(cause, Exception) and not isinstance(cause, errors.LocalEntryNotFoundError):
                return _explain(cause, repository, what, revision, endpoint)
            return SourceUnavailable(f"{where} cannot be reached, and {what} of {repository} is not in the cache")
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError() | httpx2.UnsupportedProtocol():
            return SourceUnavailable(f"{where} cannot be reached: {error or type(error).__name__}")
        case httpx2.TimeoutException():
            return SourceUnavailable(f"{where} did not answer in time for {what} of {repository}; {_AGAIN}")
        case httpx2.HTTPError():
            return SourceUnavailable(f"the download of {what} of {repository} was cut; {_AGAIN}")
        case OSError() if error.errno is not None:
            return StorageFailed(f"{what} cannot be written to the cache of huggingface_hub: {error.strerror}")
        case OSError():  # the library's check of the size
            return SourceUnavailable(f"the download of {what} of {repository} is not complete; {_AGAIN}")
    return SourceUnavailable(
        f"{where} did not answer as a Hub does when asked for {what} of {repository} ({type(error).__name__})"
    )


def _of_status(status: int, repository: str, what: str, where: str) -> VultusError:
    if status in _DENIED:
        return HubAccessDenied(f"{where} refuses access to {repository} (status {status}); check HF_TOKEN")
    if status == _TOO_MANY:
        return SourceUnavailable(f"{where} has answered too many requests; {_AGAIN} later")
    return SourceUnavailable(f"{where} answered with status {status} for {what} of {repository}; {_AGAIN} later")
