"""The verdict: which arm is best, by how much, decided or not, and what cannot be compared."""

import pytest

from dawgen_jax.results.arms import disagreements
from dawgen_jax.results.paired import paired_test
from dawgen_jax.results.verdict import caveats, levels, verdicts

COUNTS = {"a": 300, "b": 300, "c": 400}


@pytest.fixture
def arm(make_row):
    """Rows of an arm on a task, one a seed: base + step * (1, -1, 1, ..)."""

    def make(method, base, seeds=3, step=0.0, **fields):
        return [make_row(method, base + step * (-1)**seed, seed, class_counts=COUNTS, **fields)
                for seed in range(seeds)]

    return make


def only(rows):
    (verdict,) = verdicts(rows)
    return verdict


def test_few_seeds_are_said_to_decide_nothing(arm):
    base, ours = arm("Prompt Tuning", 0.4), arm("(Real, Syn) + GS", 0.5, step=0.02)
    title, headline, (evidence, *others) = only([*base, *ours])
    assert title == "mini-t5, 16 examples per class"
    assert headline == ("DawGen: (Real, Syn) + GS has the highest mean, 50.67% accuracy on mini-snli, 10.67 points "
                        "above Prompt Tuning (40.00%), but the difference may be due to chance.")
    low, high = paired_test(ours, base).interval
    assert evidence == (f"Mean paired difference over 3 seeds: +10.67 points (95% interval [{100 * low:+.2f}, "
                        f"{100 * high:+.2f}]). With 3 seeds p cannot be below .25, whatever the outcome: more seeds or "
                        "tasks are needed.")
    assert others == ["For scale: guessing 33.33%."]
    _, _, (evidence, *_) = only([*arm("Prompt Tuning", 0.4, 1), *arm("(Real, Syn) + GS", 0.5, 1)])
    assert evidence.startswith("Mean paired difference over 1 seed: +10.00 points. With 1 seed p cannot be below 1,")


def test_zero_shot_above_all_that_was_trained_is_in_the_headline(arm, make_row):
    rows = [*arm("Prompt Tuning", 0.4), *arm("(Real, Syn) + GS", 0.5)]
    for value, told in ((0.49, False), (0.55, True)):
        headline = only([*rows, make_row("Prompting (zero-shot)", value, 0, class_counts=COUNTS)]).headline
        assert headline.endswith(" No trained arm is above zero-shot prompting, 55.00%.") is told


def test_enough_pairs_decide_for_and_against(arm):
    rows = [*arm("Prompt Tuning", 0.4, 6), *arm("(Real, Syn) + GS", 0.5, 6, step=0.02)]
    _, headline, (evidence, *_) = only(rows)
    assert headline.startswith("DawGen: (Real, Syn) + GS is best: 50.00%") and "chance" not in headline
    assert evidence.endswith("; p = .031 in a sign permutation test.")  # 2 of the 64 changes of signs
    rows = [*arm("Prompt Tuning", 0.6, 8), *arm("(Real, Syn) + GS", 0.5, 8, step=0.02)]
    _, headline, (evidence, *_) = only(rows)
    assert headline == ("No arm has a higher mean than Prompt Tuning, 60.00% accuracy on mini-snli; the next, DawGen: "
                        "(Real, Syn) + GS, has 50.00%.")
    assert "-10.00 points" in evidence and evidence.endswith("; p = .008 in a sign permutation test.")
    rows = [*arm("Prompt Tuning", 0.5, 8), *arm("(Real, Syn) + GS", 0.5, 8, step=0.02)]
    assert only(rows).headline.endswith("has 50.00%, but the difference may be due to chance.")


def test_the_choice_of_the_best_is_corrected_for(arm):
    rows = [*arm("Prompt Tuning", 0.4, 6), *arm("(Real, Syn) + GS", 0.5, 6, step=0.02),
            *arm("(Real, Syn)", 0.41, 6, step=0.02)]
    _, headline, (evidence, *_) = only(rows)
    assert headline.startswith("DawGen: (Real, Syn) + GS has the highest mean") and "due to chance" in headline
    assert ("With 6 seeds p cannot be below .031, or below .062 after correction for 2 arms, whatever the outcome"
            in evidence)
    rows = [row for method, base, step in (("Prompt Tuning", 0.4, 0), ("(Real, Syn) + GS", 0.5, 0.02),
                                           ("(Real, Syn)", 0.41, 0.02)) for row in arm(method, base, 8, step)]
    assert "p = .016 in a sign permutation test, corrected for the choice among 2 arms." in only(rows).sentences[0]


def test_the_reference_is_the_better_arm_of_prompt_tuning(arm):
    same = arm("Prompt Tuning", 0.45, variant="same-T")
    rows = [*arm("Prompt Tuning", 0.4), *same, *arm("(Real, Syn) + GS", 0.5)]
    verdict = only(rows)
    assert "5.00 points above Prompt Tuning #same-T (45.00%)" in verdict.headline
    assert verdict.sentences[-1] == "For scale: guessing 33.33%, Prompt Tuning 40.00%."
    assert "With 3 seeds p cannot be below .25, whatever" in verdict.sentences[0]  # one arm competes
    assert "10.00 points above Prompt Tuning (40.00%)" in only([*rows[:3], *same[:2], *rows[6:]]).headline  # unfinished


