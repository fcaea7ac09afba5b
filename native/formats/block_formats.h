// formats/block_formats.h: the block formats of GGUF files, as bytes.
//
// Names and numbers are those of the file format. What each format means is defined by
// src/nextn/files/block_formats; the functions here are the fast versions of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nextn {

enum class BlockType : int {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    BF16 = 30,
};

// Elements and bytes of one block; {0, 0} for a type that is not known.
struct BlockSize {
    int elements;
    int bytes;
};

BlockSize block_size(BlockType type);

// Bytes of a row of `columns` elements, which must be a multiple of the block's elements.
size_t row_bytes(BlockType type, int64_t columns);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);

// The 6-bit scale and minimum of sub-block j (0..7) of a Q4_K or Q5_K block.
struct ScaleMin {
    uint8_t scale;
    uint8_t minimum;
};

inline ScaleMin k_scale_min(const uint8_t* packed, int j) {
    if (j < 4) {
        return {static_cast<uint8_t>(packed[j] & 63), static_cast<uint8_t>(packed[j + 4] & 63)};
    }
    return {static_cast<uint8_t>((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4),
            static_cast<uint8_t>((packed[j + 4] >> 4) | (packed[j] >> 6) << 4)};
}

// Decodes one row of `columns` elements to float32.
void decode_row(BlockType type, const uint8_t* row, int64_t columns, float* out);

}  // namespace nextn
