"""Prompt files of others: each kind is read as it was saved, and anything else is one sentence."""

import json
import pickle
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from dawgen_jax.errors import UserError
from dawgen_jax.io.prompt_files import adapter_base, load, save, save_adapter

PROMPT = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


def torch_save(path, value):
    pytest.importorskip("torch").save(value, path)
    return path


def tensor(array=PROMPT):
    return pytest.importorskip("torch").tensor(np.array(array))


def numpy_save(path, array):
    np.save(path, array)
    return path


def adapter(folder, array=PROMPT, rows=4, pickled=False, **fields):
    """A PEFT folder that may lie."""
    folder.mkdir(exist_ok=True)
    save_adapter(folder, np.zeros((rows, 6)), "t5", {"task_type": "SEQ_2_SEQ_LM"})
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | fields))
    if pickled:
        (folder / "adapter_model.safetensors").unlink()
        torch_save(folder / "adapter_model.bin", {"prompt_embeddings": tensor(array)})
    else:
        save_file({"prompt_embeddings": np.array(array)}, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("write", [
    lambda folder: numpy_save(folder / "p.npy", PROMPT),
    lambda folder: numpy_save(folder / "p.npy", PROMPT.astype(np.float64)),
    lambda folder: torch_save(folder / "p.pt", tensor()),
    lambda folder: torch_save(folder / "p.pth", {"soft": tensor().requires_grad_()}),
    lambda folder: adapter(folder / "peft"),
    lambda folder: adapter(folder / "peft") / "adapter_model.safetensors",
    lambda folder: adapter(folder / "peft", pickled=True),
    lambda folder: adapter(folder / "peft", np.concatenate([PROMPT, -PROMPT]), task_type=None),
])
def test_each_kind_comes_back_as_it_was(write, tmp_path):
    (name, array), = load(write(tmp_path)).items()
    assert name == "prompt" and array.dtype == np.float32
    np.testing.assert_array_equal(array, PROMPT)


def test_narrow_and_wide_storage_is_read_in_float32(tmp_path):
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        save_file({"prompt": PROMPT.astype(dtype)}, tmp_path / "p.safetensors")
        np.testing.assert_array_equal(load(tmp_path / "p.safetensors")["prompt"], PROMPT.astype(dtype).astype("f4"))
        torch_save(tmp_path / "p.pt", tensor().bfloat16())
        np.testing.assert_array_equal(load(tmp_path / "p.pt")["prompt"],
                                      PROMPT.astype(ml_dtypes.bfloat16).astype("f4"))


def test_bfloat16_is_read_by_the_reader_alone(tmp_path):
    """In a process that has imported nothing else: NumPy learns bfloat16 from a package that JAX imports too."""
    save_file({"prompt": PROMPT.astype(ml_dtypes.bfloat16)}, tmp_path / "p.safetensors")
    code = ("import sys; from dawgen_jax.io.prompt_files import load; array = load(sys.argv[1])['prompt']; "
            "assert 'jax' not in sys.modules; print(array.dtype, array.shape)")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "p.safetensors"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "float32 (4, 6)\n"), done.stderr


def test_a_cells_and_a_generators_folder_are_read(tmp_path):
    for name, arrays in (("prompt", {"prompt": PROMPT}), ("prompts", {"prompt": PROMPT[None], "infix": PROMPT[None]})):
        (tmp_path / name).mkdir()
        save(tmp_path / name / f"{name}.safetensors", arrays)
        assert {key: value.shape for key, value in load(tmp_path / name).items()} == {
            key: value.shape for key, value in arrays.items()}
    with pytest.raises(UserError, match=r"a folder with none of prompt.safetensors, .*cells of LoRA, of fine-tuning"):
        load(tmp_path)
    assert adapter_base(tmp_path) == ("", "") and adapter_base(adapter(tmp_path / "peft")) == ("t5", "SEQ_2_SEQ_LM")


@pytest.mark.parametrize(("write", "message"), [
    (lambda folder: numpy_save(folder / "p.npy", PROMPT[None]), r"of shape \[1, 4, 6\] and type float32, not a prompt"),
    (lambda folder: numpy_save(folder / "p.npy", np.ones((2, 3), int)), r"of shape \[2, 3\] and type int64"),
    (lambda folder: numpy_save(folder / "p.npy", np.ones((0, 3))), r"of shape \[0, 3\]"),
    (lambda folder: numpy_save(folder / "p.npy", PROMPT * np.inf), "holds NaN or infinity"),
    (lambda folder: numpy_save(folder / "p.npy", np.full((2, 3), 1e300)), "holds NaN or infinity"),
    (lambda folder: folder / "none.npy", "none.npy: cannot be read as a NumPy array"),
    (lambda folder: torch_save(folder / "p.pt", [1, 2]), "by PyTorch's weights_only loader"),
    (lambda folder: torch_save(folder / "p.pt", {"a": tensor(), "b": tensor()}), r"holds 2 tensors \(a, b, ...\)"),
    (lambda folder: torch_save(folder / "p.pt", tensor(np.ones((2, 3), int))), "type int64"),
    (lambda folder: adapter(folder / "peft", peft_type="LORA"), "peft_type is 'LORA', not 'PROMPT_TUNING'"),
    (lambda folder: adapter(folder / "peft", task_type="SEQ_CLS"), "'SEQ_CLS'; only prompts of language models"),
    (lambda folder: adapter(folder / "peft", num_virtual_tokens=5), r"holds 4 rows of width 6, where .* says 5"),
    (lambda folder: adapter(folder / "peft", num_virtual_tokens=True), "do not belong together"),
    (lambda folder: adapter(folder / "peft", token_dim=7), "says 4 of width 7"),
])
def test_what_is_no_prompt_is_refused(write, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load(write(tmp_path))


class Evil:
    """What a pickle could run."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('evil').touch()",)


def test_pickles_run_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch = pytest.importorskip("torch")
    torch.save({"prompt": Evil()}, "p.pt")
    (tmp_path / "q.bin").write_bytes(pickle.dumps(Evil()))
    np.save("p.npy", np.array([Evil()], object), allow_pickle=True)
    for name in ("p.pt", "q.bin", "p.npy"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read as a"):
            load(name)
    assert not (tmp_path / "evil").exists()


def test_without_pytorch_its_files_are_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "p.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"p.pt: is PyTorch's format.*pip install torch, or save the prompt as .npy"):
        load(tmp_path / "p.pt")
