"""Secrets that are not a key of their own: in addresses, and in what operators write freely."""

import re
from typing import Final

from dockyard.config.problems import MASK


_CREDENTIALS: Final = re.compile(r"(?<=://)[^/?#\s]*@")
"""User and password in an address. Source: RFC 3986, section 3.2.1."""
_SECRET_NAME: Final = re.compile(
    r"password|passwd|secret|token|credential|privatekey|apikey|authorization|cookie",
    re.IGNORECASE,
)


def conceal(text: str) -> str:
    """Return `text` with the user and password of an address in it masked."""
    return _CREDENTIALS.sub(f"{MASK}@", text)


def is_secret_name(name: str) -> bool:
    """Return whether what operators call `name` is likely to be a secret."""
    return _SECRET_NAME.search(name) is not None