def test_the_papers_method_and_the_parameters_are_named_if_another_arm_is_best(arm):
    rows = [*arm("Prompt Tuning", 0.4, trainable_parameters=10), *arm("FT", 0.7, trainable_parameters=1000),
            *arm("(Real, Syn) + GS", 0.5, trainable_parameters=10)]
    _, headline, sentences = only(rows)
    assert headline.startswith("FT has the highest mean, 70.00%")
    assert "FT trains 1,000 parameters, Prompt Tuning 10." in sentences
    assert "The paper's method, DawGen: (Real, Syn) + GS: 50.00%, +10.00 points, not significant." in sentences


def test_levels_are_means_over_all_tasks_or_missing(arm, make_row):
    rows = [*arm("Prompt Tuning", 0.4), *arm("Prompt Tuning", 0.8, k_shot="full"),
            make_row("Prompting (zero-shot)", 0.34, 0, class_counts=COUNTS)]
    assert only([*rows, *arm("(Real, Syn)", 0.5)]).sentences[-1] == (
        "For scale: guessing 33.33%, zero-shot prompting 34.00%, prompt tuning on the whole training pool 80.00%.")
    assert "guessing" not in levels(rows, ["mini-snli"], "f1")
    assert levels(rows, ["mini-snli", "RTE"]) == {}


def test_arms_that_do_not_compare_are_named(arm):
    base = arm("Prompt Tuning", 0.4, settings={"classifier.learning_rate": 0.3})
    rows = [*base, *arm("(Real, Syn)", 0.9, settings={"classifier.learning_rate": 0.1}),
            *arm("(Real, Syn) + GS", 0.9, 2, settings={"classifier.learning_rate": 0.3})]
    _, headline, sentences = only(rows)
    assert headline == "Prompt Tuning: 40.00% accuracy on mini-snli."
    assert sentences == [
        "No other arm can be compared with it yet.",
        "Not compared, because their settings differ: DawGen: (Real, Syn) (classifier.learning_rate).",
        "Not compared, because they are not finished on all tasks and seeds: DawGen: (Real, Syn) + GS."]


def test_runs_without_prompt_tuning_or_without_anything(arm, make_row):
    _, headline, sentences = only(arm("(Real, Syn) + GS", 0.5))
    assert headline == "DawGen: (Real, Syn) + GS has the highest mean accuracy, 50.00%."
    assert "was not run" in sentences[0]
    for rows in ([], [make_row("Prompting (zero-shot)", 0.34, 0)]):
        assert verdicts(rows) == [] and caveats(rows) == []


def test_backbones_and_shots_have_verdicts_of_their_own(arm):
    rows = [*arm("Prompt Tuning", 0.4), *arm("Prompt Tuning", 0.3, k_shot=8),
            *arm("Prompt Tuning", 0.6, backbone="<b>")]
    assert [verdict.title for verdict in verdicts(rows)] == [
        "mini-t5, 16 examples per class", "mini-t5, 8 examples per class", "<b>, 16 examples per class"]


def test_a_mean_over_tasks(arm):
    rows = [row for task, base in (("mini-snli", 0.4), ("RTE", 0.6)) for method, lift in (
        ("Prompt Tuning", 0), ("(Real, Syn) + GS", 0.1)) for row in arm(method, base + lift, task=task)]
    _, headline, (evidence, *_) = only(rows)
    assert "is best: 60.00% accuracy as a mean over 2 tasks, 10.00 points above" in headline
    assert evidence.startswith("Mean paired difference over 6 pairs of (task, seed): +10.00 points")


def test_caveats_speak_of_seeds_test_size_updates_and_the_mini_world(arm):
    seeds, size, world = caveats([*arm("Prompt Tuning", 0.4), *arm("FT", 0.4, 1)])
    assert seeds.startswith("With one seed the order of arms may be due to chance")
    assert "±3.2 points" in size and "small grammar" in world
    assert [len(caveats(arm("Prompt Tuning", 0.4, count, task="SNLI"))) for count in (5, 6)] == [2, 1]
    rows = [*arm("Prompt Tuning", 0.4, 10, task="SNLI", settings={"classifier.real_steps": 80}),
            *arm("(Real, Syn)", 0.4, 10, task="SNLI",
                 settings={"classifier.num_steps": 1200, "generator.num_steps": 9})]
    assert caveats(rows)[1] == ("The arms have different numbers of updates: 80: Prompt Tuning; 1,200: DawGen: "
                                "(Real, Syn).")


def test_places_and_optimisers_of_prompts_are_compared_whether_stated_or_not(make_row):
    before = make_row(settings={"classifier.prompt_length": 20})
    after = make_row(settings={"classifier.prompt_length": 20, "classifier.prompt_place": "after",
                               "classifier.optimiser": "adamw"})
    assert disagreements(before, after) == ["classifier.optimiser", "classifier.prompt_place"]
    assert not disagreements(before, before)
    assert not disagreements(make_row("LoRA", settings={"classifier.max_tokens": 9}), after)
