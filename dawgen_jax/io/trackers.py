"""Live trackers of figures in addition to metrics.jsonl: TensorBoard, Weights & Biases, Trackio.

A run is one training program; a figure of one of its seeds is named FIGURE/SEED. The runs of wandb and trackio are used
directly (``log``, ``finish``); TensorBoard's writer is wrapped in the same interface.
"""

from __future__ import annotations

import functools
import importlib
import logging
import numbers
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dawgen_jax.config import digest
from dawgen_jax.errors import UserError, first_line

__all__ = ["TrackedRun", "Trackers"]

log = logging.getLogger(__name__)


class _TensorBoard:
    def __init__(self, module: Any, root: pathlib.Path, name: str, settings: Mapping[str, Any], first: int):
        # Steps after the last checkpoint of an interrupted run are written again: TensorBoard drops the older copy.
        self._writer = module.SummaryWriter(str(root / "tensorboard" / name), purge_step=first, flush_secs=10)

    def log(self, data: dict[str, float], step: int) -> None:
        for name, value in data.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


def _wandb(module: Any, root: pathlib.Path, name: str, settings: Mapping[str, Any], first: int) -> Any:
    # ``first`` is not needed: steps that it already has are ignored, since they have the same figures.
    return module.init(project=_project(root), name=name, id=digest(str(root.resolve()), name), resume="allow",
                       dir=str(root), config=dict(settings), reinit="finish_previous")


def _trackio(module: Any, root: pathlib.Path, name: str, settings: Mapping[str, Any], first: int) -> Any:
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
        self.root, self._modules = root, {}
        for name in names:
            package, attribute, _ = _TRACKERS[name]
            try:
                module = importlib.import_module(package)
                getattr(module, attribute)  # a folder with that name in the working directory can be imported too
            except (ImportError, AttributeError) as error:
                raise UserError(f"--track {name}: {package} cannot be imported ({error}): pip install "
                                f"'dawgen-jax[{name}]', or leave it out.") from None
            self._modules[name] = module

    def each(self, act: Callable[[str, Any], None]) -> None:
        """Call ``act(tracker, module)`` for every tracker; one that fails is dropped."""
        for tracker, module in list(self._modules.items()):
            try:
                act(tracker, module)
            except Exception as error:  # any type: other people's programs, and the network
                del self._modules[tracker]
                log.warning("%s failed (%s: %s) and is no longer used; metrics.jsonl has all figures.", tracker,
                            type(error).__name__, first_line(error))


class TrackedRun:
    """A run in every tracker of a job."""

    def __init__(self, trackers: Trackers, name: str, settings: Mapping[str, Any], seeds: Sequence[int]):
        self._trackers, self._name, self._settings, self._seeds = trackers, name, settings, seeds
        self._runs: dict[str, Any] = {}

    def record(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Record lines of metrics, ignoring values that are not numbers; the first one opens the run."""
        for line in lines:
            self._trackers.each(functools.partial(self._log, line))

    def close(self) -> None:
        """Finish the run."""
        self._trackers.each(lambda tracker, module: self._runs[tracker].finish() if tracker in self._runs else None)

    def _log(self, line: Mapping[str, Any], tracker: str, module: Any) -> None:
        if tracker not in self._runs:
            opened = _TRACKERS[tracker][2]
            self._runs[tracker] = opened(module, self._trackers.root, self._name, self._settings, line["step"])
        self._runs[tracker].log(dict(self._figures(line)), step=line["step"])

    def _figures(self, line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        for name, value in line.items():
            several = isinstance(value, list)
            seeds = self._seeds or range(len(value)) if several else ()
            for label, one in zip([f"{name}/{seed}" for seed in seeds] or [name], value if several else [value],
                                  strict=False):
                if name != "step" and isinstance(one, numbers.Real):
                    yield label, float(one)
