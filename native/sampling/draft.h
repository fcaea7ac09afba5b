// What a prediction head drafts from a row of its logits: the token that the sampler would choose.
//
// Definition in NumPy: choose_draft in src/nextn/sampling/reference.py. A draft changes no text, so
// it need not repeat every filter of the sampler; but the closer it is, the more often both agree.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nextn {

// As in src/nextn/sampling/params.py. A temperature of 0 takes the largest logit.
struct DraftSettings {
    double temperature;
    std::int32_t top_k;
    double top_p;
    double min_p;
    std::uint64_t seed;
};

struct DraftChoice {
    std::int64_t index;  // of the chosen logit; kNanLogit if there is no choice
    float probability;   // of it, at temperature 1 and without filters
};

// `token_ids` says which token each logit is for, whose noise it gets; null: its index.
DraftChoice choose_draft(const float* logits, std::size_t n, const std::int32_t* token_ids,
                         std::uint64_t position, const DraftSettings& settings);

}  // namespace nextn
