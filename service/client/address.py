"""The address of the service and the key, from arguments or the environment."""

import ipaddress
import os
import re
import warnings
from dataclasses import dataclass, field
from urllib.parse import urlsplit

URL_VARIABLE, KEY_VARIABLE = "VULTUS_CLIENT_URL", "VULTUS_CLIENT_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"  # of `vultus serve`

_KEY = re.compile(r"[!-~]+")  # what a header can carry; the message of another error might quote the key


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service is, and the key that it asks for.

    Attributes:
        url: Address without a slash at its end, such as `https://faces.example.org`.
        key: The key, which is in no text about the address.
    """

    url: str
    key: str | None = field(default=None, repr=False)


def find_address(url: str | None = None, key: str | None = None) -> Address:
    """Return the address and key that were given, otherwise those of the environment.

    Args:
        url: Address of the service; without it, `VULTUS_CLIENT_URL`, and without that `DEFAULT_URL`.
        key: Key; without it, `VULTUS_CLIENT_KEY`; without that none, as a service on a loopback address may allow.

    Raises:
        ValueError: The address is not one of HTTP or HTTPS, or has a user, a query or a fragment; or the key has
            characters that no key has.
    """
    url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
    key = (key or os.environ.get(KEY_VARIABLE) or "").strip() or None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address of the service must begin with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("the address of the service must have no user, query or fragment; give the key as a key")
    if key is not None and not _KEY.fullmatch(key):
        raise ValueError("the key has spaces or characters that no key has")
    if key is not None and parts.scheme == "http" and not _is_loopback(parts.hostname):
        # Not refused: inside a cluster, something else may encrypt the connection.
        warnings.warn(f"the key and the photos are sent unencrypted to {parts.hostname}", stacklevel=3)
    return Address(url, key)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
