// formats/strings.h: arrays of strings in GGUF files, each behind its length (u64).
//
// A vocabulary and its merges are half a million strings; to step over them is what opening a file
// costs.
#pragma once

#include <cstdint>

namespace nextn {

struct Strings {
    int64_t count;  // strings that were stepped over
    int64_t bytes;  // of them, lengths included
};

// Steps over strings as long as they lie within `size` bytes and none has more than `most`.
Strings skip_strings(const uint8_t* data, int64_t size, int64_t count, int64_t most);

// Writes strings, which must all be there, one behind the other, with a NUL between them. Returns
// the bytes that were written, which are fewer than those of the strings with their lengths.
int64_t join_strings(const uint8_t* data, int64_t count, uint8_t* out);

}  // namespace nextn
