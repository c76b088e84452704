"""``toxoid generate``: ask a model, as it is or protected, and see what the protection did."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from toxoid.cli.options import model_options, resolve
from toxoid.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toxoid.config.recipe import Recipe
    from toxoid.engines.base import Completion, Engine, GenerationRequest
    from toxoid.engines.local import LocalEngine

_CONTRAST = ("alpha", "plausibility", "first", "divergence")
_NEEDS_NEGATIVE = ("alpha", "first", "divergence", "raw")
_LOCAL = ("shield", "positive", "negative", *_CONTRAST, "raw", "explain", "html", "stream")


@click.command()
@click.argument("model", required=False)
@click.argument("prompts", metavar="[PROMPT]...", nargs=-1)
@click.option("--file", "source", help="Prompts from a file (JSON lines, CSV, text) or a data set.")
@model_options
@click.option("--shield", help="Shield to put before MODEL (see `toxoid shield`).")
@click.option("--alpha", type=float, help="Strength of the contrast, in place of the shield's.")
@click.option("--plausibility", type=float, help="Least share of the most probable token's probability.")
@click.option("--first", type=int, help="Contrast so many tokens only.")
@click.option("--divergence", type=float, help="Contrast only where the two contexts differ so much, 0 to 1.")
@click.option("--raw", is_flag=True, help="S - alpha A as published, without rescaling.")
@click.option("--positive", type=click.Choice(["sp", "safe", "bare"]), help="Prompt to follow.")
@click.option(
    "--negative", type=click.Choice(["ap", "opposite", "bare", "none"]), help="Prompt to stay away from."
)
@click.option("--guided", is_flag=True, default=None, help="Ask under the safe system prompt.")
@click.option("--system", help="System message of the conversation.")
@click.option("--prefill", default="", help="Beginning of the reply.")
@click.option("-n", "--samples", type=int, default=1, show_default=True, help="Replies per prompt.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="0 is greedy.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Nucleus; 1 keeps everything.")
@click.option("--max-tokens", type=int, default=256, show_default=True, help="Tokens per reply.")
@click.option("--stop", multiple=True, help="Text that ends a reply (repeatable).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn.")
@click.option("--stream/--no-stream", default=None, help="Show one reply as it is made; so on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per reply.")
@click.option("--explain", is_flag=True, help="Show what the protection did, token by token.")
@click.option("--html", type=click.Path(path_type=Path), help="Explain, and write it as a page.")
def generate(model: str | None, prompts: tuple[str, ...], source: str | None, **given: Any) -> None:
    """Ask MODEL (by default lab-base), plain, under manual prompts, or behind a shield.

    Prompts are the arguments after MODEL, those of --file, or the lines of standard input; `-` is all of standard
    input as one prompt. With a shield its safe prompt is followed and its adversarial one stayed away from.
    """
    _check_model(model)
    asked = _prompts(prompts, source)
    given["elsewhere"] = _elsewhere(model, given["endpoint"])
    _check_combination(given, asked)
    recipe = _recipe(model, given)
    requests = _requests(recipe, asked, given)
    with closing(_engine(recipe, given)) as engine:
        if given["explain"] or given["html"]:
            _explain(cast("LocalEngine", engine), requests[0], given)
        elif _streams(given, requests):
            _stream(cast("LocalEngine", engine), requests[0])
        else:
            _generate(engine, requests, as_json=given["as_json"])


def _check_model(model: str | None) -> None:
    if model and " " in model.strip() and not Path(model).exists():
        raise UsageError(
            f'"{model}" stands where MODEL is expected: name the model first, e.g. `toxoid generate lab-base "..."`'
        )


def _elsewhere(model: str | None, endpoint: str | None) -> bool:
    """Return whether the weights are behind an endpoint, or in the engine of a plug-in."""
    from toxoid.config.recipe import ModelSection

    return bool(endpoint) or ModelSection(source=model or "lab-base").plugin


def _prompts(arguments: tuple[str, ...], source: str | None) -> list[str]:
    """Return the prompts from where they are given.

    Raises:
        UsageError: They come from two places or from none, or one is empty.
    """
    if arguments and source:
        raise UsageError("prompts are given as arguments and with --file: give one of the two")
    if source:
        from toxoid.data.loading import load_requests

        return [request.prompt for request in load_requests(source)]
    if "-" in arguments and len(arguments) > 1:
        raise UsageError("- reads all of standard input as the one prompt: give no other prompts beside it")
    asked = list(arguments) if arguments and arguments != ("-",) else _piped(whole=arguments == ("-",))
    if not all(map(str.strip, asked)):
        raise UsageError("an empty prompt is given: expected text")
    return asked


def _piped(*, whole: bool) -> list[str]:
    """Return standard input as one prompt, or its lines."""
    if sys.stdin.isatty() and not whole:
        raise UsageError('no prompt is given: write one after MODEL ("..."), give --file, or pipe lines in')
    text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError("standard input holds no prompt: expected text")
    return [text.strip()] if whole else lines


def _check_combination(given: Mapping[str, Any], asked: Sequence[str]) -> None:
    """Refuse options that contradict each other, or that would do nothing."""
    several = len(asked) > 1 or given["samples"] > 1
    explains = given["explain"] or given["html"]
    positive, negative, shield = given["positive"], given["negative"], given["shield"]
    texts = "".join((*asked, given["prefill"], given["system"] or ""))
    local = next((key for key in _LOCAL if _is_given(given[key])), None)
    idle = next((key for key in _NEEDS_NEGATIVE if _is_given(given[key])), None)
    late = next((key for key in ("negative", "first", "divergence", "raw") if _is_given(given[key])), None)
    alone = negative == "none" or (negative is None and not shield)
    complaints = (
        (
            any("\ud800" <= character <= "\udfff" for character in texts),
            "the text given is not UTF-8: convert it",
        ),
        (given["elsewhere"] and local, f"--{local} needs the weights here, and this model's are elsewhere"),
        (given["stream"] and several, "--stream shows one reply: give one prompt and no -n, or --no-stream"),
        (given["stream"] and explains, "--stream and --explain exclude each other: remove one"),
        (given["stream"] and given["as_json"], "--stream and --json exclude each other: remove one"),
        (explains and several, "--explain is for one reply: give one prompt and no -n"),
        (given["guided"] and positive, "--guided is --positive safe: give one of the two"),
        (given["guided"] and shield, "--guided and --shield exclude each other: give --positive safe"),
        (not shield and positive == "sp", "--positive sp is a shield's prompt: give --shield DIR"),
        (not shield and negative == "ap", "--negative ap is a shield's prompt: give --shield DIR"),
        (
            shield and positive in ("safe", "bare") and negative in ("opposite", "bare", "none"),
            "no prompt of the shield is used: remove --shield, or give --positive sp or --negative ap",
        ),
        (
            alone and idle,
            f"--{idle} has no effect, because there is no prompt to stay away from: give --negative or --shield",
        ),
        (given["alpha"] == 0 and late, f"--{late} has no effect with --alpha 0: remove one"),
    )
    for wrong, complaint in complaints:
        if wrong:
            raise UsageError(complaint)


def _is_given(value: Any) -> bool:
    return value is not None and value is not False


def _recipe(model: str | None, given: dict[str, Any]) -> Recipe:
    """Return the recipe whose model, sampling and seed are those of the command line."""
    from toxoid.config.recipe import load_recipe, with_overrides, without_arms

    settings = {key: given[key] for key in ("positive", *_CONTRAST) if given[key] is not None}
    if given["guided"] and not given["elsewhere"]:
        settings["positive"] = "safe"
    if given["negative"] is not None:
        settings["negative"] = None if given["negative"] == "none" else given["negative"]
    if given["raw"]:
        settings["rescale"] = False
    overrides = {
        "model.decoding": settings,
        "audit.sampling.top_p": given["top_p"],
    }
    return resolve(with_overrides(without_arms(load_recipe("audit")), overrides), model, given)


def _requests(recipe: Recipe, prompts: Sequence[str], given: Mapping[str, Any]) -> list[GenerationRequest]:
    from toxoid.data.schemas import user
    from toxoid.engines.base import GenerationRequest, Sampling

    drawn = recipe.audit.sampling
    sampling = Sampling(drawn.temperature, drawn.top_p, drawn.max_tokens, tuple(given["stop"]))
    return [
        GenerationRequest(
            user(prompt, given["system"]), given["prefill"], sampling, recipe.audit.samples, recipe.seed
        )
        for prompt in prompts
    ]


def _engine(recipe: Recipe, given: Mapping[str, Any]) -> Engine:
    from toxoid.loop import models

    engine = models.open_engine(recipe.model)
    return models.guided(engine) if given["guided"] and given["elsewhere"] else engine


def _streams(given: Mapping[str, Any], requests: Sequence[GenerationRequest]) -> bool:
    if given["stream"] is not None:
        return bool(given["stream"])
    one = len(requests) == 1 and requests[0].n == 1
    return one and sys.stdout.isatty() and not given["as_json"] and not given["elsewhere"]


def _stream(engine: LocalEngine, request: GenerationRequest) -> None:
    from toxoid.report.text import visible

    for piece in engine.stream(request):
        click.echo(visible(piece.text), nl=False)
    click.echo()


def _generate(engine: Engine, requests: Sequence[GenerationRequest], *, as_json: bool) -> None:
    from toxoid.cli.progress import RichProgress

    if len(requests) == 1:
        replies = engine.generate(requests)
    else:
        with RichProgress() as progress, progress.task("generate", len(requests), "prompts") as task:
            replies = engine.generate(requests, on_done=lambda index, done: task.advance())
    several = len(requests) > 1 or requests[0].n > 1
    for request, completions in zip(requests, replies, strict=True):
        for index, completion in enumerate(completions, start=1):
            if as_json:
                click.echo(json.dumps(_line(request, completion)))
            else:
                _show(request, completion, number=index if several else None)


def _line(request: GenerationRequest, completion: Completion) -> dict[str, Any]:
    """Return a reply as a JSON line has it; what the engine tells of it beside stands there too."""
    return {
        "prompt": request.conversation[-1].content,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "tokens": completion.completion_tokens,
        **completion.metadata,
    }


def _show(request: GenerationRequest, completion: Completion, *, number: int | None) -> None:
    """Print a reply; with a heading, if it is one of several."""
    from toxoid.report.text import one_line, visible

    if number is not None:
        count = f" ({number} of {request.n})" if request.n > 1 else ""
        click.secho(f"> {one_line(request.conversation[-1].content)}{count}", bold=True)
    click.echo(visible(completion.text))
    if "error" in completion.metadata:
        click.echo(f"toxoid: {one_line(completion.metadata['error'])}", err=True)
    if number is not None:
        click.echo()


def _explain(engine: LocalEngine, request: GenerationRequest, given: Mapping[str, Any]) -> None:
    from toxoid.cli.execute import console
    from toxoid.engines.explain import explain
    from toxoid.report.explain import explanation_table, render_explanation, told
    from toxoid.store.files import disk_errors, write_text_atomic

    explanation = explain(engine, request, engine.draw(request)[0])
    if given["as_json"]:
        found = _line(request, explanation.completion)
        click.echo(json.dumps({**found, "explanation": explanation.as_json()}))
    else:
        _show(request, explanation.completion, number=None)
        click.echo()
        console().print(explanation_table(explanation))
        click.echo(f"\n{told(explanation)}")
    if given["html"]:
        with disk_errors(given["html"]):
            given["html"].absolute().parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(given["html"], render_explanation(explanation))
        click.echo(f"page: {given['html']}", err=given["as_json"])
