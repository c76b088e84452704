"""From what went wrong to an answer: status, body in OpenAI's shape, headers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from toxoid.errors import UsageError
from toxoid.serve.jobs import Draining, Failed, Full, TooLong
from toxoid.serve.judging import JudgeFailed
from toxoid.serve.replies import Json, error_body
from toxoid.serve.upstream import Rejected
from toxoid.serve.wire import BadRequest

_OF_FAILURE = {"timeout": 504, "internal": 500, "stopped": 503}
_SHOWN = 200  # characters of a message that may hold the client's own text


class JobFailed(Exception):
    """A job has ended without its answer."""

    def __init__(self, event: Failed) -> None:
        super().__init__(event.message)
        self.event = event


@dataclass(eq=False)
class Problem(Exception):
    """An answer that is no success.

    Args:
        status: Of HTTP.
        message: For the client.
        param: The parameter that is wrong.
        code: OpenAI's word for it, where there is one.
        retry_after: Seconds after which to try again.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None

    def body(self) -> Json:
        """Return the body."""
        return error_body(self.status, self.message, param=self.param, code=self.code)

    def headers(self) -> dict[str, str]:
        """Return the headers that it needs."""
        headers = (
            {} if self.retry_after is None else {"retry-after": str(max(math.ceil(self.retry_after), 1))}
        )
        return {**headers, "www-authenticate": "Bearer"} if self.status == 401 else headers


def problem_of(error: Exception) -> Problem:
    """Return how an error is told to a client; one of the program's own tells nothing of itself."""
    match error:
        case Problem():
            return error
        case Full():
            return Problem(429, str(error), code="rate_limit_exceeded", retry_after=error.retry_after)
        case Draining():
            return Problem(503, "the server is shutting down", retry_after=5)
        case TooLong():
            return Problem(400, str(error), "messages", "context_length_exceeded")
        case BadRequest():
            return Problem(400, str(error), error.param)
        case UsageError():
            return Problem(400, str(error))
        case JudgeFailed():
            return Problem(503, "the judge does not answer: try again later", retry_after=5)
        case JobFailed(event=Rejected() as event):
            return Problem(event.status, event.message, code=event.code, retry_after=event.retry_after)
        case JobFailed():
            return Problem(_OF_FAILURE[error.event.kind], error.event.message)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return Problem(error.status_code, str(error.detail))
    return Problem(500, "internal error")


def _invalid(error: RequestValidationError) -> Problem:
    first = error.errors()[0]
    place = [str(step) for step in first["loc"] if step != "body"]
    if first["type"] == "json_invalid":
        return Problem(400, "the body is not JSON")
    name = ".".join(place)
    message = f"{name}: {first['msg']}" if name else f"body: {first['msg']}"
    return Problem(400, message[:_SHOWN], name[:_SHOWN] or None)
