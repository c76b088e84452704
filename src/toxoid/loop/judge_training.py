"""Makes a judge by its recipe, in a run directory: data, rounds against an adversary, the card, the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import compress
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxoid.attacks.registry import make_attack
from toxoid.data.labelled import LabelledExchange, read_labelled
from toxoid.data.request_set import hash_fraction, prompt_key
from toxoid.data.schemas import Exchange, Request, user
from toxoid.engines.classifiers.base import PROMPTS, REPLIES, Labels
from toxoid.engines.classifiers.windows import Window
from toxoid.errors import UsageError
from toxoid.loop import models
from toxoid.loop.judge_data import PromptData, load_prompts, source_of
from toxoid.loop.judge_evaluation import card_of
from toxoid.loop.judge_inputs import inputs_of
from toxoid.loop.judge_recipe import KNOWN, LAB, PEOPLE, JudgeRecipe
from toxoid.loop.judging import panel_of
from toxoid.methods.adversarial_tuning.adversary import (
    Adversary,
    ChatAdversary,
    RandomData,
    local_adversary,
    sampling_of,
    tune_adversary,
    with_adapters,
)
from toxoid.methods.adversarial_tuning.candidates import is_language
from toxoid.methods.adversarial_tuning.holdouts import (
    CONTENTIOUS,
    MISSED,
    UNCONDITIONED,
    UNSEEN_ADVERSARY,
    Holdouts,
    chosen,
    load_holdouts,
    missed_by,
)
from toxoid.methods.adversarial_tuning.options import RoundOptions
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt
from toxoid.methods.adversarial_tuning.rounds import Game, Round, last_adopted, play
from toxoid.methods.adversarial_tuning.template_attacks import KnownTruth, TemplateAdversary
from toxoid.methods.adversarial_tuning.truth import HumanTruth, JudgeTruth, LabTruth, Truth
from toxoid.progress import SILENT, Progress
from toxoid.store.files import write_json_atomic, write_text_atomic
from toxoid.store.run_directory import RunDirectory

if TYPE_CHECKING:
    from toxoid.engines.classifiers.modules import ClassifierModule
    from toxoid.engines.loading import LoadedModel
    from toxoid.training.labelled_texts import LabelledText

_DONE, _PEOPLE = "judge", "people"


@dataclass(frozen=True)
class TrainedJudge:
    """A finished training.

    Args:
        path: The judge's folder, for ``--judge``.
        report: The page.
        results: What ``results.json`` says.
    """

    path: Path
    report: Path
    results: Mapping[str, Any]


def train_judge(
    recipe: JudgeRecipe, directory: Path, *, command: str = "", progress: Progress = SILENT
) -> TrainedJudge:
    """Train a judge, or continue the training that is in ``directory``.

    Raises:
        UsageError: The recipe, the data, a model or the directory cannot work.
        Waiting: People have to label prompts first; the same command goes on when they have.
    """
    from toxoid import __version__
    from toxoid.report.judge_page import render_judge_page

    settings = recipe.model_dump(mode="json")
    data = load_prompts(recipe) if recipe.kind == "prompts" else None
    sources = data.sources if data else _reply_sources(recipe)
    fingerprint: dict[str, Any] = {
        "toxoid": __version__,
        "recipe": {key: value for key, value in settings.items() if key != "description"},
        "data": sources,
        "inputs": inputs_of(recipe),
    }
    with RunDirectory.open(directory, fingerprint=fingerprint, recipe=settings) as run:
        if not run.stage_done(_DONE):
            with ExitStack() as engines:
                making = _Making(recipe, run, command, progress, sources, engines)
                results = making.rounds(data) if data else making.replies()
            write_json_atomic(run.results_path, results)
            write_text_atomic(run.report_path, render_judge_page(results))
            run.mark_done(_DONE, {"command": command})
        return TrainedJudge(run.artifact("judge"), run.report_path, run.results())


class _Making:
    """One training, with what its steps share."""

    def __init__(
        self,
        recipe: JudgeRecipe,
        run: RunDirectory,
        command: str,
        progress: Progress,
        sources: Sequence[Mapping[str, str]],
        engines: ExitStack,
    ) -> None:
        self.recipe, self.run, self.command, self.progress = recipe, run, command, progress
        self.sources, self.engines = sources, engines

    # ---- judges of prompts ----

    def rounds(self, data: PromptData) -> dict[str, Any]:
        """Play the rounds (or train once) and the control; publish the adopted judge.

        Raises:
            UsageError: Nothing is held out for the card, or the control has nothing to draw.
        """
        if not data.held_out and not data.people:
            raise UsageError("no prompt is held out for the card: raise holdout.share, or give more prompts")
        holdouts = self._holdouts(data)
        arms = {"adversary": self._play("adversary", data, holdouts, self._adversary(data))}
        if self.recipe.control and self.recipe.rounds:
            if not data.pool:
                raise UsageError(
                    "the control draws prompts that round 0 has not learnt, and there are none: set data.seeds, or "
                    "control to false"
                )
            arms["control"] = self._play("control", data, holdouts, lambda _: RandomData(data.pool))
        self._publish(last_adopted(arms["adversary"]).judge)
        card = self._card(*_measured_on(holdouts))
        return {
            "kind": "judge",
            "recipe": self.recipe.model_dump(mode="json"),
            "command": self.command,
            "data": {
                "sources": list(self.sources),
                "seeds": len(data.seeds),
                "negatives": len(data.negatives),
                "left_out": data.left_out,
            },
            "arms": {name: [dict(each.record) for each in played] for name, played in arms.items()},
            "adopted": last_adopted(arms["adversary"]).record["round"],
            "card": card,
        }

    def _play(
        self,
        arm: str,
        data: PromptData,
        holdouts: Holdouts,
        adversary: Callable[[Sequence[Path]], Adversary],
    ) -> list[Round]:
        folder = self.run.artifact(arm)
        folder.mkdir(parents=True, exist_ok=True)
        game = Game(
            seeds=data.seeds,
            negatives=data.negatives,
            holdouts=holdouts,
            truth=self._lab or KnownTruth(data.known) if arm == "control" else self._truth(data),
            train_judge=lambda start, rows, output: self._train(start, _examples(rows), output),
            load_judge=_load,
            adversary=adversary,
            tune=self._tune if arm == "adversary" and self._tunes else None,
            valid=self._lab.is_request if self._lab else is_language,
        )
        options = (self.recipe.rounds or RoundOptions(rounds=0)).model_copy(update={"seed": self.recipe.seed})
        return play(game, options, folder, progress=self.progress)

    @cached_property
    def _lab(self) -> LabTruth | None:
        return LabTruth() if self.recipe.truth.name == LAB else None

    def _truth(self, data: PromptData) -> Truth:
        given = self.recipe.truth
        if self._lab:
            return self._lab
        if given.name == KNOWN:
            return KnownTruth(data.known)
        if given.name == PEOPLE:
            return HumanTruth(self._queue())
        panel = panel_of(given.name, model=given.model, endpoint=given.endpoint)
        if "problematic" not in panel:
            raise UsageError(
                f"the judge {given.name} does not say which prompts are problematic: give another truth.name"
            )
        return JudgeTruth(panel["problematic"])

    def _queue(self) -> Any:
        from toxoid.methods.adversarial_tuning.label_queue import LabelQueue

        return LabelQueue(self.run.artifact("labels"))

    @property
    def _tunes(self) -> bool:
        given = self.recipe.adversary
        return given.training and not given.attacks and given.model.endpoint is None

    def _adversary(self, data: PromptData) -> Callable[[Sequence[Path]], Adversary]:
        given = self.recipe.adversary
        if given.attacks:
            attacks = [make_attack(name, pool="training") for name in given.attacks]
            return lambda adapters: TemplateAdversary(data.known, attacks)
        if given.model.endpoint:
            engine = self.engines.enter_context(closing(models.endpoint_engine(given.model)))
            return lambda adapters: ChatAdversary(engine, sampling_of(given), few_shot=given.few_shot)
        return lambda adapters: local_adversary(with_adapters(self._base, adapters), given)

    def _base(self) -> LoadedModel:
        return models.load(self.recipe.adversary.model)

    def _tune(self, adapters: Sequence[Path], examples: Sequence[Any], output: Path) -> None:
        from toxoid.training.sft import SFTConfig

        config = SFTConfig(**{"seed": self.recipe.seed, **self.recipe.adversary_training})
        tune_adversary(with_adapters(self._base, adapters), examples, config, output, progress=self.progress)

    def _holdouts(self, data: PromptData) -> Holdouts:
        """Return the frozen slices, made on the first call of this run."""
        folder = self.run.artifact("holdouts")
        if (folder / "holdouts.json").is_file():
            return load_holdouts(folder)
        size, seed = self.recipe.holdout.size, self.recipe.seed
        contentious = [row for row in data.held_out if row.source == "contentious"]
        pick = partial(chosen, limit=size, seed=seed)
        slices = {
            MISSED: pick(missed_by(self._reference(data), data.held_out)),
            CONTENTIOUS: pick(contentious),
            UNCONDITIONED: pick(data.held_out),
            UNSEEN_ADVERSARY: pick(data.unseen),
        }
        found = Holdouts({name: rows for name, rows in slices.items() if rows}, data.people)
        found.save(folder)
        return load_holdouts(folder)  # in the order in which a continued run meets them

    def _reference(self, data: PromptData) -> Any:
        """Return the judge whose misses make a slice: a bag of words that has learnt the prompts of round 0."""
        from toxoid.engines.classifiers.modules import BagOfWordsModule
        from toxoid.training.classifier import ClassifierConfig, train_classifier

        folder = self.run.artifact("reference")
        if not folder.exists():
            config = ClassifierConfig(
                mode="full",
                learning_rate=0.1,
                epochs=20,
                schedule="constant",
                calibration=0.0,
                seed=self.recipe.seed,
            )
            train_classifier(
                BagOfWordsModule(PROMPTS),
                _examples(data.seeds),
                config,
                output=folder,
                checkpoints=self.run.artifact("checkpoints/reference"),
                progress=SILENT,
            )
        return _load(folder)

    # ---- judges of replies ----

    def replies(self) -> dict[str, Any]:
        """Train a judge of replies on labelled exchanges; a share of the prompts is kept for its card."""
        items = read_labelled(*self.recipe.data.labelled)
        examples = _reply_examples(items)
        sides = [self._is_held(item) for item in items]
        learnt, held = list(compress(examples, map(not_, sides))), list(compress(items, sides))
        if not held:
            raise UsageError(
                f"of {len(items)} replies none is held out for the card: raise holdout.share, or give more prompts"
            )
        folder = self.run.artifact("trained")
        if not folder.exists():
            self._train(None, learnt, folder)
        self._publish(folder)
        return {
            "kind": "judge",
            "recipe": self.recipe.model_dump(mode="json"),
            "command": self.command,
            "data": {"sources": list(self.sources), "learnt": len(learnt), "held_out": len(held)},
            "arms": {},
            "card": self._card(held),
        }

    def _is_held(self, item: LabelledExchange) -> bool:
        return (
            hash_fraction("judge", self.recipe.seed, prompt_key(item.exchange.request))
            < self.recipe.holdout.share
        )

    # ---- what both need ----

    def _train(self, start: Path | None, examples: Sequence[LabelledText], output: Path) -> None:
        from toxoid.engines.classifiers.folders import load_module
        from toxoid.training.classifier import ClassifierConfig, train_classifier

        module = load_module(start) if start else self._fresh(examples)
        settings = {"seed": self.recipe.seed, "max_length": self.recipe.start.tokens, **self.recipe.training}
        train_classifier(
            module,
            examples,
            ClassifierConfig(**settings),
            output=output,
            checkpoints=output.with_name(f"{output.name}.checkpoints"),
            progress=self.progress,
            card={"command": self.command, "data": list(self.sources)},
        )

    def _fresh(self, examples: Sequence[LabelledText]) -> ClassifierModule:
        """Return what the recipe starts from.

        Raises:
            UsageError: It cannot be loaded, or is a judge of something else.
        """
        import torch

        from toxoid.engines.classifiers.encoders import pretrained, small_encoder
        from toxoid.engines.classifiers.folders import FACTS, load_module
        from toxoid.engines.classifiers.modules import BagOfWordsModule

        source = self.recipe.start.source
        labels = PROMPTS if self.recipe.kind == "prompts" else REPLIES
        window = Window(self.recipe.start.tokens, self.recipe.start.tokens // 8)
        if (Path(source).expanduser() / FACTS).is_file():
            return _same_labels(load_module(source), labels, source)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            if source == "bag-of-words":
                return BagOfWordsModule(labels, window)
            if source == "small-encoder":
                return small_encoder(_words(examples), labels, window=window)
            return pretrained(source, labels, window=window)

    def _publish(self, folder: Path) -> None:
        """Copy the adopted judge to ``artifacts/judge``, whole."""
        place = self.run.artifact("judge")
        if place.exists():
            return
        with self.run.building("judge") as built:
            shutil.copytree(folder, built, dirs_exist_ok=True)

    def _card(
        self, items: Sequence[LabelledExchange], by_source: Sequence[LabelledExchange] | None = None
    ) -> dict[str, Any]:
        """Write the card of the published judge on ``items``; see :func:`toxoid.loop.judge_evaluation.card_of`."""
        from toxoid.judges.folders import judge_from

        place = self.run.artifact("judge")
        judge = judge_from(place)
        (aspect,) = judge.aspects
        labels = judge.classifier.labels  # type: ignore[attr-defined]  # a folder of ours holds a classifier
        details = {"data": list(self.sources), "threshold": labels.threshold}
        card = card_of(
            judge,
            aspect,
            items,
            by_source=by_source,
            command=self.command,
            details=details,
            progress=self.progress,
        )
        write_json_atomic(place / "card.json", card)
        return card


def _measured_on(holdouts: Holdouts) -> tuple[list[LabelledExchange], list[LabelledExchange]]:
    """Return what the card's headline is measured on, and the slices that have rows of their own.

    The headline is of the slice that depends on no judge and of people's labels, each prompt once: in slices that were
    made to be hard, or where one prompt stands in several, an average would say little of prompts at large.
    """
    slices = {**holdouts.slices, **({_PEOPLE: holdouts.people} if holdouts.people else {})}
    headline = {
        row.key: _exchange(row, name) for name in (UNCONDITIONED, _PEOPLE) for row in slices.get(name, ())
    }
    return [*headline.values()], [_exchange(row, name) for name, rows in slices.items() for row in rows]


def _exchange(row: LabelledPrompt, name: str) -> LabelledExchange:
    request = Request(row.group or row.key, row.text, "harmful" if row.problematic else "benign")
    label = "problematic" if row.problematic else "harmless"
    return LabelledExchange(Exchange(request, user(row.text), ""), label, row.source, name)


def _same_labels(module: ClassifierModule, labels: Labels, source: str) -> ClassifierModule:
    """Refuse a judge that tells other things apart than the recipe's kind does; its threshold is its own."""
    if replace(module.labels, threshold=labels.threshold) != labels:
        raise UsageError(
            f"{source} tells apart {', '.join(module.labels.names)} ({module.labels.aspect}); this recipe trains a "
            f"judge of {', '.join(labels.names)} ({labels.aspect}): give another start, or another kind"
        )
    return module


