"""What TVM's errors mean: from their type's name and words to one of our reasons.

The words are those of TVM 0.27, as met in practice; `tests/devices/sessions` provokes them.
"""

from __future__ import annotations

import enum


class Meaning(enum.Enum):
    """Why a call to a device failed."""

    DIED = "the session's process ended during the call, or before it"
    EXPIRED = "the session's time limit, which the server keeps, is over"
    MEMORY = "the device has too little memory for it"
    LIBRARY = "the device cannot load the library"
    CALL = "the device refused the call"
    OTHER = "something else"


_WORDS: tuple[tuple[Meaning, tuple[str, ...]], ...] = (
    (Meaning.EXPIRED, ("RPCSessionTimeoutError", "session has expired")),
    (
        Meaning.DIED,
        (
            "code == RPCCode::kReturn",
            "code=kShutdown",
            "Send Error:",
            "Socket SendAll Error",
            "Recv Error:",
            "Broken pipe",
            "Connection reset by peer",
        ),
    ),
    (
        Meaning.MEMORY,
        ("std::bad_alloc", "bad allocation", "out of memory", "Cannot allocate memory"),
    ),
    (
        Meaning.LIBRARY,
        (
            "cannot open shared object file",
            "Failed to load dynamic shared library",
            "invalid ELF header",
            "wrong ELF class",
            "undefined symbol",
            "Cannot find ffi::Function",
            "cannot find file",
            "dlopen failed",
        ),
    ),
)
_OF_CALLS = "RPCError InternalError RuntimeError AttributeError TypeError ValueError".split()


def meaning(kind: str, text: str) -> Meaning:
    """The reason behind an exception of that type name and message."""
    if "RPCSessionTimeoutError" in kind:
        return Meaning.EXPIRED
    for reason, words in _WORDS:
        if any(word in text for word in words):
            return reason
    if kind in _OF_CALLS:
        return Meaning.CALL
    return Meaning.OTHER


def essence(text: str, limit: int = 400) -> str:
    """The sentence of a TVM message that says something, without its traceback."""
    head = "Error caught from RPC call:"
    body = text.partition(head)[2] if head in text else text
    lines = [line.strip() for line in body.splitlines()]
    told = [
        line
        for line in lines
        if line and not line.startswith(("Traceback", "File ", "at ", "Stack trace", "^"))
    ]
    said = " ".join(told[:3]) if told else text.strip()
    return said if len(said) <= limit else said[: limit - 3] + "..."
