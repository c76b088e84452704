"""Guard models of others as judges: Llama Guard, WildGuard, Granite Guardian, ShieldGemma."""

from toxoid.judges.guards.families import FAMILIES, Family, family_of, load_family
from toxoid.judges.guards.judge import GuardJudge, guard_judge
from toxoid.judges.guards.replies import Reading

__all__ = ["FAMILIES", "Family", "GuardJudge", "Reading", "family_of", "guard_judge", "load_family"]
