"""``python -m train.evaluate``: which files it takes for a prompt."""

import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.config import UserError
from train.evaluate import load_prompt


def test_a_prompt_of_the_right_width_is_read_and_any_other_file_refused(tmp_path):
    path, prompt = str(tmp_path / "prompt.safetensors"), np.arange(6, dtype=np.float32).reshape(3, 2)
    prompts.save(path, {"prompt": prompt})
    np.testing.assert_array_equal(load_prompt(path, 2, "tiny"), prompt)
    for arrays, message in (({"infix": prompt}, r"no tensor 'prompt' \(but: infix\); give the prompt.safetensors of"),
                            ({"prompt": prompt[None]}, r"of shape \(1, 3, 2\), but tiny has width 2; give"),
                            ({"prompt": prompt.T}, r"of shape \(2, 3\), but tiny has width 2; give")):
        prompts.save(path, arrays)
        with pytest.raises(UserError, match=rf"--prompt .*prompt.safetensors: .*{message}"):
            load_prompt(path, 2, "tiny")
