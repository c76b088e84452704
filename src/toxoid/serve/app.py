"""The OpenAI-compatible API of a protected model, as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from toxoid import __version__
from toxoid.data.schemas import as_dicts
from toxoid.errors import ToxoidError
from toxoid.serve.gate import OPEN, Gate, Visit
from toxoid.serve.jobs import Piece
from toxoid.serve.keys import KeyRing
from toxoid.serve.logs import log
from toxoid.serve.metrics import CONTENT_TYPE
from toxoid.serve.playground import Playground, add_playground
from toxoid.serve.problems import JobFailed, Problem, problem_of
from toxoid.serve.replies import (
    ChatCompletion,
    ChatShape,
    Choice,
    ErrorBody,
    Json,
    JsonAnswer,
    Shape,
    TextCompletion,
    TextShape,
    usage_of,
)
from toxoid.serve.service import Asked, Service, Told
from toxoid.serve.settings import is_loopback
from toxoid.serve.stream import ClientGone, begun, until_gone
from toxoid.serve.wire import ChatRequest, CompletionRequest

LOWERING = "x-toxoid-protection"
"""The header by which a client asks the bare model, where the operator allows it."""
_GONE = 499  # as nginx logs it; nobody receives it
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request is wrong."},
    401: {"model": ErrorBody, "description": "No valid key."},
    403: {"model": ErrorBody, "description": "Not from here."},
    404: {"model": ErrorBody, "description": "There is no such model."},
    408: {"model": ErrorBody, "description": "The body has not arrived in time."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    429: {"model": ErrorBody, "description": "Too many requests: see Retry-After."},
    500: {"model": ErrorBody, "description": "The model or the program failed."},
    502: {"model": ErrorBody, "description": "The upstream failed."},
    503: {"model": ErrorBody, "description": "Shutting down, or the judge does not answer."},
    504: {"model": ErrorBody, "description": "The deadline has passed."},
}
_GAUGES = ("queued", "running", "rows", "cache_bytes", "prefix_bytes")
_STREAM: Json = {"text/event-stream": {}}


def create_app(service: Service, playground: Playground | None = None) -> FastAPI:
    """Return the application; it ends the service when it ends.

    Args:
        service: What answers.
        playground: What the page at ``/`` shows; without it there is no page.

    Raises:
        UsageError: The file of keys cannot be read.
    """
    keys = KeyRing(service.settings.keys)
    app = FastAPI(
        title="toxoid",
        version=__version__,
        summary="A protected model behind an OpenAI-compatible API.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lambda app: _lifespan(service, keys),
    )
    app.add_middleware(Gate, keys=keys, limits=service.settings.limits, metrics=service.metrics)
    _add_asking(app, service)
    _add_telling(app, service)
    if service.settings.reload_endpoint:
        _add_reload(app, service)
    if playground is not None:
        add_playground(app, service, playground)
    for kind in (ToxoidError, Problem, JobFailed, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _told)
    app.add_exception_handler(ClientGone, _nobody)
    app.openapi = lambda: _document(app, keys, service.settings.limits.choices)  # type: ignore[method-assign]
    return app


def _add_asking(app: FastAPI, service: Service) -> None:
    """Add the routes that ask the model."""
    responses = {**_ERRORS, 200: {"content": _STREAM, "description": "The answer, or its stream."}}

    @app.post("/v1/chat/completions", response_model=ChatCompletion, responses=responses)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        return await _answer(service, body, request, ChatShape)

    @app.post("/v1/completions", response_model=TextCompletion, responses=responses)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Answer a prompt, as the user's turn."""
        return await _answer(service, body, request, TextShape)


