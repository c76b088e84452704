"""Explanations: what the prompts and their contrast did to a reply, token by token, told after the fact.

A reply is read again in every context it was drawn from, and under no prompt at all, which is the undefended model.
So an explanation asks nothing of the decoder, and what it shows is what a token was drawn from, up to the last bits
of the logits.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from toxoid.engines.base import Completion, GenerationRequest
from toxoid.engines.contrast import Contrast, contrasted, implausible, total_variation
from toxoid.engines.contrast_decoding import passed
from toxoid.engines.decoding import Gate
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.prompting import Bare
from toxoid.engines.soft_prompt import embed

if TYPE_CHECKING:
    from toxoid.engines.local import Drawn, LocalEngine

_TAIL = 8
"""Tokens that are decoded with a token, so that blanks and split characters come out right."""
_BROKEN = "\ufffd"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that could stand at a place of a reply. Probabilities are at the explanation's temperature.

    Args:
        id: Its id.
        text: What it adds to the text; the name of a special token; empty where it ends within a character.
        positive: Its logit S in the positive context.
        negative: Its logit A in the negative context; ``None`` if there is none.
        combined: The logit that it is drawn by; ``None`` if the mask removes it.
        p_bare: Its probability for the undefended model.
        p_positive: Its probability in the positive context alone.
        p_combined: Its probability as it is drawn.
    """

    id: int
    text: str
    positive: float
    negative: float | None
    combined: float | None
    p_bare: float
    p_positive: float
    p_combined: float


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token of a reply, and what would have stood in its place.

    Args:
        chosen: The token.
        bare: What the undefended model finds most probable here.
        alone: What the positive context alone finds most probable here.
        moved: Share of the probability that contrast and mask moved, in [0, 1]: the total variation distance of
            the positive context alone and what the token was drawn from, at the explanation's temperature.
        contrasted: Whether the negative context had a say.
        removed: Whether the mask removes ``bare``.
    """

    chosen: Candidate
    bare: Candidate
    alone: Candidate
    moved: float
    contrasted: bool
    removed: bool

    @property
    def changed(self) -> bool:
        """Whether the undefended model would rather have said something else."""
        return self.chosen.id != self.bare.id


@dataclass(frozen=True, slots=True)
class Explanation:
    """A reply, token by token.

    Args:
        model: The engine's name.
        request: What was asked.
        completion: The reply.
        positive: The prompt that was followed, see :class:`toxoid.engines.contexts.Decoding`.
        negative: The one that was stayed away from; ``None`` if there was none.
        contrast: How the two were combined.
        temperature: At which probabilities are shown: the request's, or 1 for a greedy reply. ``top_p`` is left out.
        tokens: One view for each token drawn, the one that ended the turn included.
    """

    model: str
    request: GenerationRequest
    completion: Completion
    positive: str
    negative: str | None
    contrast: Contrast
    temperature: float
    tokens: tuple[TokenView, ...]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Again:
    """Logits of a reply that was read again, (tokens, vocabulary) each: undefended, and in its contexts."""

    bare: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor | None = None


def explain(engine: LocalEngine, request: GenerationRequest, drawn: Drawn) -> Explanation:
    """Explain one reply.

    One forward pass per context reads prompt and reply as a whole.

    Args:
        engine: Which drew it.
        request: For which it was drawn.
        drawn: What was drawn.
    """
    bare = Bare(engine.loaded.tokenizer).tokens(*engine.asked(request.conversation, request.prefill))
    contexts = engine.prompts(request.conversation, request.prefill)
    temperature = request.sampling.temperature or 1.0
    views: tuple[TokenView, ...] = ()
    if drawn.ids:
        with torch.inference_mode():
            read = {prompt: _logits(engine, prompt, drawn.ids) for prompt in {bare, *contexts}}
            again = _Again(read[bare], *(read[prompt] for prompt in contexts))
            views = tuple(_views(engine, bare, drawn.ids, again, temperature))
    told = engine.prompting.identity.get("decoding", {"positive": "bare", "negative": None})
    return Explanation(
        model=engine.name,
        request=request,
        completion=drawn.completion,
        positive=told["positive"],
        negative=told["negative"],
        contrast=engine.prompting.contrast,
        temperature=temperature,
        tokens=views,
    )


def combined_logits(
    positive: torch.Tensor, negative: torch.Tensor | None, contrast: Contrast
) -> Iterator[tuple[torch.Tensor, bool]]:
    """Yield for each token of a reply the logits it is drawn by, and whether the negative context had a say.

    Args:
        positive: (tokens, vocabulary) logits of S.
        negative: The same of A; ``None`` if there is none.
        contrast: How they are combined: strength, mask and gates.

    Yields:
        (vocabulary,) logits, minus infinity where the mask removes a token.
    """
    gate = Gate()
    for step in range(len(positive)):
        above = positive[step : step + 1]
        removed = implausible(above, contrast.plausibility)
        free = removed is None or int((~removed).sum()) > 1
        early = contrast.first is None or step < contrast.first
        used = looked = False
        logits = above
        if negative is not None and free and early and gate.wait == 0:
            below = negative[step : step + 1]
            looked = True
            used = contrast.divergence is None or bool(total_variation(above, below) >= contrast.divergence)
            logits = contrasted(above, below, contrast) if used else above
        gate = passed(gate, contrast, free=free, looked=looked, used=used)
        yield (logits if removed is None else logits.masked_fill(removed, -torch.inf))[0], used


def _logits(engine: LocalEngine, prompt: Tokens, ids: Sequence[int]) -> torch.Tensor:
    """Return the logits of every token of a reply: (tokens, vocabulary)."""
    model, table = engine.loaded.model, engine.prompting.table
    row = torch.tensor([[*prompt, *ids[:-1]]], device=model.device)
    given = {"input_ids": row} if table is None else {"inputs_embeds": embed(model, row, table)}
    narrow = "logits_to_keep" in inspect.signature(model.forward).parameters
    output = model(**given, use_cache=False, **({"logits_to_keep": len(ids)} if narrow else {}))
    logits: torch.Tensor = output.logits[0, -len(ids) :]
    return logits


def _views(
    engine: LocalEngine, prompt: Tokens, ids: Sequence[int], again: _Again, temperature: float
) -> Iterator[TokenView]:
    tokenizer = engine.loaded.tokenizer
    drawn_by = combined_logits(again.positive, again.negative, engine.prompting.contrast)
    for step, (combined, used) in enumerate(drawn_by):
        bare, positive = again.bare[step], again.positive[step]
        negative = None if again.negative is None else again.negative[step]
        shares = [torch.softmax(row.float() / temperature, dim=-1) for row in (bare, positive, combined)]
        chosen, undefended, alone = (
            Candidate(
                token,
                token_text(tokenizer, (*prompt, *ids[:step]), token),
                float(positive[token]),
                None if negative is None else float(negative[token]),
                None if combined[token] == -torch.inf else float(combined[token]),
                *(float(share[token]) for share in shares),
            )
            for token in (ids[step], int(bare.argmax()), int(positive.argmax()))
        )
        moved = float((shares[1] - shares[2]).abs().sum() / 2)
        yield TokenView(chosen, undefended, alone, moved, used, removed=undefended.combined is None)


def token_text(tokenizer: Any, before: Sequence[int], token: int) -> str:
    """Return what a token adds to the text of the tokens ``before`` it.

    A special token gives its name. One that ends within a character gives nothing, and the one that completes the
    character gives the whole of it.
    """
    added = tokenizer.added_tokens_decoder.get(token)
    if added is not None and added.special:
        return str(added.content)
    tail = list(before[-_TAIL:])
    old, new = (
        str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        for ids in (tail, [*tail, token])
    )
    kept = old if new.startswith(old) else old.rstrip(_BROKEN)
    return new[len(kept) :].rstrip(_BROKEN)
