#include "choose.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "sampling.h"

namespace nextn {
namespace {

constexpr std::size_t kFirstPrefix = 256;
constexpr std::size_t kPrefixGrowth = 8;

// The indices that top-k and top-p leave, the largest logit first; empty if a logit is NaN.
std::vector<std::int32_t> largest(const float* logits, std::size_t n,
                                  const ChoiceSettings& settings) {
    const bool has_top_k = settings.top_k > 0;
    std::size_t size = has_top_k ? std::min(static_cast<std::size_t>(settings.top_k), n)
                                 : std::min(kFirstPrefix, n);
    const double log_total = has_top_k || settings.top_p >= 1.0 ? 0.0 : logsumexp(logits, n);
    std::vector<std::int32_t> ids;
    for (;;) {
        ids.resize(size);
        if (top_k(logits, n, size, ids.data()) == kNanLogit) return {};
        if (settings.top_p >= 1.0) return ids;
        const double first = static_cast<double>(logits[ids[0]]);
        double total = 0.0;
        if (has_top_k) {
            for (const std::int32_t id : ids) {
                total += std::exp(static_cast<double>(logits[id]) - first);
            }
        } else {
            total = std::exp(log_total - first);
        }
        double sum = 0.0;
        for (std::size_t i = 0; i < size; ++i) {
            sum += std::exp(static_cast<double>(logits[ids[i]]) - first) / total;
            if (sum >= settings.top_p) {
                ids.resize(i + 1);
                return ids;
            }
        }
        if (has_top_k || size == n) return ids;
        size = std::min(size * kPrefixGrowth, n);
    }
}

std::int64_t sample(const float* logits, std::size_t n, const std::int32_t* token_ids,
                    std::uint64_t position, const ChoiceSettings& settings) {
    const bool sorted = settings.top_k > 0 || settings.top_p < 1.0;
    if (!sorted && settings.min_p <= 0.0) {
        return gumbel_argmax(logits, n, settings.temperature, settings.seed, position, token_ids);
    }
    std::vector<std::int32_t> ids;
    double first;
    if (sorted) {
        ids = largest(logits, n, settings);
        if (ids.empty()) return kNanLogit;
        first = static_cast<double>(logits[ids[0]]);
        if (settings.min_p > 0.0) {
            const double threshold = first + std::log(settings.min_p);
            while (ids.size() > 1 && static_cast<double>(logits[ids.back()]) < threshold) {
                ids.pop_back();
            }
        }
    } else {
        const std::int64_t top = argmax(logits, n);
        if (top == kNanLogit) return kNanLogit;
        first = static_cast<double>(logits[top]);
        ids = at_least(logits, n, first + std::log(settings.min_p));
    }
    if (!std::isfinite(first)) return kNanLogit;
    std::vector<std::int32_t> tokens(ids);
    if (token_ids != nullptr) {
        for (std::int32_t& token : tokens) token = token_ids[token];
    }
    std::vector<double> noise(ids.size());
    gumbel(settings.seed, position, tokens.data(), tokens.size(), noise.data());
    std::size_t best = 0;
    double best_score = 0.0;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const double score =
            (static_cast<double>(logits[ids[i]]) - first) / settings.temperature + noise[i];
        if (i == 0 || score > best_score) {
            best = i;
            best_score = score;
        }
    }
    return ids[best];
}

}  // namespace

std::int64_t choose(const float* logits, std::size_t n, const std::int32_t* token_ids,
                    std::uint64_t position, const ChoiceSettings& settings) {
    if (settings.temperature > 0.0) return sample(logits, n, token_ids, position, settings);
    const std::int64_t top = argmax(logits, n);
    return top >= 0 && std::isfinite(logits[top]) ? top : kNanLogit;
}

}  // namespace nextn
