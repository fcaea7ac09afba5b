// bindings/formats.cpp: block formats, and arrays of strings in files.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "formats/block_formats.h"
#include "formats/strings.h"

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

std::pair<int64_t, int64_t> skip(Bytes data, int64_t count, int64_t most) {
    if (most < 0) throw std::invalid_argument("[skip_strings] a negative limit");
    const auto size = static_cast<int64_t>(data.shape(0));
    const nextn::Strings found = nextn::skip_strings(data.data(), size, count, most);
    return {found.count, found.bytes};
}

nb::bytes join(Bytes data, int64_t count) {
    const auto size = static_cast<int64_t>(data.shape(0));
    const nextn::Strings found = nextn::skip_strings(data.data(), size, count, size);
    if (found.count != count || found.bytes != size)
        throw std::invalid_argument("[join_strings] bytes and strings do not belong together");
    std::string joined(data.shape(0), '\0');
    auto* out = reinterpret_cast<uint8_t*>(joined.data());
    return nb::bytes(joined.data(),
                     static_cast<size_t>(nextn::join_strings(data.data(), count, out)));
}

}  // namespace

void bind_formats(nb::module_& m) {
    m.def("decode_blocks", &decode, "type_id"_a, "data"_a, "out"_a.noconvert(),
          "Decode whole blocks (uint8) into `out` (float32).");
    m.def("skip_strings", &skip, "data"_a, "count"_a, "most"_a,
          "How many of `count` strings, each behind its length (u64), are whole, and their bytes.");
    m.def("join_strings", &join, "data"_a, "count"_a,
          "Strings, each behind its length (u64), with a NUL between them instead.");
}
