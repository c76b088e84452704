"""Text classifiers: a head, an adapter or every weight learns labels; what it says is calibrated on other texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from toxoid.engines.classifiers.base import positive
from toxoid.engines.classifiers.folders import FACTS, save_classifier
from toxoid.engines.classifiers.inference import ModuleClassifier, identity_of, softmax
from toxoid.engines.classifiers.modules import ClassifierModule, EncoderModule
from toxoid.engines.classifiers.windows import Row, Window
from toxoid.engines.loading import LoadedModel
from toxoid.engines.shield import is_free
from toxoid.errors import UsageError
from toxoid.progress import SILENT
from toxoid.stats.agreement import expected_calibration_error
from toxoid.store.keys import content_key
from toxoid.training.artifacts import TrainingResult
from toxoid.training.calibration import Threshold, check_threshold, choose_threshold, fit_temperature
from toxoid.training.checkpoints import remove_all
from toxoid.training.copies import full_copy
from toxoid.training.determinism import seeded
from toxoid.training.fingerprint import training_fingerprint
from toxoid.training.labelled_texts import LabelledText, consistent, demand_both_sides, label_counts, split
from toxoid.training.precision import use_bf16
from toxoid.training.processes import connect, is_main, wait_for_all
from toxoid.training.settings import TrainingConfig, one_of
from toxoid.training.trainer import History, StepTrainer

if TYPE_CHECKING:
    from toxoid.progress import Progress

ClassifierMode = Literal["head", "lora", "full"]


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(TrainingConfig):
    """Settings of the training of a classifier. ``max_length`` shortens its windows, in training and in use.

    Args:
        mode: ``head`` trains what stands above a frozen encoder, ``lora`` an adapter as well, ``full`` every weight.
        smoothing: Of the labels: this share of each is spread over all of them (Szegedy et al. 2016, section 7).
        balance: Whether every label counts the same in sum, however many texts have it.
        calibration: Share of the groups of each label that is kept to find temperature and threshold, and not
            trained on; 0 leaves the temperature at 1.
        threshold: From which probability on a text is a hit; see :data:`toxoid.training.calibration.Threshold`.
        trainings: How many, differing in their seed, the result is the mean of: their weights', which is as fast as
            one of them and errs less (Wortsman et al. 2022, Model soups, section 3).

    Raises:
        UsageError: A value is out of range, the threshold needs a calibration and there is none, or adapters, which
            have no mean of their kind, are to be averaged.
    """

    mode: ClassifierMode = "lora"  # type: ignore[assignment]  # other trainings have no head of their own
    max_length: int = 256
    smoothing: float = 0.0
    balance: bool = True
    calibration: float = 0.1
    threshold: Threshold = 0.5
    trainings: int = 1

    def __post_init__(self) -> None:
        one_of("mode", self.mode, get_args(ClassifierMode))
        common: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(TrainingConfig)}
        TrainingConfig(**common | {"mode": "full"})
        for name in ("smoothing", "calibration"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: give 0 or more, below 1")
        check_threshold(self.threshold)
        if not self.calibration and not isinstance(self.threshold, float | int):
            raise UsageError(
                f"the threshold {self.threshold!r} is found by calibration: set calibration above 0"
            )

        if self.trainings < 1:
            raise UsageError(f"trainings is {self.trainings}: give 1 or more")
        if self.trainings > 1 and self.mode == "lora":
            raise UsageError(
                f"trainings is {self.trainings}, and adapters have no mean: set mode to full or head"
            )

    @property
    def trains_adapter(self) -> bool:
        """Return whether an adapter is trained."""
        return self.mode == "lora"


@dataclass(frozen=True)
class Calibration:
    """What was found on the texts kept for it.

    Args:
        texts: How many those are.
        temperature: See :func:`toxoid.training.calibration.fit_temperature`.
        threshold: See :func:`toxoid.training.calibration.choose_threshold`.
        ece_before: Expected calibration error of the probability of a hit at temperature 1.
        ece_after: The same at the temperature found, on the texts that it was found on.
    """

    texts: int
    temperature: float
    threshold: float
    ece_before: float
    ece_after: float


@dataclass(frozen=True)
class ClassifierResult(TrainingResult):
    """What a training of a classifier did; ``dropped`` texts had nothing to read, ``cut`` is 0: all are read whole.

    Args:
        contradicting: Texts left out because they were given with different labels.
        labelled: Trained on, by label.
        calibration: ``None`` if no texts were kept for it.
    """

    contradicting: int
    labelled: Mapping[str, int]
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One window of a text, its label, and its share of the text's weight."""

    row: Row
    label: int
    weight: float


