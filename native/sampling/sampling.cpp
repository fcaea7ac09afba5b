#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

// The scans are plain loops over blocks without branches or reductions, which compilers turn into
// vector instructions without reordering any float operation; blocks are reduced by halving, which
// fixes the order of every sum. With GCC on x86 further copies are compiled for newer instruction
// sets and chosen at load; they do the same operations in the same order (no product is contracted
// with a sum), so the results are the same. The noise gains most: AVX-512 multiplies 64-bit
// numbers.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#if __GNUC__ >= 12
#define NEXTN_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define NEXTN_CLONES __attribute__((target_clones("avx2", "default")))
#endif
#else
#define NEXTN_CLONES
#endif

namespace nextn {
namespace {

constexpr std::size_t kBlock = 256;  // logits that are scanned or skipped together
constexpr std::size_t kHalf = kBlock / 2;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// The largest logit of each block of kBlock, in `maxima`; returns whether any logit is NaN.
NEXTN_CLONES bool block_maxima(const float* logits, std::size_t n, float* maxima) {
    std::int32_t nan[kHalf] = {};
    std::size_t block = 0;
    for (; (block + 1) * kBlock <= n; ++block) {
        const float* x = logits + block * kBlock;
        float max[kHalf];
        for (std::size_t j = 0; j < kHalf; ++j) {
            const float a = x[j];
            const float b = x[j + kHalf];
            max[j] = a > b ? a : b;
            nan[j] |= (a != a) | (b != b);
        }
        for (std::size_t width = kHalf / 2; width > 0; width /= 2) {
            for (std::size_t j = 0; j < width; ++j) {
                max[j] = max[j] > max[j + width] ? max[j] : max[j + width];
            }
        }
        maxima[block] = max[0];
    }
    bool any_nan = false;
    for (std::size_t j = 0; j < kHalf; ++j) any_nan |= nan[j] != 0;
    if (block * kBlock < n) {
        float max = kMinusInfinity;
        for (std::size_t i = block * kBlock; i < n; ++i) {
            max = logits[i] > max ? logits[i] : max;
            any_nan |= logits[i] != logits[i];
        }
        maxima[block] = max;
    }
    return any_nan;
}

struct Maxima {
    std::vector<float> blocks;
    bool nan;

    Maxima(const float* logits, std::size_t n) : blocks((n + kBlock - 1) / kBlock) {
        nan = block_maxima(logits, n, blocks.data());
    }

