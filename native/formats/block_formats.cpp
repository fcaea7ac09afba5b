// formats/block_formats.cpp: decoding of single rows, for embedding tables and for tests.
#include "formats/block_formats.h"

#include <cstring>

namespace nextn {

namespace {

uint16_t read_u16(const uint8_t* bytes) {
    uint16_t value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
}

uint32_t read_u32(const uint8_t* bytes) {
    uint32_t value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
}

float read_half(const uint8_t* bytes) { return half_to_float(read_u16(bytes)); }

void decode_q4_0(const uint8_t* b, float* out) {
    const float d = read_half(b);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * static_cast<float>((b[2 + i] & 15) - 8);
        out[i + 16] = d * static_cast<float>((b[2 + i] >> 4) - 8);
    }
}

void decode_q4_1(const uint8_t* b, float* out) {
    const float d = read_half(b);
    const float m = read_half(b + 2);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * static_cast<float>(b[4 + i] & 15) + m;
        out[i + 16] = d * static_cast<float>(b[4 + i] >> 4) + m;
    }
}

void decode_q5_0(const uint8_t* b, float* out) {
    const float d = read_half(b);
    const uint32_t high = read_u32(b + 2);
    for (int i = 0; i < 16; ++i) {
        const int low_code = (b[6 + i] & 15) | ((high >> i) & 1) << 4;
        const int high_code = (b[6 + i] >> 4) | ((high >> (i + 16)) & 1) << 4;
        out[i] = d * static_cast<float>(low_code - 16);
        out[i + 16] = d * static_cast<float>(high_code - 16);
    }
}

void decode_q5_1(const uint8_t* b, float* out) {
    const float d = read_half(b);
    const float m = read_half(b + 2);
    const uint32_t high = read_u32(b + 4);
    for (int i = 0; i < 16; ++i) {
        const int low_code = (b[8 + i] & 15) | ((high >> i) & 1) << 4;
        const int high_code = (b[8 + i] >> 4) | ((high >> (i + 16)) & 1) << 4;
        out[i] = d * static_cast<float>(low_code) + m;
        out[i + 16] = d * static_cast<float>(high_code) + m;
    }
}

