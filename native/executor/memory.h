// executor/memory.h: aligned, zeroed memory for weights, caches and buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nextn {

// Memory straight from the system: zeroed on first touch, in huge pages where they are to be had,
// and given back when the object ends.
class Memory {
public:
    Memory() = default;
    explicit Memory(size_t bytes);
    ~Memory();
    Memory(Memory&& other) noexcept;
    Memory& operator=(Memory&& other) noexcept;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }
    size_t bytes() const { return bytes_; }

private:
    void* data_ = nullptr;
    size_t bytes_ = 0;
};

// Hands out pieces of large Memory blocks, 64-byte aligned; nothing is given back before the end.
class Arena {
public:
    uint8_t* allocate(size_t bytes);
    size_t bytes() const { return total_; }

private:
    std::vector<Memory> chunks_;
    size_t used_ = 0;
    size_t total_ = 0;
};

// Tells the system that these bytes of a read-only mapping of a file are not needed in memory any
// more. They stay readable, from the file. Whole pages only: others may hold bytes of neighbours.
void release_mapped(const uint8_t* begin, const uint8_t* end);

// Size of the third cache that a core reaches; a usual one if the system does not say.
size_t third_cache_bytes();

// Whether codes that are read once can pass by the larger caches without loss of speed.
bool may_pass_caches();

}  // namespace nextn