    // The first index with the largest logit. The first block that reaches the maximum holds it.
    std::size_t argmax(const float* logits, std::size_t n) const {
        const std::size_t block = static_cast<std::size_t>(
            std::max_element(blocks.begin(), blocks.end()) - blocks.begin());
        const std::size_t end = std::min(n, (block + 1) * kBlock);
        std::size_t i = block * kBlock;
        while (i + 1 < end && logits[i] != blocks[block]) ++i;
        return i;
    }
};

// Orders like (value descending, index ascending) when compared as a number, largest first. Adding
// zero makes -0.0 equal to 0.0, as they are for every other comparison of logits.
std::uint64_t order_key(float value, std::size_t index) {
    value += 0.0f;
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return (static_cast<std::uint64_t>(bits) << 32) |
           (0xffffffffu - static_cast<std::uint32_t>(index));
}

// Adds exp(logits[j] - max) to sum[j], to float precision: with x = k log 2 + r, |r| <= log(2) / 2,
// exp(x) is 2^k times the Taylor series of exp(r), whose first omitted term is below 6e-9.
// Differences below -87 count as -87, which is far below what a sum that holds exp(0) can show.
inline void add_exp(const float* logits, std::size_t n, float max, double* sum) {
    constexpr float kLog2e = 1.44269504f;
    constexpr float kLog2High = 0.693359375f;  // k times this is exact
    constexpr float kLog2Low = -2.12194440e-4f;
    float x[kBlock];
    float series[kBlock];
    std::int32_t power_bits[kBlock];
    float power[kBlock];
    for (std::size_t j = 0; j < n; ++j) {
        x[j] = logits[j] - max;
        x[j] = x[j] > -87.0f ? x[j] : -87.0f;
    }
    for (std::size_t j = 0; j < n; ++j) {
        const std::int32_t k = static_cast<std::int32_t>(x[j] * kLog2e - 0.5f);  // x <= 0: nearest
        const float r =
            (x[j] - static_cast<float>(k) * kLog2High) - static_cast<float>(k) * kLog2Low;
        float s = 1.0f / 5040.0f;
        s = s * r + 1.0f / 720.0f;
        s = s * r + 1.0f / 120.0f;
        s = s * r + 1.0f / 24.0f;
        s = s * r + 1.0f / 6.0f;
        s = s * r + 0.5f;
        s = s * r + 1.0f;
        series[j] = s * r + 1.0f;
        power_bits[j] = (k + 127) << 23;
    }
    std::memcpy(power, power_bits, n * sizeof(float));
    for (std::size_t j = 0; j < n; ++j) sum[j] += static_cast<double>(series[j] * power[j]);
}

NEXTN_CLONES double sum_exp(const float* logits, std::size_t n, float max) {
    double sum[kBlock] = {};
    std::size_t i = 0;
    for (; i + kBlock <= n; i += kBlock) add_exp(logits + i, kBlock, max, sum);
    add_exp(logits + i, n - i, max, sum);
    for (std::size_t width = kHalf; width > 0; width /= 2) {
        for (std::size_t j = 0; j < width; ++j) sum[j] += sum[j + width];
    }
    return sum[0];
}

// --- Noise -------------------------------------------------------------------------------------
//
// SplitMix64 (Steele, Lea & Flood, 2014): output i of the generator with state s is
// mix(s + (i + 1) * gamma), so that any output can be had without the ones before it. Three
// generators are chained: the seed starts one, its output `position` starts the next, and output
// `id` of that one is the noise. The finaliser is a bijection in which each input bit flips each
// output bit with a chance close to 1/2, and the generator passes BigCrush.

constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15u;

inline std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

std::uint64_t row_state(std::uint64_t seed, std::uint64_t position) {
    return mix(mix(seed + kGamma) + (position + 1) * kGamma);
}

inline std::uint64_t token_bits(std::uint64_t state, std::uint64_t id) {
    return mix(state + (id + 1) * kGamma);
}

// -log(E) for an exponential variable E. The bits are a uniform variable w = (bits + 1/2) / 2^64;
// E = -log(1 - w). Large noise is a small w, which has full precision in floating point; for
// w > 1/2 the same is done with 1 - w, so that neither tail is cut or coarse.
double gumbel_of_bits(std::uint64_t bits) {
    constexpr double kScale = 0x1p-64;
    const bool low = bits < (std::uint64_t{1} << 63);
    const double w = (static_cast<double>(low ? bits : ~bits) + 0.5) * kScale;
    return -std::log(low ? -std::log1p(-w) : -std::log(w));
}

// The largest hash whose noise may reach `need`, rounded up: noise falls as the hash grows.
std::uint64_t largest_hash(double need) {
    const double w = -std::expm1(-std::exp(-need)) * (1.0 + 1e-9);
    const double bits = std::ceil(w * 0x1p64) + 1.0;
    return bits < 0x1p64 ? static_cast<std::uint64_t>(bits) : ~std::uint64_t{0};
}

// No noise is larger: gumbel_of_bits(0) = 65 log 2 = 45.05.
constexpr double kLargestNoise = 45.1;

NEXTN_CLONES bool any_hash_up_to(std::uint64_t state, std::size_t first, std::size_t n,
                                 std::uint64_t limit) {
    std::uint64_t hit = 0;
    for (std::size_t i = 0; i < n; ++i) hit |= token_bits(state, first + i) <= limit ? 1 : 0;
    return hit != 0;
}

NEXTN_CLONES bool any_hash_of(std::uint64_t state, const std::int32_t* ids, std::size_t n,
                              std::uint64_t limit) {
    std::uint64_t hit = 0;
    for (std::size_t i = 0; i < n; ++i) {
        hit |= token_bits(state, static_cast<std::uint32_t>(ids[i])) <= limit ? 1 : 0;
    }
    return hit != 0;
}

}  // namespace

std::int64_t argmax(const float* logits, std::size_t n) {
    const Maxima maxima(logits, n);
    return maxima.nan ? kNanLogit : static_cast<std::int64_t>(maxima.argmax(logits, n));
}

std::int64_t top_k(const float* logits, std::size_t n, std::size_t k, std::int32_t* ids) {
    k = std::min(k, n);
    const Maxima maxima(logits, n);
    if (maxima.nan) return kNanLogit;
    if (k == 0) return 0;
    // Candidates gather in a buffer. When it is full, all but its k best are dropped, and the k-th
    // best is the bar for what follows: a later logit equal to it would lose by its index.
    const std::size_t capacity = 2 * k + kBlock;
    std::vector<std::uint64_t> buffer;
    buffer.reserve(std::min(capacity, n) + kBlock);
    float bar = kMinusInfinity;
    for (std::size_t block = 0; block < maxima.blocks.size(); ++block) {
        if (!(maxima.blocks[block] > bar)) continue;
        const std::size_t end = std::min(n, (block + 1) * kBlock);
        for (std::size_t i = block * kBlock; i < end; ++i) {
            if (logits[i] > bar) buffer.push_back(order_key(logits[i], i));
        }
        if (buffer.size() >= capacity) {
            const auto last = buffer.begin() + static_cast<std::ptrdiff_t>(k - 1);
            std::nth_element(buffer.begin(), last, buffer.end(), std::greater<>());
            bar = logits[0xffffffffu - static_cast<std::uint32_t>(*last)];
            buffer.resize(k);
        }
    }
    // Nothing is above a bar of -inf but finite logits; fill up with the banned tokens.
    for (std::size_t i = 0; i < n && buffer.size() < k; ++i) {
        if (logits[i] == kMinusInfinity) buffer.push_back(order_key(logits[i], i));
    }
    const auto end_of_top = buffer.begin() + static_cast<std::ptrdiff_t>(k);
    if (end_of_top != buffer.end()) {
        std::nth_element(buffer.begin(), end_of_top, buffer.end(), std::greater<>());
    }
    std::sort(buffer.begin(), end_of_top, std::greater<>());
    for (std::size_t i = 0; i < k; ++i) {
        ids[i] = static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(buffer[i]));
    }
    return static_cast<std::int64_t>(k);
}

