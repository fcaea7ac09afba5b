// Scans over one row of logits, and the noise that sampling adds to them.
//
// Definitions in NumPy: src/nextn/sampling/reference.py. Every result depends on the arguments
// alone: no threads, no order of arrival, one fixed order of summation. A row has at most 2^31 - 1
// logits. Logits may be -inf (a banned token); the functions that look for the largest logit report
// NaN, because a comparison with NaN would silently drop the token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nextn {

// Returned in place of an id or a count when a logit is NaN.
constexpr std::int64_t kNanLogit = -1;

// The index of the largest logit, the lowest index among equals. n >= 1.
std::int64_t argmax(const float* logits, std::size_t n);

// Writes the indices of the min(k, n) largest logits, largest first and equal ones by index, and
// returns their number.
std::int64_t top_k(const float* logits, std::size_t n, std::size_t k, std::int32_t* ids);

// log(sum(exp(logits))); NaN if a logit is NaN. The absolute error is below 1e-6.
double logsumexp(const float* logits, std::size_t n);

// The indices, ascending, of the logits >= threshold.
std::vector<std::int32_t> at_least(const float* logits, std::size_t n, double threshold);

// Standard Gumbel noise of the given token ids at one position of the sequence with this seed.
void gumbel(std::uint64_t seed, std::uint64_t position, const std::int32_t* ids, std::size_t n,
            double* noise);

// The index i with the largest (logits[i] - max(logits)) / temperature + gumbel(seed, position, i).
// temperature > 0, n >= 1. Returns kNanLogit also if the largest logit is infinite. With `ids`,
// index i gets the noise of token ids[i].
std::int64_t gumbel_argmax(const float* logits, std::size_t n, double temperature,
                           std::uint64_t seed, std::uint64_t position,
                           const std::int32_t* ids = nullptr);

}  // namespace nextn
