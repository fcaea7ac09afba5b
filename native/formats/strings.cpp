// formats/strings.cpp
#include "formats/strings.h"

#include <cstring>

namespace nextn {

namespace {

constexpr int64_t kLengthBytes = 8;

uint64_t length_at(const uint8_t* data) {
    uint64_t length;
    std::memcpy(&length, data, sizeof length);
    return length;
}

}  // namespace

Strings skip_strings(const uint8_t* data, int64_t size, int64_t count, int64_t most) {
    Strings found{0, 0};
    while (found.count < count && size - found.bytes >= kLengthBytes) {
        const uint64_t length = length_at(data + found.bytes);
        const int64_t left = size - found.bytes - kLengthBytes;
        if (length > static_cast<uint64_t>(most) || length > static_cast<uint64_t>(left)) break;
        found.bytes += kLengthBytes + static_cast<int64_t>(length);
        ++found.count;
    }
    return found;
}

int64_t join_strings(const uint8_t* data, int64_t count, uint8_t* out) {
    uint8_t* at = out;
    for (int64_t i = 0; i < count; ++i) {
        if (i > 0) *at++ = 0;
        const auto length = static_cast<size_t>(length_at(data));
        std::memcpy(at, data + kLengthBytes, length);
        at += length;
        data += kLengthBytes + length;
    }
    return at - out;
}

}  // namespace nextn
