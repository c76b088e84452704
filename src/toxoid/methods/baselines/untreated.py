"""No treatment: the model as it is, asked as it is, or under the contrast of manual prompts that the arm says.

With ``safe`` against ``bare`` that is instructive decoding with a null prompt (nID, Kim et al. 2023), with ``safe``
against ``opposite`` the one with an opposite prompt (oID; ROSE, Zhong et al. 2024).
"""

from __future__ import annotations

from toxoid.engines.base import Engine
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, System, TrainingSet


class Untreated:
    """Leave the model alone. Base of the treatments that only ask it in other words."""

    name = "untreated"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make nothing.

        Raises:
            UsageError: An option is given.
        """
        if given.options:
            raise UsageError(
                f"options of {self.name}: there are none, and {next(iter(given.options))} is given: remove it"
            )
        return TrainingSet((), {})

    def engine(self, system: System) -> Engine:
        """Ask the model as it was, under the arm's decoding if it has one."""
        from toxoid.engines.contexts import chosen, prompted_engine

        return prompted_engine(system.load_untreated(), chosen(system.decoding))
