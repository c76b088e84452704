"""Sampling for C2-Eval: the local engine against transformers' plain batched generate.

    python -m benchmarks.course_correction_sampling [--json] [--quick] [--clock cpu]

Both continue the same prefixes of the same replies, 8 lengths and 20 paths each, at most 32 tokens. Theirs is what
the paper's public code does: batches of 10, left-padded, ``do_sample``. Two models: the lab's, with the paper's
sampling (T 0.8, nucleus 0.7), and random weights, where at T 1 no two paths agree: the worst case, in which prefixes
are shared and paths are not. Repeats take turns within the run; what is compared are medians. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.random_models import SPECIALS, random_llama, word_tokenizer
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel

THREADS = 2
PATHS = 20
NEW_TOKENS = 32
THEIR_BATCH = 10
PAPER = Sampling(temperature=0.8, top_p=0.7, max_tokens=NEW_TOKENS)
PLAIN = Sampling(temperature=1.0, top_p=1.0, max_tokens=NEW_TOKENS)
LAB_LENGTHS = tuple(range(5, 45, 5))
"""Words of a prefix; the lab's replies have about 40 words, half as many as the paper's longest prefix."""
LENGTHS = tuple(range(10, 90, 10))
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}

VOCABULARY = 8192


@dataclass(frozen=True)
class Work:
    """What both sides do.

    Args:
        name: In the output.
        model: The model.
        items: (request, harmful reply).
        lengths: Prefixes in words; a reply shorter than that is taken whole, once.
        sampling: How to draw.
    """

    name: str
    model: LoadedModel
    items: Sequence[tuple[str, str]]
    lengths: Sequence[int]
    sampling: Sampling

    def requests(self) -> list[GenerationRequest]:
        """Return one request per item and distinct prefix."""
        found: list[GenerationRequest] = []
        for text, reply in self.items:
            words = reply.split()
            prefixes = dict.fromkeys(" ".join(words[:k]) for k in self.lengths)
            found += [
                GenerationRequest(user(text), prefix, self.sampling, PATHS, seed=len(found) + index)
                for index, prefix in enumerate(prefixes)
            ]
        return found


@dataclass
class Side:
    """What was measured of one side, over the repeats.

    Args:
        seconds: Of each repeat.
        tokens: Positions that forward passes computed, padding included; of the last repeat.
        drawn: Tokens of all continuations up to their ends; of the last repeat.
    """

    seconds: list[float]
    tokens: int = 0
    drawn: int = 0

    def median(self) -> float:
        """Return the median of the seconds."""
        return statistics.median(self.seconds)


# ---- the two sides ----


def toxoid_side(work: Work) -> int:
    """Draw with the local engine; return how many tokens the continuations have."""
    from toxoid.engines.local import LocalEngine

    results = LocalEngine(work.model).generate(work.requests())
    return sum(done.completion_tokens for completions in results for done in completions)


def transformers_side(work: Work) -> int:
    """Draw with ``generate``, a batch of 10 paths at a time; return how many tokens the continuations have."""
    import torch

    from toxoid.engines.templates import encode, end_of_turn_ids

    model, tokenizer = work.model.model, work.model.tokenizer
    ends = sorted(end_of_turn_ids(tokenizer, model))
    rows = [
        encode(tokenizer, request.conversation, prefill=request.prefill)
        for request in work.requests()
        for _ in range(PATHS)
    ]
    drawn = 0
    torch.manual_seed(0)
    for start in range(0, len(rows), THEIR_BATCH):
        batch = rows[start : start + THEIR_BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=work.sampling.temperature,
                top_p=work.sampling.top_p,
                top_k=0,
                max_new_tokens=NEW_TOKENS,
                eos_token_id=ends,
                pad_token_id=tokenizer.pad_token_id,
            )
        for row in out[:, width:].tolist():
            stop = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
            drawn += stop + 1
    return drawn


SIDES = {"toxoid": toxoid_side, "transformers": transformers_side}


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """Collect how many positions each forward pass computes, padding included."""
    computed: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _module, _args, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        yield computed
    finally:
        hook.remove()


def measure(work: Work, repeats: int, clock: Callable[[], float]) -> dict[str, Side]:
    """Let the sides take turns."""
    measured = {name: Side([]) for name in SIDES}
    for _ in range(repeats):
        for name, side in SIDES.items():
            with counted(work.model.model) as computed:
                start = clock()
                drawn = side(work)
                measured[name].seconds.append(clock() - start)
            measured[name].tokens, measured[name].drawn = sum(computed), drawn
    return measured


# ---- the two models ----


def lab_work(items: int) -> Work:
    """Return harmful requests of the lab with their replies, for its base model and the paper's sampling."""
    from toxoid.engines.loading import load_model
    from toxoid.loop.models import model_source

    requests = [request for request in lab_requests("lab-harmful").requests if request.target]
    texts = [(request.prompt, str(request.target)) for request in requests[:: len(requests) // items][:items]]
    return Work("lab", load_model(model_source("lab-base")), texts, LAB_LENGTHS, PAPER)


def random_work(name: str, model: LoadedModel, items: int, sampling: Sampling) -> Work:
    """Return requests of 25 random words with replies of 80."""
    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(f"w{draw.randrange(VOCABULARY - len(SPECIALS))}" for _ in range(count))

    return Work(name, model, [(words(25), words(80)) for _ in range(items)], LENGTHS, sampling)


def random_model() -> LoadedModel:
    """Return a Llama of 20M random weights with a tokenizer of whole words."""
    from toxoid.engines.loading import LoadedModel

    model = random_llama(VOCABULARY, intermediate=1024, positions=512)
    return LoadedModel(model, word_tokenizer(VOCABULARY), "random", {"kind": "local"})


# ---- the comparison ----


def run(*, quick: bool, threads: int, clock: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything; return what the last line says."""
    import torch

    torch.set_num_threads(threads)
    model = random_model()
    repeats, lab_items, items = (1, 2, 1) if quick else (3, 8, 1)
    works = [
        lab_work(lab_items),
        random_work("worst_case", model, items, PLAIN),
        random_work("random_paper", model, items, PAPER),
    ]
    found: dict[str, Any] = {
        "threads": threads,
        "clock": clock,
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
    }
    for work in works:
        measured = measure(work, repeats, CLOCKS[clock])
        ours, theirs = measured["toxoid"], measured["transformers"]
        ratios = [b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
        say(
            f"{work.name}: {len(work.items)} items, {len(work.requests())} prefixes x {PATHS} paths\n"
            f"  toxoid        {ours.median():8.2f} s  {ours.tokens:8d} tokens computed  {ours.drawn:7d} drawn\n"
            f"  transformers  {theirs.median():8.2f} s  {theirs.tokens:8d} tokens computed  "
            f"{theirs.drawn:7d} drawn\n"
            f"  faster by {theirs.median() / ours.median():.1f} ({min(ratios):.1f} to {max(ratios):.1f} over "
            f"{repeats} turns), tokens {theirs.tokens / ours.tokens:.1f}"
        )
        found[f"speedup_{work.name}"] = round(theirs.median() / ours.median(), 2)
        found[f"speedup_{work.name}_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
        found[f"tokens_ratio_{work.name}"] = round(theirs.tokens / ours.tokens, 2)
        for name, side in measured.items():
            found[f"{name}_{work.name}"] = {
                "seconds": [round(seconds, 3) for seconds in side.seconds],
                "tokens": side.tokens,
                "drawn": side.drawn,
            }
    found["tokens_ratio"] = found["tokens_ratio_lab"]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--quick", action="store_true", help="one turn, two items of the lab")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for a machine that others use too"
    )
    options = parser.parse_args(arguments)
    say: Callable[[str], None] = (lambda text: None) if options.json else print
    found = run(quick=options.quick, threads=options.threads, clock=options.clock, say=say)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
