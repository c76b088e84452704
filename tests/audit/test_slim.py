"""Reading side by side without texts gives what reading everything gives."""

from tests.helpers.drawn import scored
from toxoid.audit.rates import Settings, flips
from toxoid.audit.slim import ShownFlips, Slimmer, read_side_by_side
from toxoid.loop.results import compared, compared_rates, measured

SETTINGS = Settings(resamples=200)


def system(seed):
    jailbreaks = [
        entry for name in ("persona", "prefill") for entry in scored("jailbreak", attack=name, seed=seed)
    ]
    return [*scored("harmfulness", seed=seed), *jailbreaks, *scored("helpfulness", seed=seed)]


def test_rates_and_flips_are_those_of_the_whole_items():
    before, after = system(1), system(2)
    names = ("a", "b")
    slim = read_side_by_side(
        iter(before), iter(after), tasks=["harmfulness", "jailbreak", "helpfulness"], most=3
    )
    whole = compared(before, after, SETTINGS, names=names, flips_shown=3)
    rates = compared_rates(slim[0], slim[1], SETTINGS, names=names)
    assert {**rates, "flips": slim[2].shown(), "flips_total": slim[2].totals} == whole
    assert measured(slim[0], None, SETTINGS) == measured(before, None, SETTINGS)


def test_what_one_side_was_not_asked_is_read_and_not_paired():
    before, after = system(1), [entry for entry in system(2) if entry.item.task != "jailbreak"]
    old, new, found = read_side_by_side(before, after, tasks=["harmfulness", "helpfulness"], most=100)
    assert (len(old), len(new)) == (len(before), len(after))
    assert sum(found.totals.values()) == len(flips(before, after))


def test_no_text_is_kept_and_equal_verdicts_are_one():
    slimmer = Slimmer()
    entries = [slimmer.slim(entry) for entry in scored("harmfulness")]
    assert all(not e.item.conversation and not e.item.request.prompt and not e.completions for e in entries)
    verdicts = [verdict for e in entries for found in e.verdicts.values() for verdict in found]
    assert len({id(verdict) for verdict in verdicts}) == len(set(verdicts)) <= 3


def test_the_flips_of_the_smallest_hash_are_kept_in_whatever_order_they_come():
    changed = flips(scored("harmfulness", items=30, seed=1), scored("harmfulness", items=30, seed=2))
    found = []
    for some in (changed, changed[::-1]):
        shown = ShownFlips(2)
        for flip in some:
            shown.add(flip)
        found.append(sorted(flip["after_reply"] for flip in shown.shown()))
    assert found[0] == found[1]
    assert len(found[0]) == 4