def _add_telling(app: FastAPI, service: Service) -> None:
    """Add the routes that tell what there is, and how it goes."""

    @app.get("/v1/models", responses=_ERRORS)
    async def models() -> Json:
        """List the one model."""
        return {"object": "list", "data": [_model(service)]}

    @app.get("/v1/models/{name:path}", responses=_ERRORS)
    async def model(name: str) -> Json:
        """Tell of the model."""
        _check_model(service, name)
        return _model(service)

    @app.get("/v1", include_in_schema=False)
    @app.get("/v1/")
    async def root() -> Json:
        """Tell that this is the API, as some clients ask first."""
        return {"object": "api", "server": f"toxoid {__version__}"}

    @app.get("/health")
    async def health() -> Json:
        """Tell that the server lives."""
        return {"status": "ok"}

    @app.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Tell all counts, in the text format of Prometheus."""
        for name, value in asdict(service.backend.stats()).items():
            service.metrics.set(f"toxoid_backend_{name}{'' if name in _GAUGES else '_total'}", value)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_reload(app: FastAPI, service: Service) -> None:
    @app.post("/admin/reload-shield", responses=_ERRORS)
    async def reload_shield(request: Request) -> Json:
        """Read the shield again and put it to use; from this machine only, and through no proxy."""
        peer = request.client.host if request.client else ""
        forwarded = {"forwarded", "x-forwarded-for"} & set(request.headers)
        if forwarded or not is_loopback(peer):
            raise Problem(403, "only this machine itself may do this")
        await _reload(service)
        return {"status": "ok"}


async def _answer(
    service: Service, body: ChatRequest | CompletionRequest, request: Request, shape_type: type[Shape]
) -> Response:
    _check_model(service, body.model)
    penalties = body.penalties()
    asked = Asked(
        body.asked(service.settings.limits),
        body.alternatives(),
        penalties,
        lowered=request.headers.get(LOWERING, "").lower() == "off",
    )
    shape = shape_type(service.backend.name, scored=asked.alternatives is not None)
    told = Told([Choice() for _ in range(asked.request.n)])
    visit: Visit = request.state.visit
    headers = {"x-toxoid-ignored": ", ".join(penalties)} if penalties and not service.forwards else {}
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return await begun(_chunks(service, asked, told, shape, visit, usage=usage), request, headers)
    await until_gone(request, _whole(service, asked, told, visit))
    shown = shape.whole(
        told.choices, usage_of(told.prompt_tokens, told.completion_tokens), _scores(service, told)
    )
    return JsonAnswer(shown, headers=headers)


async def _whole(service: Service, asked: Asked, told: Told, visit: Visit) -> None:
    """Wait until all is told."""
    with _noted(service, asked, told, visit):
        async with aclosing(service.answer(asked, told, whole=True)) as events:
            async for _ in events:
                pass


async def _chunks(
    service: Service, asked: Asked, told: Told, shape: Shape, visit: Visit, *, usage: bool
) -> AsyncGenerator[Json, None]:
    """Yield the chunks of a stream."""
    begun_choices = set()
    with _noted(service, asked, told, visit):
        async with aclosing(service.answer(asked, told, whole=False)) as events:
            async for event in events:
                if event.index not in begun_choices:
                    begun_choices.add(event.index)
                    if first := shape.beginning(event.index):
                        yield first
                if isinstance(event, Piece):
                    offset = len(told.choices[event.index].text) - len(event.text)
                    yield shape.piece(event.index, event.text, event.scores, offset)
                else:
                    yield shape.end(event.index, event.reason)
    tail = _scores(service, told)
    if usage:
        tail["usage"] = usage_of(told.prompt_tokens, told.completion_tokens)
    if tail:
        yield shape.tail(**tail)


def _scores(service: Service, told: Told) -> Json:
    """Return the field with the judges' scores, if the operator lets them be told."""
    if not service.settings.protection.tell_scores:
        return {}
    replies = [told.reply_scores.get(index) for index in range(len(told.choices))]
    return {"toxoid": {"request_score": told.request_score, "reply_scores": replies}}


@contextmanager
def _noted(service: Service, asked: Asked, told: Told, visit: Visit) -> Iterator[None]:
    """Write into the log's line what is known when the answer ends, however it ends."""
    try:
        yield
    finally:
        visit.facts |= {
            "prompt_tokens": told.prompt_tokens,
            "completion_tokens": told.completion_tokens,
            "finish": [choice.finish for choice in told.choices],
            "request_score": told.request_score,
            "reply_scores": list(told.reply_scores.values()),
            "lowered": asked.lowered,
        }
        if service.settings.log_prompts:
            request = asked.request
            visit.facts |= {
                "messages": as_dicts(request.conversation),
                "prefill": request.prefill,
                "replies": [choice.text for choice in told.choices],
            }


def _check_model(service: Service, name: str | None) -> None:
    known = service.backend.name
    if name not in (None, known):
        raise Problem(404, f'there is no model "{name}" here, only "{known}"', "model", "model_not_found")


def _model(service: Service) -> Json:
    return {"id": service.backend.name, "object": "model", "created": 0, "owned_by": "toxoid"}


@asynccontextmanager
async def _lifespan(service: Service, keys: KeyRing) -> AsyncIterator[None]:
    """Heed SIGHUP while the server runs; at its end let the model finish, then end it."""
    loop = asyncio.get_running_loop()
    hang_up = partial(_hang_up, service, keys, set())
    with suppress(ValueError, NotImplementedError, RuntimeError):  # not the main thread: nobody sends signals
        loop.add_signal_handler(signal.SIGHUP, hang_up)
    yield
    with suppress(ValueError, NotImplementedError, RuntimeError):
        loop.remove_signal_handler(signal.SIGHUP)
    await asyncio.to_thread(service.close)


def _hang_up(service: Service, keys: KeyRing, tasks: set[asyncio.Task[None]]) -> None:
    async def again() -> None:
        try:
            keys.read()
            await _reload(service)
        except Exception as error:
            log("reload failed", logging.ERROR, error=str(error))

    task = asyncio.ensure_future(again())
    tasks.add(task)  # the loop itself keeps no task alive
    task.add_done_callback(tasks.discard)


async def _reload(service: Service) -> None:
    if service.reload is not None:
        await asyncio.to_thread(service.reload)
    log("reloaded")


async def _told(request: Request, error: Exception) -> Response:
    """Answer an error in OpenAI's shape; what is no client's affair goes to the log."""
    problem = problem_of(error)
    if problem.status >= 500:
        log("error", logging.ERROR, status=problem.status, kind=type(error).__name__, error=str(error))
    headers = dict(getattr(error, "headers", None) or {}) if isinstance(error, HTTPException) else {}
    return JsonAnswer(problem.body(), problem.status, {**headers, **problem.headers()})


async def _nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=_GONE)


def _document(app: FastAPI, keys: KeyRing, choices: int) -> Json:
    """Return the OpenAPI document: errors are OpenAI's, not the framework's, and ``n`` has the operator's limit."""
    found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    for path, methods in found["paths"].items():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            if keys and path not in OPEN:
                operation["security"] = [{"key": []}]
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name in ("ChatRequest", "CompletionRequest"):
        schemas[name]["properties"]["n"]["anyOf"][0]["maximum"] = choices
    if keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return found
