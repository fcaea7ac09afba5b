// kernels/select.cpp
#include "kernels/select.h"

#include <stdexcept>

namespace nextn {

std::vector<std::string> available_kernels() {
    std::vector<std::string> names;
#if defined(NEXTN_X86)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni")) {
        names.emplace_back("avx512");
    }
    if (avx2) names.emplace_back("avx2");
#endif
    names.emplace_back("scalar");
    return names;
}

const KernelTable& kernels_named(const std::string& name) {
    for (const std::string& available : available_kernels()) {
        if (available != name) continue;
#if defined(NEXTN_X86)
        if (name == "avx512") return avx512_kernels();
        if (name == "avx2") return avx2_kernels();
#endif
        return scalar_kernels();
    }
    throw std::invalid_argument("kernels '" + name + "' cannot run on this processor");
}

}  // namespace nextn
