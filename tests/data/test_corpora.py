"""First sentences: distinct, normalised, of a fitting length, in one order; three kinds of source."""

import gzip
import json

import pytest

from dawgen_jax.config import DataConfig
from dawgen_jax.data.corpora import arrange, first_sentences
from dawgen_jax.data.pools import Example, Pools
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import SEVEN

SICK, QQP = SEVEN["SICK"], SEVEN["QQP"]


def sentence(n, word="word"):
    return " ".join([word] * n)


def test_text_file(tmp_path):
    lines = [sentence(4), sentence(5), f"  {sentence(5).replace(' ', '   ')} ", "", sentence(15, "x"), sentence(16)]
    for name, write in (("a.txt", lambda p, b: p.write_bytes(b)),
                        ("a.txt.gz", lambda p, b: p.write_bytes(gzip.compress(b)))):
        write(tmp_path / name, "\n".join(lines).encode())
        found = first_sentences(SICK, DataConfig(corpus=str(tmp_path / name)))
        assert sorted(found) == sorted([sentence(5), sentence(15, "x")])


def test_order_is_a_permutation_by_the_corpus_seed():
    lines = [f"s {i}" for i in range(50)]
    first = arrange(lines, 42)
    assert sorted(first) == sorted(lines) and first != lines
    assert first == arrange(lines * 2, 42) and first != arrange(lines, 43)


def test_released_sets_of_the_tasks_that_fit(tmp_path):
    for name, text in (("QQP", "who is it ?"), ("QNLI", "where is it ?"), ("MNLI", "it is here .")):
        folder = tmp_path / name / "16-13"
        folder.mkdir(parents=True)
        row = json.dumps({"sentence1": text, "sentence2": "x", "label": "y"}) + "\n"
        (folder / "gen-train.jsonl.gz").write_bytes(gzip.compress((row * 2).encode()))
    assert sorted(first_sentences(QQP, DataConfig(corpus=str(tmp_path)))) == ["where is it ?", "who is it ?"]


def test_pool_variant_takes_sentences_of_any_length():
    pools = Pools([Example("a dog", "x", "neutral"), Example("a dog", "y", "entailment")], [], [], "")
    assert first_sentences(SICK, DataConfig(corpus="pool"), pools) == ["a dog"]


def test_mistakes(tmp_path):
    def message(corpus, task=SICK):
        with pytest.raises(UserError) as caught:
            first_sentences(task, DataConfig(corpus=str(corpus)))
        return str(caught.value)

    assert "data.corpus is empty" in message("")
    assert "no such file" in message(tmp_path / "no.txt")
    assert "neither a folder nor a text file" in message(tmp_path / "no.docx")
    assert "for TASK in MNLI; give another folder" in message(tmp_path)
    (tmp_path / "short.txt").write_text("too short\n")
    assert "no sentence of 5 to 15 words for SICK" in message(tmp_path / "short.txt")
    (tmp_path / "MNLI" / "16-13").mkdir(parents=True)
    (tmp_path / "MNLI" / "16-13" / "gen-train.jsonl").write_text('{"sentence1": "a"}\n{"sentence2": "b"}\n')
    assert "gen-train.jsonl:2: no text in field 'sentence1'" in message(tmp_path)
    assert "needs the task's training pool" in message("pool")


@pytest.mark.shared
@pytest.mark.parametrize(("task", "count"), [
    ("QQP", 5449), ("MRPC", 5841), ("MNLI", 5048), ("SNLI", 5048), ("QNLI", 5449), ("RTE", 5841), ("SICK", 2211),
])
def test_released_first_sentences(shared, task, count):
    found = first_sentences(SEVEN[task], DataConfig(corpus=str(shared / "data/synthetic_fewgen")))
    assert len(found) == len(set(found)) == count
