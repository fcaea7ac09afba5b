"""The head that is trained: plan, weights, and the trunk's parts that it borrows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextn.backends.torch.model import TorchModel
from nextn.errors import RequestError
from nextn.files import Checkpoint
from nextn.files.block_encoding import IQ4_NL, encode
from nextn.files.block_formats import BlockType, decode
from nextn.files.gguf.writer import TensorBytes
from nextn.models.nextn_head import load_head_plan, new_head_plan
from nextn.plan import Logits, Plan
from nextn.train.initial import decoded, initial_weights

_LEAST_BITS = 6.0  # per weight; what has fewer is used as it is
_FROZEN = ("nextn.embed_tokens.weight", "nextn.shared_head_head.weight")


@dataclass(frozen=True, slots=True)
class Head:
    """A head with gradients.

    Attributes:
        model: its plan; the weights are its own and the trunk's embedding.
        trained: float32, with gradients, by the name of the tensor in its file.
        output: the head's output matrix: [draft vocabulary, hidden], in the type that products run
            in. It is not trained.
        trunk_output: that of the trunk for the same tokens, likewise.
        own_output: `output` as it will stand in the head's file; None if it is the trunk's.
        token_ids: the draft vocabulary, ascending: int32 [vocabulary].
    """

    model: TorchModel
    trained: dict[str, Tensor]
    output: Tensor
    trunk_output: Tensor
    own_output: TensorBytes | None
    token_ids: NDArray[np.int32]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.output.device

    @property
    def product_type(self) -> torch.dtype:
        """The type that products run in."""
        return self.output.dtype

    def values(self) -> dict[str, NDArray[np.float32]]:
        """The weights as they are now: float32, by name."""
        return {name: x.detach().cpu().numpy().copy() for name, x in self.trained.items()}

    def load(self, values: Mapping[str, Tensor | NDArray[np.float32]]) -> None:
        """Take weights over."""
        with torch.no_grad():
            for name, tensor in self.trained.items():
                tensor.copy_(torch.as_tensor(values[name]))


def new_head(
    trunk: Checkpoint,
    token_ids: NDArray[np.int32],
    device: torch.device,
    projection: NDArray[np.float32] | None = None,
) -> Head:
    """Make a head for a trunk that has none.

    Args:
        trunk: the model.
        token_ids: the draft vocabulary, ascending.
        device: where to train.
        projection: what `eh_proj` begins with; None passes the hidden state on.
    """
    ids = tuple(token_ids.tolist())
    _, plan, shapes = new_head_plan(trunk, token_ids=ids)
    values = initial_weights(trunk, shapes, projection)
    return _build(trunk, plan, values, token_ids, device)


def head_from_file(
    trunk: Checkpoint, file: Checkpoint, token_ids: NDArray[np.int32], device: torch.device
) -> Head:
    """Take a head that was trained before, with a draft vocabulary that may be another one.

    The rows of the output matrix are the trunk's, so the list decides nothing about the weights.

    Args:
        trunk: the model.
        file: where the weights are.
        token_ids: the draft vocabulary from now on, ascending.
        device: where to train.

    Raises:
        FileFormatError, UnsupportedModelError: see `load_head_plan`.
        RequestError: a head of a kind that is not trained.
    """
    headed = load_head_plan(trunk, file)
    own = [name for name in headed.learned if name.endswith(_FROZEN)]
    if headed.hidden_kind != "post" or own:
        what = f"{own[0]} of its own" if own else "the hidden state before the last norm"
        raise RequestError(f"{file.path}: a head with {what} cannot be trained on")
    headed.check_finite()
    _, plan, shapes = new_head_plan(trunk, token_ids=tuple(token_ids.tolist()))
    values = {name: file.tensors[name].decode() for name in headed.learned}
    # What the file has none of, it took from the trunk, as a new head does.
    missing = {name: shape for name, shape in shapes.items() if name not in values}
    values |= initial_weights(trunk, missing)
    return _build(trunk, plan, values, token_ids, device)


def _build(
    trunk: Checkpoint,
    plan: Plan,
    values: Mapping[str, NDArray[np.float32]],
    token_ids: NDArray[np.int32],
    device: torch.device,
) -> Head:
    product_type = product_type_for(device)
    # In one order wherever they come from: a checkpoint knows them by their numbers.
    trained = {
        name: torch.tensor(values[name], device=device).requires_grad_() for name in sorted(values)
    }
    (logits,) = (op for op in plan.operations if isinstance(op, Logits))
    borrowed: dict[str, Tensor] = {}
    for weight in plan.weights:
        is_output = weight.name == logits.weight.name
        if weight.name not in trained and (not is_output or weight.name == "token_embd.weight"):
            found = torch.tensor(trunk.tensors[weight.name].decode())
            borrowed[weight.name] = found.to(device, product_type)
    rows = decoded(trunk, logits.weight.name, token_ids)
    trunk_output = output = torch.tensor(rows).to(device, product_type)
    own_output = _smaller_output(rows, trunk.tensors[logits.weight.name].block_type)
    if own_output is not None:
        rounded = decode(IQ4_NL, own_output.data).reshape(rows.shape)
        output = torch.tensor(rounded).to(device, product_type)
    model = TorchModel(plan, {**borrowed, **trained})
    return Head(model, trained, output, trunk_output, own_output, token_ids)


def _smaller_output(rows: NDArray[np.float32], block_type: BlockType) -> TensorBytes | None:
    """Rows of the trunk's output matrix in four bits, if that is much less than they have.

    To read the output matrix takes most of the time of a draft, and the head learns to do with
    what four bits leave of it.
    """
    bits = 8 * block_type.bytes / block_type.elements
    if rows.shape[1] % IQ4_NL.elements or bits < _LEAST_BITS:
        return None
    return TensorBytes(rows.shape, IQ4_NL, encode(IQ4_NL, rows))


def product_type_for(device: torch.device) -> torch.dtype:
    """Bfloat16 where products run faster in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16
    fast = ("amx", "avx512_bf16", "avx512bf16", "bf16")
    flags = _processor_flags()
    return torch.bfloat16 if any(flag in flags for flag in fast) else torch.float32


def _processor_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()