def _words(examples: Sequence[LabelledText]) -> Iterator[str]:
    for example in examples:
        yield from (example.text,) if isinstance(example.text, str) else example.text


def _examples(rows: Sequence[LabelledPrompt]) -> list[LabelledText]:
    from toxoid.training.labelled_texts import LabelledText

    return [LabelledText(row.text, int(row.problematic), row.group) for row in rows]


def _reply_examples(rows: Sequence[LabelledExchange]) -> list[LabelledText]:
    from toxoid.training.labelled_texts import LabelledText

    if not any(row.exchange.completion for row in rows):
        raise UsageError("the labelled data holds no replies: give a file with a column completion")
    return [
        LabelledText(
            (row.exchange.request.prompt, row.exchange.completion),
            _reply_label(row.label),
            row.exchange.request.id,
        )
        for row in rows
    ]


def _load(folder: Path) -> Any:
    from toxoid.engines.classifiers.folders import load_module
    from toxoid.engines.classifiers.inference import ModuleClassifier

    return ModuleClassifier(load_module(folder))


def _reply_label(label: str) -> int:
    """Return the index of a human label; a plain yes is a whole refusal.

    Raises:
        UsageError: It is about harm, not about refusal.
    """
    names = {"no": "compliance", "yes": "refusal"}
    word = names.get(label, label)
    if word not in REPLIES.names:
        raise UsageError(
            f'a reply is labelled "{label}"; a judge of replies learns {", ".join(REPLIES.names)}'
        )
    return REPLIES.names.index(word)


def _reply_sources(recipe: JudgeRecipe) -> list[dict[str, str]]:
    return [source_of(name, read_labelled(name)) for name in recipe.data.labelled]
