// executor/hidden.cpp: hidden states between trunk and head, which live in the cache.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "executor/operations.h"

namespace nextn {

namespace {

// To the nearest, ties to even. NaN stays NaN.
uint16_t to_bfloat16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float from_bfloat16(uint16_t value) {
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

}  // namespace

void Concat::run_row(StepContext& /*context*/, int row) {
    float* target = out.row(row);
    std::copy_n(a.row(row), a.width, target);
    std::copy_n(b.row(row), b.width, target + a.width);
    // What another operation left behind there must not reach the sums over whole vectors.
    std::fill(target + out.width, target + out.stride, 0.0F);
}

void StoreHidden::run(StepContext& context, int thread) {
    const std::vector<int>& wanted = context.rows.logits_rows;
    const int count = only_wanted ? static_cast<int>(wanted.size()) : context.rows.count;
    const Share share = share_of(count, thread, context.threads);
    SegmentCursor cursor(context.rows);
    for (int i = share.begin; i < share.end; ++i) {
        const int row = only_wanted ? wanted[static_cast<size_t>(i)] : i;
        uint16_t* target = cache->row(cursor.of(row), context.rows.positions[row]);
        std::transform(x.row(row), x.row(row) + x.width, target, to_bfloat16);
    }
}

void LoadHidden::run(StepContext& context, int thread) {
    const Share share = share_of(context.rows.count, thread, context.threads);
    SegmentCursor cursor(context.rows);
    for (int row = share.begin; row < share.end; ++row) {
        const int position = context.rows.positions[row];
        float* target = out.row(row);
        float* end = target;
        if (position > 0) {
            const uint16_t* source = cache->row(cursor.of(row), position - 1);
            end = std::transform(source, source + out.width, target, from_bfloat16);
        }
        std::fill(end, target + out.stride, 0.0F);
    }
}

}  // namespace nextn
