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
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ4_NL = 20,
    IQ4_XS = 23,
    BF16 = 30,
    MXFP4 = 39,
    NVFP4 = 40,
};

// What the 4-bit codes of IQ4_NL and IQ4_XS mean.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Twice the values of the 4-bit floats of MXFP4 and NVFP4.
inline constexpr int8_t kFp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
// The first scale byte of MXFP4 that may take a value beyond float32; 255 is NaN.
constexpr uint8_t kFirstBadPower = 253;

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
// Half of an 8-bit float E4M3 (bias 7) without sign and NaN: bits 0 to 126. Exact. Half, since
// kFp4Values are twice what the codes mean.
float half_of_e4m3(uint8_t bits);
// Half of a power of two as one byte: 2^(bits - 128), for bits 0 to 254. Exact.
float half_of_e8m0(uint8_t bits);

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

// The 12 bytes from which k_scale_min reads: eight 6-bit scales and minima.
void pack_k_scales(const uint8_t* scales, const uint8_t* minima, uint8_t* packed);

// The 6-bit scale (0..63) of 16 elements, group j (0..15), from the 12 bytes of a Q3_K block.
inline int q3_scale(const uint8_t* packed, int j) {
    const int low = packed[j % 8] >> (4 * (j / 8)) & 15;
    return low | (packed[8 + j % 4] >> (2 * (j / 4)) & 3) << 4;
}

// The 6-bit scale (0..63) of sub-block j (0..7) of an IQ4_XS block.
inline int iq4_xs_scale(const uint8_t* block, int j) {
    const int low = block[4 + j / 2] >> (4 * (j % 2)) & 15;
    return low | (block[2 + j / 4] >> (2 * (j % 4)) & 3) << 4;
}

// The unsigned 8-bit float E4M3 of a scale of NVFP4, as 7 bits: its NaN counts as zero, and its
// sign is not used.
inline uint8_t e4m3_scale(uint8_t byte) { return (byte & 127) == 127 ? 0 : byte & 127; }

// Decodes one row of `columns` elements to float32.
void decode_row(BlockType type, const uint8_t* row, int64_t columns, float* out);

}  // namespace nextn
