// kernels/attention.inl: attention over a float16 cache, chunk by chunk.
//
// Keys are stored sixteen abreast, so that a lane is a key and no score needs a horizontal sum.
// A chunk is the keys c * 256 .. c * 256 + 255 of the sequence, wherever the step's rows begin; the
// states of the chunks are joined in their order. Keys that a query does not see take part with a
// weight of exactly zero.

constexpr int kChunkGroups = kChunkKeys / kKeyLanes;
constexpr int kChunkBlocks = kChunkKeys / kCacheBlockTokens;
constexpr int kGroupsPerBlock = kCacheBlockTokens / kKeyLanes;

static void store_key(const float* key, int head_width, int token, uint16_t* cache_block) {
    uint16_t* lane = cache_block + static_cast<size_t>(token / kKeyLanes) * head_width * kKeyLanes +
                     token % kKeyLanes;
    alignas(64) uint16_t halves[kMaxHeadWidth];
    store_value(key, head_width, 0, halves);
    for (int d = 0; d < head_width; ++d) lane[static_cast<size_t>(d) * kKeyLanes] = halves[d];
}

// Scores of kQueries queries against kGroups groups of sixteen keys that lie one after the other.
template <int kQueries, int kGroups>
static inline void score_groups(const float* const* queries, int head_width, float scale,
                                const uint16_t* keys, float* const* scores) {
    const size_t stride = static_cast<size_t>(head_width) * kKeyLanes;
    F sum[kQueries][kGroups];
    for (int n = 0; n < kQueries; ++n) {
        for (int g = 0; g < kGroups; ++g) sum[n][g] = f_zero();
    }
    for (int d = 0; d < head_width; ++d) {
        F key[kGroups];
        for (int g = 0; g < kGroups; ++g) key[g] = f_from_half(keys + g * stride + d * kKeyLanes);
        for (int n = 0; n < kQueries; ++n) {
            const F query = f_set(queries[n][d]);
            for (int g = 0; g < kGroups; ++g) sum[n][g] = f_fma(query, key[g], sum[n][g]);
        }
    }
    for (int n = 0; n < kQueries; ++n) {
        for (int g = 0; g < kGroups; ++g) {
            f_store(scores[n] + g * kKeyLanes, f_mul(sum[n][g], f_set(scale)));
        }
    }
}

// Weighted sum of values for kQueries queries over keys begin .. end - 1 of a chunk.
template <int kQueries>
static inline void sum_values(const AttendTask& task, int chunk, int begin, int end,
                              const float* const* weights, float* const* out) {
    constexpr int kVectors = 4;
    for (int d = 0; d < task.head_width; d += kVectors * 16) {
        const int vectors =
            (task.head_width - d) / 16 < kVectors ? (task.head_width - d) / 16 : kVectors;
        F sum[kQueries][kVectors];
        for (int n = 0; n < kQueries; ++n) {
            for (int v = 0; v < kVectors; ++v) sum[n][v] = f_zero();
        }
        for (int k = begin; k < end; ++k) {
            const int block = task.table[chunk * kChunkBlocks + k / kCacheBlockTokens];
            const uint16_t* value = task.cache + static_cast<size_t>(block) * task.block_stride +
                                    static_cast<size_t>(kCacheBlockTokens) * task.head_width +
                                    static_cast<size_t>(k % kCacheBlockTokens) * task.head_width +
                                    d;
            if (vectors == kVectors) {
                F loaded[kVectors];
                for (int v = 0; v < kVectors; ++v) loaded[v] = f_from_half(value + 16 * v);
                for (int n = 0; n < kQueries; ++n) {
                    const F weight = f_set(weights[n][k]);
                    for (int v = 0; v < kVectors; ++v) {
                        sum[n][v] = f_fma(weight, loaded[v], sum[n][v]);
                    }
                }
            } else {
                for (int n = 0; n < kQueries; ++n) {
                    const F weight = f_set(weights[n][k]);
                    for (int v = 0; v < vectors; ++v) {
                        sum[n][v] = f_fma(weight, f_from_half(value + 16 * v), sum[n][v]);
                    }
                }
            }
        }
        for (int n = 0; n < kQueries; ++n) {
            for (int v = 0; v < vectors; ++v) f_store(out[n] + d + 16 * v, sum[n][v]);
        }
    }
}

