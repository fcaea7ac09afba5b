"""Makes what test_of_transformers.py converts: config.json and tensor lists of tiny models.

    python -m tests.tools.convert.make_checkpoints

Needs torch and transformers, whose own `save_pretrained` writes the files. Weights are made again
from the seed of `tiny_families`, so only the configuration, the names and shapes of the tensors,
and the logits are stored.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from tests.models.make_expected_logits import build
from tests.models.tiny_families import FAMILIES, TOKENS
from tests.support.tiny_checkpoints import tiny_state

DATA = Path(__file__).parent / "data"
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
# Name of the case -> family, rotary settings if they are not the plain ones.
CASES: dict[str, tuple[str, dict[str, Any] | None]] = {
    **{family: (family, None) for family in FAMILIES},
    "llama_llama3": ("llama", LLAMA3),
    "qwen3_yarn": ("qwen3", YARN),
    "gemma3_linear": ("gemma3", LINEAR),
}


def main() -> None:
    """Write data/CASE.json and, for those with their own rotary settings, data/CASE.npy."""
    DATA.mkdir(exist_ok=True)
    for case, (family, rope) in CASES.items():
        model = build(family, FAMILIES[family])
        if rope is not None:
            config = model.config
            config.rope_parameters = rope
            model = type(model)(config)
        state = {
            name: torch.tensor(v) for name, v in tiny_state(family, **FAMILIES[family]).items()
        }
        _, unexpected = model.load_state_dict(state, strict=False)
        if unexpected:
            raise SystemExit(f"{case}: unexpected {unexpected}")
        model.tie_weights()
        model = model.float().eval()
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            with safe_open(Path(folder) / "model.safetensors", "np") as file:
                tensors = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            config = json.loads((Path(folder) / "config.json").read_text())
        stored = {"config": config, "tensors": tensors}
        (DATA / f"{case}.json").write_text(json.dumps(stored, indent=1) + "\n")
        if rope is not None:
            with torch.no_grad():
                logits = model(torch.tensor([TOKENS])).logits[0].numpy()
            np.save(DATA / f"{case}.npy", logits.astype(np.float32))
        print(case, len(tensors))


if __name__ == "__main__":
    main()
