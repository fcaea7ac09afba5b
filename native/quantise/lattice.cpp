// quantise/lattice.cpp
#include "quantise/lattice.h"

#include <cmath>
#include <cstring>

#include "formats/block_formats.h"

namespace nextn {

namespace {

constexpr int kColumns = 32;

// One unit in the last place of a bfloat16 of this size: its power of two, seven bits lower.
float bfloat_unit(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits &= 0x7F800000;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return power * 0x1p-7F;
}

// Finds whole codes from -8 to 7 with x within some last places of d * codes; false if there are
// none.
bool codes_on(const float* x, float d, float units, int* codes) {
    const float inverse = 1.0F / d;
    for (int i = 0; i < kColumns; ++i) {
        // To the nearest: such a sum leaves no room for a fraction. Beyond its range all fails.
        const float code = (x[i] * inverse + 12582912.0F) - 12582912.0F;
        if (!(code >= -8.0F && code <= 7.0F)) return false;
        if (std::fabs(x[i] - d * code) > units * bfloat_unit(x[i])) return false;
        if (code == 0.0F && x[i] != 0.0F) return false;
        codes[i] = static_cast<int>(code);
    }
    return true;
}

float rounded_to_bfloat(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// The scale that the codes and all values together suggest: they were rounded, it was not.
float refined(const float* x, const int* codes) {
    double products = 0.0;
    double squares = 0.0;
    for (int i = 0; i < kColumns; ++i) {
        products += static_cast<double>(x[i]) * codes[i];
        squares += static_cast<double>(codes[i]) * codes[i];
    }
    return static_cast<float>(products / squares);
}

// How many values a scale reproduces to the last bit of bfloat16.
int exact_values(const float* x, float d, const int* codes) {
    int exact = 0;
    for (int i = 0; i < kColumns; ++i)
        exact += rounded_to_bfloat(d * static_cast<float>(codes[i])) == x[i] ? 1 : 0;
    return exact;
}

}  // namespace

bool encode_q4_0_lattice(const float* x, uint8_t* out) {
    float extreme = 0.0F;
    for (int i = 0; i < kColumns; ++i) {
        if (!std::isfinite(x[i])) return false;
        if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
    }
    std::memset(out, 0, 2);
    if (extreme == 0.0F) {
        std::memset(out + 2, 0x88, 16);
        return true;
    }
    // The extreme is usually code -8. In a symmetric lattice it is 7, and in sparse blocks less.
    for (int extreme_code = 8; extreme_code >= 1; --extreme_code) {
        const float first =
            extreme_code == 8 ? extreme / -8.0F : extreme / static_cast<float>(extreme_code);
        int codes[kColumns];
        // A scale that comes from a rounded value is itself up to half a unit off.
        if (!codes_on(x, first, 2.0F, codes)) continue;
        const uint16_t fitted = float_to_half(refined(x, codes));
        const uint16_t rounded = float_to_half(rounded_to_bfloat(half_to_float(fitted)));
        uint16_t best = 0;
        int most = -1;
        const auto try_scale = [&](uint16_t half) {
            const int exact = exact_values(x, half_to_float(half), codes);
            if (exact > most) {
                most = exact;
                best = half;
            }
        };
        try_scale(float_to_half(first));
        try_scale(rounded);
        // A bfloat16 is eight float16 wide.
        for (int steps = 0; steps <= 4 && most < kColumns; ++steps) {
            try_scale(static_cast<uint16_t>(fitted + steps));
            try_scale(static_cast<uint16_t>(fitted - steps));
        }
        int checked[kColumns];
        if (!codes_on(x, half_to_float(best), 1.0F, checked)) continue;
        std::memcpy(out, &best, sizeof best);
        for (int i = 0; i < 16; ++i)
            out[2 + i] = static_cast<uint8_t>((checked[i] + 8) | (checked[i + 16] + 8) << 4);
        return true;
    }
    return false;
}

}  // namespace nextn
