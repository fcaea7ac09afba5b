// bindings/formats.cpp: block formats, for tests and tools.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>
#include <string>

#include "formats/block_formats.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void decode(int type_id, Bytes data, Floats out) {
    const auto type = static_cast<nextn::BlockType>(type_id);
    const nextn::BlockSize size = nextn::block_size(type);
    if (size.bytes == 0)
        throw std::invalid_argument("unknown block type " + std::to_string(type_id));
    const size_t elements = out.shape(0);
    if (elements % static_cast<size_t>(size.elements) != 0 ||
        nextn::row_bytes(type, static_cast<int64_t>(elements)) != data.shape(0)) {
        throw std::invalid_argument("[decode_blocks] bytes and elements do not belong together");
    }
    nb::gil_scoped_release release;
    nextn::decode_row(type, data.data(), static_cast<int64_t>(elements), out.data());
}

}  // namespace

void bind_formats(nb::module_& m) {
    m.def("decode_blocks", &decode, "type_id"_a, "data"_a, "out"_a.noconvert(),
          "Decode whole blocks (uint8) into `out` (float32).");
}
