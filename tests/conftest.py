"""Fixtures and process-wide settings of the suite: 8 CPU devices, strict ranks, warnings are errors, no network."""

import gc
import importlib.util
import os
import pathlib
import re

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

import dawgen_jax  # noqa: F401  (sets the compiler's flag before a backend starts)
from dawgen_jax.backbones import cache
from tests.results.browser import EXECUTABLE

gc.set_threshold(200_000, 20, 100)  # tracing makes millions of small objects: a tenth of the suite's time
jax.config.update("jax_num_cpu_devices", 8)
# Programs are compiled once a machine: most of the suite's time is compilation.
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(__file__).parents[1] / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # eager operations too, in every module again
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

SKIPS_WITHOUT_SHARED = 54
"""Skipped tests of the whole suite where the shared data is missing; none is skipped where it is there."""

SHARED = pathlib.Path(os.environ.get("DAWGEN_SHARED", pathlib.Path(__file__).parents[2] / "shared"))

TORCH = importlib.util.find_spec("torch") is not None
"""Without PyTorch, comparisons with it are skipped and not counted; with it no import may fail."""

collect_ignore_glob = [] if TORCH else ["*/torch_*.py", "*/pin.py"]  # the doctest collector imports helpers too


SMOLLM2 = cache.folder("smollm2-135m-q4").is_dir()
SKIPS_WITHOUT_SMOLLM2 = 8
"""Skipped tests of the real SmolLM2 where it was not fetched."""
SKIPS_WITHOUT_BROWSER = 7
"""Skipped tests of pages where there is no Chromium (tests/results/browser.py)."""


def counts(report) -> bool:
    """Whether a skip counts: not one for the lack of PyTorch, where there is none."""
    return TORCH or "could not import" not in str(report.longrepr)


_PLUMBING = ("methods", "multiprocess", "pipeline", "train",
             "training/test_placement.py", "backbones/decoder_only/test_stages.py")
"""Tests of what is done with numbers more than of numbers: these, and the programs that they start, are compiled
without LLVM's expensive passes, which is faster (a step's tests took 0.63 of the CPU time, the pipeline's 0.78). All
others are compiled as users' programs are."""


@pytest.hookimpl(tryfirst=True)  # before the fixtures of the test, those of the session included
def pytest_runtest_setup(item):
    plumbing = any(item.path.is_relative_to(pathlib.Path(__file__).parent / part) for part in _PLUMBING)
    jax.config.update("jax_disable_most_optimizations", plumbing)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(plumbing))


_QUICK = ("data", "io", "results", "synthesis", "evaluation/test_flags.py", "evaluation/test_measures.py",
          "evaluation/test_metrics.py", "generator/test_losses.py", "methods/test_arms.py", "methods/test_rows.py",
          "methods/test_verbalizer.py", "surgery/test_alone.py", "surgery/test_weightings.py", "training/test_fit.py",
          "training/test_optimisers.py", "backbones/t5/test_config.py", "backbones/t5/test_format.py",
          "backbones/decoder_only/test_config.py", "backbones/decoder_only/test_format.py", "test_config.py",
          "test_layers.py", "test_tasks.py", "test_mutations.py")
"""Tests marked quick, with the doctests: about two minutes with ``-n 2`` on two cores."""


def pytest_collection_modifyitems(items):
    tests = pathlib.Path(__file__).parent
    for item in items:
        documented = not item.path.is_relative_to(tests) and item.path.name != "api.py"  # whose doctest is a whole run
        if documented or any(item.path.is_relative_to(tests / part) for part in _QUICK):
            item.add_marker("quick")
    needed = {"shared": ((SHARED / "data").is_dir(), f"needs shared data ({SHARED}); set DAWGEN_SHARED"),
              "smollm2": (SMOLLM2, "needs SmolLM2: dawgen backbone fetch smollm2-135m-q4")}
    for item in items:
        for marker, (there, reason) in needed.items():
            if not there and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):  # one of several processes: the first counts for all
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = sum(map(counts, reporter.stats.get("skipped", [])))
    allowed = 0 if (SHARED / "data").is_dir() else SKIPS_WITHOUT_SHARED
    allowed += 0 if SMOLLM2 else SKIPS_WITHOUT_SMOLLM2 - (not (SHARED / "data").is_dir())  # one test needs both
    allowed += 0 if EXECUTABLE else SKIPS_WITHOUT_BROWSER
    chosen = [word for word in session.config.invocation_params.args if not re.fullmatch(r"-n\d*|\d+", word)]
    if not chosen and skipped != allowed:
        reporter.write_line(f"{skipped} tests were skipped, but {allowed} are recorded in tests/conftest.py.", red=True)
        session.exitstatus = 1


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Unload a module's compiled programs, so that the suite does not pile them all up in memory."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder with real data and the real T5 tokenizer; tests that use it carry the marker `shared`."""
    return SHARED


@pytest.fixture(scope="session")
def words():
    """A T5 of whole words, as the mini world's is: no word mark, unknown words become <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from dawgen_jax.backbones.t5.format import T5Format

    pieces = ["<pad>", "</s>", "<unk>", "the", "dog", "cat", "runs", "sleeps", "not", "yes", "no", "neutral", "maybe",
              "and", "are", "equivalent", "?", "hypothesis", ":", "premise", "answer", "question", "sentence", "7",
              "<", "/", "s", ">", "<extra_id_0>", "<extra_id_1>"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return T5Format(PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=["<extra_id_0>", "<extra_id_1>"]), 32)


@pytest.fixture(scope="session")
def t5(shared):
    """Tokens and templates of the real T5; for tests with the marker `shared`."""
    from dawgen_jax.backbones.t5.format import T5Format
    from dawgen_jax.backbones.tokens import read_tokenizer

    return T5Format(read_tokenizer(shared / "tokenizer"), 32128)
