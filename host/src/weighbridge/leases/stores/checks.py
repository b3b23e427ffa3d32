"""What every backend accepts as a namespace, a key, a value and a bound."""

from __future__ import annotations

from typing import Final

from weighbridge_hookspecs import ConfigurationError

# Percent-encoded, a namespace and a key of these lengths still fit into the 1,024 bytes that S3 allows for a name:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MAX_NAMESPACE_BYTES: Final = 64
MAX_KEY_BYTES: Final = 255


def checked_namespace(name: object) -> str:
    """`name`, if it is a text of 1 to 64 bytes.

    :raises TypeError: if it is no text.
    :raises ConfigurationError: if it is empty, too long, or cannot be written as UTF-8.
    """
    try:
        return _sized(name, "namespace", MAX_NAMESPACE_BYTES)
    except ValueError as error:
        raise ConfigurationError(
            f"{error}", step="lease", advice="Give another name; a plugin's is that of its entry point"
        ) from None


def checked_key(key: object) -> str:
    """`key`, if it is a text of 1 to 255 bytes.

    :raises TypeError: if it is no text.
    :raises ValueError: if it is empty, too long, or cannot be written as UTF-8.
    """
    return _sized(key, "key", MAX_KEY_BYTES)


def checked_prefix(prefix: object) -> str:
    """`prefix`, if a key could begin with it; the empty one is the beginning of every key.

    :raises TypeError: if it is no text.
    :raises ValueError: if it cannot be written as UTF-8.
    """
    _encoded(prefix, "prefix")
    return str(prefix)


def checked_value(value: object, max_bytes: int) -> bytes:
    """`value` as bytes; a copy if its owner could still change it.

    :raises TypeError: if it is not bytes, a bytearray or a memoryview.
    :raises ValueError: if it is larger than `max_bytes`.
    """
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a value has to be bytes, not {type(value).__name__}: encode it first")
    nbytes = value.nbytes if isinstance(value, memoryview) else len(value)
    if nbytes > max_bytes:
        raise ValueError(f"a value of {nbytes} bytes: {max_bytes} is the most that one may have; split it")
    return bytes(value)


def checked_bound(nbytes: object, name: str) -> int | None:
    """`nbytes`, if it is a whole number above 0, or None for no bound; errors as of :func:`checked_size`."""
    return None if nbytes is None else checked_size(nbytes, name)


def checked_size(nbytes: object, name: str) -> int:
    """`nbytes`, if it is a whole number above 0.

    :raises TypeError: if it is no whole number.
    :raises ValueError: if it is not above 0.
    """
    if not isinstance(nbytes, int) or isinstance(nbytes, bool):
        raise TypeError(f"{name} has to be a whole number of bytes, not {nbytes!r}")
    if nbytes <= 0:
        raise ValueError(f"{name} has to be above 0, not {nbytes}")
    return nbytes


def _sized(text: object, what: str, most: int) -> str:
    nbytes = len(_encoded(text, what))
    if not nbytes:
        raise ValueError(f"the {what} is empty: give it at least one character")
    if nbytes > most:
        raise ValueError(f"the {what} {str(text)[:40]!r}... has {nbytes} bytes: {most} is the most")
    return str(text)


def _encoded(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"a {what} has to be a str, not {type(text).__name__}")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the {what} {text!r} cannot be written as UTF-8: {error.reason}") from None
