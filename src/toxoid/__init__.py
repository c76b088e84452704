"""toxoid: audit how a chat model fails, treat it, audit it again, and prove the difference.

The public names are loaded on first use, so that ``import toxoid`` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers; a test holds both lists together
    from toxoid.attacks.base import Attack as Attack
    from toxoid.attacks.base import AttackedPrompt as AttackedPrompt
    from toxoid.attacks.registry import make_attack as make_attack
    from toxoid.audit.results import Results as Results
    from toxoid.cli.progress import RichProgress as RichProgress
    from toxoid.config.recipe import Recipe as Recipe
    from toxoid.config.recipe import load_recipe as load_recipe
    from toxoid.config.recipe import only_arms as only_arms
    from toxoid.config.recipe import with_overrides as with_overrides
    from toxoid.data.loading import load_requests as load_requests
    from toxoid.data.request_set import RequestSet as RequestSet
    from toxoid.data.schemas import Conversation as Conversation
    from toxoid.data.schemas import Exchange as Exchange
    from toxoid.data.schemas import Message as Message
    from toxoid.data.schemas import Request as Request
    from toxoid.data.schemas import user as user
    from toxoid.engines.base import Completion as Completion
    from toxoid.engines.base import Engine as Engine
    from toxoid.engines.base import GenerationRequest as GenerationRequest
    from toxoid.engines.base import Sampling as Sampling
    from toxoid.errors import ToxoidError as ToxoidError
    from toxoid.errors import UsageError as UsageError
    from toxoid.judges.base import Aspect as Aspect
    from toxoid.judges.base import Judge as Judge
    from toxoid.judges.base import Outcome as Outcome
    from toxoid.judges.base import Verdict as Verdict
    from toxoid.loop.api import align_model as align_model
    from toxoid.loop.api import audit_model as audit_model
    from toxoid.loop.api import judge_texts as judge_texts
    from toxoid.loop.api import load_engine as load_engine
    from toxoid.loop.api import load_judges as load_judges
    from toxoid.loop.api import read_results as read_results
    from toxoid.loop.api import run_recipe as run_recipe
    from toxoid.loop.api import shield_model as shield_model
    from toxoid.loop.catalogue import available as available
    from toxoid.loop.catalogue import register as register
    from toxoid.loop.compare import compare_runs as compare_runs
    from toxoid.loop.treat import Treated as Treated
    from toxoid.report.terminal import render_summary as render_summary

__version__ = "0.1.0"

for _switch in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_switch, "1")  # here, because the libraries read it once, when they are imported

_EXPORTS: dict[str, str] = {
    "Aspect": "toxoid.judges.base",
    "Attack": "toxoid.attacks.base",
    "AttackedPrompt": "toxoid.attacks.base",
    "Completion": "toxoid.engines.base",
    "Conversation": "toxoid.data.schemas",
    "Engine": "toxoid.engines.base",
    "Exchange": "toxoid.data.schemas",
    "GenerationRequest": "toxoid.engines.base",
    "Judge": "toxoid.judges.base",
    "Message": "toxoid.data.schemas",
    "Outcome": "toxoid.judges.base",
    "Recipe": "toxoid.config.recipe",
    "Request": "toxoid.data.schemas",
    "RequestSet": "toxoid.data.request_set",
    "Results": "toxoid.audit.results",
    "RichProgress": "toxoid.cli.progress",
    "Sampling": "toxoid.engines.base",
    "ToxoidError": "toxoid.errors",
    "Treated": "toxoid.loop.treat",
    "UsageError": "toxoid.errors",
    "Verdict": "toxoid.judges.base",
    "align_model": "toxoid.loop.api",
    "audit_model": "toxoid.loop.api",
    "available": "toxoid.loop.catalogue",
    "compare_runs": "toxoid.loop.compare",
    "judge_texts": "toxoid.loop.api",
    "load_engine": "toxoid.loop.api",
    "load_judges": "toxoid.loop.api",
    "load_recipe": "toxoid.config.recipe",
    "load_requests": "toxoid.data.loading",
    "make_attack": "toxoid.attacks.registry",
    "only_arms": "toxoid.config.recipe",
    "read_results": "toxoid.loop.api",
    "register": "toxoid.loop.catalogue",
    "render_summary": "toxoid.report.terminal",
    "run_recipe": "toxoid.loop.api",
    "shield_model": "toxoid.loop.api",
    "user": "toxoid.data.schemas",
    "with_overrides": "toxoid.config.recipe",
}
"""Public name -> module that defines it."""

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
