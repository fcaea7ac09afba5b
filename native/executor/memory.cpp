// executor/memory.cpp
#include "executor/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

#include "formats/packed.h"

namespace nextn {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kArenaChunk = size_t{32} << 20;

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    // A wish that the system may refuse; nothing depends on it. Small buffers do without: of most
    // of them only the first rows are ever touched.
    if (bytes >= kArenaChunk) (void)madvise(data_, bytes, MADV_HUGEPAGE);
#endif
}

Memory::~Memory() {
    if (data_ != nullptr) munmap(data_, bytes_);
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

uint8_t* Arena::allocate(size_t bytes) {
    bytes = align_up(bytes, 64);
    if (chunks_.empty() || used_ + bytes > chunks_.back().bytes()) {
        chunks_.emplace_back(align_up(std::max(bytes, kArenaChunk), kHugePage));
        used_ = 0;
    }
    uint8_t* data = chunks_.back().as<uint8_t>() + used_;
    used_ += bytes;
    total_ += bytes;
    return data;
}

void release_mapped(const uint8_t* begin, const uint8_t* end) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t first = align_up(reinterpret_cast<uintptr_t>(begin), page);
    const uintptr_t last = reinterpret_cast<uintptr_t>(end) / page * page;
    // A wish, too.
    if (first < last) (void)madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace nextn
