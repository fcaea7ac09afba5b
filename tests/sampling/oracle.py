"""The sampling chain in plain Python floats, one loop per filter: slow, obvious, independent."""

import math

from nextn.sampling import SamplingParams


def adjusted(logits: list[float], tokens: list[int], params: SamplingParams) -> list[float]:
    row = [x + params.logit_bias.get(i, 0.0) for i, x in enumerate(logits)]
    last = params.repeat_last_n
    recent = tokens if last == -1 else ([] if last == 0 else tokens[-last:])
    for token in set(recent):
        x = row[token]
        x = x / params.repeat_penalty if x > 0 else x * params.repeat_penalty
        x -= recent.count(token) * params.frequency_penalty + params.presence_penalty
        row[token] = x
    return row


def softmax(pairs: list[tuple[int, float]], temperature: float = 1.0) -> list[float]:
    top = max(x for _, x in pairs)
    weights = [math.exp((x - top) / temperature) for _, x in pairs]
    return [w / sum(weights) for w in weights]


def candidates(row: list[float], params: SamplingParams) -> list[tuple[int, float]]:
    """Surviving (id, logit) pairs, most probable first."""
    pairs = sorted(enumerate(row), key=lambda pair: (-pair[1], pair[0]))
    if params.top_k > 0:
        pairs = pairs[: params.top_k]
    if params.typical_p < 1:
        p = softmax(pairs)
        entropy = -sum(q * math.log(q) for q in p if q > 0)
        far = [abs(-math.log(q) - entropy) if q > 0 else math.inf for q in p]
        kept, total = [], 0.0
        for i in sorted(range(len(pairs)), key=lambda i: (far[i], i)):
            kept.append(i)
            total += p[i]
            if total > params.typical_p:
                break
        pairs = [pairs[i] for i in sorted(kept)]
    if params.top_p < 1:
        kept, total = [], 0.0
        for i, q in enumerate(softmax(pairs)):
            kept.append(i)
            total += q
            if total >= params.top_p:
                break
        pairs = [pairs[i] for i in kept]
    if params.min_p > 0:
        p = softmax(pairs)
        pairs = [pair for pair, q in zip(pairs, p, strict=True) if q >= params.min_p * max(p)]
    return pairs


def distribution(logits: list[float], tokens: list[int], params: SamplingParams) -> list[float]:
    """The exact probability of each token id, for temperature > 0."""
    pairs = candidates(adjusted(logits, tokens, params), params)
    result = [0.0] * len(logits)
    for (token, _), p in zip(pairs, softmax(pairs, params.temperature), strict=True):
        result[token] = p
    return result
