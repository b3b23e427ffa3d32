"""What a plugin raised, in words."""

from __future__ import annotations

from weighbridge_hookspecs import WeighbridgeError


def in_words(error: BaseException) -> str:
    """Type and text of an exception; it may be a stranger's, and then even asking for its text can raise."""
    kind = type(error).__name__
    try:
        if isinstance(error, SystemExit):
            return f"it called sys.exit({error.code!r})"
        text = str(error)
    except Exception:
        text = "<no text: asking for it raised>"
    return text if isinstance(error, WeighbridgeError) else f"{kind}: {text}" if text else kind
