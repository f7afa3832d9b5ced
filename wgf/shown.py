"""A value in the words of an error. Free of torch, so that a command line can use it at once."""

from typing import Any

__all__ = ["LONGEST", "shown"]

LONGEST = 100  # characters of a value


def shown(value: Any) -> str:
    """Writes a value for a person, in one line of moderate length; of a tensor or an array of several numbers, its dtype and shape."""
    if getattr(value, "shape", ()):
        return f"{type(value).__name__} of {value.dtype}, shape {tuple(value.shape)}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever somebody's own class raises, and a whole number of thousands of digits
        return f"something of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
