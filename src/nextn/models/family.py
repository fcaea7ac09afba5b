"""What all families have in common: an embedding, blocks one after the other, a norm, an output.

A family describes its block once. The trunk is made of it, and so is the block of a prediction
head, which takes its weights from another part of the file, or from another file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias

from nextn.files import Checkpoint
from nextn.models.head_tensors import trunk_blocks
from nextn.models.weights import WeightReader
from nextn.plan import NormWeight, Tracer, Value, Weight

HiddenKind: TypeAlias = Literal["post", "pre"]
"""The hidden state that a head takes: after the last norm of the trunk, or before it."""


class Family(ABC):
    """A model's configuration, and how to write its parts down.

    Attributes:
        ALSO_SERVES: further architectures beside the one that the module is named after.
        hidden: width of the residual stream.
        blocks: blocks of the trunk.
        feed_forward: width of the feed-forward block.
        epsilon: of every norm.
        vocab_size: rows of the embedding.
        embedding_scale: what embeddings are multiplied by.
    """

    ALSO_SERVES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, checkpoint: Checkpoint, weights: WeightReader) -> None:
        """Read the configuration; here, that which every family has.

        Args:
            checkpoint: the model.
            weights: its weights, where some of the configuration may be found.

        Raises:
            FileFormatError: a key is missing or out of range.
        """
        del weights
        self.hidden = checkpoint.integer("{arch}.embedding_length", minimum=1)
        self.blocks = trunk_blocks(checkpoint)
        self.feed_forward = checkpoint.integer("{arch}.feed_forward_length", minimum=1)
        self.epsilon = checkpoint.number("{arch}.attention.layer_norm_rms_epsilon", minimum=0.0)
        self.vocab_size = checkpoint.tensors["token_embd.weight"].shape[0]
        self.embedding_scale = 1.0

    @abstractmethod
    def block(self, step: Tracer, x: Value, weights: WeightReader, n: int) -> Value:
        """Write down block `n`, with the tensors "blk.{n}.*" of `weights`."""

    def describe(
        self, step: Tracer, weights: WeightReader, hidden_kind: HiddenKind | None = None
    ) -> None:
        """Write down one step of the trunk.

        Args:
            step: where to.
            weights: of the trunk.
            hidden_kind: which hidden state to keep for a head; None for none.
        """
        x = self.embed(step, self.embedding(weights))
        for n in range(self.blocks):
            x = self.block(step, x, weights, n)
        normed = step.norm(x, self.output_norm(weights))
        if hidden_kind is not None:
            layer = step.hidden_layer(self.hidden)
            step.store_hidden(normed if hidden_kind == "post" else x, layer)
        step.logits(normed, weights.output(self.vocab_size, self.hidden))

    def embedding(self, weights: WeightReader) -> Weight:
        """The trunk's table of embeddings."""
        return weights.matrix("token_embd.weight", self.vocab_size, self.hidden)

    def embed(self, step: Tracer, table: Weight) -> Value:
        """Write down the look-up of the row's token in a table."""
        return step.embed(table, scale=self.embedding_scale)

    def output_norm(self, weights: WeightReader) -> NormWeight:
        """The trunk's last norm."""
        return weights.norm("output_norm.weight", self.hidden, self.epsilon)
