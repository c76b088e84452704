"""Forward passes over rows: token sequences that end in the same column, and what the model remembers of them.

A prompt that shares its beginning with a longer one is read from there, and one that begins with a known prefix (a
system prompt, a soft prompt) from the end of that. Neither can be seen in what comes out.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from toxoid.engines.kv_cache import KnownPrefix, Selection, SlotCache, row_cache
from toxoid.engines.prefix_tree import Tokens, readings, rounds
from toxoid.engines.row_attention import faster_attention
from toxoid.engines.soft_prompt import embed, embeddings_of


class Rows:
    """The rows of a batch, left-padded.

    Args:
        model: A causal language model in eval mode.
        prompts: What the rows begin with; each is not empty.
        most: Rows there will ever be.
        table: Embeddings of virtual tokens, see :mod:`toxoid.engines.soft_prompt`; ``None`` if there are none.
        known: Prefixes that were read before.

    Attributes:
        logits: (rows, vocabulary) after the prompts.
        order: The prompt of each row.
        lazy: Whether rows can be left behind and caught up with; recurrent states go on all together.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Tokens],
        *,
        most: int,
        table: torch.Tensor | None = None,
        known: Sequence[KnownPrefix] = (),
    ) -> None:
        self.model = model
        self.device = model.device
        self.length = max(map(len, prompts))
        self._takes = frozenset(inspect.signature(_plain(model).forward).parameters)
        # Mamba's forward has a word of its own for the cache, and would ignore the usual one without a complaint.
        self._recurrent = "cache_params" in self._takes
        self._table = table
        self._own = None if table is None else embeddings_of(model).num_embeddings
        self.cache = row_cache(model.config, rows=len(prompts), most=most)
        self.lazy = self.cache.shares
        self.order, self.logits = self._read(prompts, known if self.lazy else ())
        self.starts = [self.length - len(prompts[index]) for index in self.order]

    def place(self, sources: Sequence[int]) -> None:
        """Make the rows copies of the earlier rows ``sources``, one each; other rows are lost."""
        self.cache.place(sources)
        self.starts = [self.starts[row] for row in sources]

    def resize(self, slots: int, columns: int, length: int) -> None:
        """Give lazy rows so many slots and columns, and let them end in column ``length``.

        Args:
            slots: At least as many as there are rows.
            columns: At least ``length``.
            length: So that no row begins before column 0.
        """
        shift = length - self.length
        self.cache.resize(slots, columns, shift)
        self.starts = [start + shift for start in self.starts]
        self.length = length

    def join(self, other: Rows) -> None:
        """Take up the rows of another batch that is not longer, behind these; both are lazy, and slots are free."""
        self.cache.take(other.cache, len(self.starts), len(other.starts))
        shift = self.length - other.length
        self.starts += [start + shift for start in other.starts]

    def append(self, tokens: Sequence[Sequence[int]], rows: slice) -> torch.Tensor:
        """Let all rows be longer by a column, read the last ``tokens`` of each of ``rows``, and return the logits."""
        self.length += 1
        return self.run(tokens, self.starts[rows], rows)

    def run(
        self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Selection | None
    ) -> torch.Tensor:
        """Read the ``tokens``, which end in the last column, and return the logits after them: (rows, vocabulary).

        Args:
            tokens: Of each row that is read, its last ones.
            starts: The columns in which these rows begin; earlier ones are padding.
            rows: Which they are; ``None`` for the first ones, in a cache that is only continued.
        """
        width = max(map(len, tokens))
        if rows is not None:
            self.cache.seek(rows, self.length - width)
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in tokens], device=self.device)
        columns = torch.arange(self.length, device=self.device)
        first = torch.tensor(starts, device=self.device)[:, None]
        mask = (columns >= first).long()
        optional = {"position_ids": (columns[-width:] - first).clamp(min=0), "logits_to_keep": 1}
        with faster_attention(self.model):
            output = self.model(
                **self._given(ids),
                attention_mask=mask[:, -width:] if self._recurrent else mask,
                use_cache=True,
                **{"cache_params" if self._recurrent else "past_key_values": self.cache.past},
                **{name: value for name, value in optional.items() if name in self._takes},
            )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _given(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the tokens as ids or, where some are virtual, as vectors."""
        if self._own is None or self._table is None or ids.max() < self._own:
            return {"input_ids": ids}
        return {"inputs_embeds": embed(self.model, ids, self._table)}

    def _read(
        self, prompts: Sequence[Tokens], known: Sequence[KnownPrefix]
    ) -> tuple[list[int], torch.Tensor]:
        """Read the prompts, and return their order in rows and the logits of their ends."""
        if not self.lazy:
            logits = self.run(prompts, [self.length - len(prompt) for prompt in prompts], None)
            return list(range(len(prompts))), logits
        plan = readings(prompts, [prefix.tokens for prefix in known])
        rows: dict[int, int] = {}
        parts: list[torch.Tensor] = []
        for step in rounds(prompts, plan):
            first = len(rows)
            starts = [self.length - len(prompts[index]) for index in step.members]
            for index, start in zip(step.members, starts, strict=True):
                rows[index] = len(rows)
                copied = max(len(prompts[index]) - step.columns, 0)
                source, prefix = plan[index].source, plan[index].known
                if source is not None:
                    origin = rows[source], self.length - len(prompts[source])
                    self.cache.share(origin, (rows[index], start), copied)
                elif prefix is not None:
                    self.cache.recall(known[prefix], (rows[index], start), copied, self.length)
            own = [prompts[index][-step.columns :] for index in step.members]
            parts.append(self.run(own, starts, slice(first, len(rows))))
        return list(rows), torch.cat(parts)


def read_prefix(
    model: Any, tokens: Tokens, table: torch.Tensor | None = None, known: Sequence[KnownPrefix] = ()
) -> KnownPrefix | None:
    """Read a prefix once, to be begun from later; ``None`` for models whose state cannot be taken up so."""
    with torch.inference_mode():
        rows = Rows(model, [tokens], most=1, table=table, known=known)
    return rows.cache.remember(tokens) if isinstance(rows.cache, SlotCache) else None


def _plain(model: Any) -> Any:
    """Return the model below an adapter's wrapper, whose ``forward`` names its arguments."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
