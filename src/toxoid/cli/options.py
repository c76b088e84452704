"""Options that several verbs share, and how they become a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toxoid.errors import UsageError

if TYPE_CHECKING:
    from toxoid.config.recipe import Recipe

F = TypeVar("F", bound=Callable[..., Any])

_MODEL_OPTIONS = (
    click.option("--revision", help="Revision of a Hub model."),
    click.option("--adapter", help="PEFT adapter to put on the model."),
    click.option("--chat-template", help="Jinja file for a tokenizer without a chat template."),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that comes with the model. Off by default."
    ),
    click.option(
        "--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), help="Of the weights in memory."
    ),
    click.option("--endpoint", help="Base URL of an OpenAI-compatible server; MODEL is then its model name."),
)

_REQUEST_OPTIONS = (
    click.option(
        "--requests", help="Harmful requests: a data set's name or a file (see `toxoid ls datasets`)."
    ),
    click.option("--limit", type=int, help="At most this many requests per set."),
    click.option(
        "--judge",
        help="auto, refusal, llm, encoder, lab-oracle, a judge's folder, a Hub name, guard:NAME; + joins several.",
    ),
    click.option("--judge-model", help="Model that the llm judge asks."),
    click.option("--judge-endpoint", help="Server of the judge's model."),
    click.option("--temperature", type=float, help="Sampling temperature; 0 is greedy."),
    click.option("--max-tokens", type=int, help="Tokens per reply."),
    click.option("--seed", type=int, help="Of everything random."),
)

_DATA_OPTIONS = (
    click.option("--benign", help="Benign requests: name or file."),
    click.option("--contentious", help="Requests that sound harmful and are not: name or file."),
    click.option("--task", "tasks", multiple=True, help="Only these audit tasks (repeatable)."),
    click.option("--samples", type=int, help="Replies per item."),
    click.option("--guided", is_flag=True, default=None, help="Ask under the safe system prompt."),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any recipe value, dotted (repeatable).",
    ),
)

_KEYS = {
    "revision": "model.revision",
    "adapter": "model.adapter",
    "chat_template": "model.chat_template",
    "dtype": "model.dtype",
    "endpoint": "model.endpoint",
    "shield": "model.shield",
    "requests": "data.sets.harmful",
    "benign": "data.sets.benign",
    "contentious": "data.sets.contentious",
    "limit": "data.limit",
    "judge": "judge.name",
    "judge_model": "judge.model",
    "judge_endpoint": "judge.endpoint",
    "samples": "audit.samples",
    "temperature": "audit.sampling.temperature",
    "max_tokens": "audit.sampling.max_tokens",
    "guided": "audit.guided",
    "seed": "seed",
}

_TASKS_OF_SET = {
    "harmful": ("harmfulness", "jailbreak", "prefill"),
    "benign": ("helpfulness", "hijacking"),
    "contentious": ("over-refusal",),
}


def model_options(function: F) -> F:
    """Add the options that say how a model is loaded."""
    return _with(function, _MODEL_OPTIONS)


def request_options(function: F) -> F:
    """Add the options that say which harmful requests are asked, how replies are drawn and who judges."""
    return _with(function, _REQUEST_OPTIONS)


def data_options(function: F) -> F:
    """Add the options of :func:`request_options` and those of an audit."""
    return _with(function, _REQUEST_OPTIONS + _DATA_OPTIONS)


def _with(function: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def resolve(recipe: Recipe, model: str | None, given: dict[str, Any]) -> Recipe:
    """Return the recipe with everything that was given on the command line.

    Giving request sets of one's own replaces the recipe's sets: tasks without requests are left out.

    Args:
        recipe: Reduced to the arms that were asked for: what an arm left out would need is no one's concern.
        model: The model's source; None leaves the recipe's.
        given: The options by name; what was not given is None or empty.

    Raises:
        UsageError: A value is wrong, or an arm would not train on the sets that were given; the text names it.
    """
    from toxoid.config.recipe import parse_overrides, with_overrides

    values: dict[str, Any] = {
        _KEYS[key]: value for key, value in given.items() if key in _KEYS and value is not None
    }
    if model is not None:
        values["model.source"] = model
    if given.get("temperature") == 0 and given.get("samples") is None:
        values["audit.samples"] = 1  # greedy replies to one item are all the same
    if given.get("trust_remote_code"):
        values["model.trust_remote_code"] = True
    own_sets = any(given.get(key) for key in ("requests", "benign", "contentious"))
    if own_sets:
        values = _own_sets(values, contentious=recipe.data.sets.get("contentious") in recipe.train.benign)
    if given.get("tasks"):
        values["audit.tasks"] = list(given["tasks"])
    resolved = with_overrides(recipe, {**values, **parse_overrides(given.get("overrides", ()))})
    _refuse_other_arms(recipe, resolved)
    if own_sets:
        _refuse_sets_of_arms(resolved)
    return resolved


def _own_sets(values: dict[str, Any], *, contentious: bool) -> dict[str, Any]:
    """Replace the recipe's data by the user's sets: no lab set may stay among them.

    Args:
        values: Settings by their place in a recipe.
        contentious: Whether the recipe trains on its contentious requests too.
    """
    from toxoid.config.recipe import CourseCorrectionSection

    prefix = "data.sets."
    sets = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
    rest = {key: value for key, value in values.items() if not key.startswith(prefix)}
    tasks = [task for role in sets for task in _TASKS_OF_SET[role]]
    general = ("benign", "contentious") if contentious else ("benign",)
    return {
        **rest,
        "data.sets": sets,
        "audit.tasks": tasks,
        "audit.attacks": {},
        # Lengths and limit suit the recipe's own replies; C2-Eval's are for any.
        "audit.course_correction.lengths": list(CourseCorrectionSection().lengths),
        "audit.course_correction.limit": None,
        "train.harmful": [sets["harmful"]] if "harmful" in sets else [],
        "train.benign": [sets[role] for role in general if role in sets],
    }


def _refuse_other_arms(recipe: Recipe, resolved: Recipe) -> None:
    """Refuse settings that change which arms there are: the verb and --method have chosen them."""
    before, after = ([arm.name for arm in each.arms] for each in (recipe, resolved))
    if before != after:
        raise UsageError(
            f"--set makes the arms {', '.join(after) or 'none'}, where {', '.join(before) or 'none'} were chosen: "
            "choose arms with --method, or list them in a recipe file (`toxoid cp`)"
        )


def _refuse_sets_of_arms(recipe: Recipe) -> None:
    """Refuse arms that would train on sets of their own, beside those that the user gave."""
    for arm in recipe.arms:
        if arm.train is not None:
            raise UsageError(
                f'arm "{arm.name}" trains on sets of its own ({", ".join(arm.train.harmful)}), not on those given '
                "with --requests, --benign or --contentious: choose other arms with --method, or give train in a "
                "recipe file (`toxoid cp`)"
            )
