"""Compares what two models predict: `nextn compare`.

    found = compare_models(resolve("model-q8_0.gguf"), resolve("model-q4_0.gguf"))
    print(found.divergence.kl.mean)

`metrics` holds the formulas, `logits_file` the log-probabilities on disk; `compare` runs models.
"""

from nextn.tools.compare.compare import CompareSettings, Comparison, compare_models
from nextn.tools.compare.metrics import Distribution, Divergence, Estimate

__all__ = [
    "CompareSettings",
    "Comparison",
    "Distribution",
    "Divergence",
    "Estimate",
    "compare_models",
]
