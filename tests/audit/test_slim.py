"""Reading side by side without texts gives what reading everything gives."""

from dataclasses import replace

from tests.helpers.drawn import scored
from toxoid.attacks.base import Cut
from toxoid.audit.rates import Settings
from toxoid.audit.scored_files import read_scored, write_scored
from toxoid.audit.slim import ShownFlips, Slimmer, changed, read_side_by_side, shown_flips
from toxoid.loop.results import compared, measured

SETTINGS = Settings(resamples=200)
TASKS = ["harmfulness", "jailbreak", "helpfulness"]


def system(seed):
    jailbreaks = [
        entry for name in ("persona", "prefill") for entry in scored("jailbreak", attack=name, seed=seed)
    ]
    return [*scored("harmfulness", seed=seed), *jailbreaks, *scored("helpfulness", seed=seed)]


def test_rates_and_flips_are_those_of_the_whole_items():
    before, after = system(1), system(2)
    *slim, flips = read_side_by_side(iter(before), iter(after), tasks=TASKS, most=3)
    whole, small = (
        compared(old, new, flips, SETTINGS, names=("a", "b"), tasks=TASKS)
        for old, new in ((before, after), slim)
    )
    assert small == whole
    assert flips.shown() == shown_flips(before, after, tasks=TASKS, most=3).shown() != []
    assert measured(slim[0], None, SETTINGS) == measured(before, None, SETTINGS)


def test_what_one_side_was_not_asked_is_read_and_not_paired():
    before, after = system(1), [entry for entry in system(2) if entry.item.task != "jailbreak"]
    old, new, found = read_side_by_side(before, after, tasks=["harmfulness", "helpfulness"], most=100)
    assert (len(old), len(new)) == (len(before), len(after))
    both = [entry for entry in before if entry.item.task != "jailbreak"]
    pairs = zip(both, after, strict=True)
    assert sum(found.totals.values()) == sum(len(list(changed(*pair))) for pair in pairs) > 0


def test_another_conversation_is_no_flip():
    (before,), (after,) = (
        scored("harmfulness", items=1, hits=hits, attack=name, unscored=0)
        for name, hits in (("a", 0), ("b", 1))
    )
    assert list(changed(before, after)) == []


def test_campaigns_keep_their_figures():
    (entry,) = scored("harmfulness", items=1)
    figures = {"queries": 3, "landed_at": None, "scored": 2}
    assert Slimmer().slim(replace(entry, item=replace(entry.item, campaign=figures))).item.campaign == figures


def test_what_passes_is_kept_small_and_its_tokens_are_counted():
    entries, slimmer = scored("harmfulness"), Slimmer()
    assert list(slimmer.passing(iter(entries))) == entries
    assert [entry.item.request.id for entry in slimmer.kept] == [entry.item.request.id for entry in entries]
    assert slimmer.reply_tokens == 7 * sum(len(entry.completions) for entry in entries)


def test_no_text_is_kept_and_what_is_equal_is_one():
    slimmer = Slimmer()
    entries = [slimmer.slim(entry) for entry in system(1)]
    assert all(not e.item.conversation and not e.item.request.prompt and not e.completions for e in entries)
    assert not any(v.reason for e in entries for found in e.verdicts.values() for v in found)
    for parts in ([e.item.request for e in entries], [e.verdicts for e in entries]):
        assert len({id(part) for part in parts}) == len({str(part) for part in parts}) < len(entries)


def test_the_flips_of_the_smallest_hash_are_kept_in_whatever_order_they_come():
    sides = (scored("harmfulness", items=30, seed=seed) for seed in (1, 2))
    flips = [flip for pair in zip(*sides, strict=True) for flip in changed(*pair)]
    found = []
    for some in (flips, flips[::-1]):
        shown = ShownFlips(2)
        for flip in some:
            shown.add(flip)
        found.append(sorted(flip["after_reply"] for flip in shown.shown()))
    assert found[0] == found[1]
    assert len(found[0]) == 4


def with_evidence(entry, *spans, cut=None):
    """The item with one verdict that points at these passages."""
    verdicts = {
        aspect: tuple(replace(one, evidence=spans) for one in found)
        for aspect, found in entry.verdicts.items()
    }
    return replace(entry, item=replace(entry.item, cut=cut), verdicts=verdicts)


def test_a_flip_says_where_in_each_reply_its_verdict_was_decided():
    (before,), (after,) = (scored("harmfulness", items=1, hits=hits, unscored=0) for hits in (0, 1))
    flips = list(changed(with_evidence(before, (0, 4)), with_evidence(after)))
    assert len(flips) == 2
    for flip in flips:
        assert (flip["before_evidence"], flip["after_evidence"]) == ([(0, 4)], [])


def test_places_are_those_of_the_reply_without_the_trigger_that_the_judge_saw_before_it():
    (before,), (after,) = (scored("harmfulness", items=1, hits=hits, unscored=0) for hits in (0, 1))
    cut = Cut(10, trigger="Wait")  # a judge sees " Wait" and then the reply
    pair = (with_evidence(entry, (0, 4), (3, 8), (9, 12), cut=cut) for entry in (before, after))
    (flip, *_) = changed(*pair)
    assert flip["before_evidence"] == flip["after_evidence"] == [(0, 3), (4, 7)]


def test_evidence_is_kept_in_files_and_files_without_it_are_read(tmp_path):
    entries, path = (
        [with_evidence(entry, (0, 4), (6, 8)) for entry in scored("harmfulness")],
        tmp_path / "s.jsonl",
    )
    write_scored(path, entries)
    assert read_scored(path) == entries
    path.write_text(path.read_text("utf-8").replace(", [[0, 4], [6, 8]]]", "]"), "utf-8")
    assert [with_evidence(entry, (0, 4), (6, 8)) for entry in read_scored(path)] == entries
    assert read_scored(path) != entries
