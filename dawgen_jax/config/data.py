"""Where examples come from: data sets, few-shot splits, first sentences, and a task of your own."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt

from dawgen_jax.config.validation import DISTINCT, Items, Line, Seed, must, validated

__all__ = ["DataConfig", "OwnTask", "Penalty"]

Penalty = Annotated[float, Field(ge=1)]
"""CTRL's repetition penalty; 1 is off, and less would reward repetitions."""


@validated
class DataConfig:
    """Where examples and first sentences come from."""

    root: str = ""
    """A folder with TASK/{train,validation,test}.{jsonl,csv,tsv,parquet}; 'hub:NAME' or 'hub:NAME/CONFIG' for a
    Hugging Face data set; empty for the tasks of the embedded mini world."""
    kshot: str = ""
    """A folder of fixed few-shot splits, TASK/K-SEED/{train,dev}.jsonl; empty samples splits from the training pool by
    seed. A task without fixed splits there is sampled from the pool, and its rows say so."""
    k: NonNegativeInt = 16
    """Examples per class in the few-shot training set, and as many again in the dev set: 16 shots take 32 examples per
    class. 0 takes as many as a custom task's data allows, at most 16."""
    corpus: str = ""
    """First sentences: a text file with one per line (.txt, .txt.gz); a folder of released sets
    (``TASK/*/gen-train.jsonl[.gz]``, field sentence1); 'pool' for the task's own unlabelled training pool (a variant
    that sees more than k shots); or empty for the mini world's corpus."""
    released: str = ""
    """A folder of released synthetic sets, TASK/K-SEED/gen-train.jsonl[.gz] with sentence1, sentence2 and label, for
    arms of the generator 'FewGen released'."""
    corpus_seed: Seed = 42
    """Seed for shuffling first sentences once; all labels share the order."""
    max_test: NonNegativeInt = 0
    """Score only the first so many test pairs; 0 scores all. For development: rows record n_test."""


@validated
class OwnTask:
    """A task of your own, declared next to a file of examples: classes of single texts or of pairs of sentences.

    Every field but ``data`` may stay empty; ``dawgen check`` prints the values that it then takes.
    """

    name: Annotated[str, AfterValidator(must(
        "be letters, digits and - _ . +, and start with a letter or digit (it names folders)",
        lambda name: re.fullmatch(r"[^\W_][\w.+-]*", name)))] = "own"
    """Names the task in `Config.tasks`, in tables and folders."""
    data: str = ""
    """Labelled examples: a file with one example per row (.csv, .tsv, .jsonl, .parquet), which dev and test are taken
    from too; a folder with train, validation or test files, or of a Hugging Face data set; or 'hub:NAME[/CONFIG]'.
    Short option: --data."""
    test: str = ""
    """A file of labelled examples to report on; empty takes the data's own test (or validation) split, otherwise a
    fourth of each class of `data`, at least one."""
    columns: Annotated[Items[str], Field(max_length=2), DISTINCT] = ()
    """The column of the text, or the two columns of the pair (a generator writes the second); empty looks for the usual
    names, then for the only columns that can hold texts. Short option: --columns."""
    label: str = ""
    """The column of the label; empty looks for the usual names ('label', ...). Short option: --label."""
    labels: Items[Line] = ()
    """Class names; empty takes those in the data, sorted."""
    template: str = ""
    """Encoder text with each column in braces and one <mask>; empty is '{text} <mask>' or '{sentence1} <mask>
    {sentence2}'. {text}, {sentence1} and {sentence2} stand for the columns whatever they are called."""
    label_words: Items[str] = ()
    """The word that is scored at the mask for each label, by its first token; empty takes the labels."""
    phrases: Items[tuple[str, str]] = ()
    """For each label, the initial text of the generator's two prompts (before sentence 1, before what is generated);
    empty is 'LABEL :' and 'text :', or 'LABEL . first :' and 'second :'."""
    repetition_penalty: Penalty = 1.2
    """Penalty on tokens of sentence 1 and on generated tokens, the same for every label; 1 is off."""
    metric: Literal["accuracy", "f1"] = "accuracy"
    """The first metric in tables; both are recorded."""
    positive: str = ""
    """The class whose F1 is reported; empty reports the mean over classes (macro F1)."""
    language: Annotated[str, AfterValidator(must(
        "be a language code such as 'en'",
        lambda code: re.fullmatch("([A-Za-z]{2,3}(-[A-Za-z0-9]+)*)?", code)))] = ""
    """Language code of the texts ('en', 'pt-BR') for the card of the synthetic set; empty leaves it out."""
