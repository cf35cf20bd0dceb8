"""The report of an invented run: whole, valid, self-contained, with hostile text shown as text."""

import dataclasses
import html.parser
import re

import numpy as np
import pytest

from dawgen_jax.errors import UserError
from dawgen_jax.results import curves
from dawgen_jax.results.artefacts import WeightedSentence
from dawgen_jax.results.report import write_report
from dawgen_jax.results.report.tuning import shaded_words
from dawgen_jax.results.rows import SyntheticRow, write_cell, write_rows
from tests.results.invented import write, write_run, write_set

HOSTILE = "<script>alert('1')</script> & \"<b>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Collects elements and text, and fails where an element is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.elements, self.text = [], [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, attrs))
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


def text_of(path):
    """The text of a page, which parses."""
    return Page(path.read_text(encoding="utf-8")).text


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_row):
    return write_run(tmp_path_factory.mktemp("runs") / "mini", make_row, HOSTILE)


def test_the_page_is_whole_and_self_contained(run):
    path = write_report(run)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and not any(name.startswith("on") for name, _ in page.attributes)
    # Nothing is loaded: no images, links or sheets from elsewhere; addresses point into the page.
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert all(value.startswith("#") for name, value in page.attributes if name in ("href", "xlink:href", "src"))
    assert "@import" not in text and all(target == "#" for target in re.findall(r"url\((.)", text))
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for name, value in page.attributes if name == "href"} <= anchors
    assert [file.name for file in run.glob("*report*")] == ["report.html"]


def test_all_sections_show_their_data(run):
    page = Page(write_report(run).read_text(encoding="utf-8"))
    for text in ("DawGen: (Real, Syn) + GS", "backbone mini-t5 is not in the paper", "conflict rate (cosine below 0)",
                 "accuracy on dev", "L_disc: discriminative loss", "Prompt Tuning (2)",
                 "DawGen by mini-t5 (2)", "sentence 3", "6 unfinished; 2 ", "synthetic data lifts prompt tuning",
                 "12.3", "Computed with jax 0.10.2.", "seeds: 13, 21.", "6 of 20 wrong",
                 "mistaken", "true: ", "predicted: neutral", "gradient surgery", "margin +2.50", "margin below 0",
                 "near copy of 1", "cut", "label consistency", "distinct-2", "distance from real", "copies",
                 "Undecided."):
        assert text in page.text, text
    assert "Syn only" not in page.text  # a cell of an earlier configuration
    assert "loss on synthetic data" not in page.text  # nothing finite to draw
    assert page.text.count("Wanted, accepted and rejected") == 1
    assert "loss on real data, smoothed" in page.text and "accuracy on dev, smoothed" not in page.text


def test_the_page_opens_with_the_verdict_and_the_caveat_is_by_the_table(run):
    text = text_of(write_report(run))
    places = [text.index(part) for part in ("Undecided. DawGen: (Real, Syn) + GS has the highest mean", "2 seeds tell",
                                            "main results, accuracy", "accuracy of every seed")]
    assert places == sorted(places)


def test_pairs_are_paged_by_radio_buttons_alone(run):
    page = Page(write_report(run).read_text(encoding="utf-8"))
    groups, targets = {}, []
    for tag, attributes in page.elements:
        given = dict(attributes)
        if tag == "input":
            groups.setdefault(given["name"], []).append((given["id"], "checked" in given))
        targets += [given["for"]] if "for" in given else []
    ids = [identity for group in groups.values() for identity, _ in group]
    assert sorted(ids) == sorted(set(targets)) and len(ids) == len(set(ids))
    assert all(sum(checked for _, checked in group) == 1 for group in groups.values())
    # FewGen and DawGen: two labels and the flagged ones, 60 pairs of 70 each, ten a page.
    assert sorted(map(len, groups.values())) == [3, 3] + 6 * [6]
    assert "entailment (70)" in page.text and "sentence 59" in page.text and "sentence 60" not in page.text


def test_a_large_set_of_long_sentences_stays_small(tmp_path):
    sets = []
    for backbone in ("a", "b"):
        sets.append(write_set(tmp_path, backbone, "DawGen", 13, backbone=backbone))
        write(tmp_path / "synthetic" / backbone / "train.jsonl", [
            {"sentence1": "w" * 5000, "sentence2": f"{i} " * 300, "label": f"label {i % 5}", "index": i}
            for i in range(250)
        ], lines=True)
    write_rows(tmp_path / "synthetic.jsonl", sets)
    path = write_report(tmp_path)
    assert path.stat().st_size < 1_000_000 and "label 4 (50)" in text_of(path)


