"""Contexts: the prompts under which a model is asked, one alone or two in contrast.

The positive context is the one to follow, the negative one that to stay away from. Each is the conversation as it is
(``bare``), under a manual system prompt, or under a soft prompt of a shield. All pairs of the published ablation
(Zhao et al. 2024, table 5) are combinations of these, and so are instructive decoding with a null prompt (safe against
bare) and with an opposite one (safe against opposite).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch

from toxoid.config.prompt_files import prompt
from toxoid.engines.contrast import UNCONTRASTED, Contrast
from toxoid.engines.loading import LoadedModel
from toxoid.engines.local import LocalEngine
from toxoid.engines.prompting import Bare, Context, Manual, Prompting, Soft
from toxoid.engines.shield import Shield, check_fit
from toxoid.engines.soft_prompt import Place, embeddings_of
from toxoid.errors import UsageError

ContextName: TypeAlias = Literal["sp", "ap", "safe", "opposite", "bare"]
"""``sp`` and ``ap``: a shield's safe and adversarial soft prompts; ``safe`` and ``opposite``: the manual ones;
``bare``: no prompt."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Under which prompts a model is asked, and how their distributions are combined.

    Args:
        positive: The context to follow.
        negative: The context to stay away from; ``None`` for none.
        contrast: How they are combined; its mask works without a negative context too.
    """

    positive: ContextName = "sp"
    negative: ContextName | None = "ap"
    contrast: Contrast = field(default_factory=Contrast)

    def __post_init__(self) -> None:
        if self.positive == self.negative:
            raise UsageError(f"positive and negative are both {self.positive}: there is nothing to contrast")

    @classmethod
    def plain(cls) -> Decoding:
        """Return the decoding that is none: the conversation as it is."""
        return cls("bare", None, UNCONTRASTED)

    @property
    def needs_shield(self) -> bool:
        """Whether a soft prompt takes part."""
        return not {"sp", "ap"}.isdisjoint((self.positive, self.negative))


def chosen(given: Mapping[str, Any], shield: Shield | None = None) -> Decoding:
    """Return the decoding that is meant by some of its settings.

    Args:
        given: ``positive``, ``negative`` and the names of :class:`Contrast`, each as far as it was said. What was not
            said is a shield's own: ``sp`` against ``ap``, as the shield is meant to be used. Without a shield it is
            the conversation as it is, and what else :class:`Contrast` says. Without a negative context there is
            no mask unless it was said.
        shield: The shield there is, if there is one.

    Raises:
        UsageError: A value is out of range.
    """
    settings = dict(given)
    positive = settings.pop("positive", "sp" if shield else "bare")
    negative = settings.pop("negative", "ap" if shield else None)
    contrast = shield.contrast if shield else Contrast()
    if negative is None:
        settings = {"plausibility": 0.0, **settings, "alpha": 0.0}
    return Decoding(positive, negative, replace(contrast, **settings))


def prompted_engine(loaded: LoadedModel, decoding: Decoding, shield: Shield | None = None) -> LocalEngine:
    """Return the engine that asks a model under the contexts of a decoding.

    Manual prompts are the packaged ones (``system.yaml``).

    Raises:
        UsageError: The decoding needs a shield and there is none, or the shield belongs to another model.
    """
    return LocalEngine(loaded, prompting(loaded, decoding, shield))


def prompting(loaded: LoadedModel, decoding: Decoding, shield: Shield | None = None) -> Prompting:
    """Return how conversations are put before a model; see :func:`prompted_engine`."""
    contexts: dict[str, Context] = {"bare": Bare(loaded.tokenizer)}
    contexts |= {
        name: Manual(loaded.tokenizer, prompt("system")[name].strip()) for name in ("safe", "opposite")
    }
    table, soft = None, None
    if decoding.needs_shield:
        if shield is None:
            raise UsageError(
                f"positive {decoding.positive} and negative {decoding.negative} need the soft prompts of a shield: "
                "give one with --shield, or choose safe and opposite"
            )
        check_fit(shield, loaded)
        contexts |= _soft(loaded, shield)
        table, soft = torch.cat([shield.safe, shield.opposite]).to(loaded.model.device), shield.identity()
    against = decoding.negative if decoding.contrast.contrasts else None
    used = [name for name in (decoding.positive, against) if name is not None]
    identity = {
        "positive": decoding.positive,
        "negative": against,
        "contrast": asdict(decoding.contrast),
        "shield": soft,
        "manual": [prompt("system")[name].strip() for name in used if name in ("safe", "opposite")],
    }
    return Prompting(
        positive=contexts[decoding.positive],
        negative=None if against is None else contexts[against],
        contrast=decoding.contrast,
        table=table,
        identity={} if used == ["bare"] and not decoding.contrast.plausibility else {"decoding": identity},
    )


def _soft(loaded: LoadedModel, shield: Shield) -> dict[str, Context]:
    """Return the contexts of a shield's two prompts, whose virtual ids follow the model's own and each other."""
    first, count = embeddings_of(loaded.model).num_embeddings, shield.length
    place = Place(loaded.tokenizer, shield.frame)
    return {
        "sp": Soft(place, range(first, first + count)),
        "ap": Soft(place, range(first + count, first + 2 * count)),
    }