void decode_q8_0(const uint8_t* b, float* out) {
    const float d = read_half(b);
    for (int i = 0; i < 32; ++i) {
        out[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
    }
}

void decode_q4_k(const uint8_t* b, float* out) {
    const float d = read_half(b);
    const float dmin = read_half(b + 2);
    for (int j = 0; j < 8; ++j) {
        const ScaleMin s = k_scale_min(b + 4, j);
        const float scale = d * static_cast<float>(s.scale);
        const float minimum = dmin * static_cast<float>(s.minimum);
        const uint8_t* codes = b + 16 + 32 * (j / 2);
        for (int i = 0; i < 32; ++i) {
            const int code = (codes[i] >> (4 * (j % 2))) & 15;
            out[32 * j + i] = scale * static_cast<float>(code) - minimum;
        }
    }
}

void decode_q5_k(const uint8_t* b, float* out) {
    const float d = read_half(b);
    const float dmin = read_half(b + 2);
    for (int j = 0; j < 8; ++j) {
        const ScaleMin s = k_scale_min(b + 4, j);
        const float scale = d * static_cast<float>(s.scale);
        const float minimum = dmin * static_cast<float>(s.minimum);
        const uint8_t* codes = b + 48 + 32 * (j / 2);
        for (int i = 0; i < 32; ++i) {
            const int code = ((codes[i] >> (4 * (j % 2))) & 15) | ((b[16 + i] >> j) & 1) << 4;
            out[32 * j + i] = scale * static_cast<float>(code) - minimum;
        }
    }
}

void decode_q6_k(const uint8_t* b, float* out) {
    const float d = read_half(b + 208);
    for (int i = 0; i < 256; ++i) {
        const int half = i / 128;
        const int group = (i % 128) / 32;
        const int l = i % 32;
        const int low = (b[64 * half + 32 * (group % 2) + l] >> (4 * (group / 2))) & 15;
        const int high = (b[128 + 32 * half + l] >> (2 * group)) & 3;
        const float scale = d * static_cast<float>(static_cast<int8_t>(b[192 + i / 16]));
        out[i] = scale * static_cast<float>((low | high << 4) - 32);
    }
}

// The code of element i of a Q2_K block, or its two low bits of a Q3_K block.
int pair_of_bits(const uint8_t* codes, int i) {
    return codes[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
}

void decode_q2_k(const uint8_t* b, float* out) {
    const float d = read_half(b + 80);
    const float dmin = read_half(b + 82);
    for (int i = 0; i < 256; ++i) {
        const float scale = d * static_cast<float>(b[i / 16] & 15);
        const float minimum = dmin * static_cast<float>(b[i / 16] >> 4);
        out[i] = scale * static_cast<float>(pair_of_bits(b + 16, i)) - minimum;
    }
}

void decode_q3_k(const uint8_t* b, float* out) {
    const float d = read_half(b + 108);
    for (int i = 0; i < 256; ++i) {
        const float scale = d * static_cast<float>(q3_scale(b + 96, i / 16) - 32);
        const int code = pair_of_bits(b + 32, i) | (b[i % 32] >> (i / 32) & 1) << 2;
        out[i] = scale * static_cast<float>(code - 4);
    }
}

// 16 bytes of nibbles: the low ones are the first 16 elements.
void decode_nibbles(const uint8_t* nibbles, const int8_t* values, float scale, float* out) {
    for (int i = 0; i < 16; ++i) {
        out[i] = scale * static_cast<float>(values[nibbles[i] & 15]);
        out[i + 16] = scale * static_cast<float>(values[nibbles[i] >> 4]);
    }
}

void decode_iq4_xs(const uint8_t* b, float* out) {
    const float d = read_half(b);
    for (int j = 0; j < 8; ++j) {
        const float scale = d * static_cast<float>(iq4_xs_scale(b, j) - 32);
        decode_nibbles(b + 8 + 16 * j, kIq4Values, scale, out + 32 * j);
    }
}

void decode_nvfp4(const uint8_t* b, float* out) {
    for (int i = 0; i < 64; ++i) {
        const float scale = half_of_e4m3(e4m3_scale(b[i / 16]));
        const uint8_t pair = b[4 + 8 * (i / 16) + i % 8];
        out[i] = scale * static_cast<float>(kFp4Values[i % 16 < 8 ? pair & 15 : pair >> 4]);
    }
}

}  // namespace

BlockSize block_size(BlockType type) {
    switch (type) {
        case BlockType::F32: return {1, 4};
        case BlockType::F16: return {1, 2};
        case BlockType::BF16: return {1, 2};
        case BlockType::Q4_0: return {32, 18};
        case BlockType::Q4_1: return {32, 20};
        case BlockType::Q5_0: return {32, 22};
        case BlockType::Q5_1: return {32, 24};
        case BlockType::Q8_0: return {32, 34};
        case BlockType::Q2_K: return {256, 84};
        case BlockType::Q3_K: return {256, 110};
        case BlockType::Q4_K: return {256, 144};
        case BlockType::Q5_K: return {256, 176};
        case BlockType::Q6_K: return {256, 210};
        case BlockType::IQ4_NL: return {32, 18};
        case BlockType::IQ4_XS: return {256, 136};
        case BlockType::MXFP4: return {32, 17};
        case BlockType::NVFP4: return {64, 36};
    }
    return {0, 0};
}

size_t row_bytes(BlockType type, int64_t columns) {
    const BlockSize size = block_size(type);
    return static_cast<size_t>(columns / size.elements) * static_cast<size_t>(size.bytes);
}

float half_to_float(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t exponent = (bits >> 10) & 31;
    const uint32_t mantissa = bits & 1023;
    uint32_t result;
    if (exponent == 0) {
        const float subnormal = static_cast<float>(mantissa) * 0x1p-24F;
        std::memcpy(&result, &subnormal, sizeof result);
        result |= sign;
    } else if (exponent == 31) {
        result = sign | 0x7F800000 | mantissa << 13;
    } else {
        result = sign | (exponent + 112) << 23 | mantissa << 13;
    }
    float value;
    std::memcpy(&value, &result, sizeof value);
    return value;
}

uint16_t float_to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return sign | 0x7E00;   // NaN
    if (magnitude >= 0x477FF000) return sign | 0x7C00;  // rounds beyond the largest half
    if (magnitude < 0x38800000) {                       // subnormal or zero
        float absolute;
        std::memcpy(&absolute, &magnitude, sizeof absolute);
        const float shifted = absolute + 0.5F;  // rounds to multiples of 2^-24
        uint32_t shifted_bits;
        std::memcpy(&shifted_bits, &shifted, sizeof shifted_bits);
        return static_cast<uint16_t>(sign | (shifted_bits - 0x3F000000));
    }
    const uint32_t odd = magnitude >> 13 & 1;  // round to nearest even
    return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xFFF + odd) >> 13));
}

