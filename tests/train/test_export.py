from __future__ import annotations

from pathlib import Path

import numpy as np

from nextn.files import open_checkpoint
from nextn.heads import find_head
from nextn.tools.attach import attach_head
from nextn.train.export import export_head
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model


def test_an_exported_head_keeps_the_keys_of_its_trunk_and_can_be_attached(tmp_path: Path) -> None:
    trunk, head = tmp_path / "trunk.gguf", tmp_path / "head.gguf"
    write_tiny_model(trunk, "llama")
    values = write_tiny_head(tmp_path / "other.gguf", "llama", TinyHead())
    with open_checkpoint(trunk) as model:
        export_head(head, model, values, np.arange(0, 320, 2, dtype=np.int32))
        with open_checkpoint(head) as written:
            counts = {"llama.block_count", "llama.nextn_predict_layers"}
            for key, value in model.encoded_metadata.items():
                if key.startswith("llama.") and key not in counts:
                    assert bytes(written.encoded_metadata[key].data) == bytes(value.data)
            assert written.integer("llama.block_count") == 3
    attach_head(trunk, head, tmp_path / "out.gguf")
    with open_checkpoint(tmp_path / "out.gguf") as out:
        found = find_head(out).found
        assert found is not None
        assert (found.origin, found.draft_vocabulary) == ("inside", 160)
