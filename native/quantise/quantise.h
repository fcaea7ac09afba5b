// quantise/quantise.h: rows of one block format into another, on several threads.
#pragma once

#include <cstdint>

#include "formats/block_formats.h"
#include "kernels/kernels.h"

namespace nextn {

struct QuantiseTask {
    BlockType source_type;
    const uint8_t* source;  // [rows] rows of whole blocks
    BlockType type;
    uint8_t* out;  // [rows] rows of whole blocks
    int64_t rows;
    int64_t columns;
    const float* importance;  // [columns], above zero, about 1 on average; or null
    bool lattice;             // Q4_0 only: keep blocks that lie on its lattice exactly
};

// Whether nextn can write the format.
bool can_encode(BlockType type);

// Whether a block has no scale, minimum or plain number that is NaN or infinite.
bool block_is_finite(BlockType type, const uint8_t* block);

// Encodes all rows. Each is a function of its own values alone, so that neither the number of
// threads nor the kernel set changes a byte.
// Returns the first row with a value that is not finite, or too large for the format; -1 if all
// are good.
int64_t quantise_rows(const QuantiseTask& task, int threads, const KernelTable& kernels);

// How many blocks of 32 of some float32 values lie on the lattice of Q4_0; see lattice.h.
int64_t count_lattice_blocks(const float* x, int64_t blocks);

}  // namespace nextn
