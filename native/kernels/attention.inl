// kernels/attention.inl: attention over the cache, chunk by chunk.
//
// Keys are stored sixteen abreast, so that a lane is a key and no score needs a horizontal sum.
// A chunk is the keys c * 64 .. c * 64 + 63 of the sequence, wherever the step's rows begin; the
// states of the chunks are joined in their order. Keys that a query does not see take part with a
// weight of exactly zero.
//
// Blocks of the cache lie far apart, so the processor cannot foresee the next one: while a block's
// keys are scored, its values and the next block's keys are asked for, a line of each at a time.
// All at once they would wait for each other: a processor has only so many requests under way.

constexpr int kChunkBlocks = kChunkKeys / kCacheBlockTokens;
constexpr int kGroupsPerBlock = kCacheBlockTokens / kKeyLanes;
constexpr int kMaxShared = 8;  // queries that are computed together, in registers
constexpr int kMaxScales = kMaxHeadWidth / kCacheScaleColumns;

// Queries of one call, as the scores of each cache type need them.
template <int kQueries>
struct Queries {
    const float* values[kQueries];
    int8_t codes[kQueries][kMaxHeadWidth];
    float scales[kQueries][kMaxScales];
    int32_t offsets[kQueries][kMaxScales];  // -128 * sum of codes
};

template <int kQueries>
static inline void quantise_queries(Queries<kQueries>& queries, int head_width) {
    for (int n = 0; n < kQueries; ++n) {
        for (int b = 0; b < head_width / kCacheScaleColumns; ++b) {
            const float* x = queries.values[n] + b * kCacheScaleColumns;
            const F first = f_load(x);
            const F second = f_load(x + 16);
            const float highest = f_highest(f_max(f_abs(first), f_abs(second)));
            const F inverse = f_set(highest > 1e-30F ? 127.0F / highest : 0.0F);
            const I codes = i_round(f_mul(first, inverse));
            const I more = i_round(f_mul(second, inverse));
            i_store_i8(queries.codes[n] + b * kCacheScaleColumns, codes);
            i_store_i8(queries.codes[n] + b * kCacheScaleColumns + 16, more);
            queries.scales[n][b] = highest / 127.0F;
            queries.offsets[n][b] = -128 * i_sum(i_add(codes, more));
        }
    }
}

// The values of a block and the keys of the next one.
struct Ahead {
    const uint8_t* values;
    const uint8_t* keys;
    size_t bytes;  // of each

    void fetch(size_t line) const {
        prefetch(values + 64 * line);
        prefetch(keys + 64 * line);
    }
};

// Scores of kQueries queries against the keys of a block of a float16 cache.
template <int kQueries>
static inline void score_f16(const Queries<kQueries>& queries, int head_width, float scale,
                             const uint8_t* block, const Ahead& ahead, float* const* scores) {
    const uint16_t* keys = reinterpret_cast<const uint16_t*>(block);
    const size_t stride = static_cast<size_t>(head_width) * kKeyLanes;
    F sum[kQueries][kGroupsPerBlock];
    for (int n = 0; n < kQueries; ++n) {
        for (int g = 0; g < kGroupsPerBlock; ++g) sum[n][g] = f_zero();
    }
    for (int d = 0; d < head_width; ++d) {
        ahead.fetch(static_cast<size_t>(d));
        F key[kGroupsPerBlock];
        for (int g = 0; g < kGroupsPerBlock; ++g) {
            key[g] = f_from_half(keys + static_cast<size_t>(g) * stride + d * kKeyLanes);
        }
        for (int n = 0; n < kQueries; ++n) {
            const F query = f_set(queries.values[n][d]);
            for (int g = 0; g < kGroupsPerBlock; ++g) sum[n][g] = f_fma(query, key[g], sum[n][g]);
        }
    }
    for (int n = 0; n < kQueries; ++n) {
        for (int g = 0; g < kGroupsPerBlock; ++g) {
            f_store(scores[n] + g * kKeyLanes, f_mul(sum[n][g], f_set(scale)));
        }
    }
}

