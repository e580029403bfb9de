"""A trained run over HTTP: routes, limits, and errors as JSON that says what to do."""

import asyncio
import re
import secrets
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskseq import __version__
from maskseq.contract.fence import blame
from maskseq.errors import MaskseqError
from maskseq.loaded.recipe import trained_on
from maskseq.serve.limits import DEADLINE, Limits, RefusedError, too_large, too_long
from maskseq.serve.requests import EmbedRequest, InfillRequest, NextRequest, PredictRequest, Request, ScoreRequest
from maskseq.serve.together import ServedModel
from maskseq.serve.work import Server
from maskseq.storage.standard_json import to_json
from maskseq.trained import TrainedModel

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAGES = ("/", "/health")
"""What is shown without a token."""
SECURITY = {
    b"content-security-policy": b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    b"connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token is missing or another one"},
    413: {"description": "More than this server takes at once"},
    415: {"description": "The body is not JSON"},
    422: {"description": "The request or the file in it cannot be used; the error says why"},
    503: {"description": "Busy, or the time was not enough; try again"},
}
FOLDER = re.compile(r"[^\s'\"(]*/maskseq-serve-\w+/(filled/)?")
T = TypeVar("T", bound=Request)


class Turns:
    """Lets so many requests be worked on at once, and so many wait."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.threads = ThreadPoolExecutor(limits.active, thread_name_prefix="maskseq-request")
        self.n_inside = 0

    async def take(self, work: Callable[[], Any]) -> Any:
        """What the work comes to; `RefusedError` if too many wait, or it takes too long."""
        if self.n_inside >= self.limits.active + self.limits.waiting:
            raise RefusedError(
                503, "busy", f"{self.n_inside} requests are being answered or wait", "try again in a few seconds"
            )
        until = time.monotonic() + self.limits.seconds

        def within() -> Any:
            DEADLINE.set(until)
            if time.monotonic() > until:
                raise too_long()
            return work()

        self.n_inside += 1
        future: Future[Any] = self.threads.submit(within)
        inside = asyncio.wrap_future(future)
        inside.add_done_callback(self._left)
        try:
            return await asyncio.wait_for(asyncio.shield(inside), self.limits.seconds)
        except TimeoutError:
            future.cancel()
            raise too_long() from None

    def _left(self, inside: "asyncio.Future[Any]") -> None:
        self.n_inside -= 1
        if not inside.cancelled():
            inside.exception()  # has been looked at, also where the client is gone


def application(
    run: TrainedModel,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] | None = LOOPBACK,
) -> FastAPI:
    """The web application that serves a run.

    Args:
        run: What `maskseq.load` returns.
        limits: Sizes, times and numbers of requests.
        token: What requests must bring as `Authorization: Bearer TOKEN` (default: nothing).
        hosts: Names that the server answers to, so that no web page of elsewhere reaches it under a name of its own;
            None: any.
    """
    limits = limits or Limits()
    served = ServedModel.of(run)
    server, turns = Server(served, limits), Turns(limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        turns.threads.shutdown(wait=True)
        served.thread.stop()

    app = FastAPI(
        title="maskseq",
        version=__version__,
        description="Fills holes of sequences, and says how surely. Files are sent in JSON, as text or in base64.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.server, app.state.turns = server, turns
    page = files("maskseq.serve").joinpath("page.html").read_bytes()

    def add(path: str, kind: type[T], work: Callable[[T], dict[str, Any]], tells: str) -> None:
        async def answer(request: T) -> Response:
            return _json(200, await turns.take(lambda: work(request)))

        answer.__annotations__["request"] = kind
        answer.__doc__ = work.__doc__
        app.post(path, summary=tells, responses=RESPONSES, response_class=Response)(answer)

    add("/infill", InfillRequest, server.infill, "Fill the holes of a file")
    add("/predict", PredictRequest, server.predict, "Predict labels with a fine-tuned run")
    add("/next", NextRequest, server.next, "What comes next")
    add("/score", ScoreRequest, server.score, "How surprising records are")
    add("/embed", EmbedRequest, server.embed, "A vector for each record")

    @app.get("/health", summary="Whether it answers, and how many requests it has")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "version": __version__, "requests": turns.n_inside}

    @app.get("/run", summary="What is served: fields, labels, and the limits of a request")
    async def described() -> dict[str, Any]:
        return _described(served, limits)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html; charset=utf-8")

    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(MaskseqError, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_middleware(Door, limits=limits, token=token, hosts=hosts)
    return app


def _described(run: ServedModel, limits: Limits) -> dict[str, Any]:
    fields = [
        {"name": field.name, "numbers": field.centres is not None, "unit": field.unit, "values": field.n_tokens}
        for field in run.fills.fields
    ]
    trained = trained_on(run.path, run.checkpoint)
    ending = "".join(Path(str(trained.files[0])).suffixes[-2:]).removesuffix(".gz") if trained.files else ""
    return {"fields": fields, "ending": ending, "labels": run.labels is not None, "limits": vars(limits)}


class Door:
    """What every request passes first: host, token, kind and size of its body."""

    def __init__(self, app: ASGIApp, *, limits: Limits, token: str | None, hosts: tuple[str, ...] | None) -> None:
        self.app, self.limits, self.token, self.hosts = app, limits, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *SECURITY.items()]
            await send(message)

        try:
            headers = {name.lower(): value for name, value in scope["headers"]}
            self._check(scope, headers)
            body = await asyncio.wait_for(self._body(receive, headers), self.limits.seconds)
        except RefusedError as refused:
            await _error(refused)(scope, receive, guarded)
            return
        except TimeoutError:
            slow = RefusedError(408, "slow", "the body did not arrive in time", "send it faster, or less of it")
            await _error(slow)(scope, receive, guarded)
            return
        if body is None:
            return
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def once() -> Message:
            return next(given, None) or await receive()

        await self.app(scope, once, guarded)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = re.sub(r":\d+$", "", headers.get(b"host", b"").decode("latin-1")).strip("[]").lower()
        if self.hosts is not None and host not in self.hosts:
            raise RefusedError(
                403, "host", f"this server does not answer to the name {host[:100]!r}", f"use {self.hosts[0]}"
            )
        if self.token is not None and scope["path"] not in PAGES:
            given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
            if not secrets.compare_digest(given, self.token.encode()):
                raise RefusedError(
                    401, "token", "the token is missing or another one", "send Authorization: Bearer TOKEN"
                )
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            raise RefusedError(415, "not-json", "the body must be JSON", "send it with Content-Type: application/json")

    async def _body(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes | None:
        """All of it, as far as the limit; None where the client has gone."""
        most = self.limits.bytes * 3 // 2  # a third more in base64, and the JSON around it
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > most:
            raise too_large("the body has more bytes", self.limits.bytes)
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise too_large("the body has more bytes", self.limits.bytes)
            if not message.get("more_body"):
                return b"".join(parts)


def _json(status: int, content: Any) -> Response:
    headers = {"Retry-After": "2"} if status == 503 else None
    return Response(to_json(content).encode(), status, headers, media_type="application/json")


def _error(refused: RefusedError) -> Response:
    told = {"code": refused.code, "message": str(refused), "hint": refused.hint}
    return _json(refused.status, {"error": told})


def _refused(request: Any, error: Exception) -> Response:
    """Of an error that maskseq raises on purpose: names of folders on this machine are left out."""
    if isinstance(error, RefusedError):
        return _error(error)
    assert isinstance(error, MaskseqError)
    told = error.to_json()["error"]
    hint = without_folder(told["hint"]) or "correct the request or the file"
    return _error(RefusedError(422, told["code"], without_folder(told["message"]), hint))


def without_folder(text: str) -> str:
    """A message without the folder that the request's file was put into."""
    return FOLDER.sub("", text)


def _not_understood(request: Any, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    message = f"{place}: {first['msg']}" if place else str(first["msg"])
    return _error(RefusedError(422, "request", message[:500], "GET /openapi.json says what a request looks like"))


def _not_there(request: Any, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = "GET /openapi.json lists what there is"
    if error.status_code == 400:
        return _error(RefusedError(422, "not-json", "the body is not JSON", hint))
    return _error(RefusedError(error.status_code, "no-such-request", str(error.detail), hint))


def _failed(request: Any, error: Exception) -> Response:
    """Of what should not happen: the trace is for whoever runs the server."""
    fault = blame(error)
    if fault is not None:
        return _refused(request, fault)
    traceback.print_exception(error, file=sys.stderr)
    return _error(
        RefusedError(500, "failed", "the server failed at this request", "its log says where; please report it")
    )
