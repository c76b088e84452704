"""Plug-ins: attacks, judges, engines and data sets from elsewhere, under names of their own.

A plug-in is a factory, found by an entry point of an installed distribution (groups ``toxoid.attacks``,
``toxoid.judges``, ``toxoid.engines``, ``toxoid.datasets``) or registered in this process. It is imported when its name
is asked for and no built-in has that name, and by ``toxoid ls``. ``NAME:ARGUMENT`` calls the factory with the text
behind the colon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from toxoid.errors import ToxoidError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Factory: TypeAlias = Callable[..., Any]
"""Makes what its group is of; called with the argument behind the name, if there is one."""

_PAGE = "docs/plugins.md"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A factory that is not imported yet.

    Args:
        name: What it is asked for by.
        origin: Its distribution and version; ``"this process"`` if it was registered here.
        load: Returns the factory.
    """

    name: str
    origin: str
    load: Callable[[], Factory]

    def __str__(self) -> str:
        return f"{self.name} of {self.origin}"


@dataclass(frozen=True, slots=True)
class PluginGroup:
    """The plug-ins of one kind.

    Args:
        kind: The kind, in the plural; the entry points are those of ``toxoid.<kind>``.
        noun: One of the kind, for people.
        parts: What the thing that a factory makes has to have.
    """

    kind: str
    noun: str
    parts: tuple[str, ...]
    registered: dict[str, Factory] = field(default_factory=dict)

    def all(self) -> list[Plugin]:
        """Return the plug-ins that there are, none of them imported."""
        from importlib.metadata import entry_points

        installed = entry_points(group=f"toxoid.{self.kind}")
        found = [Plugin(entry.name, _origin(entry), entry.load) for entry in installed]
        return [*found, *(_here(name, factory) for name, factory in self.registered.items())]

    def names(self) -> list[str]:
        """Return the names of the plug-ins."""
        return [plugin.name for plugin in self.all()]

    def find(self, given: str) -> Plugin | None:
        """Return the plug-in that ``NAME`` or ``NAME:ARGUMENT`` means; ``None`` if there is none.

        Raises:
            UsageError: Two of that name.
        """
        name = given.partition(":")[0]
        found = [plugin for plugin in self.all() if plugin.name == name]
        if len(found) > 1:
            origins = " and ".join(plugin.origin for plugin in found)
            raise UsageError(f'the {self.noun} "{name}" comes from {origins}: uninstall one of them')
        return found[0] if found else None

    def load(self, plugin: Plugin) -> Factory:
        """Import a plug-in.

        Raises:
            UsageError: It cannot be imported; the line names its distribution.
        """
        try:
            return plugin.load()
        except Exception as error:
            raise UsageError(f"the {self.noun} {plugin} cannot be imported: {_told(error)}") from error

    def make(self, given: str, **settings: Any) -> Any:
        """Return what the plug-in makes; ``None`` if there is no plug-in of that name.

        What has an identity gets the plug-in into it.

        Args:
            given: ``NAME`` or ``NAME:ARGUMENT``.
            settings: Go to the factory, beside the argument.

        Raises:
            UsageError: It cannot be imported, its factory fails, or it makes something else.
        """
        plugin = self.find(given)
        if plugin is None:
            return None
        factory = self.load(plugin)
        _, colon, argument = given.partition(":")
        try:
            made = factory(*((argument,) if colon else ()), **settings)
        except ToxoidError:
            raise
        except Exception as error:
            raise UsageError(f"the {self.noun} {plugin} cannot be made: {_told(error)}") from error
        for part in self.parts:
            if not hasattr(made, part):
                kind = type(made).__name__
                raise UsageError(f"the {self.noun} {plugin} makes a {kind} without `{part}`: see {_PAGE}")
        return _Stamped(made, str(plugin)) if "identity" in self.parts else made

    def describe(self, plugin: Plugin) -> str:
        """Return a plug-in in one line: the first one of its factory's docstring, or why it cannot be imported."""
        try:
            text = (self.load(plugin).__doc__ or self.noun).strip()
        except UsageError as error:
            return str(error)
        return f"{text.splitlines()[0].rstrip('.')} ({plugin.origin})"


ATTACKS = PluginGroup("attacks", "attack", ("name", "identity", "apply"))
JUDGES = PluginGroup("judges", "judge", ("name", "aspects", "identity", "judge"))
ENGINES = PluginGroup("engines", "engine", ("name", "granule", "identity", "generate", "close"))
DATASETS = PluginGroup("datasets", "data set", ("requests", "name", "sha256", "licence", "notes"))
GROUPS = {group.kind: group for group in (ATTACKS, JUDGES, ENGINES, DATASETS)}


class _Stamped:
    """What a plug-in made, with the plug-in in its identity: another version of it is another thing."""

    def __init__(self, made: Any, plugin: str) -> None:
        self._made = made
        self._plugin = plugin

    def identity(self) -> dict[str, Any]:
        return {**self._made.identity(), "plugin": self._plugin}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def _here(name: str, factory: Factory) -> Plugin:
    return Plugin(name, "this process", lambda: factory)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
