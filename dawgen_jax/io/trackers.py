"""Live trackers of figures in addition to metrics.jsonl: TensorBoard, Weights & Biases, Trackio.

A run is one training program; a figure of one of its seeds is named FIGURE/SEED. The runs of wandb and trackio are used
directly (``log``, ``finish``); TensorBoard's writer is wrapped in the same interface.
"""

from __future__ import annotations

import importlib
import logging
import numbers
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from dawgen_jax.config import digest
from dawgen_jax.errors import UserError

__all__ = ["TrackedRun", "Trackers"]

log = logging.getLogger(__name__)


class Run(Protocol):
    """A run in a tracker."""

    def log(self, data: dict[str, float], step: int) -> None:
        """Record figures at a step."""

    def finish(self) -> None:
        """Flush and close."""


class _TensorBoard:
    def __init__(self, module: Any, root: pathlib.Path, name: str, settings: Mapping[str, Any], first: int):
        del settings
        # Steps after the last checkpoint of an interrupted run are written again: TensorBoard drops the older copy.
        self._writer = module.SummaryWriter(str(root / "tensorboard" / name), purge_step=first, flush_secs=10)

    def log(self, data: dict[str, float], step: int) -> None:
        for name, value in data.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


def _wandb(module: Any, root: pathlib.Path, name: str, settings: Mapping[str, Any], first: int) -> Run:
    del first  # steps that it already has are ignored, since they have the same figures
    return module.init(project=_project(root), name=name, id=digest(str(root.resolve()), name), resume="allow",
                       dir=str(root), config=dict(settings), reinit="finish_previous")


def _trackio(module: Any, root: pathlib.Path, name: str, settings: Mapping[str, Any], first: int) -> Run:
    del first
    return module.init(project=_project(root), name=name, resume="allow", config=dict(settings))


_TRACKERS = {"tensorboard": ("tensorboardX", "SummaryWriter", _TensorBoard), "wandb": ("wandb", "init", _wandb),
             "trackio": ("trackio", "init", _trackio)}
"""Name (also of its extra) -> its module, the attribute that is called, and a function that opens a run."""


def _project(root: pathlib.Path) -> str:
    return re.sub("[^A-Za-z0-9_.-]+", "-", root.resolve().name) or "dawgen"


class Trackers:
    """The trackers of a job. If one fails, it is dropped with a warning, and the job continues."""

    def __init__(self, names: Sequence[str], root: pathlib.Path):
        """
        Args:
          names: any of 'tensorboard', 'wandb', 'trackio'.
          root: the run directory, whose name is the name of the project.

        Raises:
          UserError: a tracker is not installed.
        """
        self._root, self._modules = root, {}
        for name in names:
            package, attribute, _ = _TRACKERS[name]
            try:
                module = importlib.import_module(package)
                getattr(module, attribute)  # a folder with that name in the working directory can be imported too
            except (ImportError, AttributeError) as error:
                raise UserError(f"--track {name}: {package} cannot be imported ({error}): pip install "
                                f"'dawgen-jax[{name}]', or leave it out.") from None
            self._modules[name] = module

    def run(self, name: str, settings: Mapping[str, Any], seeds: Sequence[int] = ()) -> TrackedRun:
        """A run, opened at its first line.

        Args:
          name: name of the run.
          settings: recorded with the run.
          seeds: suffixes of figures in lines that hold one value per seed.
        """
        return TrackedRun(self, name, settings, seeds)

    def open(self, name: str, settings: Mapping[str, Any], first: int) -> dict[str, Run]:
        """Open or resume the run ``name`` at step ``first`` in every tracker."""
        opened: dict[str, Run] = {}
        for tracker, module in list(self._modules.items()):
            try:
                opened[tracker] = _TRACKERS[tracker][2](module, self._root, name, settings, first)
            except Exception as error:  # any type: other people's programs, and the network
                self.leave(tracker, error)
        return opened

    def leave(self, tracker: str, error: Exception) -> None:
        """Drop a tracker after an error."""
        if self._modules.pop(tracker, None):
            log.warning("%s failed (%s: %s) and is no longer used; metrics.jsonl has all figures.", tracker,
                        type(error).__name__, (str(error).splitlines() or [""])[0])


class TrackedRun:
    """A run in every tracker of a job."""

    def __init__(self, trackers: Trackers, name: str, settings: Mapping[str, Any], seeds: Sequence[int]):
        self._trackers, self._name, self._settings, self._seeds = trackers, name, settings, seeds
        self._runs: dict[str, Run] | None = None

    def record(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Record lines of metrics, ignoring values that are not numbers."""
        for line in lines:
            if self._runs is None:
                self._runs = self._trackers.open(self._name, self._settings, line["step"])
            self._each("log", dict(self._figures(line)), step=line["step"])

    def close(self) -> None:
        """Finish the run."""
        self._each("finish")
        self._runs = {}

    def _each(self, method: str, *args: Any, **kwargs: Any) -> None:
        runs = self._runs or {}
        for tracker, run in list(runs.items()):
            try:
                getattr(run, method)(*args, **kwargs)
            except Exception as error:
                del runs[tracker]
                self._trackers.leave(tracker, error)

    def _figures(self, line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        for name, value in line.items():
            several = isinstance(value, list)
            seeds = self._seeds or range(len(value)) if several else ()
            for label, one in zip([f"{name}/{seed}" for seed in seeds] or [name], value if several else [value],
                                  strict=False):
                if name != "step" and isinstance(one, numbers.Real):
                    yield label, float(one)
