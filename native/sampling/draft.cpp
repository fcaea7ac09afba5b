#include "draft.h"

#include <cmath>

#include "sampling.h"

namespace nextn {

DraftChoice choose_draft(const float* logits, std::size_t n, const std::int32_t* token_ids,
                         std::uint64_t position, const ChoiceSettings& settings) {
    const std::int64_t index = choose(logits, n, token_ids, position, settings);
    if (index < 0) return {kNanLogit, 0.0f};
    const double logit = static_cast<double>(logits[index]);
    return {index, static_cast<float>(std::exp(logit - logsumexp(logits, n)))};
}

}  // namespace nextn