double logsumexp(const float* logits, std::size_t n) {
    const Maxima maxima(logits, n);
    if (maxima.nan) return std::numeric_limits<double>::quiet_NaN();
    const float max = *std::max_element(maxima.blocks.begin(), maxima.blocks.end());
    if (std::isinf(max)) return static_cast<double>(max);
    return static_cast<double>(max) + std::log(sum_exp(logits, n, max));
}

std::vector<std::int32_t> at_least(const float* logits, std::size_t n, double threshold) {
    const Maxima maxima(logits, n);
    std::vector<std::int32_t> ids;
    for (std::size_t block = 0; block < maxima.blocks.size(); ++block) {
        if (!(static_cast<double>(maxima.blocks[block]) >= threshold)) continue;
        const std::size_t end = std::min(n, (block + 1) * kBlock);
        for (std::size_t i = block * kBlock; i < end; ++i) {
            if (static_cast<double>(logits[i]) >= threshold)
                ids.push_back(static_cast<std::int32_t>(i));
        }
    }
    return ids;
}

void gumbel(std::uint64_t seed, std::uint64_t position, const std::int32_t* ids, std::size_t n,
            double* noise) {
    const std::uint64_t state = row_state(seed, position);
    for (std::size_t i = 0; i < n; ++i) {
        noise[i] = gumbel_of_bits(token_bits(state, static_cast<std::uint32_t>(ids[i])));
    }
}

std::int64_t gumbel_argmax(const float* logits, std::size_t n, double temperature,
                           std::uint64_t seed, std::uint64_t position, const std::int32_t* ids) {
    const Maxima maxima(logits, n);
    if (maxima.nan) return kNanLogit;
    const std::uint64_t state = row_state(seed, position);
    const std::size_t top = maxima.argmax(logits, n);
    const double max = static_cast<double>(logits[top]);
    if (std::isinf(max)) return kNanLogit;

    const auto scaled = [&](float logit) {
        return (static_cast<double>(logit) - max) / temperature;
    };
    const auto bits_of = [&](std::size_t i) {
        return token_bits(state, ids == nullptr ? i : static_cast<std::uint32_t>(ids[i]));
    };
    std::size_t best = top;
    double best_score = gumbel_of_bits(bits_of(top));
    // The largest logit is a strong first guess, so that few other tokens can still win. A block is
    // settled by its largest logit and its smallest hash; logarithms are taken only of hashes small
    // enough to matter.
    for (std::size_t block = 0; block < maxima.blocks.size(); ++block) {
        const double ceiling = scaled(maxima.blocks[block]);
        // The slack covers the rounding of the scores.
        const double need = best_score - ceiling - 1e-12 * (1.0 + std::fabs(ceiling));
        if (!(need <= kLargestNoise)) continue;
        const std::uint64_t limit = largest_hash(need);
        const std::size_t first = block * kBlock;
        const std::size_t end = std::min(n, first + kBlock);
        const bool any = ids == nullptr ? any_hash_up_to(state, first, end - first, limit)
                                        : any_hash_of(state, ids + first, end - first, limit);
        if (!any) continue;
        for (std::size_t i = first; i < end; ++i) {
            const std::uint64_t bits = bits_of(i);
            if (bits > limit) continue;
            const double score = scaled(logits[i]) + gumbel_of_bits(bits);
            if (score > best_score || (score == best_score && i < best)) {
                best = i;
                best_score = score;
            }
        }
    }
    return static_cast<std::int64_t>(best);
}

}  // namespace nextn
