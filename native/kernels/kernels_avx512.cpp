// kernels/kernels_avx512.cpp: the kernels, compiled for one instruction set.
//
// No standard library here: an inline function compiled with these flags must not be the copy that
// the linker keeps for everybody.
#include "kernels/kernels.h"
#include "kernels/vec_avx512.h"

namespace nextn {

namespace avx512 {

#define NEXTN_MANY_REGISTERS  // 32
#include "kernels/math.inl"
#include "kernels/rows.inl"
// clang-format off: rows.inl comes before the files that use it.
#include "kernels/linear.inl"
#include "kernels/cache.inl"
#include "kernels/attention.inl"
#include "kernels/roofline.inl"
#include "kernels/encode/search.inl"
#include "kernels/encode/plain.inl"
#include "kernels/encode/symmetric.inl"
#include "kernels/encode/affine.inl"
#include "kernels/encode/codebook.inl"
#include "kernels/encode/row.inl"
#include "kernels/table.inl"
// clang-format on

}  // namespace avx512

const KernelTable& avx512_kernels() {
    static const KernelTable table = avx512::make_table("avx512");
    return table;
}

}  // namespace nextn
