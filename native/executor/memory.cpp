// executor/memory.cpp
#include "executor/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <utility>

#include "formats/packed.h"

namespace nextn {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kArenaChunk = size_t{32} << 20;

#if defined(__SANITIZE_ADDRESS__)

// From the sanitiser's heap, which watches the bytes before and behind. Every piece of an arena
// must be a block of its own for that.
constexpr bool kWatched = true;

void* take(size_t bytes) {
    void* data = nullptr;
    if (posix_memalign(&data, 64, bytes) != 0) throw std::bad_alloc();
    return std::memset(data, 0, bytes);
}

void give_back(void* data, size_t /*bytes*/) { std::free(data); }

#else

constexpr bool kWatched = false;

void* take(size_t bytes) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    // A wish that the system may refuse; nothing depends on it. Small buffers do without: of most
    // of them only the first rows are ever touched.
    if (bytes >= kArenaChunk) (void)madvise(data, bytes, MADV_HUGEPAGE);
#endif
    return data;
}

void give_back(void* data, size_t bytes) { munmap(data, bytes); }

#endif

}  // namespace

Memory::Memory(size_t bytes) : data_(bytes == 0 ? nullptr : take(bytes)), bytes_(bytes) {}

Memory::~Memory() {
    if (data_ != nullptr) give_back(data_, bytes_);
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
    if (kWatched || chunks_.empty() || used_ + bytes > chunks_.back().bytes()) {
        const size_t chunk = align_up(std::max(bytes, kArenaChunk), kHugePage);
        chunks_.emplace_back(kWatched ? bytes : chunk);
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

size_t third_cache_bytes() {
    // Not sysconf, which may give the sum of all caches of a processor that has several.
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");
    size_t size = 0;
    if (!(file >> size)) return size_t{32} << 20;
    char unit = '\0';
    file >> unit;
    if (unit == 'M') return size << 20;
    return unit == 'K' ? size << 10 : size;
}

bool may_pass_caches() {
#if defined(__x86_64__)
    // With PREFETCHNTA, AMD's Zen 5 reads as fast as without. Intel's Emerald Rapids, which then
    // takes lines past its second cache, read weights beyond the third one at 0.5 to 0.9 of the
    // speed, whether asked for 2 KiB ahead or 16.
    return __builtin_cpu_is("amd") != 0;
#else
    return false;
#endif
}

}  // namespace nextn
