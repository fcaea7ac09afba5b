// quantise/lattice.h: weights that already lie on the lattice of Q4_0.
//
// Checkpoints that were trained with quantisation in the loop hold, per 32 columns, bfloat16 values
// of d * q with whole q from -8 to 7. For those there is a Q4_0 block that is exact.
#pragma once

#include <cstdint>

namespace nextn {

// Writes the Q4_0 block (18 bytes) that these 32 values came from, and returns true; false if they
// do not lie on such a lattice within one unit in the last place of bfloat16.
bool encode_q4_0_lattice(const float* x, uint8_t* out);

}  // namespace nextn
