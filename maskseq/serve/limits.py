"""What a server accepts: sizes, time, how many requests at once; and how it refuses what is more."""

from contextvars import ContextVar
from dataclasses import dataclass

from maskseq.errors import MaskseqError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one request, and of all of them together."""

    bytes: int = 8 << 20
    """Of a request's body, and of what a compressed file in it expands to."""
    positions: int = 200_000
    """Of all records of a file."""
    seconds: float = 60.0
    """From the arrival of a request to its answer."""
    active: int = 4
    """Requests that are worked on at the same time."""
    waiting: int = 32
    """Requests that wait for their turn; more are refused."""


class RefusedError(MaskseqError):
    """A request that is not served: its HTTP status, what is wrong, and what to do."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        self.status, self.hint = status, hint
        super().__init__(message, code=code)


DEADLINE: ContextVar[float] = ContextVar("deadline", default=float("inf"))
"""Until when the request at hand may go on, by `time.monotonic`."""


def too_large(what: str, limit: int) -> RefusedError:
    return RefusedError(
        413,
        "too-large",
        f"{what}; this server takes {limit:,}",
        "send a part of it, use the command line, or start the server with a larger limit",
    )


def too_long() -> RefusedError:
    return RefusedError(
        503,
        "timeout",
        "the request took longer than this server allows",
        "send fewer records or holes, try again later, or start the server with a larger --seconds",
    )
