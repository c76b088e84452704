"""GCG: a suffix that gradients find on a local model's weights, then asked of the model as it is defended.

Source: Zou et al. 2023, "Universal and Transferable Adversarial Attacks on Aligned Language Models" (arXiv 2307.15043),
algorithm 1, as the package nanogcg implements it. The search is an engine of its own, the attacker: it answers a
request with a suffix, and is kept and resumed like any other engine.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from toxoid.attacks.base import asked
from toxoid.attacks.interactive import Ask, Consult, Moves
from toxoid.attacks.prefill import MAX_WORDS, Prefill
from toxoid.data.schemas import Request, as_dicts
from toxoid.engines.base import Completion, GenerationRequest, OnDone
from toxoid.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

    from toxoid.engines.loading import LoadedModel

_INSTALL = "pip install --no-deps nanogcg"
"""Alone: it asks for transformers before 4.48, though it works with the present one, which pip would replace."""


@dataclass(frozen=True, slots=True)
class GCG:
    """Ask the request with a suffix that makes an affirmative beginning likely on the undefended weights.

    The beginning is the first words of the request's target, more than its first sentence, which may be a mere "Sure.";
    where there is no target, an own opener of :class:`~toxoid.attacks.prefill.Prefill`. The attacker is a
    :class:`SuffixSearch`.
    """

    name: str = "gcg"
    needs_attacker: bool = field(default=True, init=False)
    reads_refusals: bool = field(default=False, init=False)

    def identity(self) -> dict[str, Any]:
        """Return the name and what is aimed at; the search is the attacker's."""
        return {"attack": self.name, "beginning": Prefill().identity(), "words": MAX_WORDS}

    def play(self, request: Request, *, seed: int) -> Moves:
        """Have the suffix found, and ask once."""
        (own,) = Prefill().apply(request, seed=seed)
        beginning = " ".join(request.target.split()[:MAX_WORDS]) if request.target else own.prefill
        (found,) = yield [Consult(asked(request), prefill=beginning)]
        if found.text:
            yield [Ask(asked(request, request.prompt + found.text), self.name)]


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How long a suffix is looked for; the defaults are nanogcg's, which follow the paper.

    Args:
        steps: Steps of the search.
        candidates: Suffixes tried per step.
        topk: Tokens considered per position.
        suffix: The first suffix; its length in tokens stays.
        early_stop: Whether to stop as soon as the beginning is the most likely one.
    """

    steps: int = 250
    candidates: int = 512
    topk: int = 256
    suffix: str = " x" * 20
    early_stop: bool = True


class SuffixSearch:
    """Searches suffixes on a local model: an engine whose completion is the suffix for a request.

    The request's last turn is what the suffix follows, its prefill the beginning that is aimed at. Prompt tokens count
    the candidates tried: they are what the search costs.

    Args:
        loaded: The model whose weights are used; ``None`` where there are none here.
        settings: How long to search.

    Raises:
        UsageError: There are no weights, or nanogcg is not installed.
    """

    granule = 1

    def __init__(self, loaded: LoadedModel | None, settings: SearchSettings | None = None) -> None:
        if loaded is None:
            raise UsageError(
                "gcg needs the weights of the model, and an endpoint keeps them elsewhere: give a checkpoint folder or "
                "Hub id, or choose another attack"
            )
        self._loaded, self._settings = loaded, settings or SearchSettings()
        self._package = _nanogcg()
        self.name = f"gcg on {loaded.source}"

    def identity(self) -> dict[str, Any]:
        """Return the model's identity, the package's version and the settings."""
        return {
            "search": "gcg",
            "nanogcg": version("nanogcg"),
            "model": self._loaded.identity,
            "settings": asdict(self._settings),
        }

    def close(self) -> None:
        """Do nothing."""

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return one suffix per request, found with the request's seed, whatever its sampling says."""
        found = []
        for index, request in enumerate(requests):
            found.append([self._search(request, number) for number in range(request.n)])
            if on_done is not None:
                on_done(index, found[-1])
        return found

    def _search(self, request: GenerationRequest, number: int) -> Completion:
        given = self._settings
        config = self._package.GCGConfig(
            num_steps=given.steps,
            search_width=given.candidates,
            topk=given.topk,
            optim_str_init=given.suffix,
            early_stop=given.early_stop,
            use_prefix_cache=False,  # nanogcg indexes the cache as transformers 4 laid it out
            seed=(request.seed + number) % 2**32,  # numpy takes no more
            verbosity="ERROR",
        )
        model, tokenizer = self._loaded.model, self._loaded.tokenizer
        with _undisturbed():
            result = self._package.run(
                model, tokenizer, as_dicts(request.conversation), request.prefill, config
            )
        steps = len(result.losses)
        told = {"loss": float(result.best_loss), "steps": steps}
        length = len(tokenizer(result.best_string, add_special_tokens=False)["input_ids"])
        return Completion(str(result.best_string), "stop", steps * given.candidates, length, told)


def _nanogcg() -> ModuleType:
    try:
        return import_module("nanogcg")
    except ImportError as error:
        raise UsageError(f"gcg needs the package nanogcg ({error}): run `{_INSTALL}`") from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the search's progress bar off the terminal, and what it seeds and switches to itself."""
    import numpy as np
    import torch

    python, arrays = random.getstate(), np.random.get_state()
    strict = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    gc.freeze()  # nanogcg collects garbage twice a step, and would walk through every library each time
    try:
        with (
            torch.random.fork_rng(),
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            redirect_stderr(nowhere),
        ):
            yield
    finally:
        gc.unfreeze()
        random.setstate(python)
        np.random.set_state(arrays)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
