"""The wordings of attacks: read from YAML, filled in, hashed into the identity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from toxoid.attacks.base import Pool
from toxoid.config.prompt_files import prompt, prompts_hash
from toxoid.errors import UsageError

_SLOT = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Phrase:
    """One wording; ``id`` is unique in its section and names the variant in reports."""

    id: str
    text: str
    pool: Pool

    def fill(self, **values: str) -> str:
        """Return the text with its ``{slots}`` filled in one pass: braces inside values stay as they are."""
        return _SLOT.sub(lambda slot: values.get(slot[1], slot[0]), self.text)


@dataclass(frozen=True, slots=True)
class Wording:
    """The wordings of one attack by section, and the digest of the file they came from."""

    sections: Mapping[str, tuple[Phrase, ...]]
    sha256: str

    def of(self, section: str, pool: Pool) -> tuple[Phrase, ...]:
        """Return the phrases of a section that belong to a pool."""
        return tuple(phrase for phrase in self.sections[section] if phrase.pool == pool)


@cache
def load_wording(name: str) -> Wording:
    """Read a packaged prompt file of attacks: section -> list of {id, text, pool}, beside its ``version``."""
    file = f"attacks/{name}"
    sections = {
        section: tuple(Phrase(**phrase) for phrase in phrases)
        for section, phrases in prompt(file).items()
        if section != "version"
    }
    return Wording(sections, prompts_hash([file]))


def check_variants(attack: str, wanted: int, available: int) -> None:
    """Raise if an attack is asked for no variant or for more than it has.

    Raises:
        UsageError: Says how many there are.
    """
    if not 1 <= wanted <= available:
        raise UsageError(
            f'Attack "{attack}" has {available} variants; {wanted} were asked for. Ask for 1 to {available}.'
        )
