"""The lab model behind an OpenAI-compatible server on loopback: ``python -m tests.helpers.lab_server``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from tests.helpers.openai_server import OpenAIServer, Reply
from toxoid.config.recipe import ModelSection
from toxoid.data.schemas import Message
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.loop import models


def answer(name: str = "lab-base") -> Callable[[dict[str, Any]], Reply]:
    """Return a function that answers a chat request with a lab model; one request at a time."""
    engine = models.local_engine(models.load(ModelSection(source=name)))
    lock = threading.Lock()

    def reply(body: dict[str, Any]) -> Reply:
        turns = [Message(**{key: turn[key] for key in ("role", "content")}) for turn in body["messages"]]
        prefill = turns.pop().content if turns[-1].role == "assistant" else ""
        temperature = body.get("temperature", 1.0)
        sampling = Sampling(temperature, body.get("top_p", 1.0), body.get("max_tokens", 128))
        request = GenerationRequest(tuple(turns), prefill, sampling, body.get("n", 1), body.get("seed", 0))
        with lock:
            (done,) = engine.generate([request])
        return Reply(tuple(one.text for one in done), finish_reason=done[0].finish_reason)

    return reply


def main() -> None:
    """Serve until interrupted."""
    with OpenAIServer(default=answer()) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