// The same for a Q8_0 cache: sixteen keys are a tile of a quantised matrix.
template <int kQueries>
static inline void score_q8(const Queries<kQueries>& queries, int head_width, float scale,
                            const uint8_t* block, const Ahead& ahead, float* const* scores) {
    const int scales = head_width / kCacheScaleColumns;
    size_t line = 0;
    for (int g = 0; g < kGroupsPerBlock; ++g) {
        const uint8_t* codes = block + static_cast<size_t>(g) *
                                           cache_part_bytes(CacheType::Q8_0, head_width) /
                                           kGroupsPerBlock;
        const uint8_t* key_scales = codes + static_cast<size_t>(head_width) * kKeyLanes;
        F sum[kQueries];
        for (int n = 0; n < kQueries; ++n) sum[n] = f_zero();
        for (int b = 0; b < scales; ++b, codes += kCacheScaleColumns * kKeyLanes) {
            I dot[kQueries];
            for (int n = 0; n < kQueries; ++n) dot[n] = i_set(queries.offsets[n][b]);
            for (int four = 0; four < kCacheScaleColumns / 4; ++four) {
                ahead.fetch(line++);
                const B key = b_load(codes + 64 * four);
                for (int n = 0; n < kQueries; ++n) {
                    const int8_t* query = queries.codes[n] + b * kCacheScaleColumns + 4 * four;
                    dot[n] = dot4<true>(dot[n], key, query);
                }
            }
            const F key_scale = f_from_half(key_scales + static_cast<size_t>(b) * kKeyLanes * 2);
            for (int n = 0; n < kQueries; ++n) {
                const F both = f_mul(key_scale, f_set(queries.scales[n][b]));
                sum[n] = f_fma(f_from_i(dot[n]), both, sum[n]);
            }
        }
        for (int n = 0; n < kQueries; ++n) {
            f_store(scores[n] + g * kKeyLanes, f_mul(sum[n], f_set(scale)));
        }
    }
    while (64 * line < ahead.bytes) ahead.fetch(line++);  // where the scales are
}

static const uint8_t* block_of(const AttendTask& task, int index) {
    return task.cache + static_cast<size_t>(task.table[index]) * task.block_stride;
}

static inline Ahead ahead_of(const AttendTask& task, int index) {
    const size_t bytes = cache_part_bytes(task.type, task.head_width);
    const int next = index + 1 < task.block_count ? index + 1 : index;
    return {block_of(task, index) + bytes, block_of(task, next), bytes};
}

// Weighted sum of values for kQueries queries over keys begin .. end - 1 of a chunk, for kVectors
// vectors of sixteen elements from element `d` on.
template <CacheType kType, int kQueries, int kVectors>
static inline void sum_values(const AttendTask& task, int chunk, int d, int begin, int end,
                              const float (*weights)[kChunkKeys], float* const* out) {
    constexpr size_t kElement = kType == CacheType::F16 ? 2 : 1;
    const size_t width = static_cast<size_t>(task.head_width);
    const size_t part = cache_part_bytes(kType, task.head_width);
    F sum[kQueries][kVectors];
    for (int n = 0; n < kQueries; ++n) {
        for (int v = 0; v < kVectors; ++v) sum[n][v] = f_zero();
    }
    for (int b = begin / kCacheBlockTokens; b * kCacheBlockTokens < end; ++b) {
        const uint8_t* values = block_of(task, chunk * kChunkBlocks + b) + part;
        const int first = b * kCacheBlockTokens;
        const int from = begin > first ? begin - first : 0;
        const int to = end - first < kCacheBlockTokens ? end - first : kCacheBlockTokens;
        // In a Q8_0 cache the scale of a value goes into its weight.
        constexpr int kScales = kType == CacheType::F16 ? 1 : (kVectors + 1) / 2;
        alignas(64) float scaled[kScales][kQueries][kCacheBlockTokens];
        if constexpr (kType == CacheType::Q8_0) {
            const uint8_t* scales = values + width * kCacheBlockTokens;
            for (int s = 0; s < kScales; ++s) {
                const size_t index = static_cast<size_t>(d / kCacheScaleColumns + s);
                for (int k = 0; k < kCacheBlockTokens; k += 16) {
                    const size_t at = index * kCacheBlockTokens + static_cast<size_t>(k);
                    const F scale = f_from_half(scales + at * 2);
                    for (int n = 0; n < kQueries; ++n) {
                        f_store(scaled[s][n] + k, f_mul(f_load(weights[n] + first + k), scale));
                    }
                }
            }
        }
        const uint8_t* value =
            values + (static_cast<size_t>(from) * width + static_cast<size_t>(d)) * kElement;
        for (int k = from; k < to; ++k, value += width * kElement) {
            F loaded[kVectors];
            for (int v = 0; v < kVectors; ++v) {
                if constexpr (kType == CacheType::F16) {
                    loaded[v] = f_from_half(value + 32 * v);
                } else {
                    loaded[v] = f_from_i8(value + 16 * v);
                }
            }
            for (int n = 0; n < kQueries; ++n) {
                for (int v = 0; v < kVectors; ++v) {
                    const float weight = kType == CacheType::F16 ? weights[n][first + k]
                                                                 : scaled[v / 2 % kScales][n][k];
                    sum[n][v] = f_fma(f_set(weight), loaded[v], sum[n][v]);
                }
            }
        }
    }
    for (int n = 0; n < kQueries; ++n) {
        for (int v = 0; v < kVectors; ++v) f_store(out[n] + d + 16 * v, sum[n][v]);
    }
}

