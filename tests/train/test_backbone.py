"""The programs for checkpoints that a user brings: train.convert and train.check_backbone."""

import json
import pathlib
import shutil

import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import ByT5Tokenizer

from dawgen_jax.backbones.t5 import check
from dawgen_jax.backbones.t5 import convert as t5_convert
from dawgen_jax.cli import backbone as command
from dawgen_jax.errors import UserError
from tests.backbones.t5 import torch_t5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v1.1")
    torch_t5.write(folder, "v1.1")
    return folder


def test_check_backbone_passes_what_agrees_and_fails_what_does_not(checkpoint, tmp_path, capsys, monkeypatch):
    command.main(["check", str(checkpoint), "--json"])
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
        command.main(["check", str(checkpoint)])
    assert stopped.value.code == 1 and "passed        False" in capsys.readouterr().out


def test_check_backbone_reads_a_tokenizer_of_bytes(tmp_path, capsys, monkeypatch):
    torch_t5.write(tmp_path, "byt5", d_model=8, num_layers=1)
    ByT5Tokenizer().save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    monkeypatch.setattr(check, "compare", lambda *arguments: {})
    command.main(["check", str(tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] and report["tokenizer"] == {
        "found": True, "agrees": True, "tokens": 384, "unused_rows": 0, "pad": 0, "eos": 1, "sentinel": 258}


def test_check_backbone_names_files_that_are_cut_off(checkpoint, tmp_path):
    config, theta = t5_convert.load(checkpoint)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=f"{tmp_path}: its tokenizer cannot be loaded"):
        check.tokenizer_report(tmp_path, config)
    (tmp_path / "other.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"other\.safetensors: not a complete safetensors file"):
        check.describe(tmp_path, config, theta)


@pytest.mark.shared
def test_check_backbone_compares_vocabularies(shared, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "compare", lambda *arguments: {})
    for rows in (32128, 32000):
        folder = shutil.copytree(shared / "tokenizer", tmp_path / str(rows))
        torch_t5.write(folder, "v1.0", vocab_size=rows, d_model=8, num_layers=1)
        arguments = [str(folder), "--json"]
        if rows == 32128:
            command.main(["check", *arguments])
        else:
            with pytest.raises(SystemExit, match="1"):
                command.main(["check", *arguments])
        report = json.loads(capsys.readouterr().out)
        assert report["passed"] == report["tokenizer"]["agrees"] == (rows == 32128)
        assert (report["tokenizer"]["unused_rows"], report["tokenizer"]["sentinel"]) == (rows - 32100, 32099)


def test_check_backbone_takes_the_scale_of_umt5_from_its_file(tmp_path, capsys):
    """The files on the hub say False, which transformers 5 overwrites with True."""
    torch_t5.write(tmp_path, "umt5", d_model=8, num_layers=1, num_decoder_layers=1)
    values = json.loads((tmp_path / "config.json").read_text())
    values.pop("scale_decoder_outputs", None)  # newer transformers write it; the files on the hub lack it
    (tmp_path / "config.json").write_text(json.dumps({**values, "tie_word_embeddings": False}))
    command.main(["check", str(tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] and not report["scaled_head"]


def test_a_conversion_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    """A tokenizer that has to be converted is written last."""
    class Stopped:
        def save_pretrained(self, folder):
            assert (folder / "config.json").is_file()
            raise KeyboardInterrupt

    oracle = torch_t5.write(tmp_path / "source", "v1.0")
    torch.save(oracle.state_dict(), tmp_path / "source" / "pytorch_model.bin")
    (tmp_path / "source" / "spiece.model").write_bytes(b"no pieces")
    monkeypatch.setattr(command, "read_tokenizer", lambda folder: Stopped())
    with pytest.raises(KeyboardInterrupt):
        command.main(["convert", str(tmp_path / "source"), str(tmp_path / "target")])
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_warning_of_a_conversion_names_the_source(tmp_path, caplog):
    source = tmp_path / "source"
    oracle = torch_t5.write(source, "v1.0")
    (source / "model.safetensors").unlink()
    values = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**values, "tie_word_embeddings": False}))
    weights = {name: tensor for name, tensor in oracle.state_dict().items() if name != "lm_head.weight"}
    torch.save(weights, source / "pytorch_model.bin")
    command.main(["convert", str(source), str(tmp_path / "target")])
    assert caplog.messages[0].startswith(f"{source / 'config.json'}: tie_word_embeddings = false")


def test_convert_reads_pickles_through_weights_only(tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    oracle = torch_t5.write(source, "v1.0")
    (source / "model.safetensors").unlink()
    torch.save(oracle.state_dict(), source / "pytorch_model.bin")
    (source / "spiece.model").write_bytes(b"no pieces")
    with pytest.raises(UserError, match=f"{source}: its tokenizer cannot be loaded"):
        command.main(["convert", str(source), str(target)])
    (source / "spiece.model").unlink()
    assert not target.exists()
    command.main(["convert", str(source), str(target)])
    config, theta = t5_convert.load(target)
    assert config.tied_head and (theta["embedding"] == oracle.shared.weight.numpy()).all()
    assert "parameters as float32" in capsys.readouterr().out
    with pytest.raises(UserError, match=f"{target}: exists already; name a new folder"):
        command.main(["convert", str(source), str(target)])

    shutil.rmtree(target)
    torch.save({"shared.weight": pathlib.PurePath("code")}, source / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin: is refused by PyTorch's weights_only loader"):
        command.main(["convert", str(source), str(target)])
    assert not target.exists()
    ones = torch.ones(2)
    for wrong in ([1], ones, {"a": 3}, {3: ones}, {"a": ones.int()}, {"a": ones.to_sparse()}, {"a": {"b": ones}},
                  {"a": ones.to(torch.float8_e4m3fn)}, {"a": ones.to("meta")}):
        torch.save(wrong, source / "pytorch_model.bin")
        with pytest.raises(UserError, match=r"pytorch_model\.bin: holds no table of names and tensors"):
            command.main(["convert", str(source), str(target)])
    torch.save({"a": ones}, source / "pytorch_model.bin")
    with pytest.raises(UserError, match=f"{source}: tensor shared.weight is missing"):
        command.main(["convert", str(source), str(target)])
    whole = (source / "config.json").read_text()
    (source / "config.json").write_text("[]")
    with pytest.raises(UserError, match="holds no JSON object"):
        command.main(["convert", str(source), str(target)])
    (source / "config.json").write_text(whole)
    save_file({}, source / "other.safetensors")
    (source / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"has no pytorch_model\.bin"):
        command.main(["convert", str(source), str(target)])
    with pytest.raises(SystemExit, match="2"):
        command.main(["convert"])
