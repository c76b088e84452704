"""Decoding: token by token over a batch of nodes, the points of the prefix tree at which continuations stand.

The loop knows token ids only. Continuations of one prompt that have drawn the same tokens so far stand at the
same node: one row, computed once. Each keeps its own random stream and inverts it on the probabilities of its
node, and those that choose the same token move on together. So every continuation is, draw by draw, the one it
would be in a row of its own; splitting a node's count multinomially would be equal in distribution only.

A prompt that shares its beginning with a longer one is read from there, and finished nodes leave at once.
Neither can be seen in what comes out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch

from toxoid.engines.kv_cache import placement, row_cache
from toxoid.engines.prefix_tree import Tokens, readings, rounds
from toxoid.engines.token_choice import choose_tokens

Finish: TypeAlias = Literal["stop", "length"]

Settings: TypeAlias = tuple[float, float]
"""Temperature and nucleus."""


@dataclass(slots=True, eq=False)
class Continuation:
    """One continuation to be drawn.

    Args:
        max_tokens: At most so many tokens, at least 1.
        temperature: 0 is greedy.
        top_p: Nucleus; 1 keeps the whole distribution.
        draws: ``max_tokens`` uniforms in [0, 1), one per token; empty if greedy.
        stopped: Asked after every token, with all tokens drawn, whether they end the continuation. Asked once
            per node for all continuations that have the same function.
        ids: The tokens drawn, the one that ended the turn included; empty until it is finished.
        finish: Why it ended; ``None`` until then.
    """

    max_tokens: int
    temperature: float
    top_p: float
    draws: Sequence[float]
    stopped: Callable[[list[int]], bool] | None = None
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None


@dataclass(slots=True, eq=False)
class Node:
    """A prompt, the tokens drawn after it, and the continuations that have drawn just these."""

    prompt: Tokens
    continuations: list[Continuation]
    ids: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        """All tokens that lead here."""
        return (*self.prompt, *self.ids)

    @property
    def to_come(self) -> int:
        """Tokens that may still be drawn from here."""
        return max(path.max_tokens for path in self.continuations) - len(self.ids)


def decode(
    model: Any, nodes: Sequence[Node], *, end_ids: Set[int], max_nodes: int | None = None
) -> list[Node]:
    """Draw the continuations of ``nodes`` to their end, in place.

    Args:
        model: A causal language model in eval mode.
        nodes: Where to begin; the tokens of each are not empty. Their continuations are filled in.
        end_ids: Tokens that end a continuation (finish reason ``stop``).
        max_nodes: Most rows held at once, at least as many as ``nodes``; no limit if ``None``.

    Raises:
        ToxoidError: The model's logits are not numbers.
        UsageError: The model cannot be decoded in batches.

    Returns:
        The nodes that were set aside when splits exceeded ``max_nodes``, with their continuations half drawn.
        They can be decoded as they are, in another batch.
    """
    aside: list[Node] = []
    with torch.inference_mode():
        batch = _Batch(model, nodes, max_nodes)
        while children := batch.split(end_ids):
            if max_nodes is not None and len(children) > max_nodes:
                # In the order of their tokens: what is set aside together has most in common.
                children.sort(key=lambda child: child[1].tokens)
                aside += [node for _, node in children[max_nodes:]]
                del children[max_nodes:]
            batch.forward(children)
    return aside


class _Batch:
    """The running nodes and their cache, in the same row order, left-padded to end in the same column."""

    def __init__(self, model: Any, nodes: Sequence[Node], max_nodes: int | None) -> None:
        self.model = model
        self.device = model.device
        self._takes = frozenset(inspect.signature(_plain(model).forward).parameters)
        # Mamba's forward has a word of its own for the cache, and would ignore the usual one without a complaint.
        self._recurrent = "cache_params" in self._takes
        prompts = [node.tokens for node in nodes]
        self.length = max(map(len, prompts))
        most = sum(len(node.continuations) for node in nodes)
        self.cache = row_cache(
            model.config,
            rows=len(nodes),
            most=most if max_nodes is None else min(most, max_nodes),
        )
        order = self._read(prompts)
        self.nodes = [nodes[index] for index in order]
        self.starts = [self.length - len(prompts[index]) for index in order]

    def split(self, end_ids: Set[int]) -> list[tuple[int, Node]]:
        """Draw a token for every continuation.

        Returns:
            The nodes that they move on to, each with the row it comes from. What is finished has left.
        """
        children: list[tuple[int, Node]] = []
        for row, step in enumerate(self._steps()):
            node = self.nodes[row]
            for token, paths in step.items():
                ids = [*node.ids, token]
                if running := _running(paths, ids, end_ids):
                    children.append((row, Node(node.prompt, running, ids)))
        return children

    def forward(self, children: Sequence[tuple[int, Node]]) -> None:
        """Go on to ``children``, as :meth:`split` gave them, and read their last tokens."""
        order = placement([row for row, _ in children])
        sources = [children[child][0] for child in order]
        self.cache.place(sources)
        self.nodes = [children[child][1] for child in order]
        self.starts = [self.starts[row] for row in sources]
        self.cache.seek(0, self.length)
        self.length += 1
        self.logits = self._run([node.ids[-1:] for node in self.nodes], self.starts)

    def _steps(self) -> list[dict[int, list[Continuation]]]:
        """Return for each row which tokens are chosen, and the continuations that choose them."""
        views = [
            (row, settings, paths)
            for row, node in enumerate(self.nodes)
            for settings, paths in _by_settings(node.continuations)
        ]
        tokens = self._choose(views)
        steps: list[dict[int, list[Continuation]]] = [{} for _ in self.nodes]
        for (row, _, paths), chosen in zip(views, tokens, strict=True):
            step = steps[row]
            if chosen.count(chosen[0]) == len(chosen):  # as most do: by C, not one by one
                step[chosen[0]] = step[chosen[0]] + paths if chosen[0] in step else paths
            else:
                for path, token in zip(paths, chosen, strict=False):
                    step.setdefault(token, []).append(path)
        return steps

    def _choose(self, views: Sequence[tuple[int, Settings, list[Continuation]]]) -> list[list[int]]:
        """Return one token per continuation of each view; views of few are filled up with their first one's."""
        width = max(len(paths) for _, _, paths in views)
        draws = []
        for row, (temperature, _), paths in views:
            position = len(self.nodes[row].ids)
            line = [path.draws[position] for path in paths] if temperature > 0 else [0.0]
            draws.append(line + line[:1] * (width - len(line)))
        rows = [row for row, _, _ in views]
        logits = self.logits if len(views) == len(self.nodes) else self.logits[rows]
        temperature, top_p = torch.tensor([settings for _, settings, _ in views], device=self.device).T
        uniforms = torch.tensor(draws, dtype=torch.float64, device=self.device)
        tokens: list[list[int]] = choose_tokens(logits, temperature, top_p, uniforms).tolist()
        return tokens

    def _read(self, prompts: Sequence[Tokens]) -> list[int]:
        """Read the prompts, leave the logits of their ends in :attr:`logits`, and return their order in rows."""
        if not self.cache.shares:
            self.logits = self._run(prompts, [self.length - len(prompt) for prompt in prompts])
            return list(range(len(prompts)))
        plan = readings(prompts)
        rows: dict[int, int] = {}
        logits = []
        for step in rounds(prompts, plan):
            first = len(rows)
            starts = [self.length - len(prompts[index]) for index in step.members]
            for index, start in zip(step.members, starts, strict=True):
                rows[index] = len(rows)
                source = plan[index].source
                if source is not None:
                    self.cache.share(
                        (rows[source], self.length - len(prompts[source])),
                        (rows[index], start),
                        max(len(prompts[index]) - step.columns, 0),
                    )
            self.cache.seek(first, self.length - step.columns)
            logits.append(self._run([prompts[index][-step.columns :] for index in step.members], starts))
        self.logits = torch.cat(logits)
        return list(rows)

    def _run(self, tokens: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
        """Read the ``tokens``, which end in the last column, and return the logits after them: (rows, vocabulary).

        ``starts`` are the columns in which the rows begin; earlier ones are padding.
        """
        width = max(map(len, tokens))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in tokens], device=self.device)
        columns = torch.arange(self.length, device=self.device)
        first = torch.tensor(starts, device=self.device)[:, None]
        mask = (columns >= first).long()
        optional = {"position_ids": (columns[-width:] - first).clamp(min=0), "logits_to_keep": 1}
        output = self.model(
            input_ids=ids,
            attention_mask=mask[:, -width:] if self._recurrent else mask,
            use_cache=True,
            **{"cache_params" if self._recurrent else "past_key_values": self.cache.past},
            **{name: value for name, value in optional.items() if name in self._takes},
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def _by_settings(paths: list[Continuation]) -> Collection[tuple[Settings, list[Continuation]]]:
    """Return the continuations in groups that are drawn from the same probabilities."""
    if len(paths) == 1:
        return (((paths[0].temperature, paths[0].top_p), paths),)
    groups: dict[Settings, list[Continuation]] = {}
    for path in paths:
        groups.setdefault((path.temperature, path.top_p), []).append(path)
    return groups.items()


def _running(paths: list[Continuation], ids: list[int], end_ids: Set[int]) -> list[Continuation]:
    """Finish the continuations that end with ``ids``, and return the others."""
    ended = ids[-1] in end_ids
    answers: dict[Callable[[list[int]], bool], bool] = {}
    running = []
    for path in paths:
        stop = ended
        if not ended and path.stopped is not None:
            if path.stopped not in answers:
                answers[path.stopped] = path.stopped(ids)
            stop = answers[path.stopped]
        if not stop and len(ids) < path.max_tokens:
            running.append(path)
            continue
        path.ids, path.finish = list(ids), "stop" if stop else "length"
    return running


def _plain(model: Any) -> Any:
    """Return the model below an adapter's wrapper, whose ``forward`` names its arguments."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
