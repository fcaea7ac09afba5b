"""The noise of coupled sampling: a pure function of (seed, position, token id).

A token drawn from softmax(x) is argmax(x + g) with independent standard Gumbel noise g (Gumbel,
1954; Maddison et al., 2014). If g depends on nothing but the seed, the position and the token id,
then the choice is a function of the logits: a verified row chooses what plain decoding would have
chosen, and a draft that uses the same noise on similar logits mostly chooses the same token.

The bits come from SplitMix64 (Steele, Lea & Flood, 2014), used as a counter-based generator: its
n-th output costs a handful of integer operations and needs none of the outputs before it. Seeds,
positions and ids are small consecutive numbers, hence the finaliser has to spread every input bit
over the whole word; this one does (the mean chance that an input bit flips an output bit is 1/2 to
within 1e-3), and the generator passes BigCrush. A cryptographic counter mode such as Philox would
do as well at a few times the cost, and a row can need the bits of every token id.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn import _native


def gumbel(seed: int, position: int, ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """Standard Gumbel noise of some token ids at one position.

    Made from 64 bits per value, at full floating-point precision in both tails: the largest
    possible value is 65 log 2 = 45.05.

    Args:
        seed: of the request, 0 <= seed < 2**64.
        position: index in the sequence of the token to choose, >= 0.
        ids: int32 [n], token ids.

    Returns:
        float64 [n].
    """
    return _native.gumbel(seed, position, ids)
