"""The verdict: which arm is best, by how much, decided or not, and what cannot be compared."""

import pytest

from dawgen_jax.results.paired import paired_test
from dawgen_jax.results.report.verdict import caveats, verdict_html, verdicts

COUNTS = {"a": 300, "b": 300, "c": 400}


@pytest.fixture
def arm(make_row):
    """Rows of an arm on a task, one a seed: base + step * (1, -1, 1, ..)."""

    def make(method, base, seeds=3, step=0.0, **fields):
        return [make_row(method, base + step * (-1)**seed, seed, class_counts=COUNTS, **fields)
                for seed in range(seeds)]

    return make


def only(rows):
    ((title, sentences),) = verdicts(rows)
    return title, sentences


def test_few_seeds_are_said_to_decide_nothing(arm):
    base, ours = arm("Prompt Tuning", 0.4), arm("(Real, Syn) + GS", 0.5, step=0.02)
    title, (headline, decision, *others) = only([*base, *ours])
    assert title == "mini-t5, 16 shots a class"
    assert headline == ("Undecided. DawGen: (Real, Syn) + GS has the highest mean, 50.67% accuracy on mini-snli, 10.67 "
                        "points above Prompt Tuning on the real shots (40.00%).")
    low, high = paired_test(ours, base).interval
    assert f"95% interval [{100 * low:+.2f}, {100 * high:+.2f}]" in decision
    assert "3 pairs of (task, seed)" in decision
    assert decision.endswith("With 3 pairs it cannot be decided: no outcome would reach p < 0.05. More seeds or tasks "
                             "would.")
    assert others == ["For scale: chance 33.33%."]


def test_zero_shot_above_all_that_was_tuned_is_told_first(arm, make_row):
    rows = [*arm("Prompt Tuning", 0.4), *arm("(Real, Syn) + GS", 0.5)]
    for value, told in ((0.49, False), (0.55, True)):
        _, (headline, *_) = only([*rows, make_row("Prompting (zero-shot)", value, 0, class_counts=COUNTS)])
        assert headline.endswith(" But no tuned arm is above zero-shot prompting, 55.00%.") is told


def test_enough_pairs_decide_for_and_against(arm):
    rows = [*arm("Prompt Tuning", 0.4, 8), *arm("(Real, Syn) + GS", 0.5, 8, step=0.02)]
    _, (headline, decision, *_) = only(rows)
    assert headline.startswith("DawGen: (Real, Syn) + GS is best: 50.00%") and decision.startswith("Decided: ")
    rows = [*arm("Prompt Tuning", 0.6, 8), *arm("(Real, Syn) + GS", 0.5, 8, step=0.02)]
    _, (headline, decision, *_) = only(rows)
    assert headline.startswith("No arm has a higher mean than Prompt Tuning on the real shots, 60.00% accuracy")
    assert decision.startswith("Decided: ") and "-10.00 points" in decision


def test_the_choice_of_the_best_is_corrected_for(arm):
    best = arm("(Real, Syn) + GS", 0.5, 6, step=0.02)
    rows = [*arm("Prompt Tuning", 0.4, 6), *best]
    assert only(rows)[1][1].startswith("Decided: ")  # alone, six pairs of one sign have p = 1/32
    rows += arm("(Real, Syn)", 0.41, 6, step=0.02)
    _, (headline, decision, *_) = only(rows)
    assert headline.startswith("Undecided. DawGen: (Real, Syn) + GS") and "corrected for the 2 arms" in decision
    assert "With 6 pairs and 2 arms it cannot be decided" in decision


def test_the_papers_method_and_the_parameters_are_told_where_another_arm_is_best(arm):
    rows = [*arm("Prompt Tuning", 0.4, trainable_parameters=10), *arm("FT", 0.7, trainable_parameters=1000),
            *arm("(Real, Syn) + GS", 0.5, trainable_parameters=10)]
    _, sentences = only(rows)
    assert sentences[0].startswith("Undecided. FT has the highest mean, 70.00%")
    assert "FT trains 1,000 parameters, Prompt Tuning 10." in sentences
    assert any(sentence.startswith("The paper's method, DawGen: (Real, Syn) + GS: 50.00%, +10.00 points")
               for sentence in sentences)


def test_what_the_numbers_are_held_against(arm, make_row):
    rows = [*arm("Prompt Tuning", 0.4), *arm("Prompt Tuning", 0.45, variant="same-T"),
            *arm("Prompt Tuning", 0.8, k_shot="full"),
            make_row("Prompting (zero-shot)", 0.34, 0, class_counts=COUNTS)]
    _, sentences = only(rows)
    assert sentences[-1] == (
        "For scale: chance 33.33%, zero-shot prompting 34.00%, prompt tuning with as many updates as the arms with "
        "synthetic data 45.00%, prompt tuning on the whole training pool 80.00%.")


def test_arms_that_do_not_compare_are_named(arm):
    base = arm("Prompt Tuning", 0.4, settings={"classifier.learning_rate": 0.3})
    rows = [*base, *arm("(Real, Syn)", 0.9, settings={"classifier.learning_rate": 0.1}),
            *arm("(Real, Syn) + GS", 0.9, 2, settings={"classifier.learning_rate": 0.3})]
    _, sentences = only(rows)
    assert sentences[:2] == ["Prompt Tuning on the real shots: 40.00% accuracy on mini-snli.",
                             "No other arm can be compared with it yet."]
    assert "Not compared, as their settings differ: DawGen: (Real, Syn) (classifier.learning_rate)." in sentences
    assert ("Not compared, as they are not finished on all tasks and seeds: DawGen: (Real, Syn) + GS." in sentences)


def test_runs_without_prompt_tuning_or_without_anything(arm, make_row):
    _, sentences = only(arm("(Real, Syn) + GS", 0.5))
    assert sentences[0] == "DawGen: (Real, Syn) + GS has the highest mean accuracy, 50.00%."
    assert "was not run" in sentences[1]
    for rows in ([], [make_row("Prompting (zero-shot)", 0.34, 0)]):
        assert verdicts(rows) == [] and caveats(rows) == [] and "No verdict yet" in verdict_html(rows)


def test_backbones_and_shots_have_verdicts_of_their_own(arm):
    rows = [*arm("Prompt Tuning", 0.4), *arm("Prompt Tuning", 0.3, k_shot=8),
            *arm("Prompt Tuning", 0.6, backbone="<b>")]
    assert [title for title, _ in verdicts(rows)] == ["mini-t5, 16 shots a class", "mini-t5, 8 shots a class",
                                                      "<b>, 16 shots a class"]
    shown = verdict_html(rows)
    assert shown.count('class="verdict"') == 3 and "&lt;b&gt;, 16" in shown and "<b>" not in shown


def test_a_mean_over_tasks(arm):
    rows = [row for task, base in (("mini-snli", 0.4), ("RTE", 0.6)) for method, lift in (
        ("Prompt Tuning", 0), ("(Real, Syn) + GS", 0.1)) for row in arm(method, base + lift, task=task)]
    _, (headline, decision, *_) = only(rows)
    assert "60.00% accuracy as a mean over 2 tasks, 10.00 points above" in headline
    assert decision.startswith("Decided: ") and "6 pairs" in decision


def test_caveats_speak_of_seeds_test_size_and_the_mini_world(arm):
    told = caveats([*arm("Prompt Tuning", 0.4), *arm("FT", 0.4, 1)])
    assert told[0].startswith("One seed tells little") and "±3.2 points" in told[1] and "small grammar" in told[2]
    assert len(caveats(arm("Prompt Tuning", 0.4, 10, task="SNLI"))) == 1
