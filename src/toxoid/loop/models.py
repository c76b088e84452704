"""From a recipe's model section to engines: names, folders, adapters, endpoints, guidance."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from toxoid.config.prompt_files import prompt
from toxoid.config.recipe import ModelSection
from toxoid.engines.base import Engine
from toxoid.engines.guided import GuidedEngine
from toxoid.errors import UsageError

if TYPE_CHECKING:
    from toxoid.engines.endpoint_wire import PrefillMode
    from toxoid.engines.loading import LoadedModel

PACKAGED = ("lab-base", "lab-uncensored")


def model_source(name: str) -> str:
    """Return the folder of a packaged model, or the name itself (a folder or a Hub id)."""
    if name in PACKAGED:
        return str(resources.files("toxoid.lab").joinpath("checkpoints", name))
    return name


def load(section: ModelSection) -> LoadedModel:
    """Load a recipe's model, with its adapter if it has one.

    Raises:
        UsageError: It cannot be loaded; the text says why.
    """
    from toxoid.engines.loading import load_model

    return load_model(
        model_source(section.source),
        revision=section.revision,
        adapter=section.adapter,
        chat_template=section.chat_template,
        trust_remote_code=section.trust_remote_code,
        dtype=section.dtype,
    )


def load_treated(section: ModelSection, artifact: Path) -> LoadedModel:
    """Load what an arm's training left: an adapter on the recipe's model, or a model folder of its own."""
    if (artifact / "adapter_config.json").is_file():
        from toxoid.engines.loading import adapted

        return adapted(load(section), artifact)  # on top of the recipe's own adapter, if there is one
    return load(section.model_copy(update={"source": str(artifact), "adapter": None, "revision": None}))


def local_engine(loaded: LoadedModel) -> Engine:
    """Return the engine that runs a loaded model here."""
    from toxoid.engines.local import LocalEngine

    return LocalEngine(loaded)


def endpoint_engine(section: ModelSection, *, prefill: PrefillMode = "auto") -> Engine:
    """Return the engine that asks an OpenAI-compatible server.

    Args:
        section: Names the endpoint and the model.
        prefill: What to do with a server that cannot continue an open turn; see
            :class:`toxoid.engines.endpoint.EndpointEngine`.

    Raises:
        UsageError: The section names no endpoint.
    """
    from toxoid.engines.endpoint import EndpointEngine

    if section.endpoint is None:
        raise UsageError("an endpoint was asked for and none is given: give --endpoint URL")
    return EndpointEngine(section.endpoint, section.source, prefill=prefill)


def guided(engine: Engine) -> Engine:
    """Return the engine under the packaged guidance."""
    return GuidedEngine(engine, prompt("system")["safe"].strip())