class ClassifierTrainer(StepTrainer):
    """Weighted mean of the cross-entropy over the windows of an optimiser step.

    Args:
        model: The module.
        given: The arguments of :class:`toxoid.training.trainer.StepTrainer`, the collator apart.
    """

    def __init__(self, *, model: ClassifierModule, **given: Any) -> None:
        self._module = model
        super().__init__(model=model, collator=self._collated, **given)

    def loss_total(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the windows' weights."""
        return batch["weights"].sum()

    def batch_loss(self, model: nn.Module, batch: Mapping[str, Any], total: Tensor) -> Tensor:
        """Return the loss of one micro-batch as its share of the step's loss."""
        logits = model(**batch["windows"])
        smoothing = cast(ClassifierConfig, self.config).smoothing
        losses = functional.cross_entropy(
            logits.float(), batch["targets"], reduction="none", label_smoothing=smoothing
        )
        weighted: Tensor = losses * batch["weights"]
        return weighted.sum() / total

    def _collated(self, rows: Sequence[LabelledRow]) -> dict[str, Any]:
        return {
            "windows": self._module.collate([row.row for row in rows]),
            "targets": torch.tensor([row.label for row in rows]),
            "weights": torch.tensor([row.weight for row in rows]),
            "lengths": torch.tensor([len(row.row) for row in rows]),
        }


def train_classifier(
    start: ClassifierModule,
    examples: Sequence[LabelledText],
    config: ClassifierConfig,
    *,
    output: Path,
    checkpoints: Path,
    progress: Progress,
    card: Mapping[str, Any] | None = None,
) -> ClassifierResult:
    """Train a copy of a classifier on labelled texts, calibrate it on others, and save it.

    ``start`` is not changed; it may be fresh or come from an earlier training, whose adapter is then trained further.
    Called again after a kill with the same arguments it continues from the last whole checkpoint, and ends with the
    same weights, bit for bit on one machine with as many threads.

    Args:
        start: What to begin from, on the device to train on.
        examples: What to learn. A text that stands there with different labels is left out.
        config: How.
        output: Folder of the classifier; it appears whole or not at all, an earlier one there is replaced.
        checkpoints: Folder for this training's checkpoints, removed after success.
        progress: Where to report.
        card: What the card says beyond what is known here: data sets, licences, command (JSON values).

    Raises:
        UsageError: A label is not one of the classifier's, hits or misses are missing, the mode does not fit the
            module, ``output`` holds something else, the checkpoints belong to another training, or the disk refuses.
        Diverged: The loss became infinite or NaN; the last checkpoint is kept.
    """
    if not is_free(output) and not (output / FACTS).is_file():
        raise UsageError(f"{output} exists and holds no earlier classifier: give a new or empty folder")
    progress = progress if is_main() else SILENT
    connect(next(start.parameters()).device.type)
    known, contradicting = consistent(examples, start.labels)
    learnt, kept = split(known, config.calibration, seed=config.seed)
    demand_both_sides(learnt, start.labels)
    each = [replace(config, seed=config.seed + number) for number in range(config.trainings)]
    folders = [checkpoints / f"training-{n}" for n in range(len(each))] if len(each) > 1 else [checkpoints]
    data = _digest(known)
    made = [
        _trained(start, learnt, one, data=data, folder=folder, progress=progress)
        for one, folder in zip(each, folders, strict=True)
    ]
    module, dropped, fingerprint = _mean([one.module for one in made]), made[0].dropped, made[0].fingerprint
    if contradicting or dropped:
        progress.note(
            f"of {len(examples)} texts, {contradicting} were left out because they have different labels, and "
            f"{dropped} because there is nothing to read in them"
        )
    with seeded(config.seed, config.threads):
        found = calibrate(module, kept, config.threshold) if kept else None
    threshold = found.threshold if found else float(cast(float, config.threshold))
    module.labels = replace(module.labels, threshold=threshold)
    result = _result(
        output,
        [one.history for one in made],
        learnt,
        found,
        module,
        dropped=dropped,
        contradicting=contradicting,
    )
    if is_main():
        facts = {key: value for key, value in asdict(result).items() if key not in ("path", "losses")}
        save_classifier(module, output, card={**(card or {}), "training": facts, "fingerprint": fingerprint})
        for folder in dict.fromkeys((*folders, checkpoints)):
            remove_all(folder)
    wait_for_all()
    return result


@dataclass(frozen=True, slots=True)
class _Trained:
    module: ClassifierModule
    history: History
    dropped: int
    fingerprint: dict[str, Any]


def _trained(
    start: ClassifierModule,
    learnt: Sequence[LabelledText],
    config: ClassifierConfig,
    *,
    data: str,
    folder: Path,
    progress: Progress,
) -> _Trained:
    """Train a copy of ``start``; ``data`` is the hash of what was given, ``folder`` is for the checkpoints."""
    device = next(start.parameters()).device.type
    with seeded(config.seed, config.threads):
        module = trainable(start, config)
        rows, dropped = labelled_rows(module, learnt, balance=config.balance)
        bf16 = use_bf16(config.bf16, device=device, parameters=sum(w.numel() for w in module.parameters()))
        loaded = LoadedModel(start, None, start.kind, identity_of(start))
        fingerprint = training_fingerprint("classifier", loaded, config, data=data, rows=len(rows), bf16=bf16)
        trainer = ClassifierTrainer(
            model=module,
            config=config,
            rows=rows,
            lengths=[len(row.row) for row in rows],
            idle=replace(rows[0], weight=0.0),
            folder=folder,
            fingerprint=fingerprint,
            bf16=bf16,
            progress=progress,
        )
        return _Trained(module, trainer.run(), dropped, fingerprint)


def _mean(modules: Sequence[ClassifierModule]) -> ClassifierModule:
    """Return the first module with the mean of all modules' weights."""
    if len(modules) > 1:
        states = [module.state_dict() for module in modules]
        mean = {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}
        modules[0].load_state_dict(mean)
    return modules[0]


def trainable(start: ClassifierModule, config: ClassifierConfig) -> ClassifierModule:
    """Return a copy of ``start`` in which exactly the weights that ``config.mode`` names can be trained.

    Raises:
        UsageError: ``lora`` and a module without an encoder, or with an adapter of another size.
    """
    module = cast(ClassifierModule, full_copy(start))
    tokens = min(start.window.tokens, config.max_length)
    module.window = Window(tokens, min(start.window.overlap, tokens // 4))
    module.temperature = 1.0
    if not isinstance(module, EncoderModule):
        if config.mode == "lora":
            raise UsageError(f"a {module.kind} classifier has no layers for an adapter: set mode to full")
        return module
    if config.mode == "full":
        module.merge_adapter()
        return module
    if config.mode == "lora" and module.adapter is None:
        module.add_adapter(rank=config.lora_rank, alpha=config.alpha)
    if config.mode == "lora" and module.adapter != {"rank": config.lora_rank, "alpha": config.alpha}:
        raise UsageError(
            f"the classifier has an adapter {module.adapter}: set lora_rank and lora_alpha to those, or mode to full"
        )
    for name, weight in module.encoder.named_parameters():
        weight.requires_grad_(config.mode == "lora" and ".lora_" in name)
    return module


def labelled_rows(
    module: ClassifierModule, examples: Sequence[LabelledText], *, balance: bool
) -> tuple[list[LabelledRow], int]:
    """Return the windows of the examples, and how many examples have none.

    All windows of a text have its label, and share its weight evenly. With ``balance`` the weights of every label
    add up to the same.

    Raises:
        UsageError: The texts are not what the classifier reads, or none has a window.
    """
    try:
        windows = module.rows([example.text for example in examples])
    except ValueError as error:
        raise UsageError(f"{error}") from error
    if not windows:
        raise UsageError(f"there is nothing to read in {len(examples)} texts: give texts with words")
    count = Counter(row.text for row in windows)
    sums: Counter[int] = Counter()
    for index in count:
        sums[examples[index].label] += examples[index].weight  # type: ignore[assignment]
    mean = sum(sums.values()) / len(sums)
    scale = {label: mean / total if balance else 1.0 for label, total in sums.items()}
    rows = [
        LabelledRow(row, example.label, example.weight * scale[example.label] / count[row.text])
        for row in windows
        for example in (examples[row.text],)
    ]
    return rows, len(examples) - len(count)


def calibrate(
    module: ClassifierModule, examples: Sequence[LabelledText], threshold: Threshold
) -> Calibration:
    """Set the module's temperature by labelled texts, and return it with the threshold.

    Raises:
        UsageError: Hits or misses are missing among the texts in which there is something to read.
    """
    found = ModuleClassifier(module).log_probabilities([example.text for example in examples])
    read = np.isfinite(found[:, 0])
    kept = [example for example, known in zip(examples, read, strict=True) if known]
    demand_both_sides(kept, module.labels, purpose="calibrate")
    logs, labels = found[read], np.array([example.label for example in kept])
    truth = np.isin(labels, module.labels.columns)
    module.temperature = fit_temperature(logs, labels)
    before, after = (positive(module.labels, softmax(logs / t)) for t in (1.0, module.temperature))
    errors = [expected_calibration_error(scores, truth.astype(np.float64)) for scores in (before, after)]
    chosen = choose_threshold(threshold, after, truth)
    return Calibration(len(kept), module.temperature, chosen, *(error or 0.0 for error in errors))


def _result(
    output: Path,
    histories: Sequence[History],
    learnt: Sequence[LabelledText],
    calibration: Calibration | None,
    module: ClassifierModule,
    *,
    dropped: int,
    contradicting: int,
) -> ClassifierResult:
    adapted = isinstance(module, EncoderModule) and module.adapter is not None
    losses = tuple(loss for history in histories for loss in history.losses)
    return ClassifierResult(
        path=output,
        kind="adapter" if adapted else "model",
        steps=len(losses),
        seconds=sum(history.seconds for history in histories),
        tokens=sum(history.tokens for history in histories),
        losses=losses,
        examples=len(learnt) - dropped,
        cut=0,
        dropped=dropped,
        contradicting=contradicting,
        labelled=label_counts(learnt, module.labels),
        calibration=calibration,
    )


def _digest(examples: Sequence[LabelledText]) -> str:
    return content_key([[e.text, e.label, e.group, float(e.weight)] for e in examples])
