"""The host loop on a toy: when it logs, evaluates and saves; what it keeps; resuming; a loss that is not finite."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.surgery import weighted_sum
from dawgen_jax.training.fit import Schedule, fit
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state, train_step

TX = optax.chain(weighted_sum(), optax.sgd(0.1))


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def run(folder, schedule, *, kill_at=None, values=lambda step: 1.0, **options):
    """Descend (params - batch)^2 from 0 towards the drawn values."""
    placement = Placement.on(1)
    step = placement.compile_step(
        lambda state, frozen, batch: train_step(
            state, frozen, batch, loss_fn=lambda params, frozen, batch: jnp.mean((params - batch) ** 2), tx=TX),
        batch_axis=1)

    def draw(number):
        if number == kill_at:
            raise Killed
        return np.full((1, 2), values(number), np.float32)

    log = MetricsLog(folder / "metrics.jsonl")
    fitted = fit(step, init_state(np.float32(0), TX), (), draw, schedule=schedule, placement=placement,
                 folder=folder / "checkpoint", log=log, title="toy", advice="lower the rate.",
                 figures=lambda metrics: {"loss": metrics["loss"][0]}, **options)
    return fitted, log.lines()


def closeness(params):
    """Best at 0.5, which the descent passes."""
    return -abs(np.asarray(params) - 0.5), {"params": float(params)}


def test_the_best_is_kept_with_the_start_as_a_candidate(tmp_path):
    fitted, lines = run(tmp_path, Schedule(9, eval_every=2), evaluate=closeness)
    evaluated = {line["step"]: line["params"] for line in lines if "params" in line}
    assert list(evaluated) == [0, 2, 4, 6, 8, 9] and [line["step"] for line in lines] == list(range(10))
    best = min(evaluated, key=lambda step: abs(evaluated[step] - 0.5))
    assert int(fitted.best.step) == best == 4 and float(fitted.best.params) == evaluated[best]
    np.testing.assert_allclose(float(fitted.state.params), 1 - 0.8**9, rtol=1e-5)


def test_a_line_is_the_mean_over_its_updates(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, each = run(tmp_path / "a", Schedule(6))
    _, lines = run(tmp_path / "b", Schedule(6, log_every=4))
    assert [line["step"] for line in lines] == [4, 6]
    losses = [line["loss"] for line in each]
    np.testing.assert_allclose([line["loss"] for line in lines], [np.mean(losses[:4]), np.mean(losses[4:])], rtol=1e-6)


@pytest.mark.parametrize("kill_at", [1, 3, 5, 8])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path, kill_at):
    schedule = Schedule(9, eval_every=2, checkpoint_every=3)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, lines = run(tmp_path / "whole", schedule, evaluate=closeness)
    with pytest.raises(Killed):
        run(tmp_path / "killed", schedule, evaluate=closeness, kill_at=kill_at)
    again, repeated = run(tmp_path / "killed", schedule, evaluate=closeness)
    assert repeated == lines and float(again.state.params) == float(whole.state.params)
    assert (float(again.best.params), int(again.best.step)) == (float(whole.best.params), int(whole.best.step))


def test_a_finished_run_does_nothing_again(tmp_path):
    first, lines = run(tmp_path, Schedule(4), evaluate=None)
    second, again = run(tmp_path, Schedule(4), kill_at=0)
    assert again == lines and float(second.state.params) == float(first.state.params)


def test_a_loss_that_is_not_finite_names_the_update_and_keeps_what_was_before(tmp_path):
    with pytest.raises(UserError, match=r"toy: the loss or its gradient is not finite at update 4 of 9 \(seed 7\); .*"
                                        r"lower the rate\."):
        run(tmp_path, Schedule(9, checkpoint_every=2), values=lambda step: np.nan if step == 3 else 1.0, seeds=(7,))
    assert [line["step"] for line in MetricsLog(tmp_path / "metrics.jsonl").lines()] == [1, 2]


def test_evaluations_may_only_be_logged(tmp_path):
    fitted, lines = run(tmp_path, Schedule(4, eval_every=2), keep=False,
                        evaluate=lambda params: (None, {"params": float(params)}))
    assert fitted.best is None and [line["step"] for line in lines if "params" in line] == [2, 4]


def test_a_run_that_is_told_to_stop_saves_at_the_next_whole_line_and_goes_on(tmp_path, monkeypatch, caplog):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    schedule = Schedule(9, eval_every=4, log_every=2, checkpoint_every=100)
    assert not world.tell_to_stop()  # nothing listens outside of the loop

    def values(step):
        assert step != 2 or world.tell_to_stop()
        return 1.0

    whole, lines = run(tmp_path / "whole", schedule, evaluate=closeness)
    monkeypatch.setitem(world._state, "stop", False)
    with pytest.raises(world.Stopped) as ended:
        run(tmp_path / "stopped", schedule, evaluate=closeness, values=values)
    assert caplog.messages[-1].endswith(": the newest checkpoint is of step 4.")
    assert ended.value.code == 0 and MetricsLog(tmp_path / "stopped" / "metrics.jsonl").lines()[-1]["step"] == 4
    monkeypatch.setitem(world._state, "stop", False)  # as in a new process
    again, repeated = run(tmp_path / "stopped", schedule, evaluate=closeness)
    assert repeated == lines and float(again.state.params) == float(whole.state.params)
    assert float(again.best.params) == float(whole.best.params)
