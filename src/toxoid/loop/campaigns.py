"""The tasks ``campaigns`` and ``transfer``: attacks on a system with its defences in the loop, and what they left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxoid.attacks.base import asked
from toxoid.attacks.campaigns import make_interactive
from toxoid.attacks.interactive import InteractiveAttack
from toxoid.audit.campaigns import Budget, campaign_scored, transferred
from toxoid.audit.items import Item, items_fingerprint
from toxoid.audit.play import run_campaigns
from toxoid.audit.run import Scored
from toxoid.audit.scored_files import iter_scored
from toxoid.audit.tasks import CAMPAIGNS, TRANSFER, task_spec
from toxoid.config.recipe import BASE, Recipe
from toxoid.data.schemas import Request
from toxoid.engines.base import Engine, Sampling
from toxoid.engines.cached import CachedEngine
from toxoid.errors import UsageError
from toxoid.judges.panel import Panel
from toxoid.loop import models
from toxoid.loop.kept import scored_path
from toxoid.loop.requests import Requests
from toxoid.progress import Progress
from toxoid.store.records import Records
from toxoid.store.run_directory import RunDirectory

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel

GRADIENTS = "gcg"
"""The attack that searches by the gradients of the undefended model."""


class Campaigns:
    """The interactive attacks of a recipe; none, if its audit has no such task.

    Args:
        recipe: Names attacks, budget and attacker.
        requests: The audit's.
        base: The undefended model, if it is here.

    Attributes:
        found: What the task ``transfer`` asks: of another run, or of this one after its base was audited.

    Raises:
        UsageError: An unknown attack, an attacker that cannot be loaded, or nothing to transfer.
    """

    def __init__(self, recipe: Recipe, requests: Requests, base: LoadedModel | None) -> None:
        self._recipe, self._base = recipe, base
        self.asked = requests.asked[CAMPAIGNS].requests if CAMPAIGNS in recipe.audit.tasks else ()
        names = recipe.audit.attacks.get(CAMPAIGNS, (task_spec(CAMPAIGNS).attack,)) if self.asked else ()
        self._helper = self._attacker() if names else None
        self._search = self._gradients() if GRADIENTS in names else None
        given = recipe.audit.campaigns
        self.budget = Budget(given.queries, given.tokens)
        self.attacks: dict[str, InteractiveAttack] = {
            name: make_interactive(name, attacker=self._helper is not None, rounds=given.queries)
            for name in names
        }
        _check_transfer(recipe)
        self._transfers = TRANSFER in recipe.audit.tasks
        wanted = requests.asked[TRANSFER].requests if self._transfers else ()
        self.found = found_in(Path(given.found_in), wanted) if given.found_in else []
        self._brought = items_fingerprint(self.found)

    @property
    def coming(self) -> list[Item]:
        """The items of both tasks as far as they are known beforehand: with the plain requests as conversations."""
        own = [Item(CAMPAIGNS, one, asked(one), attack=name) for name in self.attacks for one in self.asked]
        return own + [transferred(item) for item in (self.found or own) if self._transfers]

    def identity(self) -> dict[str, Any]:
        """Return what the campaigns depend on beside the recipe (JSON values); empty without any."""
        if not self.attacks and not self._brought:
            return {}
        helper = self._helper.identity() if self._helper else None
        return {
            "attacks": {name: attack.identity() for name, attack in self.attacks.items()},
            "attacker": helper,
            **({"search": self._search.identity()} if self._search else {}),
            **({"found": self._brought} if self._brought else {}),
        }

    def play(
        self, target: Engine, panel: Panel, records: Records, progress: Progress, name: str
    ) -> Iterator[Scored]:
        """Yield every campaign against ``target`` as a scored item; what was answered before is not asked again."""
        sampling = self._recipe.audit.sampling
        for asked_for, attack in self.attacks.items():
            campaigns = run_campaigns(
                attack,
                self.asked,
                task=CAMPAIGNS,
                target=target,
                judges=panel,
                budget=self.budget,
                sampling=Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens),
                seed=self._recipe.seed,
                attacker=self._asked_by(attack, records),
                progress=progress,
                name=f"audit {name}: {asked_for}",
            )
            for campaign in campaigns:
                played = campaign_scored(campaign, CAMPAIGNS)
                entry = replace(played, item=replace(played.item, attack=asked_for))
                if name == BASE and self._transfers and not self._brought:
                    self.found.append(transferred(entry.item))
                yield entry

    def _asked_by(self, attack: InteractiveAttack, records: Records) -> Engine | None:
        helper = self._search if attack.name == GRADIENTS else self._helper
        return None if helper is None else CachedEngine(helper, records)

    def _gradients(self) -> Engine:
        from toxoid.attacks.gcg import SuffixSearch

        return SuffixSearch(self._base)

    def _attacker(self) -> Engine | None:
        section = self._recipe.audit.campaigns.attacker
        if section is not None:
            return models.open_engine(section)
        if all(request.id.startswith("lab-") for request in self.asked):
            from toxoid.attacks.lab import LabAttacker

            return LabAttacker()
        return None


def found_in(directory: Path, requests: Sequence[Request]) -> list[Item]:
    """Return what the attacks of a finished run ended with on its base, for each of ``requests``.

    Raises:
        UsageError: There is no such run, or it played no campaigns on one of the requests.
    """
    wanted = {request.id: request for request in requests}
    run = RunDirectory.read(directory)
    entries = (entry.item for entry in iter_scored(scored_path(run, BASE)) if entry.item.task == CAMPAIGNS)
    found = [
        transferred(replace(item, request=wanted[item.request.id]))
        for item in entries
        if item.request.id in wanted
    ]
    if lacking := wanted.keys() - {item.request.id for item in found}:
        raise UsageError(
            f"audit.campaigns.found_in: {directory} played no campaigns on {len(lacking)} of the {len(wanted)} "
            f"requests, such as {min(lacking)}: give a run of the task {CAMPAIGNS} on the same requests"
        )
    return found


def _check_transfer(recipe: Recipe) -> None:
    asked, brought = recipe.audit.tasks, recipe.audit.campaigns.found_in
    if TRANSFER in recipe.audit.attacks:
        raise UsageError(
            f"audit.attacks.{TRANSFER} was given, and its attacks are those of {CAMPAIGNS}: name them there"
        )
    if TRANSFER in asked and CAMPAIGNS not in asked and not brought:
        raise UsageError(
            f"the task {TRANSFER} asks again what {CAMPAIGNS} found: add that task, or name a run that has played it "
            "in audit.campaigns.found_in"
        )
    if brought and TRANSFER not in asked:
        raise UsageError(
            f"audit.campaigns.found_in is given and nothing asks for it: add the task {TRANSFER} to audit.tasks"
        )
