// kernels/select.h: which instruction sets this processor has.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace nextn {

// Names of the kernel tables that can run here, the best one first.
std::vector<std::string> available_kernels();

// The table of that name; throws std::invalid_argument for one that cannot run here.
const KernelTable& kernels_named(const std::string& name);

}  // namespace nextn