def test_single_sentences_and_tasks_of_ones_own(tmp_path, make_row):
    rows = [make_row(method, value, task="my reviews", config_hash=method[:3], class_counts={"good": 600, "bad": 400})
            for method, value in (("Prompt Tuning", 0.7), ("(Real, Syn) + GS", 0.8))]
    for row in rows:
        folder = tmp_path / "cells" / row.config_hash
        write_cell(folder / "result.json", [row])
        write(folder / "wrong_examples.json", {
            "labels": ["good", "bad"], "confusion": [[500, 100], [200, 200]],
            "examples": [{"text": "dull .", "label": "bad", "predicted": "good"},
                         {"text": "fine", "label": "good", "predicted": "bad"}]})
    write_rows(tmp_path / "results.jsonl", rows)
    sample = SyntheticRow("my reviews", "mini-t5", "DawGen", 13, 2, 0.5, 0.2, 0.0)
    write_rows(tmp_path / "synthetic" / "set" / "quality.jsonl", [sample])
    write_rows(tmp_path / "synthetic.jsonl", [sample])
    write(tmp_path / "synthetic" / "set" / "train.jsonl", [
        {"text": "great film", "label": "good", "index": 0}, {"text": "bad film", "label": "bad", "index": 1}
    ], lines=True)
    text = text_of(write_report(tmp_path))
    for part in ("great film", "bad film", "dull .", "true: bad", "guessing among 2 classes: 50.00", "chance 50.00%",
                 "300 of 1,000 wrong"):
        assert part in text, part
    assert "copy of sentence 1" not in text and "mini tasks" not in text


def test_sets_of_several_settings_are_not_mixed(tmp_path):
    rows = [SyntheticRow("mini-snli", "mini-t5", "DawGen", 13, 2, 0.5, 0.2, 0.0,
                         settings={"generator.num_steps": steps, "synthesis.top_k": 0}) for steps in (240, 480)]
    for row, folder in zip(rows, "ab", strict=True):
        write_rows(tmp_path / "synthetic" / folder / "quality.jsonl", [row])
        write(tmp_path / "synthetic" / folder / "meta.json", {"generator_artefact": folder})
        write(tmp_path / "synthetic" / folder / "train.jsonl", [
            {"sentence1": "x", "sentence2": f"of {folder}", "label": "neutral", "index": 0}], lines=True)
        write(tmp_path / "generators" / folder / "metrics.jsonl", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}],
              lines=True)
    write_rows(tmp_path / "synthetic.jsonl", rows)
    text = text_of(write_report(tmp_path))
    for part in ("DawGen [generator.num_steps=240] by mini-t5", "DawGen [generator.num_steps=480] by mini-t5", "of a",
                 "of b"):
        assert part in text, part


def test_marks_of_an_arm_are_explained(tmp_path, make_row):
    write_rows(tmp_path / "results.jsonl", [make_row("(Real, Syn)", variant="cut+pool"),
                                            make_row("Real -> Syn", variant="stages")])
    text = text_of(write_report(tmp_path))
    for part in ("#cutsynthetic sentences that did not end", "#poolthe generator continued",
                 "#stagesone set to its best"):
        assert part in text, part


def test_strips_have_lines_at_chance_and_at_the_full_data(tmp_path, make_row):
    counts = {"a": 400, "b": 300, "c": 300}
    write_rows(tmp_path / "results.jsonl", [
        make_row(value=0.52, class_counts=counts), make_row(value=0.86, k_shot="full", class_counts=counts)])
    text = write_report(tmp_path).read_text(encoding="utf-8")
    # From 30 to 90: chance at 33.33 is 5.56% of the way, the whole pool at 86.00 is 93.33%.
    assert text.count('<u class="chance" style="--x:5.56%"></u>') == 2
    assert text.count('<u class="full" style="--x:93.33%"></u>') == 2
    assert "prompt tuning on the whole training pool: 86.00" in Page(text).text


def test_what_an_earlier_setting_left_is_not_shown(tmp_path):
    earlier, current = (write_set(tmp_path, name, "DawGen", 13, diversity) for name, diversity in (
        ("old", 0.25), ("new", 0.5)))
    for name in ("old", "new"):
        write(tmp_path / "generators" / name / "metrics.jsonl", [{"step": 1, "loss": 1.0}], lines=True)
        write(tmp_path / "synthetic" / name / "train.jsonl",
              [{"label": "l", "index": 0, "sentence1": "s", "sentence2": f"written by the {name} one"}], lines=True)
    for rows, shown, hidden in (([current], "new", "old"), ([earlier], "old", "new")):
        write_rows(tmp_path / "synthetic.jsonl", rows)
        page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
        assert "DawGen by mini-t5 (1)" in page.text
        assert f"written by the {shown} one" in page.text and f"written by the {hidden} one" not in page.text


