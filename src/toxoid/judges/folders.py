"""Judges that are no built-ins: plug-ins, folders of classifiers and names on the Hub; and those that are packaged."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from toxoid.errors import UsageError, did_you_mean
from toxoid.judges.registry import NAMES
from toxoid.plugins import JUDGES

if TYPE_CHECKING:
    from toxoid.judges.base import Judge

GUARD = "guard:"
ENCODER = "encoder"
_ENCODERS = resources.files("toxoid.judges").joinpath("encoders")


def judge_from(source: str | Path) -> Judge:
    """Return the judge that is a plug-in, a classifier or a guard model.

    Args:
        source: The name of a plug-in (``./name`` is the folder); the folder of a classifier, or of a model of
            ``transformers`` for sequence classification or a causal language model; the name of such a model on the
            Hub, ``OWNER/NAME``; with ``:LABEL`` after it, the label that is a hit; or ``guard:`` and the folder or
            name of a guard model.

    Raises:
        UsageError: There is none, or it cannot be loaded; one line says why.
    """
    name = str(source)
    if name.startswith(GUARD):
        from toxoid.judges.guards import guard_judge

        return guard_judge(name.removeprefix(GUARD))
    plugin: Judge | None = JUDGES.make(name)
    if plugin is not None:
        return plugin
    place, _, label = (name, "", "") if _exists(name) else name.rpartition(":")
    place, label = (place, label) if place else (label, "")
    if not _exists(place) and ("/" not in place or place.startswith((".", "/", "~"))):
        known = [*NAMES, *JUDGES.names()]
        raise UsageError(
            f'"{place}" is no judge.{did_you_mean(place, known)} Known: {", ".join(known)}; or give the folder of a '
            "classifier, or its name on the Hub, OWNER/NAME"
        )
    from toxoid.engines.classifiers.loading import load_classifier
    from toxoid.judges.classifier import ClassifierJudge

    return ClassifierJudge(load_classifier(place, positive=(label,) if label else ()))


def encoder_folders() -> list[Path]:
    """Return the folders of the packaged classifiers, one for each aspect.

    Raises:
        UsageError: There are none.
    """
    found = sorted(Path(str(_ENCODERS)).glob("*/classifier.json"))
    if not found:
        raise UsageError(f"the judge `{ENCODER}` is not packaged here: train one with `toxoid judge train`")
    return [path.parent for path in found]


def _exists(name: str) -> bool:
    return bool(name) and Path(name).expanduser().exists()  # the path of "" is the folder one is in
