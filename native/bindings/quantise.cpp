// bindings/quantise.cpp: quantisers.
#include "quantise/quantise.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>

#include "kernels/select.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OutBytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

constexpr int kMostThreads = 1024;

[[noreturn]] void refuse(const std::string& reason) {
    throw std::invalid_argument("[quantise] " + reason);
}

void check_importance(const Floats& importance, int64_t columns) {
    if (static_cast<int64_t>(importance.shape(0)) != columns) {
        refuse("importance and rows do not belong together");
    }
    for (size_t i = 0; i < importance.shape(0); ++i) {
        const float value = importance.data()[i];
        if (!(value > 0.0F) || !std::isfinite(value)) {
            refuse("importance must be finite and above zero");
        }
    }
}

int64_t quantise(int source_type_id, Bytes source, int type_id, int64_t columns,
                 std::optional<Floats> importance, OutBytes out, int threads,
                 const std::string& kernels, bool lattice) {
    nextn::QuantiseTask task{};
    task.source_type = static_cast<nextn::BlockType>(source_type_id);
    task.type = static_cast<nextn::BlockType>(type_id);
    const nextn::BlockSize from = nextn::block_size(task.source_type);
    const nextn::BlockSize to = nextn::block_size(task.type);
    if (from.bytes == 0) refuse("unknown block type " + std::to_string(source_type_id));
    if (to.bytes == 0 || !nextn::can_encode(task.type)) {
        refuse("cannot write the block type " + std::to_string(type_id));
    }
    if (columns < 1 || columns % from.elements != 0 || columns % to.elements != 0) {
        refuse("rows of " + std::to_string(columns) + " are not whole blocks");
    }
    const size_t row_size = nextn::row_bytes(task.source_type, columns);
    const size_t rows = source.shape(0) / row_size;
    if (rows * row_size != source.shape(0) ||
        rows * nextn::row_bytes(task.type, columns) != out.shape(0)) {
        refuse("bytes and columns do not belong together");
    }
    if (threads < 1 || threads > kMostThreads) refuse("impossible number of threads");
    if (lattice && task.type != nextn::BlockType::Q4_0) refuse("only Q4_0 has the lattice");
    task.source = source.data();
    task.out = out.data();
    task.rows = static_cast<int64_t>(rows);
    task.columns = columns;
    task.lattice = lattice;
    if (importance.has_value()) {
        check_importance(*importance, columns);
        task.importance = importance->data();
    }
    const nextn::KernelTable& table = nextn::kernels_named(kernels);
    nb::gil_scoped_release release;
    return nextn::quantise_rows(task, threads, table);
}

int64_t lattice_blocks(Floats values) {
    if (values.shape(0) % 32 != 0) refuse("values are not whole blocks of 32");
    nb::gil_scoped_release release;
    return nextn::count_lattice_blocks(values.data(), static_cast<int64_t>(values.shape(0) / 32));
}

}  // namespace

void bind_quantise(nb::module_& m) {
    m.def("quantise_blocks", &quantise, "source_type_id"_a, "source"_a, "type_id"_a, "columns"_a,
          "importance"_a.none(), "out"_a.noconvert(), "threads"_a, "kernels"_a, "lattice"_a = false,
          "Encode rows of one block type in another; returns the first bad row, or -1.");
    m.def("count_q4_0_lattice_blocks", &lattice_blocks, "values"_a,
          "How many blocks of 32 values lie on the lattice of Q4_0.");
}
