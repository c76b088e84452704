"""``toxoid serve``: a protected model behind an OpenAI-compatible API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from toxoid.cli.options import model_options, resolve
from toxoid.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from toxoid.config.recipe import ModelSection
    from toxoid.engines.prompting import Prompting
    from toxoid.judges.panel import Panel
    from toxoid.serve.playground import Playground
    from toxoid.serve.service import Service
    from toxoid.serve.settings import ServeSettings

    Contexts: TypeAlias = Callable[[], Prompting]

_SETTINGS = {
    "host": "host",
    "port": "port",
    "keys": "keys",
    "log_prompts": "log_prompts",
    "reload_shield": "reload_endpoint",
}
_NEED_WEIGHTS = ("shield", "adapter", "revision", "chat_template", "dtype", "trust_remote_code")


@click.command()
@click.argument("model", required=False)
@model_options
@click.option("--shield", help="Shield to put before MODEL (see `toxoid shield`).")
@click.option("--guided", is_flag=True, default=None, help="Ask under the safe system prompt.")
@click.option(
    "--judge",
    help="Who judges requests and replies: a classifier, encoder, guard:MODEL, llm or lab-oracle; + joins several.",
)
@click.option("--judge-model", help="Model that the llm judge asks.")
@click.option("--judge-endpoint", help="Server of the judge's model.")
@click.option(
    "--upstream", metavar="URL", help="OpenAI-compatible server that has MODEL, to stand in front of."
)
@click.option(
    "--upstream-key-env",
    default="OPENAI_API_KEY",
    show_default=True,
    help="Environment variable with the upstream's key.",
)
@click.option("--config", help="YAML file with these and all other settings.")
@click.option("--host", help="Address to listen on, 127.0.0.1 by default; others need --keys.")
@click.option("--port", type=int, help="Port, 8000 by default; 0 takes a free one.")
@click.option("--keys", help="File of hashed API keys.")
@click.option(
    "--new-key", metavar="NAME", help="Make a key, put its hash into --keys, show it once, and stop."
)
@click.option("--log-prompts", is_flag=True, default=None, help="Log what is asked and answered.")
@click.option(
    "--reload-shield", is_flag=True, default=None, help="Let this machine POST /admin/reload-shield."
)
@click.option(
    "--playground-base/--no-playground-base",
    default=None,
    help="Show the undefended model on the page beside the API; by default the lab's, on loopback.",
)
def serve(model: str | None, **given: Any) -> None:
    """Serve MODEL (by default lab-base) behind an OpenAI-compatible API, with a page to try it.

    With a shield, guidance or a judge it is protected, and no client can switch that off. SIGHUP reads shield and keys
    again; SIGTERM finishes what runs.
    """
    if given["new_key"]:
        _make_key(given["new_key"], given["keys"])
        return
    _check(model, given)
    _serve(model, given)


# --upstream is this verb's word for it.
serve.params = [parameter for parameter in serve.params if parameter.name != "endpoint"]


def _make_key(name: str, path: str | None) -> None:
    from toxoid.serve.keys import add_key

    if path is None:
        raise UsageError("--new-key needs a file for the key's hash: give --keys FILE")
    click.echo(add_key(path, name))
    click.echo(f"toxoid: this key is shown once; its hash is in {path}", err=True)


def _check(model: str | None, given: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other."""
    if given["guided"] and given["shield"]:
        raise UsageError("--guided and --shield exclude each other: give one of the two")
    if given["judge"] is None and (given["judge_model"] or given["judge_endpoint"]):
        raise UsageError("--judge-model and --judge-endpoint are the llm judge's: give --judge llm")
    if given["upstream"] is None:
        return
    if model is None:
        raise UsageError("--upstream: name the MODEL that the server there shall run")
    if idle := next((name for name in _NEED_WEIGHTS if given[name]), None):
        raise UsageError(f"--{idle.replace('_', '-')} needs the weights here, and --upstream's are elsewhere")


def _serve(model: str | None, given: dict[str, Any]) -> None:
    try:
        from toxoid.serve.server import check_start, run_server
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'toxoid[serve]'") from error
    from toxoid.serve.settings import load_settings

    chosen = {place: given[name] for name, place in _SETTINGS.items() if given[name] is not None}
    settings = load_settings(given["config"], chosen)
    check_start(settings)
    panel = _panel(given)
    service, prompting = (
        _upstream(model or "", given) if given["upstream"] else _local(model, settings, given)
    )
    service.settings = settings
    if panel is not None:
        from toxoid.serve.judging import JudgeThread

        service.judges = JudgeThread(panel)
    playground = _playground(model, settings, given, prompting)
    run_server(service, lambda url: click.echo(f"toxoid serves {service.backend.name} at {url}"), playground)


def _playground(
    model: str | None, settings: ServeSettings, given: Mapping[str, Any], prompting: Contexts | None
) -> Playground:
    from toxoid.loop.models import PACKAGED
    from toxoid.serve.playground import Playground, lab_examples, shows_base

    lab = prompting is not None and model in (None, *PACKAGED)
    base = shows_base(given["playground_base"], host=settings.host, lab=lab)
    return Playground(base, prompting, lab_examples() if lab else ())


def _panel(given: Mapping[str, Any]) -> Panel | None:
    if given["judge"] is None:
        return None
    from toxoid.loop.judging import panel_of
    from toxoid.serve.judging import serving_panel

    return serving_panel(
        panel_of(given["judge"], model=given["judge_model"], endpoint=given["judge_endpoint"])
    )


def _upstream(model: str, given: Mapping[str, Any]) -> tuple[Service, None]:
    """Return the service in front of another server, which has no contexts that are known here."""
    from toxoid.config.prompt_files import prompt
    from toxoid.engines.endpoint_http import key_from
    from toxoid.serve.service import Service
    from toxoid.serve.upstream import Upstream

    backend = Upstream(given["upstream"], model, key=key_from(given["upstream_key_env"]))
    guidance = prompt("system")["safe"].strip() if given["guided"] else None
    return Service(backend, guidance=guidance, forwards=True), None


def _local(model: str | None, settings: ServeSettings, given: dict[str, Any]) -> tuple[Service, Contexts]:
    """Return the service of a model here, and what gives the contexts under which it is asked now."""
    from toxoid.engines.prompting import Bare, Prompting
    from toxoid.loop import models
    from toxoid.serve.jobs import Limits
    from toxoid.serve.scheduler import Scheduler
    from toxoid.serve.service import Service

    section = _section(model, given)
    loaded = models.load(section)
    now = models.local_engine(loaded, section).prompting
    queue, rows, cache = settings.limits.queue, settings.limits.rows, settings.limits.cache_bytes
    backend = Scheduler(loaded, now, Limits(queue, rows, cache, prefix_bytes=cache // 4))

    def reload() -> None:
        nonlocal now
        now = models.local_engine(loaded, section).prompting
        backend.swap(now)

    return Service(backend, bare=Prompting(Bare(loaded.tokenizer)), reload=reload), lambda: now


def _section(model: str | None, given: dict[str, Any]) -> ModelSection:
    """Return the model with its shield or guidance."""
    from toxoid.config.recipe import load_recipe, with_overrides, without_arms

    recipe = without_arms(load_recipe("audit"))
    if given["guided"]:
        recipe = with_overrides(recipe, {"model.decoding": {"positive": "safe"}})
    asked = {name: value for name, value in given.items() if not name.startswith("judge")}
    return resolve(recipe, model, {**asked, "guided": None}).model
