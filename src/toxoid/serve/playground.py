"""The playground: one page beside the API, where one sees what the protection does to a chat.

The page is static files without a build step. Beside each protected reply it can show what the model says without
protection, and token by token how much the contrast moved. All of that is the undefended model's own, so it is
shown only where the operator allows it; to everybody else the page is a plain chat.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import Field

from toxoid.data.schemas import Exchange
from toxoid.data.schemas import Request as Asking
from toxoid.engines.base import GenerationRequest
from toxoid.serve.jobs import Backend, Job, Piece
from toxoid.serve.judging import REPLY, REQUEST
from toxoid.serve.problems import Problem
from toxoid.serve.replies import Choice, Json
from toxoid.serve.service import Asked, Service, Told
from toxoid.serve.settings import is_loopback
from toxoid.serve.stream import begun
from toxoid.serve.wire import ChatRequest

if TYPE_CHECKING:
    from toxoid.engines.explain import Candidate, TokenView
    from toxoid.engines.prompting import Prompting
    from toxoid.serve.handle import Handle

STATIC = "/static/"
"""Where the page's own files are: they tell nothing, so that no key need be asked for."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_FILES = {
    "index.html": "/",
    **{name: STATIC + name for name in ("app.js", "tokens.js", "text.js", "style.css")},
}
_STRENGTHS = 20
"""The strengths that can be chosen are so many to 1: jobs of one strength are decoded together."""
_LAB_EXAMPLES = {
    "Harmful": "lab-harmful",
    "Harmful, in disguise": "lab-jailbreak",
    "Sounds harmful, is not": "lab-contentious",
    "Honest": "lab-benign",
    "Honest, hijacked": "lab-hijack",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A request to try.

    Args:
        kind: What is special about it, in a word or two.
        text: The request.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Playground:
    """What the page shows.

    Args:
        base: Whether whoever may open the page may see the undefended model: its replies, what it would have said in
            place of each token, and the protection at other strengths.
        prompting: Returns the contexts that the backend asks under now; ``None`` where the weights are elsewhere.
        examples: Requests to try.
    """

    base: bool = False
    prompting: Callable[[], Prompting] | None = None
    examples: tuple[Example, ...] = ()


class PlayRequest(ChatRequest):
    """The body of ``POST /playground/chat``: one side's turn of a chat."""

    n: Annotated[int, Field(ge=1, le=1)] | None = None
    side: Literal["protected", "base"] = "protected"
    """`base` asks the model without protection."""
    alpha: Annotated[float, Field(ge=0, le=0.95)] | None = None
    """Strength of the contrast, in steps of 0.05; null for the operator's."""


def lab_examples(each: int = 2) -> tuple[Example, ...]:
    """Return ``each`` of the lab's test requests of every kind, from all over its goals."""
    from toxoid.data.lab import lab_requests

    found = []
    for kind, name in _LAB_EXAMPLES.items():
        requests = lab_requests(name).requests
        found += [Example(kind, request.prompt) for request in requests[:: len(requests) // each][:each]]
    return tuple(found)


def shows_base(asked: bool | None, *, host: str, lab: bool) -> bool:
    """Return whether the undefended model is shown: as asked, else only the lab's, which knows no real harm.

    Args:
        asked: What the operator says; ``None`` for nothing.
        host: The address that is listened on.
        lab: Whether the model is the lab's.
    """
    return lab and is_loopback(host) if asked is None else asked


def add_playground(app: FastAPI, service: Service, playground: Playground) -> None:
    """Add the page, its files and its two routes to the application."""
    _add_files(app)
    sides = _Sides(service, playground)

    @app.get("/playground/setup", include_in_schema=False)
    async def setup() -> Json:
        """Tell what the page can show."""
        return sides.setup()

    @app.post("/playground/chat", include_in_schema=False)
    async def chat(body: PlayRequest, request: Request) -> Response:
        """Answer on one side of the chat, as events."""
        return await begun(sides.answer(body), request, {})


def _add_files(app: FastAPI) -> None:
    folder = resources.files("toxoid.serve") / "playground"
    for name, path in _FILES.items():
        _add_file(app, path, (folder / name).read_bytes(), _TYPES[name.rpartition(".")[2]])


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    @app.get(path, include_in_schema=False)
    async def file() -> Response:
        """Send one of the page's files."""
        return Response(content, media_type=f"{media_type}; charset=utf-8", headers=_HEADERS)


class _Turned:
    """A backend whose jobs are changed before they are submitted."""

    def __init__(self, backend: Backend, **changes: Any) -> None:
        self._backend, self._changes = backend, changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def submit(self, job: Job) -> Handle:
        """See :class:`toxoid.serve.jobs.Backend`."""
        return self._backend.submit(replace(job, **self._changes))


class _Sides:
    """The two sides of the page: the service as it is, and the model without protection."""

    def __init__(self, service: Service, playground: Playground) -> None:
        self._service, self._playground = service, playground
        self._own: Prompting | None = None
        self._strengths: dict[int, Prompting] = {}

    def setup(self) -> Json:
        """Return what the page can show."""
        service, own = self._service, self._prompting()
        decoding = own.identity.get("decoding") if own else None
        protected = bool(service.judges or service.guidance or decoding)
        base = self._playground.base and protected
        return {
            "model": service.backend.name,
            "protected": protected,
            "base": base,
            "prompts": [decoding["positive"], decoding["negative"]] if decoding else [],
            "alpha": own.contrast.alpha if base and own and own.negative else None,
            "judged": {
                "request": bool(service.judges and service.judges.judges(REQUEST)),
                "reply": bool(service.judges and service.judges.judges(REPLY)),
            },
            "tokens": service.settings.limits.tokens,
            "examples": [
                {"kind": example.kind, "text": example.text} for example in self._playground.examples
            ],
        }

    async def answer(self, body: PlayRequest) -> AsyncGenerator[Json, None]:
        """Yield pieces of the reply (``text``), and at its end what is known of it.

        Raises:
            Problem: It asks for what the operator does not show.
            Exception: What :meth:`toxoid.serve.service.Service.answer` raises.
        """
        side = self._side(body)
        asked = Asked(body.asked(self._service.settings.limits))
        told = Told([Choice()])
        tokens: list[Json] | None = None
        async with aclosing(side.answer(asked, told, whole=False)) as events:
            async for event in events:
                if isinstance(event, Piece):
                    yield {"text": event.text}
                elif event.explanation is not None:
                    tokens = [_token(view) for view in event.explanation.tokens]
        end: Json = {"finish": told.choices[0].finish, "tokens": tokens}
        if self._tells_scores:
            score = told.reply_scores.get(0)
            if side.judges is None:
                score = await self._score(asked.request, told.choices[0])
            end |= {"request_score": told.request_score, "reply_score": score}
        yield end

    @property
    def _tells_scores(self) -> bool:
        return self._playground.base or self._service.settings.protection.tell_scores

    def _side(self, body: PlayRequest) -> Service:
        """Return the service that answers a side."""
        service, shown = self._service, self._playground.base
        if not shown and (body.side == "base" or body.alpha is not None):
            raise Problem(403, "the undefended model and other strengths are not shown here")
        if body.side == "base":
            return _changed(service, judges=None, guidance=None, job={"prompting": service.bare})
        own = self._prompting()
        return _changed(
            service, job={"prompting": self._contexts(own, body.alpha), "explain": shown and own is not None}
        )

    def _prompting(self) -> Prompting | None:
        return self._playground.prompting() if self._playground.prompting else None

    def _contexts(self, own: Prompting | None, alpha: float | None) -> Prompting | None:
        """Return the service's contexts at another strength; ``None`` for them as they are."""
        if alpha is None:
            return None
        if own is None or own.negative is None:
            raise Problem(
                400, "there is no contrast here whose strength could be chosen: leave alpha out", "alpha"
            )
        step = round(alpha * _STRENGTHS)
        if step == own.contrast.alpha * _STRENGTHS:
            return None
        if own is not self._own:  # the shield was exchanged
            self._own, self._strengths = own, {}
        if step not in self._strengths:
            contrast = replace(own.contrast, alpha=step / _STRENGTHS)
            negative = own.negative if step else None
            self._strengths[step] = replace(own, contrast=contrast, negative=negative)
        return self._strengths[step]

    async def _score(self, request: GenerationRequest, reply: Choice) -> float | None:
        """Return the judge's score of a reply that nobody has judged; ``None`` if there is none."""
        judges = self._service.judges
        if judges is None or not judges.judges(REPLY):
            return None
        asked = Asking("served", request.conversation[-1].content)
        cut = reply.finish == "length"
        exchange = Exchange(asked, request.conversation, reply.text, prefill=request.prefill, truncated=cut)
        return (await judges.verdict(REPLY, exchange)).score


def _changed(service: Service, *, job: dict[str, Any], **changes: Any) -> Service:
    return replace(service, backend=cast("Backend", _Turned(service.backend, **job)), **changes)


def _token(view: TokenView) -> Json:
    """Return a token as the page shows it: what was drawn, and what would have been without protection and contrast."""
    candidates = {"drawn": view.chosen, "base": view.bare, "alone": view.alone}
    return {
        "moved": view.moved,
        "contrasted": view.contrasted,
        "removed": view.removed,
        "changed": view.changed,
        **{name: _candidate(candidate) for name, candidate in candidates.items()},
    }


def _candidate(candidate: Candidate) -> Json:
    """Return a token's text, and its probability undefended, under the prompt alone, and as drawn."""
    shares = [candidate.p_bare, candidate.p_positive, candidate.p_combined]
    return {"id": candidate.id, "text": candidate.text, "shares": shares}
