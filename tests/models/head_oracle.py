"""A trunk and its nextn head in plain NumPy: whole sequences, no cache, no plan, float64.

Written from the formulas of the papers: for a pair (h_p, x_{p+1}),

    e = rms(embed(x_{p+1})), hh = rms(h_p), z = block(eh_proj [e, hh]), logits = head rms(z)

is placed at position p + 1, with a zero vector for h before the first token. The weights are those
that `tests.support.tiny_gguf` returns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

Weights = Mapping[str, np.ndarray]

EPSILON = {"llama": 1e-5, "gemma3": 1e-6, "qwen3": 1e-6, "qwen2": 1e-6}
BASE = {"llama": 1e5, "gemma3": 1e6, "qwen3": 1e6, "qwen2": 1e6}


def bfloat16(x: np.ndarray) -> np.ndarray:
    """8 significant bits: x = m * 2^e with 0.5 <= |m| < 1, and m rounded to whole 1 / 256."""
    mantissa, exponent = np.ldexp(np.frexp(x)[0], 8), np.frexp(x)[1]
    return np.ldexp(np.rint(mantissa), exponent - 8)


class HeadOracle:
    """A model of `layers` blocks with a head in block `layers`."""

    def __init__(
        self, family: str, weights: Weights, *, layers: int = 2, heads: int = 4, kv_heads: int = 2,
        head_dim: int = 16, window: int = 32, hidden_kind: str = "post",
        draft_vocab: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.family = family
        self.w = {name: np.asarray(values, np.float64) for name, values in weights.items()}
        self.layers, self.heads, self.kv_heads, self.head_dim = layers, heads, kv_heads, head_dim
        self.window, self.hidden_kind, self.draft_vocab = window, hidden_kind, draft_vocab

    def rms(self, x: np.ndarray, name: str) -> np.ndarray:
        mean = (x * x).mean(-1, keepdims=True)
        return x / np.sqrt(mean + EPSILON[self.family]) * self.w[name]

    def embed(self, tokens: Sequence[int], name: str = "token_embd.weight") -> np.ndarray:
        table = self.w[name]
        return table[list(tokens)] * (math.sqrt(table.shape[1]) if self.family == "gemma3" else 1)

    def rotate(self, x: np.ndarray, base: float) -> np.ndarray:
        count, _, width = x.shape
        result = np.empty_like(x)
        for p in range(count):
            for i in range(width // 2):
                first, second = (
                    (2 * i, 2 * i + 1) if self.family == "llama" else (i, i + width // 2)
                )
                angle = p * base ** (-2 * i / width)
                a, b = x[p, :, first], x[p, :, second]
                result[p, :, first] = a * math.cos(angle) - b * math.sin(angle)
                result[p, :, second] = b * math.cos(angle) + a * math.sin(angle)
        return result

    def block(self, x: np.ndarray, n: int) -> np.ndarray:
        w, name, count = self.w, f"blk.{n}.", len(x)
        is_local = self.family == "gemma3" and (n + 1) % 6 != 0
        base = 1e4 if is_local else BASE[self.family]

        def project(h: np.ndarray, role: str) -> np.ndarray:
            return h @ w[f"{name}{role}.weight"].T + w.get(f"{name}{role}.bias", 0.0)

        h = self.rms(x, name + "attn_norm.weight")
        q = project(h, "attn_q").reshape(count, self.heads, self.head_dim)
        k = project(h, "attn_k").reshape(count, self.kv_heads, self.head_dim)
        v = project(h, "attn_v").reshape(count, self.kv_heads, self.head_dim)
        if f"{name}attn_q_norm.weight" in w:
            q = self.rms(q, name + "attn_q_norm.weight")
            k = self.rms(k, name + "attn_k_norm.weight")
        q, k = self.rotate(q, base), self.rotate(k, base)
        attended = np.zeros_like(q)
        for p in range(count):
            first = max(0, p - self.window + 1) if is_local else 0
            for head in range(self.heads):
                group = head // (self.heads // self.kv_heads)
                scores = k[first : p + 1, group] @ q[p, head] / math.sqrt(self.head_dim)
                weights = np.exp(scores - scores.max())
                attended[p, head] = weights @ v[first : p + 1, group] / weights.sum()
        h = project(attended.reshape(count, -1), "attn_output")
        x = x + (self.rms(h, name + "post_attention_norm.weight") if self.family == "gemma3" else h)

        h = self.rms(x, name + "ffn_norm.weight")
        gate, up = project(h, "ffn_gate"), project(h, "ffn_up")
        if self.family == "gemma3":
            inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
            gate = 0.5 * gate * (1 + np.tanh(inner))
        else:
            gate = gate / (1 + np.exp(-gate))
        h = project(gate * up, "ffn_down")
        return x + (self.rms(h, name + "post_ffw_norm.weight") if self.family == "gemma3" else h)

    def output(self) -> np.ndarray:
        return self.w.get("output.weight", self.w["token_embd.weight"])

    def trunk(self, tokens: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Logits and hidden states of every position."""
        x = self.embed(tokens)
        for n in range(self.layers):
            x = self.block(x, n)
        normed = self.rms(x, "output_norm.weight")
        return normed @ self.output().T, normed if self.hidden_kind == "post" else x

    def head(self, tokens: Sequence[int], hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and own hidden states, from the trunk's hidden states of all but the last."""
        w, name = self.w, f"blk.{self.layers}.nextn."
        own_table = name + "embed_tokens.weight"
        e = self.embed(tokens, own_table if own_table in w else "token_embd.weight")
        before = np.concatenate((np.zeros((1, hidden.shape[1])), bfloat16(hidden)))[: len(tokens)]
        joined = np.concatenate(
            (self.rms(e, name + "enorm.weight"), self.rms(before, name + "hnorm.weight")), axis=1
        )
        z = self.block(joined @ w[name + "eh_proj.weight"].T, self.layers)
        own_norm = name + "shared_head_norm.weight"
        normed = self.rms(z, own_norm if own_norm in w else "output_norm.weight")
        output = w.get(name + "shared_head_head.weight", self.output())
        if self.draft_vocab is not None and len(output) != len(self.draft_vocab):
            output = output[list(self.draft_vocab)]
        return normed @ output.T, normed if self.hidden_kind == "post" else z

    def draft(self, tokens: Sequence[int], depth: int) -> tuple[list[int], list[float]]:
        """The most probable continuation by the head, and the probability of each token."""
        text, hidden = list(tokens), self.trunk(tokens)[1][:-1]
        probabilities = []
        for _ in range(depth):
            logits, own = self.head(text, hidden)
            weights = np.exp(logits[-1] - logits[-1].max())
            best = int(weights.argmax())
            probabilities.append(float(weights[best] / weights.sum()))
            text.append(best if self.draft_vocab is None else self.draft_vocab[best])
            hidden = np.concatenate((hidden, own[-1:]))
        return text[len(tokens) :], probabilities
