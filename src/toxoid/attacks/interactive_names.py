"""The attacks that talk back, by name; :func:`toxoid.attacks.campaigns.make_interactive` makes them."""

from __future__ import annotations

NAMES: dict[str, str] = {
    "crescendo": "several turns that lead up to the request, taken back where the model declines (task campaigns)",
    "pair": "a second model words the request anew until a judge is content (task campaigns)",
    "best_of_n": "the request in ever other spellings until one lands (task campaigns)",
    "gcg": "a suffix found by the gradients of the undefended model; needs nanogcg (task campaigns)",
    "adaptive": "all attacks, combined, on the defended model: goes on with what came closest (task campaigns)",
}
"""Name to one line, for ``toxoid ls attacks``: they look at the replies and ask again."""
