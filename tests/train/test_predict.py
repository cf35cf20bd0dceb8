"""``python -m train.predict``: what the classifier says of every row of a file, of pairs and of single texts."""

import dataclasses
import json

import pytest

from dawgen_jax import Classifier, Generator, Task, UserError, find_task, load_backbone
from dawgen_jax.cli import predict
from dawgen_jax.config import GeneratorConfig, SynthesisConfig
from tests.pipeline.conftest import write_backbone

PAIRS = [("a boy runs .", "a boy moves ."), ("a girl sings .", "no girl sings ."), ("a man, \"old\"", "a man .")]
REVIEWS = Task("reviews", ("bad", "good"), "{text} it is <mask> .", ("no", "boy"),
               (("a sad boy", "text :"), ("a happy boy", "text :")), (1.0, 1.0))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones") / "random0"
    write_backbone(folder, 0)
    return load_backbone(str(folder), devices=1)


@pytest.fixture(scope="module")
def folders(backbone, tmp_path_factory):
    """Classifiers of pairs and of single texts."""
    root = tmp_path_factory.mktemp("classifiers")
    for name, task in (("pairs", find_task("mini-snli")), ("texts", REVIEWS)):
        Classifier(backbone, task).save(root / name)
    return root


def written(path, header, rows):
    path.write_text("\n".join([header, *(",".join('"' + text.replace('"', '""') + '"' for text in row)
                                         for row in rows)]) + "\n")
    return str(path)


def test_a_line_for_every_row_in_order(folders, backbone, tmp_path, capsysbinary):
    file = written(tmp_path / "pairs.csv", "premise,hypothesis", PAIRS)
    predict.main([str(folders / "pairs"), file])
    lines = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    labels, probabilities = Classifier.load(folders / "pairs", backbone).predict(PAIRS)
    assert [(line["sentence1"], line["sentence2"]) for line in lines] == PAIRS
    assert [line["label"] for line in lines] == labels
    for line, expected in zip(lines, probabilities, strict=True):
        assert list(line["probabilities"]) == list(find_task("mini-snli").labels)
        assert list(line["probabilities"].values()) == pytest.approx(list(expected))
    predict.main([str(folders / "pairs"), file, "--out", str(tmp_path / "out.jsonl"), "--quiet"])
    assert capsysbinary.readouterr().out == b""
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == lines


def test_single_texts_by_a_usual_name_or_a_given_one(folders, tmp_path, capsysbinary):
    texts = [("a boy runs .",), ("no boy runs .",)]
    shown = []
    for header, words in (("text", []), ("opinion", ["--columns", "opinion"])):
        predict.main([str(folders / "texts"), written(tmp_path / "texts.csv", header, texts), *words])
        lines = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
        assert [line.pop(header) for line in lines] == [text for text, in texts]
        shown.append(lines)
    assert shown[0] == shown[1] and {line["label"] for line in shown[0]} <= set(REVIEWS.labels)


@pytest.mark.parametrize(("name", "header", "rows", "words", "message"), [
    ("pairs", "premise,text", PAIRS, [], r"pairs\.csv:2: no field 'sentence2' \(fields there: premise, text\); it may "
     r"also be named hypothesis, .*; name the columns with --columns\.$"),
    ("pairs", "a,b", PAIRS, ["--columns", "a", "c"],
     r"no field 'c' \(fields there: a, b\); name the columns with --columns\.$"),
    ("pairs", "a,b", PAIRS, ["--columns", "a"], r"1 column\(s\) of texts \(a\), but the task has 2; name as many"),
    ("texts", "a,b", PAIRS, ["--columns", "a", "b"], r"2 column\(s\) of texts \(a, b\), but the task has 1; name as"),
    ("nothing", "a,b", PAIRS, [], "nothing: no such folder; give the folder of a saved classifier"),
])
def test_what_cannot_be_classified_is_one_sentence_and_writes_nothing(name, header, rows, words, message, folders,
                                                                      tmp_path):
    file, out = written(tmp_path / "pairs.csv", header, rows), tmp_path / "out.jsonl"
    with pytest.raises(UserError, match=message):
        predict.main([str(folders / name), file, "--out", str(out), *words])
    assert not out.exists()


def test_single_texts_from_python(backbone):
    real = [("a boy runs .", "good"), ("a girl sings .", "good"), ("no boy runs .", "bad"), ("no girl sings .", "bad")]
    generator = Generator.tune(backbone, REVIEWS, real, variant="L_gen", config=GeneratorConfig(
        prompt_length=3, num_steps=1, examples_per_label=2))
    settings = SynthesisConfig(samples_per_label=3, max_new_tokens=4, unfinished="cut", temperature=1.0)
    made = generator.synthesize(config=settings)
    assert [(pair.sentence1, pair.label) for pair in made] == [("", "bad"), ("", "good")] * 3
    assert len({pair.sentence2 for pair in made}) > 1
    with pytest.raises(UserError, match="reviews is a task of single texts, which have none; leave them out"):
        generator.synthesize(["a boy runs ."], config=settings)
    with pytest.raises(UserError, match="temperature = 0"):
        generator.synthesize(config=dataclasses.replace(settings, temperature=0.0))
    classifier = Classifier(backbone, REVIEWS)
    assert classifier.predict(["a boy runs ."]).labels == classifier.predict([("a boy runs .",)]).labels
    assert set(classifier.score(real)) == set(classifier.score(made)) == {"accuracy", "f1"}
