"""Decoding: token by token over a batch of nodes, the points of the prefix tree at which continuations stand.

The loop knows token ids only. Continuations of one prompt that have drawn the same tokens so far stand at the
same node: computed once. Each keeps its own random stream and inverts it on the probabilities of its node, and
those that choose the same token move on together. So every continuation is, draw by draw, the one it would be
alone; splitting a node's count multinomially would be equal in distribution only. Finished nodes leave at once.

A node is read in one context, or in two that are contrasted (:mod:`toxoid.engines.contrast_decoding`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

import torch

from toxoid.engines.contrast import UNCONTRASTED, Contrast, implausible
from toxoid.engines.forward import Rows
from toxoid.engines.kv_cache import KnownPrefix, placement
from toxoid.engines.prefix_tree import Tokens
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
        contrasted: How many of the tokens were drawn from a contrasted distribution.
    """

    max_tokens: int
    temperature: float
    top_p: float
    draws: Sequence[float]
    stopped: Callable[[list[int]], bool] | None = None
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None
    contrasted: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """What has become of the contrast on the way to a node.

    Args:
        contrasted: Tokens drawn from a contrasted distribution.
        interval: Tokens from the last look at the divergence to the next; 0 while it is high.
        wait: Tokens left until that look.
        decided: Whether at the last token the mask left nothing to choose.
    """

    contrasted: int = 0
    interval: int = 0
    wait: int = 0
    decided: bool = False


@dataclass(slots=True, eq=False)
class Node:
    """A prompt, the tokens drawn after it, and the continuations that have drawn just these.

    Args:
        prompt: Its tokens.
        continuations: What stands here.
        ids: The tokens drawn.
        against: The prompt in the context that is contrasted; ``None`` if there is none.
        gate: Where the contrast stands.
    """

    prompt: Tokens
    continuations: list[Continuation]
    ids: list[int] = field(default_factory=list)
    against: Tokens | None = None
    gate: Gate = Gate()

    @property
    def tokens(self) -> Tokens:
        """All tokens that lead here."""
        return (*self.prompt, *self.ids)

    @property
    def longest(self) -> int:
        """Tokens of the longer context."""
        return len(self.ids) + max(len(self.prompt), len(self.against or ()))

    @property
    def to_come(self) -> int:
        """Tokens that may still be drawn from here."""
        return max(path.max_tokens for path in self.continuations) - len(self.ids)


@dataclass(frozen=True)
class Reading:
    """How nodes are read, apart from their tokens.

    Args:
        contrast: How two contexts become one; its mask works on one context too.
        table: Embeddings of virtual tokens, if prompts have some.
        known: Prefixes that need not be computed again.
    """

    contrast: Contrast = UNCONTRASTED
    table: torch.Tensor | None = None
    known: Sequence[KnownPrefix] = ()


class OneContext:
    """The distributions of a batch's nodes in one context, a row each.

    Attributes:
        nodes: The nodes, in the order of their rows.
        rows: What the model has read of them.
        logits: (nodes, vocabulary), of the next token; implausible tokens are at minus infinity.
    """

    def __init__(self, model: Any, nodes: Sequence[Node], reading: Reading, most: int) -> None:
        prompts = [node.tokens for node in nodes]
        self.rows = Rows(model, prompts, most=most, table=reading.table, known=reading.known)
        self._plausibility = reading.contrast.plausibility
        self.nodes = [nodes[index] for index in self.rows.order]
        self.logits = self._masked(self.rows.logits)

    def go_on(self, sources: Sequence[int], nodes: Sequence[Node]) -> None:
        """Go on to ``nodes``, the children of the nodes ``sources``, and read their last tokens."""
        self.nodes = list(nodes)
        self.rows.place(sources)
        logits = self.rows.append([node.ids[-1:] for node in nodes], slice(0, len(nodes)))
        self.logits = self._masked(logits)

    def join(self, other: Self) -> None:
        """Take up the nodes of a source of the same kind and reading, behind these; see :meth:`Rows.join`."""
        self.rows.join(other.rows)
        self.nodes = [*self.nodes, *other.nodes]
        self.logits = torch.cat([self.logits, other.logits])

    def _masked(self, logits: torch.Tensor) -> torch.Tensor:
        removed = implausible(logits, self._plausibility)
        return logits if removed is None else logits.masked_fill(removed, -torch.inf)


