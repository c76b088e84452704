"""The systems of :mod:`benchmarks.contrastive_overhead`, and the random model that all of them run.

Soft prompts are the vectors of random tokens here. So a system that takes its prompts as token ids, as ``generate``
takes negative ones, does the same work as the others, and draws the same tokens.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Any, TypeAlias

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList

from toxoid.engines.contrast import PUBLISHED, UNCONTRASTED, Contrast
from toxoid.engines.decoding import Continuation, Node, Reading, steps
from toxoid.engines.forward import read_prefix
from toxoid.engines.kv_cache import KnownPrefix
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.soft_prompt import vectors_of

VOCABULARY = 32_000
SOFT_TOKENS = 100
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

NEAR = 0.035
"""How far the near soft prompt is from the positive one, of the way to the opposite one: so far that a few percent of
the tokens are contrasted at a divergence of 0.1. Opposite ones of random weights differ as much at every token."""


@dataclass(frozen=True)
class Model:
    """A model with its soft prompts.

    Args:
        dtype: The name of its type.
        model: In eval mode, with random weights.
        plain: The tokens whose vectors the positive and the opposite soft prompt are.
        soft: The virtual ids of the positive, the opposite and the near soft prompt.
        table: Their vectors.
        known: The soft prompts as they were read beforehand.
    """

    dtype: str
    model: Any
    plain: tuple[Tokens, Tokens]
    soft: dict[str, Tokens]
    table: torch.Tensor
    known: list[KnownPrefix]


@dataclass(frozen=True)
class Work:
    """What every system does.

    Args:
        model: The model.
        users: What stands after the soft prompts, one per reply; all of a length.
        tokens: To draw for each, greedily.
    """

    model: Model
    users: Sequence[Tokens]
    tokens: int


@dataclass(frozen=True)
class Drawn:
    """What a system has drawn.

    Args:
        ids: By reply.
        contrasted: Share of the tokens that were drawn from both contexts.
    """

    ids: list[list[int]]
    contrasted: float = 0.0


Decoding: TypeAlias = Generator[None, None, Drawn]
"""Yields after every token of all replies."""


def random_model(dtype: str) -> Model:
    """Return a Llama of 57M parameters, weights spread so that greedy replies do not repeat themselves."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=8,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).to(TYPES[dtype]).eval()
    positive, opposite = random_tokens(2, SOFT_TOKENS, seed=0)
    above, below = vectors_of(model, positive), vectors_of(model, opposite)
    table = torch.cat([above, below, torch.lerp(above, below, NEAR)])
    names = ("positive", "opposite", "near")
    firsts = (VOCABULARY + index * SOFT_TOKENS for index in range(len(names)))
    soft = {name: tuple(range(i, i + SOFT_TOKENS)) for name, i in zip(names, firsts, strict=True)}
    read = [read_prefix(model, ids, table) for ids in soft.values()]
    return Model(dtype, model, (positive, opposite), soft, table, [prefix for prefix in read if prefix])


def random_tokens(count: int, length: int, *, seed: int) -> list[Tokens]:
    """Return sequences of random tokens."""
    draw = random.Random(seed)
    return [tuple(draw.randrange(VOCABULARY) for _ in range(length)) for _ in range(count)]


# ---- the systems ----


def in_one_context(work: Work, *, cached: bool = True) -> Decoding:
    """Decode after the positive soft prompt alone; ``cached``: it was read beforehand."""
    return _decoded(work, None, UNCONTRASTED, work.model.known if cached else [])


def contrasting(work: Work, contrast: Contrast = PUBLISHED, *, against: str = "opposite") -> Decoding:
    """Decode in two contexts, both of which were read beforehand."""
    return _decoded(work, against, contrast, work.model.known)


def _decoded(work: Work, against: str | None, contrast: Contrast, known: Sequence[KnownPrefix]) -> Decoding:
    soft = work.model.soft
    paths = [Continuation(work.tokens, temperature=0.0, top_p=1.0, draws=()) for _ in work.users]
    nodes = [
        Node((*soft["positive"], *user), [path], against=(*soft[against], *user) if against else None)
        for user, path in zip(work.users, paths, strict=True)
    ]
    reading = Reading(contrast, work.model.table, known)
    for _ in steps(work.model.model, nodes, end_ids=frozenset(), reading=reading):
        yield
    yield  # the last token ends the loop
    share = sum(path.contrasted for path in paths) / (work.tokens * len(paths))
    return Drawn([path.ids for path in paths], share)


def in_two_passes(work: Work) -> Decoding:
    """Step two contexts in turn in a plain loop over ``transformers``' own cache, and combine what they give."""
    model = work.model.model
    given = [_prompts(work, prefix) for prefix in work.model.plain]
    pasts = [DynamicCache(config=model.config) for _ in given]
    drawn = []
    for _ in range(work.tokens):
        with torch.inference_mode():
            above, below = (
                model(input_ids=ids, past_key_values=past, logits_to_keep=1).logits[:, -1].float()
                for ids, past in zip(given, pasts, strict=True)
            )
            drawn.append((above - PUBLISHED.alpha * below).argmax(-1, keepdim=True))
            given = [drawn[-1], drawn[-1]]
        yield
    return Drawn(torch.cat(drawn, 1).tolist())


def with_guidance(work: Work) -> Decoding:
    """Call ``generate`` with its guidance processor.

    Its scores are ``g S - (g - 1) A`` for log-probabilities S and A. With ``g = 1 / (1 - alpha)`` that is the
    published contrast divided by ``1 - alpha``: the same greedy tokens.
    """
    negative = _prompts(work, work.model.plain[1])
    return _generated(
        work,
        guidance_scale=1 / (1 - PUBLISHED.alpha),
        negative_prompt_ids=negative,
        negative_prompt_attention_mask=torch.ones_like(negative),
    )


def plainly_generated(work: Work) -> Decoding:
    """Call ``generate`` in the positive context alone."""
    return _generated(work)


def _generated(work: Work, **options: Any) -> Decoding:
    """Call ``generate`` in a thread that waits after every token until it is asked for the next."""
    ids = _prompts(work, work.model.plain[0])
    asked, given = Semaphore(0), Semaphore(0)

    def call() -> Any:
        asked.acquire()
        with torch.inference_mode():
            return work.model.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=work.tokens,
                stopping_criteria=StoppingCriteriaList([_Pause(asked, given)]),
                **options,
            )

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        future.add_done_callback(lambda _: given.release())  # if it fails
        for _ in range(work.tokens):
            asked.release()
            given.acquire()
            yield
        asked.release()
        return Drawn(future.result()[:, ids.shape[1] :].tolist())


class _Pause(StoppingCriteria):  # type: ignore[misc,unused-ignore]  # transformers is not typed
    """Is called after every token: says so, waits until the next one is asked for, and stops nothing."""

    def __init__(self, asked: Semaphore, given: Semaphore) -> None:
        self._asked, self._given = asked, given

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self._given.release()
        self._asked.acquire()
        return torch.zeros(len(input_ids), dtype=torch.bool)


def _prompts(work: Work, prefix: Tokens) -> torch.Tensor:
    return torch.tensor([[*prefix, *user] for user in work.users])
