"""The task ``campaigns`` of an audit: interactive attacks against a system, its defences in the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toxoid.attacks.campaigns import make_interactive
from toxoid.attacks.interactive import InteractiveAttack
from toxoid.audit.campaigns import Budget, campaign_scored
from toxoid.audit.play import run_campaigns
from toxoid.audit.run import Scored
from toxoid.audit.tasks import CAMPAIGNS, task_spec
from toxoid.config.recipe import Recipe
from toxoid.engines.base import Engine, Sampling
from toxoid.engines.cached import CachedEngine
from toxoid.judges.panel import Panel
from toxoid.loop import models
from toxoid.loop.requests import Requests
from toxoid.progress import Progress
from toxoid.store.records import Records

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

    Raises:
        UsageError: An unknown attack, or an attacker that cannot be loaded.
    """

    def __init__(self, recipe: Recipe, requests: Requests, base: LoadedModel | None) -> None:
        self._recipe, self._base = recipe, base
        self.asked = requests.asked[CAMPAIGNS].requests if CAMPAIGNS in recipe.audit.tasks else ()
        names = recipe.audit.attacks.get(CAMPAIGNS, (task_spec(CAMPAIGNS).attack,)) if self.asked else ()
        self._helper = self._attacker() if names else None
        given = recipe.audit.campaigns
        self.budget = Budget(given.queries, given.tokens)
        self.attacks: dict[str, InteractiveAttack] = {
            name: make_interactive(name, attacker=self._helper is not None, rounds=given.queries)
            for name in names
        }

    @property
    def questions(self) -> int:
        """The most questions to one system."""
        return len(self.asked) * len(self.attacks) * self.budget.queries

    def identity(self) -> dict[str, Any]:
        """Return what the campaigns depend on beside the recipe (JSON values); empty without any."""
        if not self.attacks:
            return {}
        helper = self._helper.identity() if self._helper else None
        return {
            "attacks": {name: attack.identity() for name, attack in self.attacks.items()},
            "attacker": helper,
        }

    def play(
        self, target: Engine, panel: Panel, records: Records, progress: Progress, name: str
    ) -> list[Scored]:
        """Return every campaign against ``target`` as a scored item; what was answered before is not asked again."""
        sampling = self._recipe.audit.sampling
        found: list[Scored] = []
        for attack in self.attacks.values():
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
                name=f"{name}: {attack.name}",
            )
            found += [campaign_scored(campaign, CAMPAIGNS) for campaign in campaigns]
        return found

    def _asked_by(self, attack: InteractiveAttack, records: Records) -> Engine | None:
        if attack.name == GRADIENTS:
            from toxoid.attacks.gcg import SuffixSearch

            return CachedEngine(SuffixSearch(self._base), records)
        return None if self._helper is None else CachedEngine(self._helper, records)

    def _attacker(self) -> Engine | None:
        section = self._recipe.audit.campaigns.attacker
        if section is not None:
            return (
                models.endpoint_engine(section)
                if section.endpoint
                else models.local_engine(models.load(section))
            )
        if all(request.id.startswith("lab-") for request in self.asked):
            from toxoid.attacks.lab import LabAttacker

            return LabAttacker()
        return None
