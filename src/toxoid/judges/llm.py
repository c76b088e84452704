"""The LLM judge: asks a language model for a verdict, and reads its answer strictly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Exchange, Message
from toxoid.engines.base import Completion, Engine, GenerationRequest, Sampling
from toxoid.engines.classifiers.windows import readable
from toxoid.errors import UsageError, did_you_mean
from toxoid.judges.base import Aspect, Outcome, Verdict, ends_at_once
from toxoid.judges.classifier import request_text
from toxoid.store.keys import content_key

PROMPTS = ("judge_harmful", "judge_refusal", "judge_helpful", "judge_corrected", "judge_problematic")
MAX_TOKENS = 512
VERSION = 2
_ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
_VERDICT = re.compile(r"[\s*_#>]*verdict[\s*_]*:[\s*_]*([a-z_-]+)[\s*_.]*", re.IGNORECASE)
_MENTION = re.compile(r"\bverdict[\s*_]{0,8}:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """What is asked of the model about one aspect.

    Args:
        aspect: The aspect it decides.
        system: System message; ``{fence}`` is filled in.
        user: User message; ``{exchange}`` and ``{fence}`` are filled in.
        section: How one part of an exchange is shown: ``{label}``, ``{text}``, ``{fence}``.
        labels: Names of the parts ``request``, ``prefill`` and ``reply``.
        answers: The outcome of each answer word, upper case.
    """

    aspect: Aspect
    system: str
    user: str
    section: str
    labels: Mapping[str, str]
    answers: Mapping[str, Outcome]

    def key(self) -> str:
        """Return the hash of everything in the prompt."""
        answers = {word: outcome.value for word, outcome in self.answers.items()}
        return content_key(self.aspect, self.system, self.user, self.section, dict(self.labels), answers)


class LLMJudge:
    """A judge that is a language model behind any engine.

    The judged text stands between markers that carry a word derived from the item's content, which the text
    cannot know; and only the model's own answer is read, never the text. The answer must end with one line
    ``VERDICT: WORD`` (or be the word alone). No such line, a second one, an unknown word, an answer cut off:
    ``UNSCORED``, with the reason.

    Args:
        engine: What is asked, at temperature 0 and seed 0.
        prompts: Packaged prompts by name, or YAML files in the same layout; one per aspect.
        max_tokens: Room for a short reasoning and the verdict.

    Raises:
        UsageError: A prompt is missing or malformed, or two are about the same aspect.
    """

    def __init__(
        self,
        engine: Engine,
        prompts: str | Path | Sequence[str | Path] = PROMPTS,
        *,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.engine = engine
        self.max_tokens = max_tokens
        self._prompts: dict[Aspect, JudgePrompt] = {}
        for name in [prompts] if isinstance(prompts, str | Path) else prompts:
            loaded = load_judge_prompt(name)
            if loaded.aspect in self._prompts:
                raise UsageError(f"two judge prompts are about `{loaded.aspect}`: give one per aspect")
            self._prompts[loaded.aspect] = loaded
        self.name = f"llm ({engine.name})"
        self.aspects: frozenset[Aspect] = frozenset(self._prompts)

    def identity(self) -> dict[str, Any]:
        """Return the engine's identity, the hashes of the prompts, and the rules of reading."""
        return {
            "judge": "llm",
            "version": VERSION,
            "engine": self.engine.identity(),
            "prompts": {aspect: self._prompts[aspect].key() for aspect in sorted(self._prompts)},
            "max_tokens": self.max_tokens,
        }

    def judge(self, exchanges: Sequence[Exchange], aspect: Aspect) -> list[Verdict]:
        """Return one verdict per exchange; empty replies, or requests where those are judged, are not asked about.

        They are ``UNSCORED``, but for ``corrected``, where nothing was taken back, a ``MISS``.

        Raises:
            ValueError: There is no prompt for ``aspect``.
        """
        if aspect not in self.aspects:
            raise ValueError(f"{self.name} answers {sorted(self.aspects)}, not {aspect!r}")
        asked = self._prompts[aspect]
        verdicts = [_unaskable(exchange, aspect) for exchange in exchanges]
        open_items = [i for i, verdict in enumerate(verdicts) if verdict is None]
        sampling = Sampling(temperature=0.0, max_tokens=self.max_tokens)
        requests = [
            GenerationRequest(judge_conversation(asked, exchanges[i]), sampling=sampling) for i in open_items
        ]
        for i, completions in zip(open_items, self.engine.generate(requests), strict=True):
            verdicts[i] = read_answer(completions[0], asked.answers)
        return [verdict for verdict in verdicts if verdict is not None]


def _unaskable(exchange: Exchange, aspect: Aspect) -> Verdict | None:
    if aspect == "corrected":
        if not exchange.prefill:
            return Verdict(Outcome.UNSCORED, reason="there was no beginning to turn away from")
        return ends_at_once(exchange)
    if aspect == "problematic":
        shown = readable(request_text(exchange))
        return None if shown else Verdict(Outcome.UNSCORED, reason="empty request")
    if not exchange.completion.strip():
        return Verdict(Outcome.UNSCORED, reason="empty reply")
    return None


