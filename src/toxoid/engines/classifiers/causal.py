"""A language model as a classifier: how probable it finds the answer "yes" to a question about a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import user
from toxoid.engines.classifiers.base import Labels, Probabilities, Text
from toxoid.engines.classifiers.inference import joined, softmax
from toxoid.engines.classifiers.windows import Window, cuts, readable, shortened
from toxoid.engines.forward import Rows
from toxoid.engines.loading import LoadedModel
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.quoting import markers_of, quoted
from toxoid.engines.templates import encode, encode_text, open_text
from toxoid.errors import UsageError
from toxoid.store.keys import content_key

Question: TypeAlias = Literal["problematic", "harmful", "refusal"]

_PROMPTS = "yes_no"
_WINDOW = Window(1024, 64)
_ROWS = 16
"""Prompts read at once."""
_LEAST = 32
"""Tokens of a text that have to fit beside the question."""
_SLACK = 16
"""Tokens by which a text in its place may be longer than by itself: at its edges it may be cut in other ways."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A window of a text, and the number of that text."""

    text: int
    request: str
    reply: str


class CausalClassifier:
    """Reads P(yes) / (P(yes) + P(no)) off a causal language model, after a packaged question about the text.

    Both words count in lower case and capitalised, as they stand at a beginning, after a blank or on a new line, by
    their first tokens. The contents are quoted (:mod:`toxoid.engines.quoting`): they cannot end their turn.

    Args:
        loaded: The model, with a chat template.
        question: What is asked; the aspect it answers.
        window: In tokens of the text; shortened to what the model's context leaves to it.

    Raises:
        UsageError: The tokenizer begins yes and no alike, or the model's context is too short for the question.
    """

    def __init__(
        self, loaded: LoadedModel, question: Question = "problematic", *, window: Window = _WINDOW
    ) -> None:
        asked = prompt(_PROMPTS)[question]
        self.name = f"yes/no of {loaded.source}"
        miss, hit = asked["labels"]
        self.labels = Labels((miss, hit), frozenset({hit}), question, asked["reads"])
        self._loaded = loaded
        self._asked: Mapping[str, Any] = asked
        self._markers = markers_of(loaded.tokenizer, open_text(loaded.tokenizer, user("x", "x")))
        self._words = answer_tokens(loaded.tokenizer, "yes", "no")
        self._window = self._fitting(window)

    def identity(self) -> dict[str, Any]:
        """Return the model's identity, the hash of the question and the window."""
        return {
            "classifier": "yes-no",
            "model": self._loaded.identity,
            "question": content_key(dict(self._asked), prompt(_PROMPTS)["section"]),
            "window": asdict(self._window),
        }

    def probabilities(self, texts: Sequence[Text]) -> Probabilities:
        """Return a row per text, (no, yes); a row of NaN for a text without a readable character."""
        shown = [part for index, text in enumerate(texts) for part in self._parts(index, text)]
        prompts = [self._prompt(part.request, part.reply) for part in shown]
        odds = np.array(answer_odds(self._loaded.model, prompts, *self._words))
        logits = np.stack([np.zeros_like(odds), odds], axis=1)
        return softmax(joined(logits, [part.text for part in shown], len(texts), self.labels))

    def _parts(self, index: int, text: Text) -> list[_Shown]:
        request, reply = (text, "") if isinstance(text, str) else text
        if isinstance(text, str) != (self.labels.reads == "request"):
            raise ValueError(f"this classifier reads {self.labels.reads}s: give them as toxoid's Text says")
        asked, said = (self._spans(quoted(readable(part), self._markers)) for part in (request, reply))
        room, overlap = self._window.tokens, self._window.overlap
        if self.labels.reads == "request":
            return [
                _Shown(index, "".join(asked[part]), "") for part in cuts(len(asked), room, overlap) if asked
            ]
        kept = "".join(shortened(asked, max(room // 3, room - len(said))))
        rest = room - min(len(asked), max(room // 3, room - len(said)))
        return [_Shown(index, kept, "".join(said[part])) for part in cuts(len(said), rest, overlap) if said]

    def _spans(self, text: str) -> list[str]:
        """Return ``text`` cut into the pieces of which the tokenizer makes one token each."""
        if not text:
            return []
        read = self._loaded.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ends = [end for _, end in read["offset_mapping"]]
        return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _prompt(self, request: str, reply: str) -> Tokens:
        fence = sha256(content_key(self._asked["user"], request, reply).encode()).hexdigest()[:8]
        section = prompt(_PROMPTS)["section"]
        shown = {
            name: section.format(label=name.upper(), text=text, fence=fence)
            for name, text in (("request", request), ("reply", reply))
        }
        asked = self._asked["user"].format(**shown)
        return tuple(encode(self._loaded.tokenizer, user(asked, self._asked["system"])))

    def _fitting(self, window: Window) -> Window:
        config = self._loaded.model.config.get_text_config()
        context = getattr(config, "max_position_embeddings", None) or 1 << 30
        room = context - len(self._prompt("", "")) - _SLACK
        if room < _LEAST:
            raise UsageError(
                f"{self._loaded.source} reads {context} tokens at once, too few for a question and a text: "
                "give a model with a longer context"
            )
        tokens = min(window.tokens, room)
        return Window(tokens, min(window.overlap, tokens // 4))


def answer_tokens(tokenizer: Any, hit: str, miss: str) -> tuple[list[int], list[int]]:
    """Return the tokens with which each of two answers may begin, and the other one not.

    Raises:
        UsageError: There are none: the tokenizer begins both alike.
    """
    hits, misses = (_first_tokens(tokenizer, word) for word in (hit, miss))
    if not (hits - misses and misses - hits):
        raise UsageError(
            f'the tokenizer begins "{hit}" and "{miss}" with the same token, so that its model cannot be read as a '
            "classifier: give another model"
        )
    return sorted(hits - misses), sorted(misses - hits)


def answer_odds(
    model: Any, prompts: Sequence[Tokens], hits: Sequence[int], misses: Sequence[int]
) -> list[float]:
    """Return log P(hits) - log P(misses) of the token after each prompt; prompts that are alike are read once."""
    distinct = sorted(set(prompts), key=len)
    known: dict[Tokens, float] = {}
    for start in range(0, len(distinct), _ROWS):
        part = distinct[start : start + _ROWS]
        with torch.inference_mode():
            rows = Rows(model, part, most=len(part))
            logits = rows.logits.float()
            odds = logits[:, list(hits)].logsumexp(1) - logits[:, list(misses)].logsumexp(1)
        known |= {part[index]: value for index, value in zip(rows.order, odds.tolist(), strict=True)}
    return [known[each] for each in prompts]


def _first_tokens(tokenizer: Any, word: str) -> set[int]:
    found = set()
    for spelling in (word.lower(), word.capitalize()):
        for before, lead in (("", ""), ("x", " "), ("x\n", "")):
            head, whole = encode_text(tokenizer, before), encode_text(tokenizer, before + lead + spelling)
            if whole[: len(head)] == head:
                found.add(whole[len(head)])
    return found
