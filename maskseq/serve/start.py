"""Listening: where, for whom, and how it ends."""

import ipaddress
import secrets
import socket
from collections.abc import Callable

from maskseq.errors import UsageError
from maskseq.serve.limits import Limits
from maskseq.trained import TrainedModel


def listen(
    run: TrainedModel, limits: Limits, *, host: str, port: int, token: str | None, tell: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM; what has begun by then is answered."""
    try:
        import uvicorn

        from maskseq.serve.server import LOOPBACK, application
    except ImportError:
        raise UsageError(
            "a server needs FastAPI and uvicorn\n\nhint: pip install 'maskseq[serve]'", code="missing-extra"
        ) from None
    here = is_loopback(host)
    if token is None and not here:
        token = secrets.token_urlsafe(24)
        tell(f"token: {token}")
    app = application(run, limits=limits, token=token, hosts=(*LOOPBACK, host.lower()) if here else None)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
        limit_concurrency=8 * (limits.active + limits.waiting) + 16,
    )
    with bound(host, port) as listening:
        name = f"[{host}]" if ":" in host else host
        tell(f"serving {run.path} at http://{name}:{listening.getsockname()[1]}/ (Ctrl-C stops)")
        uvicorn.Server(config).run(sockets=[listening])


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; `UsageError` where that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)  # from here on, whoever connects waits
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"{host}:{port}: {reason}\n\nhint: another --port, or --port 0 for a free one", code="unreachable"
        ) from None
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
