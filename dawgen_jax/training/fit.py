"""The one host loop: draw, step, log, evaluate, keep the best, checkpoint, resume.

Generators, prompts, whole backbones, source prompts and pre-training all run in it, with one policy each for a loss
that is not finite (stop with the update that failed; the state is the one before it), for resuming (checkpoints are
taken at fixed steps, never by the clock, and everything random is a function of (seed, step), so that an interrupted
run ends with the same numbers), for metrics and for progress.

K seeds may be trained as one program: then every leaf of state and metrics has a leading axis K.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.base import Model
from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.io.terminal import progress
from dawgen_jax.training.checkpoint import Checkpoints
from dawgen_jax.training.placement import Placement

__all__ = ["Best", "Fitted", "Schedule", "fit"]

logger = logging.getLogger(__name__)
_SHARES, _NORMS = ("dev_accuracy", "conflict"), ("param_norm", "distance")


class Schedule(NamedTuple):
    """When what happens, in updates.

    Attributes:
      num_steps: updates in all.
      eval_every: updates between two evaluations, the last update included; 1 or more if there is something to
        evaluate, and not read otherwise.
      log_every: updates that one line of metrics is the mean of.
      checkpoint_every: updates between two checkpoints; one more is taken at the end.
      updates: optimiser updates in one call of the step, where that runs several; the others count calls then.
    """

    num_steps: int
    eval_every: int = 0
    log_every: int = 1
    checkpoint_every: int = 100
    updates: int = 1


class Best(NamedTuple):
    """The parameters with the best score so far, placed as the state's: each leaf [K, ...]; their score [K] and
    step [K], on the host."""

    params: Any
    score: np.ndarray
    step: np.ndarray


class Fitted(NamedTuple):
    """What a run of the loop ends with: the last state, the best parameters, the last line of metrics."""

    state: Any
    best: Best | None
    line: dict


def fit(step: Callable, state, frozen, draw: Callable[[int], Any], *, schedule: Schedule, placement: Placement,
        folder: pathlib.Path, log: MetricsLog, title: str, advice: str, figures: Callable[[dict], dict],
        evaluate: Callable[[Any], tuple[np.ndarray, dict]] | None = None, best: Best | None = None, keep: bool = True,
        offset: int = 0, seeds: Sequence[int] = (), show: Sequence[str] = (), model: Model | None = None) -> Fitted:
    """Train until ``schedule.num_steps`` updates are done, from the newest checkpoint in ``folder`` if there is one.

    Args:
      step: compiled ``(state, frozen, batch) -> (state, metrics)``; the state has fields ``params``, ``step``, ``ok``.
      state: before the first update; its buffers are donated.
      frozen: passed to every step.
      draw: i -> the batch of update i, from 0; called in order.
      schedule: when to log, evaluate and save.
      placement: of the state.
      folder: where unfinished progress is kept.
      log: takes the lines of metrics.
      title: for the progress bar and for errors.
      advice: what a user may change where the loss is not finite.
      figures: metrics of one update, on the host, -> what is logged of it (numbers, or arrays [K]).
      evaluate: parameters -> (score [K], more figures for the log); parameters are kept as best where their score is
        strictly above all before it.
      best: of an earlier stage; without one the starting parameters are evaluated as well.
      keep: whether the best parameters are kept; otherwise evaluations are only logged, and have no score.
      offset: updates of earlier stages, added to the steps of all lines.
      seeds: K seeds, to name the one that failed.
      show: figures that the progress bar shows, means over the seeds; norms only at the logging level DEBUG.
      model: the backbone, where the state holds its parameters: these are placed by its layout.

    Raises:
      UserError: a loss or gradient is not finite.
      Stopped: a process received a signal to stop; the next start resumes from here.
    """
    line, first_scored, state = {}, evaluate is not None and keep and best is None, placement.put(state, model)
    if first_scored:
        count = np.shape(state.ok)
        # A copy: the state's buffers are donated.
        best = Best(jax.tree.map(jnp.copy, state.params), np.full(count, -np.inf), np.zeros(count, np.int64))
    with Checkpoints(folder) as checkpoints:
        first = checkpoints.latest_step or 0
        if first:
            like, state, best = jax.tree.map(_shape_of, (state, best)), None, None  # no second copy on the devices
            state, best = checkpoints.restore(like)
        if first < schedule.num_steps:  # a start that is evaluated again has its line again
            log.forget(offset + first - (first_scored and first == 0))
        pending: list[dict] = []
        told, reported = False, 0.0
        with (_saying_where(title, checkpoints, offset), world.listening(),
              progress(schedule.num_steps, title, done=first) as bar):
            bar.set_postfix_str("compiling")
            if first_scored and first == 0:
                best, line = _evaluate(evaluate, state, best, offset)
                log.record([line])
            for done in range(first + 1, schedule.num_steps + 1):
                state, metrics = step(state, frozen, draw(done - 1))
                if done == first + 1:  # the call has returned, so that its program is compiled
                    bar.set_postfix_str("")
                if not bar.disable and time.monotonic() > reported + 1:
                    jax.block_until_ready(metrics)  # a call returns before its update is computed
                    bar.update(done - bar.n)
                    reported = time.monotonic()
                pending.append(metrics)
                last = done == schedule.num_steps
                due = evaluate is not None and (last or done % schedule.eval_every == 0)
                told = told or world.stopping()
                stop = told and done % schedule.log_every == 0  # at whole lines
                save = last or stop or done % schedule.checkpoint_every == 0
                if not (due or save or (schedule.log_every > 1 and done % schedule.log_every == 0)):
                    continue
                _stop_if_not_finite(state, schedule, seeds, title, advice)
                lines, pending = _lines(pending, figures, offset + done, schedule.log_every), []
                if due:
                    best, evaluated = _evaluate(evaluate, state, best, offset + done)
                    lines[-1] |= evaluated
                log.record(lines)
                line = lines[-1]
                bar.update(done - bar.n)
                bar.set_postfix_str(_shown(line, show))
                if save:
                    checkpoints.save(done, (state, best))
                if stop and not last:
                    raise world.Stopped
    return Fitted(state, best, line)


def _shown(line: dict, names: Sequence[str]) -> str:
    """Figures of a line for people: shares in per cent.

    >>> _shown({"dev_accuracy": [0.5, 0.75], "distance": 2.0}, ("dev_accuracy", "loss", "distance"))
    'dev accuracy 62.5 %'
    """
    verbose = logger.isEnabledFor(logging.DEBUG)
    return ", ".join(f"{name.replace('_', ' ')} " + (f"{100 * np.mean(line[name]):.1f} %" if name in _SHARES else
                                                     f"{np.mean(line[name]):.3g}")
                     for name in names if name in line and (verbose or name not in _NORMS))


@contextlib.contextmanager
def _saying_where(title: str, checkpoints: Checkpoints, offset: int) -> Iterator[None]:
    """If the program is stopped inside, report the step from which the next start resumes."""
    try:
        yield
    except SystemExit:
        step = offset + (checkpoints.newest or 0)
        logger.warning("%s: %s.", title, f"the newest checkpoint is of step {step}" if step else "no checkpoint yet")
        raise


def _evaluate(evaluate: Callable, state, best: Best | None, step: int) -> tuple[Best | None, dict]:
    score, found = evaluate(state.params)
    if best is None:
        return None, {"step": step, **found}
    better = np.asarray(score > best.score)
    if better.any():
        pick = jax.jit(_pick, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, state.params))
        best = Best(pick(better, state.params, best.params), np.where(better, score, best.score),
                    np.where(better, step, best.step))
    return best, {"step": step, **found}


def _pick(better, new, old):
    """The new parameters of each seed that improved, the old ones of the others."""
    def of(new, old):
        return jnp.where(better.reshape(better.shape + (1,) * (new.ndim - better.ndim)), new, old)

    return jax.tree.map(of, new, old)


def _shape_of(leaf):
    """Shape, dtype and sharding of an array, as a checkpoint needs them."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) if isinstance(leaf, jax.Array) else leaf


def _lines(pending: list[dict], figures: Callable[[dict], dict], last: int, every: int) -> list[dict]:
    """Lines up to step ``last``, each the mean over at most ``every`` updates."""
    found = [figures(metrics) for metrics in jax.device_get(pending)]
    lines = []
    for start in range(0, len(found), every):
        part = found[start:start + every]
        means = {name: np.mean([figure[name] for figure in part], axis=0).tolist() for name in part[0]}
        lines.append({"step": last - len(found) + start + len(part), **means})
    return lines


def _stop_if_not_finite(state, schedule: Schedule, seeds: Sequence[int], title: str, advice: str) -> None:
    ok, steps = np.atleast_1d(state.ok), np.atleast_1d(state.step)
    if not ok.all():
        failed = int(np.flatnonzero(~ok)[0])
        named = f" (seed {seeds[failed]})" if len(seeds) else ""
        total = schedule.num_steps * schedule.updates
        raise UserError(f"{title}: the loss or its gradient is not finite at update {steps[failed] + 1} of {total}"
                        f"{named}; what was trained stays as before that update: {advice}")