// Turns a query's scores of a chunk into weights: e^(score - highest), zero where it may not look.
static inline void soften(float* scores, int begin, int end, AttendState& state) {
    const int first = begin / kKeyLanes * kKeyLanes;
    const int last = (end + kKeyLanes - 1) / kKeyLanes * kKeyLanes;
    for (int k = first; k < begin; ++k) scores[k] = -__builtin_inff();
    for (int k = end; k < last; ++k) scores[k] = -__builtin_inff();
    F highest = f_load(scores + first);
    for (int k = first + kKeyLanes; k < last; k += kKeyLanes) {
        highest = f_max(highest, f_load(scores + k));
    }
    state.highest = f_highest(highest);
    const F shift = f_set(state.highest);
    for (int k = first; k < last; k += kKeyLanes) {
        f_store(scores + k, f_exp(f_sub(f_load(scores + k), shift)));
    }
    for (int k = first; k < begin; ++k) scores[k] = 0.0F;
    for (int k = end; k < last; ++k) scores[k] = 0.0F;
    F sum = f_zero();
    for (int k = first; k < last; k += kKeyLanes) sum = f_add(sum, f_load(scores + k));
    state.sum = f_sum(sum);
}

template <int kQueries>
static void attend_queries(const AttendTask& task, int chunk, const int* chosen,
                           AttendState* states) {
    alignas(64) float scores[kQueries][kChunkKeys];
    const float* queries[kQueries];
    float* values[kQueries];
    const float* weights[kQueries];
    int begin[kQueries];
    int end[kQueries];
    int first = kChunkKeys;
    int last = 0;
    for (int n = 0; n < kQueries; ++n) {
        const int base = chunk * kChunkKeys;
        queries[n] = task.queries[chosen[n]];
        values[n] = states[chosen[n]].values;
        weights[n] = scores[n];
        begin[n] = task.first_key[chosen[n]] > base ? task.first_key[chosen[n]] - base : 0;
        end[n] = task.end_key[chosen[n]] - base < kChunkKeys ? task.end_key[chosen[n]] - base
                                                             : kChunkKeys;
        first = begin[n] < first ? begin[n] : first;
        last = end[n] > last ? end[n] : last;
    }
    const int first_block = first / kCacheBlockTokens;
    const int end_block = (last + kCacheBlockTokens - 1) / kCacheBlockTokens;
    for (int block = first_block; block < end_block; ++block) {
        const int id = task.table[chunk * kChunkBlocks + block];
        float* targets[kQueries];
        for (int n = 0; n < kQueries; ++n) targets[n] = scores[n] + block * kCacheBlockTokens;
        score_groups<kQueries, kGroupsPerBlock>(
            queries, task.head_width, task.scale,
            task.cache + static_cast<size_t>(id) * task.block_stride, targets);
    }
    for (int n = 0; n < kQueries; ++n) {
        const int covered = end_block * kCacheBlockTokens;
        soften(scores[n], begin[n], end[n], states[chosen[n]]);
        // Other queries of the call may see keys that this one does not.
        for (int k = first; k < begin[n] / kKeyLanes * kKeyLanes; ++k) scores[n][k] = 0.0F;
        const int softened = (end[n] + kKeyLanes - 1) / kKeyLanes * kKeyLanes;
        for (int k = softened; k < covered; ++k) scores[n][k] = 0.0F;
    }
    sum_values<kQueries>(task, chunk, first, last, weights, values);
}

static void attend_chunk(const AttendTask& task, int chunk, AttendState* states) {
    int chosen[kMaxQueries];
    int count = 0;
    for (int n = 0; n < task.query_count; ++n) {
        const bool sees =
            task.first_key[n] < (chunk + 1) * kChunkKeys && task.end_key[n] > chunk * kChunkKeys;
        if (sees) chosen[count++] = n;
    }
    int done = 0;
    for (; count - done >= 4; done += 4) attend_queries<4>(task, chunk, chosen + done, states);
    switch (count - done) {
        case 3: attend_queries<3>(task, chunk, chosen + done, states); break;
        case 2: attend_queries<2>(task, chunk, chosen + done, states); break;
        case 1: attend_queries<1>(task, chunk, chosen + done, states); break;
        default: break;
    }
}

static void attend_join(AttendState& state, const AttendState& later, int head_width) {
    const float highest = state.highest > later.highest ? state.highest : later.highest;
    alignas(64) float factors[16];
    f_store(factors, f_exp(f_sub(f_set(state.highest), f_set(highest))));
    const float keep = factors[0];
    f_store(factors, f_exp(f_sub(f_set(later.highest), f_set(highest))));
    const float take = factors[0];
    state.highest = highest;
    state.sum = state.sum * keep + later.sum * take;
    for (int d = 0; d < head_width; d += 16) {
        const F kept = f_mul(f_load(state.values + d), f_set(keep));
        f_store(state.values + d, f_fma(f_load(later.values + d), f_set(take), kept));
    }
}

static void attend_finish(const AttendState& state, int head_width, float* out) {
    const F inverse = f_set(1.0F / state.sum);
    for (int d = 0; d < head_width; d += 16) {
        f_store(out + d, f_mul(f_load(state.values + d), inverse));
    }
}
