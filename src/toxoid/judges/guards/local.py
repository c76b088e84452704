"""A guard model in this process: how it is asked, and how sure it is of the word that decides."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import expit

from toxoid.engines.base import GenerationRequest
from toxoid.engines.classifiers.causal import answer_odds, answer_tokens
from toxoid.engines.loading import LoadedModel
from toxoid.engines.local import LocalEngine
from toxoid.engines.prompting import Prompting
from toxoid.engines.quoting import IDENTITY, Quoted
from toxoid.engines.templates import prompt_text
from toxoid.errors import UsageError


class LocalGuard(LocalEngine):
    """Asks a guard model by its own template, with quoted contents (:mod:`toxoid.engines.quoting`).

    Args:
        loaded: The model; its chat template is :meth:`toxoid.judges.guards.families.Family.template_for` it.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__(loaded, Prompting(Quoted(loaded.tokenizer, prompt_text), identity=IDENTITY))

    def probabilities(
        self, requests: Sequence[GenerationRequest], words: tuple[str, str]
    ) -> list[float] | list[None]:
        """Return how sure the model is of the first of two words, against the second, after each prompt and prefill.

        Which tokens stand for a word: :func:`toxoid.engines.classifiers.causal.answer_tokens`.

        Returns:
            In [0, 1], one per request; all ``None`` if the tokenizer begins both words alike.
        """
        try:
            hits, misses = answer_tokens(self.loaded.tokenizer, *words)
        except UsageError:
            return [None] * len(requests)
        prompts = [self.prompts(request.conversation, request.prefill)[0] for request in requests]
        odds = answer_odds(self.loaded.model, prompts, hits, misses)
        return [float(expit(each)) for each in odds]
