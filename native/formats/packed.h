// formats/packed.h: the layouts that the matrix kernels read.
//
// A packed matrix is a list of tiles of 16 output rows. Inside a tile, one 32-bit lane of a 512-bit
// vector belongs to one output row, so that a vector of integer dot products needs no horizontal
// sum. A quantised tile is a row of units of a few blocks of 32 columns. A unit holds, in this
// order:
//
//   scales   for K formats and IQ4_XS float16 d[16] (and dmin[16]), once for the 8 blocks of a
//   unit;
//            then per block: float16 [16], and float16 minimum [16] where there is one; for K
//            formats one byte per row and sub-block scale (and minimum; those of Q2_K share a
//            byte); for MXFP4 one byte per row, for NVFP4 two: floats without a sign
//   codes    per block 8 vectors of 16 rows x 4 columns; 4-bit codes share a vector between columns
//            c and c + 16 (low and high nibble), 2-bit codes between c, c + 4, c + 8 and c + 12;
//            higher bits lie in a bit plane of their own
//
// Codes are unsigned, or indices of unsigned codes: the offset of a signed format is subtracted
// through the sum of the activations. Float formats hold [column][16 rows]. Scales and codes start
// at multiples of 64 bytes.
//
// A matrix is read from its first byte to its last, which the processor foresees best: with all
// scales of a tile in front of its codes, a step of one row took up to twice as long.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/block_formats.h"

namespace nextn {

constexpr int kTileRows = 16;
constexpr int kBlockColumns = 32;
constexpr int kSuperBlocks = 8;  // blocks per scale group of the K formats

struct PackedLayout {
    int bits;                        // 2 to 6 or 8; 16 or 32 for float formats
    int scale_bytes;                 // per block
    int super_scale_bytes;           // per 8 blocks; 0 for formats without
    int offset;                      // what is subtracted from a code
    const int8_t* values = nullptr;  // codes are indices of these 16; the code is value + offset
};

constexpr PackedLayout packed_layout(BlockType type) {
    switch (type) {
        case BlockType::F32: return {32, 0, 0, 0};
        case BlockType::F16: return {16, 0, 0, 0};
        case BlockType::BF16: return {16, 0, 0, 0};
        case BlockType::Q4_0: return {4, 32, 0, 8};
        case BlockType::Q4_1: return {4, 64, 0, 0};
        case BlockType::Q5_0: return {5, 32, 0, 16};
        case BlockType::Q5_1: return {5, 64, 0, 0};
        case BlockType::Q8_0: return {8, 32, 0, 128};
        case BlockType::Q2_K: return {2, 32, 64, 0};
        case BlockType::Q3_K: return {3, 32, 32, 4};
        case BlockType::Q4_K: return {4, 32, 64, 0};
        case BlockType::Q5_K: return {5, 32, 64, 0};
        case BlockType::Q6_K: return {6, 32, 32, 32};
        case BlockType::IQ4_NL: return {4, 32, 0, 128, kIq4Values};
        case BlockType::IQ4_XS: return {4, 16, 32, 128, kIq4Values};
        case BlockType::MXFP4: return {4, 16, 0, 12, kFp4Values};
        case BlockType::NVFP4: return {4, 32, 0, 12, kFp4Values};
    }
    return {0, 0, 0, 0};
}

constexpr bool is_float_format(BlockType type) { return packed_layout(type).bits >= 16; }

constexpr size_t align_up(size_t bytes, size_t alignment) {
    return (bytes + alignment - 1) / alignment * alignment;
}

// Bytes of the codes of one block of one tile.
constexpr size_t code_bytes(BlockType type) {
    return static_cast<size_t>(packed_layout(type).bits) * kTileRows * kBlockColumns / 8;
}

// Blocks whose scales lie together, in whole lines of 64 bytes.
constexpr int unit_blocks(BlockType type) {
    const PackedLayout layout = packed_layout(type);
    if (layout.super_scale_bytes > 0) return kSuperBlocks;
    return layout.scale_bytes > 0 && layout.scale_bytes < 64 ? 64 / layout.scale_bytes : 1;
}

constexpr size_t unit_scale_bytes(BlockType type) {
    const PackedLayout layout = packed_layout(type);
    return align_up(static_cast<size_t>(layout.super_scale_bytes) +
                        static_cast<size_t>(unit_blocks(type) * layout.scale_bytes),
                    64);
}

constexpr size_t unit_bytes(BlockType type) {
    return unit_scale_bytes(type) + static_cast<size_t>(unit_blocks(type)) * code_bytes(type);
}

// The last unit ends with its last block.
constexpr size_t tile_bytes(BlockType type, int blocks) {
    const size_t whole = static_cast<size_t>(blocks / unit_blocks(type));
    const size_t rest = static_cast<size_t>(blocks % unit_blocks(type));
    return whole * unit_bytes(type) +
           (rest > 0 ? unit_scale_bytes(type) + rest * code_bytes(type) : 0);
}

struct PackedMatrix {
    BlockType type;
    int rows;
    int columns;
    int blocks;  // columns / 32, rounded up
    int tiles;   // rows / 16, rounded up
    size_t tile_bytes;
    const uint8_t* data;
};

// Packs tile `tile` of a row-major matrix; rows beyond the matrix become zeros.
void pack_tile(BlockType type, const uint8_t* source, int rows, int columns, int tile,
               uint8_t* out);

// Whether all scales of a packed tile, or all its values where it has none, are finite.
bool is_finite(BlockType type, const uint8_t* tile, int blocks);

}  // namespace nextn
