"""Plans in PyTorch against the reference executor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextn.backends import BLOCK_TOKENS, Rows
from nextn.backends.reference import ReferenceExecutor
from nextn.files import Checkpoint, open_checkpoint
from nextn.models import load_model_plan
from nextn.plan import Plan, fuse
from tests.backends.heads import chains_of, executor_of, fill, headed_model, rows_of
from tests.support.tiny_gguf import TinyHead, write_tiny_model

torch = pytest.importorskip("torch")

from nextn.backends.torch.model import TorchModel  # noqa: E402
from nextn.train.recursion import run_chains  # noqa: E402
from nextn.train.trainer import bfloat16_tensor  # noqa: E402

FAMILIES = ["llama", "gemma3", "qwen3", "qwen2"]
TOKENS = [(7 * i * i + 3 * i + 11) % 300 for i in range(45)]  # beyond the window, and a block


def torch_model(checkpoint: Checkpoint, plan: Plan) -> TorchModel:
    weights = {
        weight.name: torch.tensor(checkpoint.tensors[weight.name].decode())
        for weight in plan.weights
    }
    return TorchModel(plan, weights)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fused", [False, True])
def test_logits_and_hidden_states_are_those_of_the_reference(
    family: str, fused: bool, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", family, layers=7, scales={"attn_v": 1.5, "ffn_up": 2})
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    plan = load_model_plan(checkpoint, "post")
    plan = fuse(plan) if fused else plan
    reference = ReferenceExecutor(
        checkpoint, plan, context_length=64, block_count=2, max_rows=len(TOKENS)
    )
    count = len(TOKENS)
    expected = reference.step(
        Rows(
            np.array(TOKENS, np.int32),
            np.arange(count, dtype=np.int32),
            np.zeros(count, np.int32),
            np.ones(count, np.bool_),
            np.array([[1, 0]], np.int32),
        )
    )
    model = torch_model(checkpoint, plan)
    # Two sequences, of which the second only differs at the end.
    other = [*TOKENS[:-1], TOKENS[-1] + 1]
    outcome = model.run(torch.tensor([TOKENS, other]))
    got = model.logits(outcome.final).numpy()
    np.testing.assert_allclose(got[0], expected, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(got[1, :-1], got[0, :-1], atol=1e-5)
    assert np.abs(got[1, -1] - got[0, -1]).max() > 1e-2
    states = reference.read_hidden(0, np.array([1, 0], np.int32))
    states = bfloat16_tensor(states.reshape(2 * BLOCK_TOKENS, -1)[:count]).float().numpy()
    np.testing.assert_allclose(outcome.hidden[0].numpy(), states, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "head",
    [TinyHead(), TinyHead(hidden_kind="pre"), TinyHead(draft_vocab=range(0, 320, 3))],
    ids=["all", "pre", "trimmed"],
)
def test_chains_are_those_that_the_executor_drafts(
    family: str, head: TinyHead, tmp_path: Path
) -> None:
    """Teacher-forced over all positions at once, against one chain token by token."""
    depth = 5
    described, _ = headed_model(tmp_path / "tiny.gguf", family, head)
    chains = {}
    with executor_of(described, "reference") as executor:
        for length in (1, 2, 9, 33, 45):
            text = TOKENS[:length]
            fill(executor, text, [10, 1, 7])
            rows = rows_of([(0, length - 1, text[-1:])], wanted=[0])
            chains[length] = executor.draft(rows, chains_of([depth]))
        executor.step(rows_of([(0, 0, TOKENS)]))
        states = executor.read_hidden(0, rows_of([(0, 0, TOKENS)]).block_tables[0, :2])
    hidden = bfloat16_tensor(states.reshape(1, 2 * BLOCK_TOKENS, -1)).float()
    model = torch_model(described.checkpoint, fuse(described.head))
    ids = described.head.token_ids or range(320)
    for length, drafted in chains.items():
        tokens = [*TOKENS[:length], *drafted.tokens[0].tolist()]
        given = torch.zeros(1, len(tokens), hidden.shape[-1])
        # What the trunk has not computed must not matter.
        given[0, length - 1 :] = torch.randn(len(tokens) - length + 1, hidden.shape[-1])
        given[0, : length - 1] = hidden[0, : length - 1]
        finals = run_chains(model, torch.tensor([tokens]), given, depth)
        for step, final in enumerate(finals):
            chances = model.logits(final[0, length - 1 + step]).softmax(-1)
            assert ids[int(chances.argmax())] == drafted.tokens[0, step]
            assert float(chances.max()) == pytest.approx(drafted.probabilities[0, step], rel=2e-2)


def test_gradients_reach_every_weight_of_a_head(tmp_path: Path) -> None:
    described, _ = headed_model(tmp_path / "tiny.gguf", "gemma3", TinyHead())
    model = torch_model(described.checkpoint, fuse(described.head))
    for name in described.tensors:
        model.weights[name].requires_grad_()
    finals = run_chains(model, torch.tensor([TOKENS]), torch.randn(1, 45, 64), 3)
    model.logits(finals[-1]).square().mean().backward()
    for name in described.tensors:
        gradient = model.weights[name].grad
        assert gradient is not None, name
        assert float(gradient.abs().sum()) > 0, name
