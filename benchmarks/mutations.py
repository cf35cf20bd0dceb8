"""Does a test fail if a line of the code is wrong?

    nice -n 5 python -m benchmarks.mutations [--only NAME ...]

Each entry of mutations.toml is applied alone to a copy of the tree, where the tests that it names run until one fails:
'killed', or 'survived'. Without a mutation they must pass, which is checked first. An entry is stale if its old text
does not occur exactly once or a named test does not exist; then nothing is run. Mutations that no test can detect are
listed with the reason. The table is Markdown, the last line JSON; the exit status is 1 if a mutation survived.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable

ROOT = pathlib.Path(__file__).parents[1]
LIMIT = 900
"""Time limit in seconds, since a mutated loop may not end; exceeding it counts as a failure."""


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One change of the code.

    Attributes:
      name: description of the fault.
      file: path relative to the repository's root.
      old: text that occurs there exactly once.
      new: its replacement.
      tests: files or node ids of pytest, of which one must fail.
      equivalent: the reason why no test can fail; then there are no tests.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    equivalent: str = ""


def read() -> list[Mutation]:
    """All mutations."""
    entries = tomllib.loads(pathlib.Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["mutation"]
    return [Mutation(**entry | {"tests": tuple(entry.get("tests", ()))}) for entry in entries]


def faults(mutation: Mutation) -> list[str]:
    """Reasons why an entry is stale; empty if it can be run."""
    found, count = [], (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old)
    if count != 1:
        found.append(f"the old text occurs {count} times in {mutation.file}")
    if mutation.new == mutation.old or bool(mutation.tests) == bool(mutation.equivalent):
        found.append("it changes nothing, or does not have either tests or a reason for having none")
    for test in mutation.tests:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8")) if (ROOT / path).is_file() else ast.parse("")
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if name.partition("[")[0] not in names | ({""} if names else set()):
            found.append(f"there is no test {test}")
    return found


def run_tests(tree: pathlib.Path, tests: Iterable[str], limit: float | None = LIMIT) -> str:
    """The first of ``tests`` that fails in a copy of the tree, also by taking too long; empty if all pass."""
    # The mutated file may have the same time and size as the one before it, so cached bytecode must not be used.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"no end after {limit} s"
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode and not failed:
        sys.exit(f"pytest could not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed[1] if failed else ""


def judge(mutation: Mutation, tree: pathlib.Path) -> str:
    """Apply a mutation to a copy of the tree, run its tests there, and revert it; see :func:`run_tests`."""
    path = tree / mutation.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return run_tests(tree, mutation.tests)
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Judge the requested mutations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="mutations by name; all by default")
    arguments = parser.parse_args()
    every = {mutation.name: mutation for mutation in read()}
    if unknown := set(arguments.only or ()) - every.keys():
        sys.exit(f"--only: benchmarks/mutations.toml has no {', '.join(map(repr, sorted(unknown)))}.")
    chosen = [every[name] for name in arguments.only or every]
    if stale := [f"stale: {mutation.name}: {'; '.join(found)}" for mutation in chosen if (found := faults(mutation))]:
        sys.exit("\n".join(stale))
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "dist"))
        programs = ROOT / ".jax_cache"  # compiled programs, which the suite keeps
        programs.mkdir(exist_ok=True)
        (tree / programs.name).symlink_to(programs)
        tests = dict.fromkeys(test for mutation in chosen for test in mutation.tests)
        if tests and (failed := run_tests(tree, tests, limit=None)):
            sys.exit(f"{failed} fails without a mutation; fix that first.")
        print("| mutation | file | outcome |\n|---|---|---|")
        survived = []
        for mutation in chosen:
            failed = "" if mutation.equivalent else judge(mutation, tree)
            outcome = f"killed by {failed}" if failed else "**survived**"
            if mutation.equivalent:
                outcome = f"equivalent: {mutation.equivalent}"
            elif not failed:
                survived.append(mutation.name)
            print(f"| {mutation.name} | {mutation.file.removeprefix('dawgen_jax/')} | {outcome} |", flush=True)
    equivalent = sum(bool(mutation.equivalent) for mutation in chosen)
    print(json.dumps({"mutations": len(chosen), "killed": len(chosen) - equivalent - len(survived),
                      "equivalent": equivalent, "survived": survived}))
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
