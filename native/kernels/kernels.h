// kernels/kernels.h: what the executor may call; one table per instruction set.
//
// Kernels see raw pointers and sizes only. Every reduction has one order, fixed by its length
// alone: results never depend on how many rows share a call or which thread makes it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/packed.h"

namespace nextn {

constexpr int kMaxGroupRows = 8;  // rows that share one pass over a tile's codes
constexpr int kCacheBlockTokens = 32;
constexpr int kKeyLanes = 16;   // keys that lie side by side in a cache block
constexpr int kChunkKeys = 64;  // keys per partial result of attention
constexpr int kMaxHeadWidth = 512;
constexpr int kMaxQueries = 16;  // queries (rows x heads) that share loaded keys
constexpr int kDotsPerRound = 12;
constexpr int kCacheScaleColumns = 32;  // elements of a head that share a scale in a Q8_0 cache

// How keys and values are kept. Q8_0 holds a code of 8 bits per element and a float16 scale per 32.
enum class CacheType : int { F16 = 0, Q8_0 = 1 };

// Bytes of the keys, or of the values, of one head in one cache block.
constexpr size_t cache_part_bytes(CacheType type, int head_width) {
    const size_t elements =
        static_cast<size_t>(kCacheBlockTokens) * static_cast<size_t>(head_width);
    return type == CacheType::F16 ? elements * 2 : elements + elements / kCacheScaleColumns * 2;
}

// Activations of up to 8 rows, as the matrix kernels read them. Quantised per 32 columns:
//   q           int8 [blocks][rows][32]
//   scale       [blocks][rows], value = scale * q; if fine: [blocks][rows][2], per 16 columns
//   scaled_sum  [blocks][rows], scale * sum of q
//   sums        int16 [blocks][rows][2]: sums of q over columns 0-15 and 16-31
//   values      float32 [columns][rows], for float weights
//   squares     float32 [rows][square_stride]: sums of squares of 16 columns each, for a norm
struct RowGroup {
    int first_row;
    int rows;
    bool fine;
    int8_t* q;
    float* scale;
    float* scaled_sum;
    int16_t* sums;
    float* values;
    float* squares;
    size_t square_stride;
};

struct LinearTask {
    const PackedMatrix* matrix;
    const PackedMatrix* up;  // with an activation: out = activation(matrix x) * (up x)
    const RowGroup* groups;
    int group_count;
    const float* row_factors;  // of the norm of each row, applied to the products; may be null
    float* out;                // [rows][out_stride]
    size_t out_stride;
    float scale;  // of the matrix, applied to the product
    float up_scale;
    const float* bias;  // padded to whole tiles; may be null
    const float* up_bias;
    const float* residual;  // [rows][residual_stride]; may be null
    size_t residual_stride;
    int activation;  // 0 none, 1 silu, 2 gelu
    bool passing;    // the weights shall take no place in the caches, for the sake of others
};

struct RopeTask {
    const float* cos;  // [rows][pairs]
    const float* sin;
    int pairs;
    bool interleaved;
};

// Attention of some queries of one sequence over the keys that they see. The cache of a layer is
// [blocks][kv_heads] of a key part and a value part:
//   F16   keys    float16 [2 groups][head_width][16 keys]
//         values  float16 [32 tokens][head_width]
//   Q8_0  keys    per group of 16: uint8 [head_width / 4][16 keys][4], value = scale * (code -
//   128);
//                 then float16 scales [head_width / 32][16 keys]
//         values  int8 [32 tokens][head_width], then float16 scales [head_width / 32][32 tokens]
struct AttendTask {
    CacheType type;
    const uint8_t* cache;  // of the layer and key head
    size_t block_stride;   // in bytes, from block to block
    const int32_t* table;  // the sequence's blocks
    int block_count;       // blocks of the table that hold keys that are seen
    int head_width;
    float scale;
    int query_count;                    // at most kMaxQueries
    const float* queries[kMaxQueries];  // [head_width] each
    int first_key[kMaxQueries];         // keys first_key .. end_key - 1 are seen
    int end_key[kMaxQueries];
};

// A partial softmax: highest score, sum of exponentials, weighted sum of values [head_width].
struct AttendState {
    float highest;
    float sum;
    float* values;
};

struct KernelTable {
    const char* name;
    // Columns begin .. end - 1 of a row, times `weight` if that is not null, into a row of a group.
    // Both are multiples of 32, but for the end of the row.
    void (*quantise_row)(const float* x, const float* weight, int begin, int end,
                         const RowGroup& group, int row);
    void (*spread_row)(const float* x, const float* weight, int begin, int end,
                       const RowGroup& group, int row);
    void (*square_row)(const float* x, int begin, int end, const RowGroup& group, int row);
    // What a row of this width is divided by in RMS norm, as a factor; from its sums of squares.
    float (*norm_factor)(const float* squares, int width, float epsilon);
    void (*rms_norm)(const float* x, const float* weight, int width, float epsilon,
                     const float* residual, float* out);
    void (*linear)(const LinearTask& task, int tile_begin, int tile_end);
    void (*rope)(float* head, const RopeTask& task, int row);
    // `block` is the part of a head in a cache block, its keys first; `token` is the place in it.
    void (*store_key)(CacheType type, const float* key, int head_width, int token, uint8_t* block);
    void (*store_value)(CacheType type, const float* value, int head_width, int token,
                        uint8_t* block);
    // Computes one chunk of keys for all queries that see any of it; states[i] is filled for those.
    void (*attend_chunk)(const AttendTask& task, int chunk, AttendState* states);
    // Joins a later chunk's state into an earlier one.
    void (*attend_join)(AttendState& state, const AttendState& later, int head_width);
    void (*attend_finish)(const AttendState& state, int head_width, float* out);
    void (*activate)(const float* gate, const float* up, int width, int activation, float* out);
    void (*add)(const float* a, const float* b, int width, float* out);
    // For measurements of the machine; see kernels/roofline.inl. Vectors have 64 bytes.
    int32_t (*read_vectors)(const uint8_t* data, size_t vectors);
    int32_t (*dot_rounds)(const uint8_t* data, size_t rounds);
    // As decode_row of formats/, which it calls for all but plain floats.
    void (*decode_row)(BlockType type, const uint8_t* row, int64_t columns, float* out);
    // Writes a row of whole blocks; see kernels/encode/row.inl. `importance` is null, or says of
    // each column how much an error there weighs: above zero, about 1 on average.
    void (*encode_row)(BlockType type, const float* x, const float* importance, int64_t columns,
                       uint8_t* out);
};

const KernelTable& scalar_kernels();
#if defined(NEXTN_X86)
const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels();
#endif

}  // namespace nextn
