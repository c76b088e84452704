"""From a recipe's model section to engines: names, folders, adapters, endpoints, guidance."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from toxoid.config.prompt_files import prompt
from toxoid.config.recipe import ArmSection, ModelSection, Recipe
from toxoid.engines.base import Engine
from toxoid.engines.guided import GuidedEngine
from toxoid.errors import UsageError
from toxoid.methods.base import System
from toxoid.methods.registry import make_method
from toxoid.plugins import ENGINES
from toxoid.store.keys import file_sha256

if TYPE_CHECKING:
    from toxoid.engines.endpoint_wire import PrefillMode
    from toxoid.engines.loading import LoadedModel
    from toxoid.engines.local import LocalEngine

_OTHERS = ("replies", "analyses")
"""What another model may be asked for: options ``replies_by``, ``replies_endpoint`` and so on."""
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
    if section.plugin:
        raise UsageError(
            f"{section.source} is a plug-in's engine, and this needs the weights here: give a folder or a Hub id"
        )
    from toxoid.engines.loading import load_model

    loaded = load_model(
        model_source(section.source),
        revision=section.revision,
        adapter=section.adapter,
        chat_template=section.chat_template,
        trust_remote_code=section.trust_remote_code,
        dtype=section.dtype,
    )
    return replace(loaded, special_tokens=section.special_tokens)


def load_treated(section: ModelSection, artifact: Path) -> LoadedModel:
    """Load what an arm's training left: an adapter on the recipe's model, or a model folder of its own."""
    if (artifact / "adapter_config.json").is_file():
        from toxoid.engines.loading import adapted

        return adapted(load(section), artifact)  # on top of the recipe's own adapter, if there is one
    return load(section.model_copy(update={"source": str(artifact), "adapter": None, "revision": None}))


def local_engine(loaded: LoadedModel, section: ModelSection | None = None) -> LocalEngine:
    """Return the engine that runs a loaded model here, behind the section's shield and decoding if it has them.

    Raises:
        UsageError: The shield cannot be read, or is not this model's.
    """
    from toxoid.engines.contexts import chosen, prompted_engine
    from toxoid.engines.shield import load_shield

    section = section or ModelSection()
    shield = load_shield(section.shield) if section.shield else None
    return prompted_engine(loaded, chosen(section.decoding, shield), shield)


def teacher_engine(base: LoadedModel, shield: str | Path) -> LocalEngine:
    """Return the engine of a model under a shield, as that is meant to be used.

    Raises:
        UsageError: The shield cannot be read, or is not this model's.
    """
    return local_engine(base, ModelSection(shield=str(shield)))


def treated_engine(section: ModelSection, base: LoadedModel, arm: ArmSection, artifact: Path) -> Engine:
    """Return the engine that asks an arm's model as its method wants it asked.

    Args:
        section: The recipe's model.
        base: That model, loaded; it is not changed.
        arm: The arm.
        artifact: What its treatment left.
    """
    system = System(
        load=lambda: load_treated(section, artifact),
        load_untreated=lambda: base,
        artifact=artifact,
        options=arm.options,
        decoding=arm.decoding,
    )
    return make_method(arm.method).engine(system)


def inputs_of(recipe: Recipe) -> dict[str, str]:
    """Return, by arm, the hash of the shield or file of anchors that its options name: a name alone says little.

    Raises:
        UsageError: It cannot be read.
    """
    from toxoid.engines.shield import load_shield

    found = {}
    for arm in recipe.arms:
        if shield := arm.options.get("shield"):
            found[arm.name] = load_shield(str(shield)).identity()
        if anchors := arm.options.get("anchors_file"):
            path = Path(str(anchors)).expanduser()
            if not path.is_file():
                raise UsageError(f'arm "{arm.name}": there is no file of anchors at {path}')
            found[arm.name] = file_sha256(path)
    return found


def other_engine(arm: ArmSection) -> Engine | None:
    """Return the engine of another model that an arm's options name, to give replies or analyses; if they do."""
    source, endpoint = (
        next((arm.options[f"{what}_{part}"] for what in _OTHERS if f"{what}_{part}" in arm.options), None)
        for part in ("by", "endpoint")
    )
    if source is None:
        return None
    return open_engine(ModelSection.model_validate({"source": source, "endpoint": endpoint}))


def open_engine(section: ModelSection, *, prefill: PrefillMode = "auto") -> Engine:
    """Return what asks a model: a server's engine, a plug-in's, or the one that runs it here.

    Args:
        section: The model.
        prefill: As in :func:`endpoint_engine`, for a server.

    Raises:
        UsageError: The model cannot be loaded, there is no such plug-in, or it fails.
    """
    if section.endpoint:
        return endpoint_engine(section, prefill=prefill)
    if section.plugin:
        return _plugin_engine(section.source)
    return local_engine(load(section), section)


def _plugin_engine(source: str) -> Engine:
    made: Engine | None = ENGINES.make(source)
    if made is None:
        known = ENGINES.names()
        raise UsageError(
            f'"{source}" is no model folder, and there is no engine "{source.partition(":")[0]}" among the plug-ins: '
            f"{', '.join(known) or 'none is installed'}"
        )
    return made


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