template <CacheType kType, int kQueries>
static inline void sum_all_values(const AttendTask& task, int chunk, int begin, int end,
                                  const float (*weights)[kChunkKeys], float* const* out) {
    // As many sums as registers hold.
    constexpr int kVectors = kQueries > 4 ? 2 : 4;
    int d = 0;
    for (; d + kVectors * 16 <= task.head_width; d += kVectors * 16) {
        sum_values<kType, kQueries, kVectors>(task, chunk, d, begin, end, weights, out);
    }
    if (kVectors == 4 && d + 32 <= task.head_width) {
        sum_values<kType, kQueries, 2>(task, chunk, d, begin, end, weights, out);
        d += 32;
    }
    if constexpr (kType == CacheType::F16) {
        if (d < task.head_width) {
            sum_values<kType, kQueries, 1>(task, chunk, d, begin, end, weights, out);
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

template <CacheType kType, int kQueries>
static void attend_queries(const AttendTask& task, int chunk, const int* chosen,
                           AttendState* states) {
    alignas(64) float scores[kQueries][kChunkKeys];
    Queries<kQueries> queries;
    float* values[kQueries];
    int begin[kQueries];
    int end[kQueries];
    int first = kChunkKeys;
    int last = 0;
    for (int n = 0; n < kQueries; ++n) {
        const int base = chunk * kChunkKeys;
        queries.values[n] = task.queries[chosen[n]];
        values[n] = states[chosen[n]].values;
        begin[n] = task.first_key[chosen[n]] > base ? task.first_key[chosen[n]] - base : 0;
        end[n] = task.end_key[chosen[n]] - base < kChunkKeys ? task.end_key[chosen[n]] - base
                                                             : kChunkKeys;
        first = begin[n] < first ? begin[n] : first;
        last = end[n] > last ? end[n] : last;
    }
    if constexpr (kType == CacheType::Q8_0) quantise_queries(queries, task.head_width);
    const int first_block = first / kCacheBlockTokens;
    const int end_block = (last + kCacheBlockTokens - 1) / kCacheBlockTokens;
    for (int block = first_block; block < end_block; ++block) {
        float* targets[kQueries];
        for (int n = 0; n < kQueries; ++n) targets[n] = scores[n] + block * kCacheBlockTokens;
        const int index = chunk * kChunkBlocks + block;
        const uint8_t* keys = block_of(task, index);
        const Ahead ahead = ahead_of(task, index);
        if constexpr (kType == CacheType::F16) {
            score_f16(queries, task.head_width, task.scale, keys, ahead, targets);
        } else {
            score_q8(queries, task.head_width, task.scale, keys, ahead, targets);
        }
    }
    for (int n = 0; n < kQueries; ++n) {
        const int covered = end_block * kCacheBlockTokens;
        soften(scores[n], begin[n], end[n], states[chosen[n]]);
        // Other queries of the call may see keys that this one does not.
        const int unseen = begin[n] / kKeyLanes * kKeyLanes;
        for (int k = first_block * kCacheBlockTokens; k < unseen; ++k) scores[n][k] = 0.0F;
        const int softened = (end[n] + kKeyLanes - 1) / kKeyLanes * kKeyLanes;
        for (int k = softened; k < covered; ++k) scores[n][k] = 0.0F;
    }
    sum_all_values<kType, kQueries>(task, chunk, first, last, scores, values);
}

using AttendFunction = void (*)(const AttendTask&, int, const int*, AttendState*);

template <CacheType kType>
static AttendFunction attend_function(int queries) {
    static constexpr AttendFunction kByQueries[kMaxShared] = {
        attend_queries<kType, 1>, attend_queries<kType, 2>, attend_queries<kType, 3>,
        attend_queries<kType, 4>, attend_queries<kType, 5>, attend_queries<kType, 6>,
        attend_queries<kType, 7>, attend_queries<kType, 8>};
    return kByQueries[queries - 1];
}

static void attend_chunk(const AttendTask& task, int chunk, AttendState* states) {
    int chosen[kMaxQueries];
    int count = 0;
    for (int n = 0; n < task.query_count; ++n) {
        const bool sees =
            task.first_key[n] < (chunk + 1) * kChunkKeys && task.end_key[n] > chunk * kChunkKeys;
        if (sees) chosen[count++] = n;
    }
    const int parts = (count + kMaxShared - 1) / kMaxShared;
    for (int part = 0; part < parts; ++part) {
        const int begin = count * part / parts;
        const int size = count * (part + 1) / parts - begin;
        const AttendFunction function = task.type == CacheType::F16
                                            ? attend_function<CacheType::F16>(size)
                                            : attend_function<CacheType::Q8_0>(size);
        function(task, chunk, chosen + begin, states);
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
