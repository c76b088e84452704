"""Shows an explanation of a reply: as a table in a terminal, or as a page of its own without scripts."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toxoid.report.facts import Fact
from toxoid.report.format import DASH, count, number
from toxoid.report.html import environment, style_of
from toxoid.report.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from toxoid.engines.explain import Candidate, Explanation, TokenView

_PROMPTS = {
    "sp": "the shield's safe prompt",
    "safe": "the safe system prompt",
    "ap": "the shield's adversarial prompt",
    "opposite": "the opposite system prompt",
    "bare": "no prompt",
    None: "nothing",
}
_LEVELS = (0.01, 0.1, 0.3, 0.6)
"""Shares moved at which a token's mark gets stronger."""
_WORD = 40


@dataclass(frozen=True, slots=True)
class _Line:
    """One token as it is shown: its number, its view, and how strongly it is marked (0 to 4)."""

    number: int
    view: TokenView
    level: int

    @property
    def text(self) -> str:
        """What stands in the reply; line ends are visible, and what adds nothing shows its number."""
        return self.view.chosen.text.replace("\n", "⏎\n") or named(self.view.chosen)

    @property
    def said(self) -> str:
        """The token's numbers in words."""
        chosen, bare = self.view.chosen, self.view.bare
        mask = " (removed by the mask)" if self.view.removed else ""
        instead = f"The undefended model: {named(bare)}{mask}. " if self.view.changed else ""
        return (
            f"{self.number}. {named(chosen)}: undefended {probability(chosen.p_bare)}, prompt alone "
            f"{probability(chosen.p_positive)}, as drawn {probability(chosen.p_combined)}. {instead}"
            f"Moved: {probability(self.view.moved)}{', contrasted' if self.view.contrasted else ''}. "
            f"Logits: {logits(chosen)}."
        )


def told(explanation: Explanation) -> str:
    """Return in a sentence or two what the prompts and their contrast did to a reply."""
    views = explanation.tokens
    if not views:
        return "The reply has no tokens."
    changed = sum(view.changed for view in views)
    used = sum(view.contrasted for view in views)
    most = max(range(len(views)), key=lambda index: views[index].moved)
    mean = sum(view.moved for view in views) / len(views)
    return (
        f"{changed} of {len(views)} tokens are not what the undefended model finds most probable there. "
        f"{used} were contrasted; contrast and mask moved {probability(mean)} of the probability per token, most "
        f"({probability(views[most].moved)}) at token {most + 1}, {named(views[most].chosen)}."
    )


def named(candidate: Candidate) -> str:
    """Return a token on one line, with its blanks and line ends visible."""
    shown = one_line(candidate.text.replace("\n", "⏎").replace(" ", "␣").replace("\t", "⇥"), limit=_WORD)
    return shown or f"#{candidate.id}"


def explanation_table(explanation: Explanation) -> Table:
    """Return the tokens of a reply as a table for a terminal. Bold: the undefended model would differ.

    S and A are the logits, under the prompt to follow and the one to stay away from, of the token before them.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", justify="right")
    for title in ("token", "undefended"):
        table.add_column(title, no_wrap=True)
        for logit in ("S", "A"):
            table.add_column(logit, justify="right", no_wrap=True)
    for title in ("p undefended", "p drawn", "moved"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for line in _lines(explanation):
        view = line.view
        style = "bold" if view.changed else ""
        shares = (view.chosen.p_bare, view.chosen.p_combined, view.moved)
        table.add_row(
            str(line.number),
            *(Text(cell, style=style) for cell in (*_cells(view.chosen), *_cells(view.bare))),
            *(Text(probability(share)) for share in shares),
            Text(noted(view), style="dim"),
        )
    return table


def _cells(candidate: Candidate) -> tuple[str, str, str]:
    """Return a token and its two logits."""
    negative = DASH if candidate.negative is None else number(candidate.negative)
    return named(candidate), number(candidate.positive), negative


def render_explanation(explanation: Explanation) -> str:
    """Return an explanation as one HTML page.

    Text from models is escaped; characters that hide, reorder or control are shown as markers. The page loads
    nothing and runs nothing: its content security policy allows the page's own style sheet only.
    """
    request = explanation.request
    return (
        environment()
        .get_template("explain.html.jinja")
        .render(
            **style_of("report.css", "explain.css"),
            turns=request.conversation,
            prefill=request.prefill,
            sentence=told(explanation),
            lines=_lines(explanation),
            settings=_settings(explanation),
            greedy=request.sampling.temperature == 0,
            named=named,
            noted=noted,
            logits=logits,
            probability=probability,
        )
    )


def noted(view: TokenView) -> str:
    """Return what is to be said of a token beside its numbers."""
    notes = ((view.contrasted, "contrasted"), (view.removed, "undefended's masked"))
    return ", ".join(text for holds, text in notes if holds)


def probability(share: float) -> str:
    """Return a probability as ``"31.4 %"``; one that is nearly 0 or 1 says no more than that."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{share * 100:.1f} %"


def logits(candidate: Candidate) -> str:
    """Return the logits of a token in words: S, A, and the combined one."""
    combined = (
        "removed by the mask" if candidate.combined is None else f"combined {number(candidate.combined)}"
    )
    against = "" if candidate.negative is None else f"A {number(candidate.negative)}, "
    return f"S {number(candidate.positive)}, {against}{combined}"


def _lines(explanation: Explanation) -> list[_Line]:
    return [
        _Line(index, view, bisect(_LEVELS, view.moved))
        for index, view in enumerate(explanation.tokens, start=1)
    ]


def _settings(explanation: Explanation) -> list[Fact]:
    contrast, sampling = explanation.contrast, explanation.request.sampling
    where = "every token" if contrast.first is None else f"the first {count(contrast.first)} tokens"
    if contrast.divergence is not None:
        where += f", where the contexts differ by {probability(contrast.divergence)} or more"
    facts = [
        Fact("Model", explanation.model),
        Fact("Prompt followed", _PROMPTS[explanation.positive]),
        Fact("Prompt to stay away from", _PROMPTS[explanation.negative]),
    ]
    if explanation.negative is not None:
        form = "rescaled: (S − αA) / (1 − α)" if contrast.rescale else "raw: S − αA"
        facts += [Fact("Strength α", number(contrast.alpha), form), Fact("Contrasted", where)]
    mask = (
        f"below {probability(contrast.plausibility)} of the most probable token's"
        if contrast.plausibility
        else "none"
    )
    return [
        *facts,
        Fact("Mask: probabilities removed", mask),
        Fact("Temperature", number(sampling.temperature), "greedy" if sampling.temperature == 0 else ""),
        Fact("Nucleus", number(sampling.top_p), "left out of what is shown" if sampling.top_p < 1 else ""),
        Fact("Seed", str(explanation.request.seed)),
        Fact("Ended by", explanation.completion.finish_reason),
    ]
