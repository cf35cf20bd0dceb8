"""The programs for checkpoints that a user brings: train.convert and train.check_backbone."""

import json
import pathlib
import shutil

import pytest
import torch
from safetensors.numpy import load_file, save_file

from dawgen_jax.config import UserError
from dawgen_jax.t5 import convert as t5_convert
from tests.t5 import torch_t5
from train import check_backbone, convert


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v1.1")
    torch_t5.write(folder, "v1.1")
    return folder


def test_check_backbone_passes_what_agrees_and_fails_what_does_not(checkpoint, tmp_path, capsys, monkeypatch):
    check_backbone.main([str(checkpoint), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["head"], report["scaled_head"]) == ("v1.1", "untied", False)
    assert report["parameters"]["total"] == sum(t.size for t in load_file(checkpoint / "model.safetensors").values())
    assert report["stored"] == {"F32": 52} and report["passed"] and not report["tokenizer"]["found"]
    assert report["pytorch"]["logits"] < 1e-5 and report["pytorch"]["prompt_gradient"] < 1e-4
    assert report["pytorch"]["greedy_tokens"] == 0

    # Another scale of the head than PyTorch's must be seen.
    load = t5_convert.load
    monkeypatch.setattr(
        t5_convert, "load", lambda path: (load(path)[0], {**load(path)[1], "head": load(path)[1]["head"] / 2})
    )
    with pytest.raises(SystemExit) as stopped:
        check_backbone.main([str(checkpoint)])
    assert stopped.value.code == 1 and "passed        False" in capsys.readouterr().out


def test_convert_reads_pickles_through_weights_only(tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    oracle = torch_t5.write(source, "v1.0")
    (source / "model.safetensors").unlink()
    torch.save(oracle.state_dict(), source / "pytorch_model.bin")
    convert.main([str(source), str(target)])
    config, theta = t5_convert.load(target)
    assert config.tied_head and (theta["embedding"] == oracle.shared.weight.numpy()).all()
    assert "parameters as float32" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds a checkpoint already"):
        convert.main([str(source), str(target)])

    shutil.rmtree(target)
    torch.save({"shared.weight": pathlib.PurePath("code")}, source / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin: is refused by PyTorch's weights_only loader"):
        convert.main([str(source), str(target)])
    assert not target.exists()
    save_file({}, source / "other.safetensors")
    (source / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"has no pytorch_model\.bin"):
        convert.main([str(source), str(target)])
    with pytest.raises(UserError, match="Usage"):
        convert.main([])