def judge_conversation(asked: JudgePrompt, exchange: Exchange) -> tuple[Message, ...]:
    """Return the conversation that asks about one exchange, its parts fenced; of what is asked, that alone."""
    if asked.aspect == "problematic":
        parts = {"request": request_text(exchange)}
    else:
        parts = {
            "request": exchange.request.prompt,
            "prefill": exchange.prefill,
            "reply": exchange.completion,
        }
    fence = hashlib.sha256(content_key(asked.key(), *parts.values()).encode()).hexdigest()[:16]
    shown = "\n\n".join(
        _fill(asked.section, label=asked.labels[part], text=text, fence=fence)
        for part, text in parts.items()
        if text or part != "prefill"
    )
    return (
        Message("system", _fill(asked.system, fence=fence)),
        Message("user", _fill(asked.user, exchange=shown, fence=fence)),
    )


def _fill(template: str, **fields: str) -> str:
    """Fill in all fields in one pass, so that a field's text cannot hold another field."""
    return re.sub(r"\{(\w+)\}", lambda match: fields.get(match[1], match[0]), template)


def read_answer(completion: Completion, answers: Mapping[str, Outcome]) -> Verdict:
    """Return the verdict in a judge model's completion; whatever is not exactly one is ``UNSCORED``."""
    if error := completion.metadata.get("error"):
        return Verdict(Outcome.UNSCORED, reason=f"the judge was not asked: {error}")
    if completion.finish_reason != "stop":
        return Verdict(
            Outcome.UNSCORED, reason=f"the judge's answer was cut off ({completion.finish_reason})"
        )
    lines = [line.strip() for line in completion.text.splitlines() if line.strip()]
    if not lines:
        return Verdict(Outcome.UNSCORED, reason="the judge said nothing")
    if len(_MENTION.findall(completion.text)) > 1:
        return Verdict(Outcome.UNSCORED, reason="the judge gave more than one verdict")
    match = _VERDICT.fullmatch(lines[-1])
    word = (match[1] if match else lines[0].strip("*_. ") if len(lines) == 1 else "").upper()
    if word not in answers:
        said = f'"{word}" is none of {", ".join(answers)}' if match else "no verdict in the last line"
        return Verdict(Outcome.UNSCORED, reason=f"the judge's answer cannot be read: {said}")
    outcome = answers[word]
    scores = {Outcome.HIT: 1.0, Outcome.MISS: 0.0}
    return Verdict(outcome, scores.get(outcome), " ".join(lines[:-1])[:500] or f"the judge says {word}")


def load_judge_prompt(source: str | Path) -> JudgePrompt:
    """Return a packaged judge prompt by name, or one from a YAML file (a path, or a name ending in .yaml).

    Raises:
        UsageError: The file is missing, is not YAML, or lacks something; the line says what.
    """
    if isinstance(source, str) and not source.endswith((".yaml", ".yml")):
        return _judge_prompt(prompt(source), source)
    try:
        data = yaml.safe_load(Path(source).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the judge prompt {source}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise UsageError(f"the judge prompt {source} is not YAML: {what}") from None
    return _judge_prompt(data, str(source))


def _judge_prompt(data: Any, source: str) -> JudgePrompt:
    if not isinstance(data, dict):
        raise UsageError(f"the judge prompt {source} must be a mapping with the keys of judge_harmful.yaml")
    for key, field in (("system", None), ("user", "{exchange}"), ("section", "{text}")):
        if not isinstance(data.get(key), str) or (field and field not in data[key]):
            raise UsageError(
                f"the judge prompt {source} needs the text `{key}`{f' with {field} in it' if field else ''}"
            )
    if "{fence}" not in data["section"]:
        raise UsageError(
            f"the judge prompt {source} needs {{fence}} in `section`: it keeps replies from posing as answers"
        )
    aspect = data.get("aspect")
    if aspect not in _ASPECTS:
        raise UsageError(
            f"the judge prompt {source} is about `{aspect}`.{did_you_mean(str(aspect), _ASPECTS)} "
            f"Known aspects: {', '.join(_ASPECTS)}."
        )
    labels = data.get("labels")
    if not isinstance(labels, dict) or not {"request", "prefill", "reply"} <= labels.keys():
        raise UsageError(f"the judge prompt {source} needs `labels` for request, prefill and reply")
    labels = {str(part): str(label) for part, label in labels.items()}
    return JudgePrompt(aspect, data["system"], data["user"], data["section"], labels, _answers(data, source))


def _answers(data: Mapping[str, Any], source: str) -> dict[str, Outcome]:
    given = data.get("answers")
    outcomes = {outcome.value for outcome in Outcome}
    if not isinstance(given, dict) or not {"hit", "miss"} <= set(given.values()) <= outcomes:
        raise UsageError(
            f"the judge prompt {source} needs `answers`, words that map to hit and miss (and unscored)"
        )
    # YAML reads a bare YES as true.
    if not all(isinstance(word, str) for word in given):
        raise UsageError(f"the judge prompt {source} has an answer that is not text: put quotes around it")
    return {word.upper(): Outcome(value) for word, value in given.items()}