def decode(
    model: Any,
    nodes: Sequence[Node],
    *,
    end_ids: Set[int],
    max_nodes: int | None = None,
    reading: Reading | None = None,
) -> list[Node]:
    """Draw the continuations of ``nodes`` to their end, in place.

    Args:
        model: A causal language model in eval mode.
        nodes: Where to begin; the tokens of each are not empty. Their continuations are filled in. All or none
            have a context to contrast with.
        end_ids: Tokens that end a continuation (finish reason ``stop``).
        max_nodes: Most nodes held at once, at least as many as ``nodes``; no limit if ``None``.
        reading: How they are read; plainly if ``None``.

    Raises:
        ToxoidError: The model's logits are not numbers.
        UsageError: The model cannot be decoded in batches.

    Returns:
        The nodes that were set aside when splits exceeded ``max_nodes``, with their continuations half drawn.
        They can be decoded as they are, in another batch.
    """
    aside: list[Node] = []
    for _ in steps(model, nodes, end_ids=end_ids, max_nodes=max_nodes, reading=reading, aside=aside):
        pass
    return aside


def steps(
    model: Any,
    nodes: Sequence[Node],
    *,
    end_ids: Set[int],
    max_nodes: int | None = None,
    reading: Reading | None = None,
    aside: list[Node] | None = None,
) -> Iterator[list[Node]]:
    """Decode as :func:`decode` does, and yield after each token the nodes that go on.

    ``aside`` receives the nodes that are set aside.
    """
    with torch.inference_mode():
        batch = Batch(model, nodes, max_nodes, reading or Reading())
        children = batch.split(end_ids)
    while children:
        if max_nodes is not None and len(children) > max_nodes:
            # In the order of their tokens: what is set aside together has most in common.
            children.sort(key=lambda child: child[1].tokens)
            if aside is not None:
                aside += [node for _, node in children[max_nodes:]]
            del children[max_nodes:]
        yield [node for _, node in children]
        with torch.inference_mode():  # not across the yield: the mode would leak to whoever iterates
            batch.forward(children)
            children = batch.split(end_ids)


class Batch:
    """The running nodes of a model, in the order of their source's rows.

    One step is :meth:`split`, which draws a token for each continuation, and :meth:`forward`, which reads it. In
    between, children may be left out: their rows are free then. After :meth:`forward`, others may join.

    Args:
        model: A causal language model in eval mode.
        nodes: Where to begin; all or none have a context to contrast with.
        max_nodes: Most nodes there will be; as many as continuations if ``None``.
        reading: How they are read.

    Attributes:
        nodes: What was read last; a node without continuations draws nothing and leaves with the next step.
        source: Their distributions.
    """

    def __init__(self, model: Any, nodes: Sequence[Node], max_nodes: int | None, reading: Reading) -> None:
        most = sum(len(node.continuations) for node in nodes)
        most = most if max_nodes is None else min(most, max_nodes)
        self.source: OneContext
        if nodes[0].against is None:
            self.source = OneContext(model, nodes, reading, most)
        else:
            from toxoid.engines.contrast_decoding import TwoContexts

            self.source = TwoContexts(model, nodes, reading, most)
        self.nodes = self.source.nodes

    def join(self, other: Batch) -> None:
        """Take up the nodes of another batch of the same reading; see :meth:`OneContext.join`."""
        self.source.join(other.source)
        self.nodes = self.source.nodes

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
                if running := _running(paths, ids, end_ids, node.gate.contrasted):
                    children.append((row, Node(node.prompt, running, ids, node.against, node.gate)))
        return children

    def forward(self, children: Sequence[tuple[int, Node]]) -> None:
        """Go on to ``children``, as :meth:`split` gave them, and read their last tokens."""
        order = placement([row for row, _ in children])
        self.nodes = [children[child][1] for child in order]
        self.source.go_on([children[child][0] for child in order], self.nodes)

    def _steps(self) -> list[dict[int, list[Continuation]]]:
        """Return for each row which tokens are chosen, and the continuations that choose them."""
        views = [
            (row, settings, paths)
            for row, node in enumerate(self.nodes)
            for settings, paths in _by_settings(node.continuations)
        ]
        tokens = self._choose(views) if views else []
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
        whole = rows == list(range(len(self.nodes)))
        logits = self.source.logits if whole else self.source.logits[rows]
        temperature, top_p = torch.tensor([settings for _, settings, _ in views], device=logits.device).T
        uniforms = torch.tensor(draws, dtype=torch.float64, device=logits.device)
        tokens: list[list[int]] = choose_tokens(logits, temperature, top_p, uniforms).tolist()
        return tokens


def _by_settings(paths: list[Continuation]) -> Collection[tuple[Settings, list[Continuation]]]:
    """Return the continuations in groups that are drawn from the same probabilities."""
    if len(paths) == 1:
        return (((paths[0].temperature, paths[0].top_p), paths),)
    groups: dict[Settings, list[Continuation]] = {}
    for path in paths:
        groups.setdefault((path.temperature, path.top_p), []).append(path)
    return groups.items()


def _running(
    paths: list[Continuation], ids: list[int], end_ids: Set[int], contrasted: int
) -> list[Continuation]:
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
        path.contrasted = contrasted
    return running