float half_of_e4m3(uint8_t bits) {
    // The same fields as in a half, whose exponent has one bit more and a bias of 15 instead of 7.
    return half_to_float(static_cast<uint16_t>(bits << 7)) * 128.0F;
}

float half_of_e8m0(uint8_t bits) {
    // 2^(e - 128); the two smallest are subnormal.
    const uint32_t word = bits < 2 ? (bits + 1U) << 21 : (bits - 1U) << 23;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
}

void pack_k_scales(const uint8_t* scales, const uint8_t* minima, uint8_t* packed) {
    for (int j = 0; j < 4; ++j) {
        packed[j] = static_cast<uint8_t>(scales[j] | (scales[j + 4] >> 4) << 6);
        packed[j + 4] = static_cast<uint8_t>(minima[j] | (minima[j + 4] >> 4) << 6);
        packed[j + 8] = static_cast<uint8_t>((scales[j + 4] & 15) | (minima[j + 4] & 15) << 4);
    }
}

void decode_row(BlockType type, const uint8_t* row, int64_t columns, float* out) {
    const BlockSize size = block_size(type);
    for (int64_t i = 0; i < columns; i += size.elements, row += size.bytes, out += size.elements) {
        switch (type) {
            case BlockType::F32: std::memcpy(out, row, 4); break;
            case BlockType::F16: *out = read_half(row); break;
            case BlockType::BF16: {
                const uint32_t bits = static_cast<uint32_t>(read_u16(row)) << 16;
                std::memcpy(out, &bits, 4);
                break;
            }
            case BlockType::Q4_0: decode_q4_0(row, out); break;
            case BlockType::Q4_1: decode_q4_1(row, out); break;
            case BlockType::Q5_0: decode_q5_0(row, out); break;
            case BlockType::Q5_1: decode_q5_1(row, out); break;
            case BlockType::Q8_0: decode_q8_0(row, out); break;
            case BlockType::Q2_K: decode_q2_k(row, out); break;
            case BlockType::Q3_K: decode_q3_k(row, out); break;
            case BlockType::Q4_K: decode_q4_k(row, out); break;
            case BlockType::Q5_K: decode_q5_k(row, out); break;
            case BlockType::Q6_K: decode_q6_k(row, out); break;
            case BlockType::IQ4_NL: decode_nibbles(row + 2, kIq4Values, read_half(row), out); break;
            case BlockType::IQ4_XS: decode_iq4_xs(row, out); break;
            case BlockType::MXFP4:
                decode_nibbles(row + 1, kFp4Values, half_of_e8m0(row[0]), out);
                break;
            case BlockType::NVFP4: decode_nvfp4(row, out); break;
        }
    }
}

}  // namespace nextn
