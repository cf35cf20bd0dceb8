"""Typed, frozen, validated configuration of every stage.

A config file is Python with ``get_config() -> Config``; the command line overrides single fields.
Defaults are the paper's where the paper (or the code of its baselines) states them and our choice where it
does not; each choice is a field here, so that a result can name it. Validation happens on construction: an
out-of-range value raises :class:`ConfigError` whose message names the field, its value and the way out.

It imports nothing of the project but the errors.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import typing
from typing import Any, Literal

from dawgen_jax.errors import ConfigError, UserError

__all__ = [
    "BackboneConfig",
    "ClassifierConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "FineTuningConfig",
    "GeneratorConfig",
    "LoraConfig",
    "MeshConfig",
    "OwnTask",
    "SynthesisConfig",
    "TransferConfig",
    "UserError",
    "check_choice",
    "check_types",
    "digest",
    "fields_of",
    "shown",
]


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the canonical JSON of ``parts``.

    Dataclasses are taken as dictionaries, tuples as lists; the order of keys does not matter.

    >>> digest({"a": 1, "b": (2,)}) == digest({"b": [2], "a": 1})
    True
    """

    def plain(value: Any) -> Any:
        return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)

    text = json.dumps(parts, sort_keys=True, default=plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def fields_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of a config and of those nested in it, dotted, with their values.

    >>> list(fields_of(Config()))[:3], fields_of(Config())["classifier.lora.rank"]
    (['name', 'tasks', 'own.name'], 8)
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        found |= fields_of(value, f"{prefix}{field.name}.") if nested else {prefix + field.name: value}
    return found


def shown(value: Any) -> str:
    """A value as an error quotes it: its ``repr``, cut where that is long.

    >>> shown("b" * 100)
    "'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb... (102 characters)"
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"{type(value).__name__} that is too large to be shown"
    return text if len(text) <= 80 else f"{text[:56]}... ({len(text)} characters)"


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
_hints = functools.cache(typing.get_type_hints)


def _is(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        kinds = kinds[:1] * len(value) if isinstance(value, tuple) and kinds[-1] is ... else kinds
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is, value, kinds))
    if typing.get_origin(kind) is Literal:
        return isinstance(value, str)
    if isinstance(value, bool) or kind is not float:
        return type(value) is bool if kind is bool else isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**300)


def check_types(owner: Any) -> None:
    """Raise a :class:`ConfigError` unless every field of a dataclass holds what its annotation says.

    A list is taken for the tuple that it should be; text is not taken for the number or truth value that it spells.

    >>> LoraConfig(rank="8")
    Traceback (most recent call last):
    dawgen_jax.config.ConfigError: LoraConfig.rank = '8': must be a whole number.
    """
    for field, kind in _hints(type(owner)).items():
        if isinstance(value := getattr(owner, field), list) and typing.get_origin(kind) is tuple:
            object.__setattr__(owner, field, tuple(value))
        plain = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
        want = _KINDS.get(plain, "text" if typing.get_origin(kind) is Literal else f"a {getattr(kind, '__name__', '')}")
        _check(owner, field, _is(getattr(owner, field), kind), want if plain is kind else f"a tuple, each item {want}")


def check_choice(name: str, value: str, *choices: str) -> None:
    """Raise a :class:`ConfigError` unless ``value`` is one of the choices.

    >>> check_choice("norm", "token", "batch", "sentence")
    Traceback (most recent call last):
    dawgen_jax.config.ConfigError: norm = 'token': must be 'batch' or 'sentence'.
    """
    if value not in choices:
        *most, last = map(repr, choices)
        raise ConfigError(f"{name} = {shown(value)}: must be {', '.join(most)} or {last}.")


def _check(owner: Any, field: str, ok: bool, want: str) -> None:
    if not ok:
        name = f"{type(owner).__name__}.{field}"
        raise ConfigError(f"{name} = {shown(getattr(owner, field))}: must be {want}.")


def _finite(owner: Any, field: str) -> None:
    _check(owner, field, -math.inf < getattr(owner, field) < math.inf, "finite")


def _seed(owner: Any, field: str, *values: int) -> None:
    ok = all(0 <= seed < 2**31 for seed in values)  # NumPy takes no more than 2**32, JAX's arrays no more than this
    _check(owner, field, ok, "from 0 to 2147483647")


def _text(owner: Any, field: str) -> None:
    value = getattr(owner, field)
    ok = len(value) <= 100 and value.isprintable()  # which a control character and half of a surrogate pair are not
    _check(owner, field, ok, "at most 100 printable characters")


def _positive(owner: Any, *fields: str) -> None:
    for field in fields:
        _finite(owner, field)
        _check(owner, field, getattr(owner, field) > 0, "greater than 0")


def _not_negative(owner: Any, *fields: str) -> None:
    for field in fields:
        _finite(owner, field)
        _check(owner, field, getattr(owner, field) >= 0, "0 or more")


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """A frozen T5: which one, and how it is computed."""

    path: str = "mini-t5"
    """A Hugging Face directory (config.json + safetensors + tokenizer), or the name of an embedded backbone."""
    name: str = ""
    """The name written in result rows; by default the last component of `path`. The published tables say
    'T5-large' and 'Flan-T5-large'."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype. float16 is a storage format only: T5's feed-forward activations overflow in it."""
    scan_unroll: int = 0
    """Layers unrolled in one iteration of the scan over layers; 0 unrolls all of them (fast for small models),
    1 compiles one layer (fast to compile for large ones)."""
    remat: bool = False
    """Recompute layer activations in the backward pass (less memory, about a third more time)."""

    def __post_init__(self):
        check_types(self)
        _text(self, "name")
        _check(self, "path", bool(self.path), "a directory or the name of an embedded backbone")
        _check(self, "path", len(self.label) <= 100 and self.label.isprintable(),
               "of a folder whose name has at most 100 printable characters (or give it another in `name`)")
        _check(self, "dtype", self.dtype in ("float32", "bfloat16"),
               "'float32' or 'bfloat16' (float16 overflows in T5's feed-forward layers; it is for storage only)")
        _not_negative(self, "scan_unroll")

    @property
    def label(self) -> str:
        """The name of this backbone in result rows."""
        return self.name or self.path.rstrip("/").rsplit("/", 1)[-1]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where examples and first sentences come from."""

    root: str = ""
    """A folder with TASK/{train,validation,test}.{jsonl,csv,tsv,parquet}; 'hub:NAME' or 'hub:NAME/CONFIG' for a
    Hugging Face `datasets` name; empty for the tasks of the embedded mini world."""
    kshot: str = ""
    """A folder of ready splits TASK/K-SEED/{train,dev}.jsonl; empty to draw them from the training pool by seed.
    A task without ready splits there is drawn from the pool, and rows say so."""
    k: int = 16
    """Examples a class in the few-shot training set, and again as many in the dev set: 16 shots take 32 examples a
    class. 0 takes as many as an own task's data allows, at most 16."""
    corpus: str = ""
    """First sentences: a text file (.txt, .txt.gz; one a line), a folder of released sets
    (TASK/*/gen-train.jsonl[.gz], field sentence1), 'pool' for the task's own unlabelled training pool (a named
    variant: it sees more than k shots), or empty for the mini world's own corpus."""
    released: str = ""
    """A folder of released synthetic sets, TASK/K-SEED/gen-train.jsonl[.gz] with sentence1, sentence2 and label, for
    arms of the generator 'FewGen released'."""
    corpus_seed: int = 42
    """Seed of the one permutation of first sentences; all labels share the order."""
    max_test: int = 0
    """Score only the first so many test pairs (0: all). For development; rows carry n_test."""

    def __post_init__(self):
        check_types(self)
        _not_negative(self, "k", "max_test")
        _seed(self, "corpus_seed", self.corpus_seed)


@dataclasses.dataclass(frozen=True)
class OwnTask:
    """A task of your own: classes of single texts or of pairs of sentences, declared next to a file of examples.

    Every field but ``data`` may stay empty; ``python -m train.check_task`` shows what it then stands for.
    """

    name: str = "own"
    """Names the task in `Config.tasks`, in tables and folders."""
    data: str = ""
    """Labelled examples: a file (.csv, .tsv, .jsonl, .parquet), one example a row, of which dev and test are drawn
    too; a folder with train, validation or test files, or of a Hugging Face data set; or 'hub:NAME[/CONFIG]'. On the
    command line also --data."""
    test: str = ""
    """A file of labelled examples to report on; empty: the data's own test (or validation) split, else a fourth of
    each class of `data`, at least one."""
    columns: tuple[str, ...] = ()
    """The text's column, or the pair's two (a generator writes the last one); empty: found by their usual names, or
    by being all that there is next to the label. On the command line also --columns."""
    label: str = ""
    """The label's column; empty: by its usual names ('label', ...). On the command line also --label."""
    labels: tuple[str, ...] = ()
    """Class names; empty: those found in the data, sorted."""
    template: str = ""
    """Encoder text with each column in braces and one <mask>; empty: '{text} <mask>' or '{sentence1} <mask>
    {sentence2}'. {text}, {sentence1} and {sentence2} stand for the columns whatever their names are."""
    label_words: tuple[str, ...] = ()
    """The word that is scored at the mask for each label, one piece of the vocabulary each; empty: the labels."""
    phrases: tuple[tuple[str, str], ...] = ()
    """For each label (in front of sentence 1, in front of what is generated): the start of the generator's prompts;
    empty: 'LABEL :' and 'text :', or 'LABEL . first :' and 'second :'."""
    repetition_penalty: float = 1.2
    """Of sentence 1's and of generated tokens, for every label; 1 is off, and less would ask for repetitions."""
    metric: Literal["accuracy", "f1"] = "accuracy"
    """What tables show first; both are recorded."""
    positive: str = ""
    """The class whose F1 is reported; empty: the mean over classes (macro F1)."""
    language: str = ""
    """Code of the texts' language ('en', 'pt-BR') for the card of the synthetic set; empty: not said there."""

    def __post_init__(self):
        check_types(self)
        allowed = bool(self.name) and all(letter.isalnum() or letter in "-_.+" for letter in self.name)
        _check(self, "name", allowed and self.name[0].isalnum(), "letters, digits and - _ . + (it names folders)")
        _check(self, "columns", len(self.columns) <= 2 and len(set(self.columns)) == len(self.columns),
               "the column of a text, or the two different ones of a pair")
        _check(self, "labels", all(len(label) <= 100 and label.isprintable() for label in self.labels),
               "names of at most 100 printable characters")
        _check(self, "metric", self.metric in ("accuracy", "f1"), "'accuracy' or 'f1'")
        _check(self, "language", bool(re.fullmatch("([A-Za-z]{2,3}(-[A-Za-z0-9]+)*)?", self.language)),
               "a code such as 'en'")
        _check(self, "repetition_penalty", 1 <= self.repetition_penalty < math.inf, "finite, and 1 (off) or more")


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Tuning of the generator's per-label prompts (paper section 'DawGen generator tuning')."""

    backbone: BackboneConfig = BackboneConfig()
    """The model that writes the synthetic data; need not be the one that learns from it."""
    prompt_length: int = 20
    """Rows of each label's prompt Q_l before sentence 1; the infix has as many rows as its phrase has tokens."""
    max_source_tokens: int = 100
    """Sentence 1 is cut to this many tokens."""
    max_target_tokens: int = 64
    """Sentence 2 and its end-of-sequence token are cut to this many tokens."""
    num_steps: int = 0
    """Updates; 0 takes 160 a label (FewGen: 320 for two classes, 480 for three)."""
    examples_per_label: int = 2
    """Examples of each class in a batch; L_dist needs at least two."""
    learning_rate: float = 5e-3
    """AdamW on the prompts and infixes, linear decay to 0, no warm-up, no weight decay."""
    clip_norm: float = 1.0
    """Global gradient norm is clipped to this before AdamW."""
    weighting: Literal["meta", "uniform"] = "meta"
    """'meta': token weights from the meta-learned weight net (L_wGen). 'uniform': 1/N on each token (L_gen)."""
    weight_norm: Literal["batch", "sentence"] = "batch"
    """Softmax of token weights over all supervised tokens of the batch, or over each sentence."""
    weight_input: Literal["hidden", "loss"] = "hidden"
    """Input of the weight net: the token's last decoder state under the gold prompt (one linear layer; DawGen), or its
    discriminative loss (a perceptron 1 -> 100 -> 1; FewGen)."""
    meta_learning_rate: float = 2e-2
    """Step a_meta of the virtual SGD step."""
    weight_learning_rate: float = 1e-2
    """Adam on the weight net of input 'loss', linear decay to 0."""
    score_learning_rate: float = 0.1
    """Adam on the weight net of input 'hidden', divided by its width H, linear decay to 0: an update moves a token's
    score by at most about 0.8 times this at every width. 0 is an ablation: `weight_learning_rate`, not divided."""
    weight_decay: float = 1e-4
    """L2 decay on the weight net."""
    disc: Literal["ce_logprob", "ratio", "ce_rawlogit"] = "ce_logprob"
    """Form of L_disc: minus log of the printed ratio; the ratio as printed; cross-entropy over raw logits."""
    dist_weight: float = 1.0
    """lambda of L_dist; FewGen is this generator with lambda = 0 and the weight input 'loss'."""
    dist_in_virtual: bool = True
    """L_dist is part of the virtual step's loss too, as in the paper's algorithm; off, of the real step's only."""
    dist_reading: Literal["A", "B"] = "B"
    """Negatives of L_dist: A another class's example under its own prompt, B the same example under a wrong prompt."""
    dist_similarity: Literal["cosine", "swapped_distance"] = "cosine"
    """D of L_dist: cosine similarity, or Euclidean distance with the two terms swapped."""
    dist_margin: float = 1.0
    """Margin of the hinge in L_dist."""
    disc_chunks: int = 0
    """Chunks in which the gradient of L_disc is summed (less memory): at most so many, the most that divide the
    batch; 0 asks for one a label."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 100
    """Steps between two checkpoints of an unfinished run."""

    def __post_init__(self):
        check_types(self)
        _positive(self, "prompt_length", "max_source_tokens", "max_target_tokens", "learning_rate", "clip_norm",
                  "log_every", "checkpoint_every", "meta_learning_rate")
        _not_negative(self, "num_steps", "weight_learning_rate", "score_learning_rate", "weight_decay",
                      "dist_weight", "dist_margin", "disc_chunks")
        _check(self, "examples_per_label", self.examples_per_label >= 2, "2 or more (L_dist pairs two of a class)")
        _check(self, "weighting", self.weighting in ("meta", "uniform"), "'meta' or 'uniform'")
        _check(self, "weight_norm", self.weight_norm in ("batch", "sentence"), "'batch' or 'sentence'")
        _check(self, "weight_input", self.weight_input in ("hidden", "loss"), "'hidden' or 'loss'")
        _check(self, "disc", self.disc in ("ce_logprob", "ratio", "ce_rawlogit"),
               "'ce_logprob', 'ratio' or 'ce_rawlogit'")
        _check(self, "dist_reading", self.dist_reading in ("A", "B"), "'A' or 'B'")
        _check(self, "dist_similarity", self.dist_similarity in ("cosine", "swapped_distance"),
               "'cosine' or 'swapped_distance'")


@dataclasses.dataclass(frozen=True)
class SynthesisConfig:
    """Generation of a labelled set."""

    samples_per_label: int = 5000
    """Accepted samples wanted for each label."""
    max_new_tokens: int = 50
    """Budget of sentence 2, its end-of-sequence token included."""
    min_new_tokens: int = 0
    """End of sequence is not allowed before this many tokens."""
    temperature: float = 0.0
    """0 is greedy decoding (the paper's baseline for pair tasks); scores over less than 1e-4 could overflow."""
    top_k: int = 0
    """Sample among the k best tokens; 0 is off."""
    top_p: float = 1.0
    """Sample among the fewest tokens whose probabilities reach p; 1 is off."""
    repetition_penalty: Literal["task", "off"] = "task"
    """'task': each label's own penalty, over sentence 1 and the tokens generated so far."""
    unfinished: Literal["reject", "cut"] = "reject"
    """A sample without end of sequence within the budget: reject it, or keep it cut (rows are marked 'cut')."""
    balance: bool = True
    """Cut every label to the number of accepted samples of the smallest."""
    batch_size: int = 64
    """Rows decoded together."""
    shard_size: int = 1024
    """First sentences (times labels) in one output shard; a restart goes on after the last whole shard."""
    score: bool = False
    """Write each sample's log-probability under every label's prompt."""
    seed: int = 0
    """Seed of sampling; the key of a sample is fold_in(fold_in(key, label), index)."""

    def __post_init__(self):
        check_types(self)
        _positive(self, "samples_per_label", "max_new_tokens", "batch_size", "shard_size")
        _not_negative(self, "min_new_tokens", "temperature", "top_k")
        _seed(self, "seed", self.seed)
        _check(self, "temperature", self.temperature == 0 or self.temperature >= 1e-4, "0 (greedy), or 1e-4 or more")
        _check(self, "top_p", 0 < self.top_p <= 1, "greater than 0 and at most 1")
        _check(self, "min_new_tokens", self.min_new_tokens < self.max_new_tokens, "below max_new_tokens")
        _check(self, "unfinished", self.unfinished in ("reject", "cut"), "'reject' or 'cut'")
        _check(self, "repetition_penalty", self.repetition_penalty in ("task", "off"), "'task' or 'off'")


@dataclasses.dataclass(frozen=True)
class FineTuningConfig:
    """Training of all weights: the baselines FT, prompt-based FT and PFT + soft prompt."""

    learning_rates: tuple[float, ...] = (3e-5, 1e-4)
    """Each is tried; the best on dev is kept."""
    num_steps: int = 500
    """Updates."""
    batch_size: int = 8
    """Examples an update."""
    weight_decay: float = 0.01
    """AdamW decay, not on norms."""
    clip_norm: float = 1.0
    """Global gradient norm is clipped to this."""
    eval_every: int = 50
    """Updates between two evaluations on dev; the best is kept."""

    def __post_init__(self):
        check_types(self)
        _check(self, "learning_rates", bool(self.learning_rates) and all(0 < r < math.inf for r in self.learning_rates),
               "one or more finite rates greater than 0")
        _positive(self, "num_steps", "batch_size", "clip_norm", "eval_every")
        _not_negative(self, "weight_decay")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank updates of attention projections, in place of a prompt (not in the paper)."""

    rank: int = 8
    """r, columns of A and rows of B."""
    alpha: float = 16.0
    """The update is (alpha / r) A B."""
    targets: tuple[str, ...] = ("query", "value")
    """Which projections of every attention: query, key, value, output."""
    learning_rate: float = 1e-3
    """AdamW, linear decay to 0."""
    weight_decay: float = 0.0
    """AdamW decay."""

    def __post_init__(self):
        check_types(self)
        _positive(self, "rank", "alpha", "learning_rate")
        _not_negative(self, "weight_decay")
        known = {"query", "key", "value", "output"}
        _check(self, "targets", bool(self.targets) and set(self.targets) <= known, "some of query, key, value, output")


@dataclasses.dataclass(frozen=True)
class TransferConfig:
    """Prompts that are trained on something else before the few shots: PPT, SPoT and OPTIMA."""

    documents: str = ""
    """Plain documents for PPT: a text file (.txt, .txt.gz), a sentence or paragraph a line, a blank line between
    documents; empty for the mini world's own."""
    ppt_steps: int = 10_000
    """Updates of PPT's pre-training (published: 200,000 on T5-XXL)."""
    ppt_batch_size: int = 64
    """Sentence pairs in a batch there."""
    ppt_learning_rate: float = 0.1
    """Adam, times 1 / sqrt(step)."""
    ppt_clip_norm: float = 1.0
    """Global gradient norm is clipped to this."""
    ppt_weight_decay: float = 0.01
    """Decay there, times the rate."""
    ppt_pairs: int = 100_000
    """Sentence pairs that are drawn from the documents, a third of each class, and walked through in epochs."""
    held_out: int = 512
    """Examples of the source's labelled set that select its prompt instead of training it: so many, or a tenth of the
    set where that is less."""
    optima_steps: int = 3000
    """Updates of OPTIMA's adversarial alignment on source and target (published: at most 30,000)."""
    optima_batch_size: int = 8
    """Labelled source pairs, and as many unlabelled target pairs, in a batch."""
    optima_radius: float = 0.1
    """Length of the ascent step on the source's embeddings, whatever the length of the gradient."""
    optima_domain_weight: float = 0.5
    """Weight of the domain loss of perturbed examples, in the ascent and in the discriminator's descent."""
    optima_domain_rate: float = 0.01
    """AdamW on the discriminator of domains."""

    def __post_init__(self):
        check_types(self)
        _positive(self, "ppt_steps", "ppt_batch_size", "ppt_learning_rate", "ppt_clip_norm", "ppt_pairs", "held_out",
                  "optima_steps", "optima_batch_size", "optima_radius", "optima_domain_rate")
        _not_negative(self, "ppt_weight_decay", "optima_domain_weight")


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """Tuning of the classifier's prompt (paper section 'prompt tuning' and Algorithm 2)."""

    backbone: BackboneConfig = BackboneConfig()
    """The frozen model whose prompt is tuned."""
    prompt_length: int = 100
    """Rows P of the soft prompt at the encoder's input."""
    prompt_init: Literal["vocabulary", "sampled"] = "vocabulary"
    """'vocabulary': embeddings of the first alphabetic pieces that start a word; 'sampled': random such pieces."""
    max_tokens: int = 100
    """Template tokens, the mask and end of sequence included; tails are cut, last placeholder first."""
    learning_rate: float = 0.3
    """Adafactor, cosine decay to 0, no warm-up, no parameter scaling."""
    factored: bool = True
    """Factored second moment of Adafactor."""
    weight_decay: float = 1e-5
    """Times the learning rate, as Hugging Face's Adafactor does."""
    clip_norm: float = 1.0
    """Global gradient norm is clipped to this after the surgery, before Adafactor."""
    aggregator: Literal["surgery", "pcgrad", "mgda", "cagrad", "upgrad"] = "surgery"
    """What '+ GS' arms combine per-source gradients with; 'surgery' is Algorithm 2."""
    epsilon: float = 1.0
    """Weight of the (projected) synthetic gradient beside the real one."""
    surgery_scope: Literal["global", "leaf", "row"] = "global"
    """Inner products over the whole prompt, each array, or each prompt row."""
    real_steps: int = 400
    """Updates of arms that see real data only."""
    real_batch_per_label: int = 2
    """Their batch: 4 for two classes, 6 for three."""
    real_eval_every: int = 4
    """Updates between two dev evaluations of those arms."""
    num_steps: int = 3000
    """Updates of every arm with synthetic data (and of real-only arms of variant 'same-T'); two-stage arms split it."""
    batch_size: int = 16
    """Examples of each source in a batch of those arms."""
    eval_every: int = 100
    """Updates between two dev evaluations of those arms; the best dev accuracy is kept, step 0 included."""
    full_steps: int = 30000
    """Updates on the full training pool ('@full')."""
    full_batch_size: int = 18
    """Examples in a batch there."""
    full_eval_every: int = 1000
    """Updates between two dev evaluations there."""
    eval_batch_size: int = 64
    """Rows scored together in evaluation; the last batch is padded with rows of weight 0."""
    vmap_seeds: bool = True
    """Run all seeds of an arm in one program; off, one after the other."""
    pad_multiple: int = 16
    """Token batches are padded to the smallest multiple of this that holds the data, instead of to max_tokens."""
    demonstration_tokens: int = 512
    """Tokens of an input with demonstrations (in-context learning): as many as fit are shown."""
    checkpoint_every: int = 100
    """Updates between two checkpoints of an unfinished cell."""
    fine_tuning: FineTuningConfig = FineTuningConfig()
    """Training of all weights: FT, prompt-based FT, and with a soft prompt."""
    lora: LoraConfig = LoraConfig()
    """Low-rank updates."""

    def __post_init__(self):
        check_types(self)
        _positive(self, "prompt_length", "max_tokens", "learning_rate", "clip_norm", "real_steps",
                  "real_batch_per_label", "real_eval_every", "num_steps", "batch_size", "eval_every", "full_steps",
                  "full_batch_size", "full_eval_every", "eval_batch_size", "pad_multiple", "demonstration_tokens",
                  "checkpoint_every")
        _not_negative(self, "weight_decay", "epsilon")
        _check(self, "prompt_init", self.prompt_init in ("vocabulary", "sampled"), "'vocabulary' or 'sampled'")
        _check(self, "aggregator", self.aggregator in ("surgery", "pcgrad", "mgda", "cagrad", "upgrad"),
               "'surgery', 'pcgrad', 'mgda', 'cagrad' or 'upgrad'")
        _check(self, "surgery_scope", self.surgery_scope in ("global", "leaf", "row"), "'global', 'leaf' or 'row'")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How the devices are arranged: those that are left by both axes hold copies, each with its part of the batch."""

    fsdp: int = 1
    """Devices over which the backbone's parameters are cut (with their optimiser state where they are trained), to be
    gathered layer by layer; the batch is spread over these devices too. A power of two divides most widths."""
    tensor: int = 1
    """Devices over which attention heads, feed-forward width and vocabulary are cut and computed apart."""

    def __post_init__(self):
        check_types(self)
        _positive(self, "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class Config:
    """The main job: tasks x seeds x arms."""

    name: str = ""
    """Names the run directory (runs/NAME) where --out is not given; empty: the config file's own name."""
    tasks: tuple[str, ...] = ("mini-snli",)
    """Names of tasks: QQP MRPC MNLI SNLI QNLI RTE SICK, those of the mini world (mini-qqp, mini-mrpc, ...), or the name
    of `own`."""
    own: OwnTask = OwnTask()
    """A task of your own."""
    seeds: tuple[int, ...] = (13, 21, 42, 87, 100)
    """Each draws its own few-shot split, generator and prompt."""
    arms: tuple[str, ...] = ("Prompt Tuning", "DawGen: (Real, Syn) + GS")
    """'[GENERATOR: ]METHOD[ @full][ #VARIANT]', for instance 'DawGen: (Real, Syn) + GS'."""
    data: DataConfig = DataConfig()
    """Where examples and first sentences come from."""
    generator: GeneratorConfig = GeneratorConfig()
    """Tuning of the generator."""
    synthesis: SynthesisConfig = SynthesisConfig()
    """Generation of the labelled set."""
    classifier: ClassifierConfig = ClassifierConfig()
    """Tuning of the classifier's prompt."""
    transfer: TransferConfig = TransferConfig()
    """Prompts that start from something else."""
    devices: int = 0
    """Devices of the mesh; 0 takes all."""
    mesh: MeshConfig = MeshConfig()
    """How they are arranged."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where figures are shown as they come, besides metrics.jsonl; each is an extra of this package."""

    def __post_init__(self):
        check_types(self)
        _text(self, "name")
        _check(self, "name", "/" not in self.name and self.name not in (".", ".."),
               "the name of a folder in runs/ (give another place with --out)")
        for field in ("tasks", "seeds", "arms", "track"):
            value = getattr(self, field)
            _check(self, field, len(value) > 0 or field == "track", "one or more")
            _check(self, field, len(set(value)) == len(value), "without repeats")
        _seed(self, "seeds", *self.seeds)
        for field in ("tasks", "arms"):
            _check(self, field, all(map(str.isprintable, getattr(self, field))), "printable")
        _check(self, "track", set(self.track) <= {"tensorboard", "wandb", "trackio"},
               "some of 'tensorboard', 'wandb' and 'trackio'")
        _not_negative(self, "devices")
        if self.own.data and self.own.name not in self.tasks:
            raise ConfigError(f"own.data = '{self.own.data}': no task of this configuration reads it (Config.tasks is "
                              f"{', '.join(self.tasks)}); start from configs/own_task.py, or name '{self.own.name}' in "
                              "Config.tasks.")