def test_shots_and_writers_are_told_apart(tmp_path, make_row):
    rows, sets = [], []
    for k_shot, writer in ((8, "mini-t5"), (16, "mini-t5"), (16, "big")):
        name = f"{writer}-{k_shot}"
        rows.append(make_row("Syn only", k_shot=k_shot, generator_backbone=writer, config_hash=name))
        write_cell(tmp_path / "cells" / name / "result.json", rows[-1:])
        write(tmp_path / "cells" / name / "metrics.jsonl", [{"step": 1, "loss_synthetic": 1.0}], lines=True)
    for writer in ("mini-t5", "big"):
        sets.append(write_set(tmp_path, writer, "DawGen", 13, backbone=writer))
        write(tmp_path / "generators" / writer / "metrics.jsonl", [{"step": 1, "loss": 1.0}], lines=True)
    write_rows(tmp_path / "results.jsonl", rows)
    write_rows(tmp_path / "synthetic.jsonl", sets)
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    text = text[text.index("Results"):]
    for arm in ("DawGen: Syn only, 8 shots", "DawGen: Syn only", "DawGen: Syn only by big"):
        assert len(re.findall(rf"{arm}(?! by|,)", text)) == 3 and f"{arm} (1)" in text  # table, strip, legend
    assert "DawGen by mini-t5 (1)" in text and "DawGen by big (1)" in text


def test_hostile_text_is_shown_as_text(run):
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text and "<b>" not in re.sub("<span><b></b>mean", "", text)
    # Title and heading, token weights, 60 samples a label of two generators, tabs, matrices, counts, timings, config.
    assert page.text.count("<script>alert('1')</script> &") >= 240


def test_the_same_run_gives_the_same_page(run):
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_shades_are_relative_to_the_heaviest_token():
    example = WeightedSentence("s", "l", ["▁a", "b", "</s>"], [0.1, 0.4, 0.0])
    shown = shaded_words(example, 0.4)
    assert re.findall(r"--w:([\d.]+)", shown) == ["0.250", "1.000", "0.000"]
    assert ">a</span><span" in shown and "&lt;/s&gt;" in shown  # pieces of a word stand together
    assert re.findall(r"--w:([\d.]+)", shaded_words(dataclasses.replace(example, weights=[0.0, 0.1, 0.8]), 0.8)) == [
        "0.000", "0.125", "1.000"]
    single = dataclasses.replace(example, sentence1="")
    assert ">a</span>" in shaded_words(single, 0.4)  # the sentence is all that there is


def test_all_shades_have_one_scale(tmp_path):
    sets = []
    for name, weight in (("FewGen", 0.1), ("DawGen", 0.4)):
        sets.append(write_set(tmp_path, name, name, 13))
        write(tmp_path / "generators" / name / "token_weights.json", [
            {"sentence1": "s", "label": "l", "tokens": [f"▁{name}"], "weights": [weight]}])
    write_rows(tmp_path / "synthetic.jsonl", sets)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'--w:([\d.]+)" title="[\d.]+">(\w+)', text) == [("0.250", "FewGen"), ("1.000", "DawGen")]
    assert [float(shown) for shown in re.findall(r'--w:[\d.]+">([\d.]+)', text)] == [0, 0.1, 0.2, 0.3, 0.4]


def test_an_empty_run_is_a_page_of_sentences(tmp_path):
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.text.count("yet") >= 4 and "svg" not in page.tags
    with pytest.raises(UserError, match="nowhere: no such run directory"):
        write_report(tmp_path / "nowhere")


