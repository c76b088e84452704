"""Everything an operator can set, in a YAML file and on the command line."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from toxoid.config.loading import Section, load_yaml, validate
from toxoid.config.sections import Count, Positive, Share, Text


class HoldBackSection(Section):
    """How much of a stream is judged at once, before any of it is sent."""

    size: Count = 200
    """So many of the unit."""
    unit: Literal["characters", "sentences", "reply"] = "characters"
    """`reply` judges the whole reply once, and sends it at its end."""


class ProtectionSection(Section):
    """What stands around the model; a client can change none of it."""

    refusal: Text = "I can't help with that."
    """What is said in place of a request or a reply that the judge rejects."""
    input_threshold: Share | None = None
    """The judge's score from which on a request is refused; null for the judge's own verdict."""
    output_threshold: Share | None = None
    """The same of replies."""
    hold_back: HoldBackSection = HoldBackSection()
    """The window of streams."""
    unscored: Literal["answer", "refuse"] = "answer"
    """What becomes of what a judge cannot score: the model's own protection answers it, or it is refused."""
    allow_lowering: bool = False
    """Whether the header `x-toxoid-protection: off` asks the bare model, without judges."""
    tell_scores: bool = False
    """Whether answers carry the judges' scores; an attacker learns from them."""


class LimitsSection(Section):
    """How much a client can ask for, and how long it may take."""

    body_bytes: Count = 2**20
    """Most bytes of a request."""
    requests: Count = 256
    """Most requests in work at once, those that wait included."""
    queue: Count = 64
    """Most requests that wait for the model."""
    rows: Count = 64
    """Most replies decoded at once."""
    cache_bytes: Count = 2**30
    """Memory for keys and values."""
    choices: Count = 64
    """Most replies to one request."""
    tokens: Count = 4096
    """Most tokens of a reply; longer ones end with finish reason `length`."""
    per_minute: Positive | None = None
    """Requests per minute of each key, or of all clients where there are no keys."""
    burst: Count = 10
    """Requests that may come at once before `per_minute` counts."""
    read_seconds: Positive = 15.0
    """Time for a request to arrive."""
    stall_seconds: Positive = 30.0
    """Time that a client may leave unread what is sent to it."""
    answer_seconds: Positive = 300.0
    """Time for a whole answer."""
    drain_seconds: Count = 120
    """Time for running answers to end after SIGTERM."""


class ServeSettings(Section):
    """How a model is served."""

    host: Text = "127.0.0.1"
    """The address to listen on; beyond loopback only with keys."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port; 0 takes a free one."""
    keys: str | None = None
    """A file of hashed API keys (`toxoid serve --new-key NAME`)."""
    log_prompts: bool = False
    """Whether the log holds what is asked and answered."""
    reload_endpoint: bool = False
    """Whether POST /admin/reload-shield works, from this machine only; SIGHUP always does."""
    protection: ProtectionSection = ProtectionSection()
    """Judges and refusals."""
    limits: LimitsSection = LimitsSection()
    """Sizes, counts and times."""

    @model_validator(mode="after")
    def _beyond_loopback_needs_keys(self) -> Self:
        if self.keys is None and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reached from other machines, and there are no API keys: make one with "
                "`toxoid serve --new-key NAME --keys FILE`, or listen on 127.0.0.1"
            )
        return self


def load_settings(path: str | None = None, given: Mapping[str, Any] | None = None) -> ServeSettings:
    """Return the settings of a YAML file, under what was given beside it.

    Args:
        path: The file; ``None`` means all defaults.
        given: Values by dotted place, such as ``protection.refusal``.

    Raises:
        UsageError: The file cannot be read, or a value is wrong.
    """
    values = (load_yaml(path) or {}) if path is not None else {}
    for place, value in (given or {}).items():
        if isinstance(values, dict):
            values = _with(values, place.split("."), value)
    return validate(ServeSettings, values, source=path or "serve")


def is_loopback(host: str) -> bool:
    """Return whether ``host`` (a name, or an address with or without brackets) is this machine itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _with(values: dict[str, Any], place: list[str], value: Any) -> dict[str, Any]:
    first, *rest = place
    if not rest:
        return {**values, first: value}
    inside = values.get(first)
    return {**values, first: _with(inside if isinstance(inside, dict) else {}, rest, value)}
