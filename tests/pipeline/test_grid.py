"""A grid as processes: killed, in shards, twice at once; failed cells; plans."""

import dataclasses
import signal

import pytest

from dawgen_jax.backbones import registry
from dawgen_jax.cli import run as grid
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.methods.arms import Arm
from dawgen_jax.pipeline import cells, main, plan
from dawgen_jax.pipeline.inputs import backbone_folder
from dawgen_jax.pipeline.job import Job
from tests.pipeline import grids


@pytest.fixture(scope="module")
def short(config):
    """Four arms, one of them with synthetic data."""
    return dataclasses.replace(config, arms=("Prompting (zero-shot)", "Prompt Tuning", "Prompt Tuning #same-T",
                                             "FewGen: (Real, Syn) + GS"))


@pytest.fixture(scope="module")
def whole(short, tmp_path_factory):
    """The config file of that grid, and its directory after an undisturbed run."""
    root = tmp_path_factory.mktemp("grid")
    grids.write_config(root / "short.py", short)
    grids.finish(grids.start(root / "short.py", root / "run"))
    return root / "short.py", root / "run"


@pytest.mark.parametrize(("cells", "number", "status"), [
    (1, signal.SIGKILL, [-9]), (3, signal.SIGKILL, [-9]),
    (3, signal.SIGTERM, [143, 0])])  # 0 in a training loop, whose progress is saved first
def test_a_killed_grid_goes_on_and_runs_no_finished_cell_again(whole, cells, number, status, tmp_path):
    config, run = whole
    process = grids.start(config, tmp_path)
    there = grids.kill(process, tmp_path, cells, number=number)
    assert len(there) >= cells and process.returncode in status
    written = grids.times(tmp_path, there)
    grids.finish(grids.start(config, tmp_path))
    assert grids.times(tmp_path, there) == written
    done = grids.whole_arms(there, grids.finished(run))
    assert done and not done & grids.arms_run(tmp_path)
    assert grids.finished(tmp_path) == grids.finished(run) and grids.numbers(tmp_path) == grids.numbers(run)


@pytest.mark.parametrize("words", [(("--shard", "0/2"), ("--shard", "1/2")), ((), ())], ids=["shards", "twice"])
def test_two_processes_at_once_give_the_rows_of_one(whole, words, tmp_path):
    config, run = whole
    for process in [grids.start(config, tmp_path, *more) for more in words]:
        grids.finish(process)
    assert grids.finished(tmp_path) == grids.finished(run) and grids.numbers(tmp_path) == grids.numbers(run)
    assert not list(tmp_path.rglob("*.partial")) and not list(tmp_path.rglob("*.filling"))


def test_a_failed_cell_is_reported_and_the_rest_go_on(short, tmp_path, monkeypatch):
    tune = cells.tune

    def failing(trained, *rest, title, **options):
        if title.endswith("same-T"):
            raise RuntimeError("out of memory")
        return tune(trained, *rest, title=title, **options)

    monkeypatch.setattr(cells, "tune", failing)
    with pytest.raises(UserError, match=r"1 of 4 units failed, the others are finished: mini-snli Prompt Tuning "
                                        r"#same-T: RuntimeError \(the traceback is in .*\.txt\)"):
        main.run(Job.start(short, tmp_path))
    assert "out of memory" in next(tmp_path.glob("failures/*.txt")).read_text()
    assert len(grids.finished(tmp_path)) == 5 and len(grids.numbers(tmp_path)) == 10


def test_shards_partition_the_units_and_unknown_names_are_refused(short):
    shards = [str(unit) for part in range(3) for unit in main.units_of(short, shard=(part, 3))]
    assert sorted(shards) == sorted(map(str, main.units_of(short)))
    for options, message in (({"shard": (3, 3)}, "--shard 3/3"), ({"methods": ["Promt Tuning"]}, "nearest is 'Prompt")):
        with pytest.raises((UserError, ConfigError), match=message):
            main.units_of(short, **options)
    with pytest.raises(UserError, match="'mini-snil' is an unknown task"):
        main.units_of(dataclasses.replace(short, tasks=("mini-snil",)))
    for shard in ("half", "0/" + "1" * 5000, "\u0660/\u0662"):
        with pytest.raises(UserError, match=f"--shard {shard[:60]}: must be i/n"):
            grid.main([str(grids.REPOSITORY / "configs" / "mini.py"), "--shard", shard])


def test_the_plan_counts_updates_and_takes_time_from_finished_cells(short, whole):
    units = main.units_of(short)
    unknown = {str(line.unit.arm): line for line in plan.plan(short, units)}
    assert [unknown[name].updates for name in map(str, short.arms)] == [0, 4, 4, 4]
    assert unknown["FewGen: (Real, Syn) + GS"].examples == 2 * unknown["Prompt Tuning #same-T"].examples == 4 * 4 * 2
    assert all(line.seconds != line.seconds for line in unknown.values())  # NaN
    _, run = whole
    rows = main.read_rows(run / "results.jsonl")
    known = {str(line.unit.arm): line for line in plan.plan(short, units, rows)}
    assert known["Prompt Tuning"].finished == 2 and known["Prompt Tuning"].seconds > 0
    scored_on_fewer = dataclasses.replace(short, data=dataclasses.replace(short.data, max_test=5))
    assert not any(line.finished for line in plan.plan(scored_on_fewer, units, rows))
    backbone, length = short.classifier.backbone, short.classifier.max_tokens + short.classifier.prompt_length
    each = registry.read_model(backbone_folder(backbone.path), backbone).operations(inputs=length, trained="prompt")
    assert known["Prompt Tuning #same-T"].flops == each * 16 * 2


def test_the_dry_run_prints_a_plan_and_runs_nothing(whole, capsys, tmp_path):
    config, _ = whole
    grid.main([str(config), "--out", str(tmp_path), "--dry-run", "--methods", "Prompt Tuning"])
    shown = capsys.readouterr().out
    assert "2 units, 4 cells, 0 finished" in shown and not (tmp_path / "cells").exists()


def test_units_name_their_task_and_arm():
    assert str(main.Unit("mini-snli", Arm.parse("FewGen: Syn only"))) == "mini-snli FewGen: Syn only"