def test_broken_artefacts_are_named_and_an_earlier_page_stays(tmp_path, make_row):
    before = write_report(tmp_path).read_bytes()
    write_rows(tmp_path / "synthetic.jsonl", [write_set(tmp_path, "t-DawGen-1-a", "DawGen", 1)])
    metrics = tmp_path / "generators" / "t-DawGen-1-a" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    with pytest.raises(UserError, match=r"metrics.jsonl:2: not JSON"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    metrics.unlink()
    samples = tmp_path / "synthetic" / "t-DawGen-1-a" / "train.jsonl"
    write(samples, [{"text": "a", "label": "b", "index": 0}], lines=True)
    write_report(tmp_path)  # one text is enough
    write(samples, [{"sentence1": "a", "sentence2": ["b"], "label": "c"}], lines=True)
    with pytest.raises(UserError, match=r"train.jsonl:1: SampleLine.index: is missing"):
        write_report(tmp_path)
    samples.unlink()
    row = make_row(config_hash="x")
    write_cell(tmp_path / "cells" / "x" / "result.json", [row])
    write_rows(tmp_path / "results.jsonl", [row])
    write(tmp_path / "cells" / "x" / "wrong_examples.json", {"labels": ["a", "b"], "confusion": [[1]], "examples": []})
    with pytest.raises(UserError, match=r"wrong_examples.json: Mistakes.confusion: must have a row"):
        write_report(tmp_path)


def test_binning_keeps_means_and_spread():
    steps = np.arange(1, 1001)
    runs = [(steps, np.ones(1000)), (steps, np.full(1000, 3.0))]
    step, mean, least, greatest = curves.binned(runs, bins=10)
    assert step.shape == (10,) and np.all(np.diff(step) > 0)
    np.testing.assert_allclose(step, np.arange(10) * 100 + 50.5, atol=0.6)
    assert set(mean) == {2.0} and set(least) == {1.0} and set(greatest) == {3.0}
    sparse = curves.binned([([0, 200], [0.1, 0.3]), ([0], [0.3])], bins=10)
    np.testing.assert_allclose(sparse, [[0, 200], [0.2, 0.3], [0.1, 0.3], [0.3, 0.3]])


def test_smoothing_is_a_centred_mean_that_shrinks_at_the_ends():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 30))
    shown = curves.smoothed(values, window=5)
    np.testing.assert_allclose(shown[:, 10], values[:, 8:13].mean(1))
    np.testing.assert_allclose(shown[:, 0], values[:, :3].mean(1))
    np.testing.assert_allclose(shown[:, -1], values[:, -3:].mean(1))
    run = (range(60), rng.normal(size=60))
    plain, smooth = (curves.draw({0: [run]}, "loss", smooth=smooth) for smooth in (False, True))
    assert smooth.count("stroke-opacity: 0.35") == 1 and "stroke-opacity: 0.35" not in plain  # the values behind
    assert curves.noisy([[run]]) and not curves.noisy([[(range(10), range(10))]])


def test_a_spike_does_not_set_the_scale():
    values = np.tile([0.0, 1.0], 30)
    values[5] = 90.0  # at most 15.3 in the moving average
    svg = curves.draw({0: [(range(60), values)]}, "loss", smooth=True)
    assert re.findall("<text[^>]*>([^<]*)", svg)[5:] == ["0", "5", "10", "15"]


def test_panels_take_their_colours_from_the_page():
    svg = curves.draw({0: [([1, 2], [1.0, 2.0])], curves.PALETTE + 1: [([1, 2], [2.0, 1.0])]}, "a & b")
    assert "var(--s0)" in svg and "var(--s1)" in svg and "stroke-dasharray" in svg and 'aria-label="a &amp; b"' in svg
    assert not re.search(r"#[0-9a-f]{6}", svg) and "<style" not in svg and "DejaVu" not in svg


NO_SAMPLE = r"train\.jsonl:1: SampleLine\.(index: is missing|label = )"
SENTENCE = {"sentence1": "a", "label": "b", "tokens": ["c"], "weights": [0.5]}


@pytest.mark.parametrize(("name", "value", "message"), [
    ("timings.json", {"a": "1"}, r"timings\.json: a = '1': must be a number; remove the file"),
    ("synthetic/s/meta.json", {"generator_artefact": [1]}, r"meta\.json: Meta.generator_artefact = \[1\]: must be"),
    ("synthetic/s/train.jsonl", [SENTENCE | {"sentence2": "d", "label": ["b"]}], NO_SAMPLE),
    ("synthetic/s/train.jsonl", [SENTENCE | {"sentence2": 3}], NO_SAMPLE),
    ("generators/g/metrics.jsonl", [{"step": "1", "loss": 1}],
     r"metrics\.jsonl:1: .* must have a number as 'step'; remove its folder"),
    *(("generators/g/token_weights.json", [SENTENCE, wrong], r"token_weights\.json: \[1\]")
      for wrong in (3, {}, SENTENCE | {"tokens": [1]}, SENTENCE | {"tokens": "c"}, SENTENCE | {"weights": [0.5, 1]},
                    SENTENCE | {"weights": ["a"]}, SENTENCE | {"weights": [None]}, SENTENCE | {"label": {}})),
])
def test_inputs_of_the_wrong_type_are_named(tmp_path, name, value, message):
    write_rows(tmp_path / "synthetic.jsonl", [write_set(tmp_path, "s", "DawGen", 1)])
    write(tmp_path / "synthetic" / "s" / "meta.json", {"generator_artefact": "g"})
    (tmp_path / "generators" / "g").mkdir(parents=True)
    write(tmp_path / name, value, lines=name.endswith("jsonl"))
    with pytest.raises(UserError, match=message):
        write_report(tmp_path)
