"""Contrastive decoding in two contexts: against one context, two passes, and transformers' guidance processor.

    python -m benchmarks.contrastive_overhead [--json] [--quick] [--threads 1] [--clock cpu]

A Llama of random weights (57M parameters, vocabulary 32k), bfloat16 and float32, soft prompts of 100 vectors, requests
of 16 tokens, greedy replies of 64, in batches of 1, 4 and 16. A step is what a token takes after the first one.

- overhead: a step of the published contrast, in which both contexts are read for every token, over a step of our own
  decoder in one context.
- gated: the same for contrasts of which most tokens need one context: the first two tokens only, or a divergence of 0.1
  between contexts that are near each other.
- speedup: a step of transformers' guidance processor, or of two passes in turn, over one of ours; ``reply``: the same
  for whole replies, of which the guidance processor reads both prompts anew.
- ttft: the time to the first token. ``ttft_ratio`` is to one context whose prompt was read beforehand, as ours were;
  ``ttft_ratio_uncached`` to one that reads it for every reply, as ``generate`` does.

All systems go on side by side, each by a token in turn, so that what else the machine does falls on all of them alike.
Compared are medians of the rounds' ratios. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from toxoid.engines.contrast import PUBLISHED

if TYPE_CHECKING:
    from benchmarks.contrastive_systems import Decoding, Drawn, Model, Work

Say: TypeAlias = Callable[[str], None]
System: TypeAlias = "Callable[[Work], Decoding]"

BATCHES = (1, 4, 16)
REQUEST_TOKENS = 16
NEW_TOKENS = 64
ROUNDS = 3
REQUESTS = (4, 8, REQUEST_TOKENS)
"""Tokens of a request for which the time to the first token is measured, in batches of 1."""
FEW = replace(PUBLISHED, first=2)
FAR = replace(PUBLISHED, divergence=0.1)
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Run:
    """One turn of a system.

    Args:
        seconds: By clock, of each token.
        drawn: What it drew.
    """

    seconds: dict[str, list[float]]
    drawn: Drawn

    def first(self, clock: str) -> float:
        """Return the seconds to the first token."""
        return self.seconds[clock][0]

    def step(self, clock: str) -> float:
        """Return the mean seconds of the later tokens."""
        return statistics.fmean(self.seconds[clock][1:])


def decoders() -> dict[str, System]:
    """Return the systems whose steps are compared."""
    from benchmarks import contrastive_systems as systems

    return {
        "single": systems.in_one_context,
        "contrast": systems.contrasting,
        "first": lambda work: systems.contrasting(work, FEW),
        "divergence": lambda work: systems.contrasting(work, FAR, against="near"),
        "two_passes": systems.in_two_passes,
        "guidance": systems.with_guidance,
        "generate": systems.plainly_generated,
    }


def readers() -> dict[str, System]:
    """Return the systems whose first tokens are compared."""
    from benchmarks import contrastive_systems as systems

    return {
        "single": systems.in_one_context,
        "contrast": systems.contrasting,
        "uncached": lambda work: systems.in_one_context(work, cached=False),
    }


def side_by_side(systems: Mapping[str, System], work: Work, draw: random.Random) -> dict[str, Run]:
    """Let every system draw a token, then every one the next, each time in a random order."""
    order = list(systems)
    running = {name: system(work) for name, system in systems.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in CLOCKS} for name in order}
    for _ in range(work.tokens):
        draw.shuffle(order)
        for name in order:
            start = _now()
            next(running[name])
            end = _now()
            for clock in CLOCKS:
                seconds[name][clock].append(end[clock] - start[clock])
    return {name: Run(seconds[name], _result(decoding)) for name, decoding in running.items()}


def _now() -> dict[str, float]:
    return {name: clock() for name, clock in CLOCKS.items()}


def _result(decoding: Decoding) -> Drawn:
    """Return what a decoding that has yielded its last token returns."""
    try:
        next(decoding)
    except StopIteration as end:
        found: Drawn = end.value
        return found
    raise AssertionError("it draws more tokens than it was asked for")


def in_rounds(systems: Mapping[str, System], work: Work, rounds: int) -> dict[str, list[Run]]:
    """Return the runs of every system, after one of a few tokens that is not measured."""
    draw = random.Random(0)
    side_by_side(systems, replace(work, tokens=min(work.tokens, 4)), draw)
    found = [side_by_side(systems, work, draw) for _ in range(rounds)]
    return {name: [each[name] for each in found] for name in systems}


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of the ratios of the rounds."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    found = {"median": statistics.median(each), "low": min(each), "high": max(each)}
    return {name: round(value, 3) for name, value in found.items()}


# ---- steps ----


def compare_steps(runs: Mapping[str, Sequence[Run]], clock: str) -> dict[str, Any]:
    """Return how the steps of all systems compare."""
    step = {name: [run.step(clock) for run in made] for name, made in runs.items()}
    drawn = {name: made[0].drawn for name, made in runs.items()}
    return {
        "overhead": ratios(step["contrast"], step["single"]),
        **{f"overhead_{name}": ratios(step[name], step["single"]) for name in ("first", "divergence")},
        **{f"speedup_vs_{name}": ratios(step[name], step["contrast"]) for name in ("two_passes", "guidance")},
        "speedup_vs_guidance_reply": ratios(
            *([sum(run.seconds[clock]) for run in runs[name]] for name in ("guidance", "contrast"))
        ),
        "generate_vs_single": ratios(step["generate"], step["single"]),
        "step_ms": {name: _ms(seconds) for name, seconds in step.items()},
        "first_token_ms": {name: _ms(run.first(clock) for run in made) for name, made in runs.items()},
        "contrasted_share_divergence": round(drawn["divergence"].contrasted, 3),
        "equal_tokens": {
            name: round(_equal(drawn["contrast"], drawn[name]), 3) for name in ("two_passes", "guidance")
        },
    }


def _ms(seconds: Iterable[float]) -> float:
    return round(1000 * statistics.median(seconds), 2)


def _equal(one: Drawn, other: Drawn) -> float:
    """Return the share of places at which two sets of replies have the same token."""
    same = [a == b for pair in zip(one.ids, other.ids, strict=True) for a, b in zip(*pair, strict=True)]
    return statistics.fmean(same)


def _told_steps(name: str, found: Mapping[str, Any]) -> str:
    ms, equal = found["step_ms"], found["equal_tokens"]
    return (
        f"{name}: step {ms['single']:.1f} ms in one context, {ms['contrast']:.1f} contrasted, two passes "
        f"{ms['two_passes']:.1f}, guidance {ms['guidance']:.1f}, generate in one context {ms['generate']:.1f}\n"
        f"  overhead {_range(found['overhead'])}; first 2 tokens {_range(found['overhead_first'])}; divergence 0.1 "
        f"{_range(found['overhead_divergence'])} with {found['contrasted_share_divergence']:.0%} contrasted\n"
        f"  faster than guidance by {_range(found['speedup_vs_guidance'])}, whole replies by "
        f"{_range(found['speedup_vs_guidance_reply'])}, than two passes by "
        f"{_range(found['speedup_vs_two_passes'])}; tokens equal to theirs "
        f"{equal['guidance']:.0%} and {equal['two_passes']:.0%}"
    )


def _range(ratio: Mapping[str, float]) -> str:
    return "{median:.2f} ({low:.2f} to {high:.2f})".format(**ratio)


# ---- first tokens ----


def compare_first_tokens(runs: Mapping[str, Sequence[Run]], clock: str) -> dict[str, Any]:
    """Return how the times to the first token compare."""
    first = {name: [run.first(clock) for run in made] for name, made in runs.items()}
    return {
        "cached": ratios(first["contrast"], first["single"]),
        "uncached": ratios(first["contrast"], first["uncached"]),
        "ms": {name: _ms(seconds) for name, seconds in first.items()},
    }


def _told_first(name: str, found: Mapping[str, Any]) -> str:
    return (
        f"{name}: first token after {found['ms']['contrast']:.1f} ms; over one context, "
        f"cached {_range(found['cached'])}, uncached {_range(found['uncached'])}"
    )


# ---- all of it ----


def measure(model: Model, batches: Sequence[int], rounds: int, clock: str, say: Say) -> tuple[Any, Any]:
    """Return what was found of one model: of the steps by batch, and of the first tokens by request."""
    from benchmarks.contrastive_systems import Work, random_tokens

    steps: dict[str, Any] = {}
    first: dict[str, Any] = {}
    for batch in batches:
        name = f"batch{batch}_{model.dtype}"
        work = Work(model, random_tokens(batch, REQUEST_TOKENS, seed=batch), NEW_TOKENS)
        steps[name] = compare_steps(in_rounds(decoders(), work, rounds), clock)
        say(_told_steps(name, steps[name]))
    for request in REQUESTS:
        name = f"request{request}_{model.dtype}"
        work = Work(model, random_tokens(1, request, seed=request), 1)
        first[name] = compare_first_tokens(in_rounds(readers(), work, 7 * rounds), clock)
        say(_told_first(name, first[name]))
    return steps, first


def run(*, quick: bool, threads: int, clock: str, say: Say) -> dict[str, Any]:
    """Measure everything; return what the last line says."""
    import torch

    from benchmarks.contrastive_systems import TYPES, random_model

    torch.set_num_threads(threads)
    rounds, batches = (1, BATCHES[:1]) if quick else (ROUNDS, BATCHES)
    found: dict[str, Any] = {"steps": {}, "first_tokens": {}}
    for dtype in TYPES:
        model = random_model(dtype)
        steps, first = measure(model, batches, rounds, clock, say)
        found["steps"] |= steps
        found["first_tokens"] |= first
        found["parameters"] = sum(parameter.numel() for parameter in model.model.parameters())
    return {
        **_headlines(found["steps"], found["first_tokens"]),
        "threads": threads,
        "clock": clock,
        "rounds": rounds,
        **found,
    }


def _headlines(steps: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that have targets; those without a batch in their name are of batch 1 in bfloat16."""
    alone, start = steps["batch1_bf16"], first[f"request{REQUEST_TOKENS}_bf16"]
    return {
        **{f"overhead_{name}": found["overhead"]["median"] for name, found in steps.items()},
        "speedup_vs_guidance": min(found["speedup_vs_guidance"]["median"] for found in steps.values()),
        "speedup_vs_guidance_reply": min(
            found["speedup_vs_guidance_reply"]["median"] for found in steps.values()
        ),
        "speedup_vs_two_passes": min(found["speedup_vs_two_passes"]["median"] for found in steps.values()),
        "ttft_ratio": start["cached"]["median"],
        "ttft_ratio_uncached": start["uncached"]["median"],
        "gated_overhead_first": alone["overhead_first"]["median"],
        "gated_overhead_divergence": alone["overhead_divergence"]["median"],
        "contrasted_share_divergence": alone["contrasted_share_divergence"],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--quick", action="store_true", help="one round, batch 1 only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for a machine that others use too"
    )
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # the threads of systems that wait must not spin
    say: Say = (lambda text: None) if options.json else print
    found = run(quick=options.quick, threads=options.threads, clock=options.clock, say=say)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
