// What a prediction head drafts from a row of its logits: the token that the sampler would choose.
//
// Definition in NumPy: choose_draft in src/nextn/sampling/reference.py. A draft changes no text, so
// it need not repeat every filter of the sampler; but the closer it is, the more often both agree.
#pragma once

#include "choose.h"

namespace nextn {

struct DraftChoice {
    std::int64_t index;  // as `choose` gives it
    float probability;   // of it, at temperature 1 and without filters
};

DraftChoice choose_draft(const float* logits, std::size_t n, const std::int32_t* token_ids,
                         std::uint64_t position, const ChoiceSettings& settings);

}  // namespace nextn
