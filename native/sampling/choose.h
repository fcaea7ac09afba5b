// The choice of a token from a row of logits: filters, then the largest scaled logit with noise.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nextn {

// As in src/nextn/sampling/params.py. A temperature of 0 takes the largest logit.
struct ChoiceSettings {
    double temperature;
    std::int32_t top_k;
    double top_p;
    double min_p;
    std::uint64_t seed;
};

// The index of the chosen logit; kNanLogit if there is no choice: a logit is NaN, or the largest is
// infinite. `token_ids` says which token each logit is for, whose noise it gets; null: its index.
std::int64_t choose(const float* logits, std::size_t n, const std::int32_t* token_ids,
                    std::uint64_t position, const ChoiceSettings& settings);

}  // namespace nextn
