// quantise/quantise.cpp
#include "quantise/quantise.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "executor/thread_pool.h"
#include "quantise/lattice.h"

namespace nextn {

namespace {

constexpr int64_t kValuesPerTurn = 1 << 15;  // that a thread takes at once
constexpr int kLatticeColumns = 32;

bool half_is_finite(const uint8_t* bytes) {
    uint16_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return (bits & 0x7C00) != 0x7C00;
}

// The largest magnitude that the scales of a format reach.
float largest_value(BlockType type) {
    constexpr float kHalf = 65504.0F;
    switch (type) {
        case BlockType::Q4_0: return kHalf * 8.0F;
        case BlockType::Q4_1: return kHalf * 16.0F;
        case BlockType::Q5_0: return kHalf * 16.0F;
        case BlockType::Q5_1: return kHalf * 32.0F;
        case BlockType::Q8_0: return kHalf * 127.0F;
        case BlockType::Q4_K: return kHalf * 63.0F * 15.0F;
        case BlockType::Q5_K: return kHalf * 63.0F * 31.0F;
        case BlockType::Q6_K: return kHalf * 128.0F * 32.0F;
        case BlockType::IQ4_NL: return kHalf * 127.0F;
        case BlockType::NVFP4: return 448.0F * 6.0F;
        case BlockType::MXFP4: return 1e15F;  // beyond, squares of errors would overflow
        default: return std::numeric_limits<float>::max();
    }
}

// Whether all magnitudes are at most `most`; NaN and infinity are beyond everything.
bool all_within(const float* x, int64_t count, float most) {
    uint32_t limit;
    std::memcpy(&limit, &most, sizeof limit);
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7FFFFFFF) > limit ? 1 : 0;
    }
    return bad == 0;
}

class Worker {
public:
    Worker(const QuantiseTask& task, const KernelTable& kernels)
        : task_(task),
          kernels_(kernels),
          largest_(largest_value(task.type)),
          values_(static_cast<size_t>(task.columns)),
          source_bytes_(row_bytes(task.source_type, task.columns)),
          out_bytes_(row_bytes(task.type, task.columns)) {}

    // False if a value is not finite, or too large.
    bool encode(int64_t row) {
        const uint8_t* source = task_.source + static_cast<size_t>(row) * source_bytes_;
        uint8_t* out = task_.out + static_cast<size_t>(row) * out_bytes_;
        float* x = values_.data();
        kernels_.decode_row(task_.source_type, source, task_.columns, x);
        if (!all_within(x, task_.columns, largest_)) return false;
        kernels_.encode_row(task_.type, x, task_.importance, task_.columns, out);
        if (task_.lattice) keep_lattice(x, out);
        const BlockSize size = block_size(task_.type);
        for (size_t at = 0; at < out_bytes_; at += static_cast<size_t>(size.bytes)) {
            if (!block_is_finite(task_.type, out + at)) return false;
        }
        return true;
    }

private:
    void keep_lattice(const float* x, uint8_t* out) const {
        const int size = block_size(BlockType::Q4_0).bytes;
        uint8_t exact[18];
        for (int64_t i = 0; i < task_.columns; i += kLatticeColumns, out += size) {
            if (encode_q4_0_lattice(x + i, exact)) std::memcpy(out, exact, sizeof exact);
        }
    }

    const QuantiseTask& task_;
    const KernelTable& kernels_;
    const float largest_;
    std::vector<float> values_;
    const size_t source_bytes_;
    const size_t out_bytes_;
};

}  // namespace

bool can_encode(BlockType type) {
    switch (type) {
        case BlockType::F32:
        case BlockType::F16:
        case BlockType::BF16:
        case BlockType::Q4_0:
        case BlockType::Q4_1:
        case BlockType::Q5_0:
        case BlockType::Q5_1:
        case BlockType::Q8_0:
        case BlockType::Q4_K:
        case BlockType::Q5_K:
        case BlockType::Q6_K:
        case BlockType::IQ4_NL:
        case BlockType::MXFP4:
        case BlockType::NVFP4: return true;
        default: return false;
    }
}

bool block_is_finite(BlockType type, const uint8_t* block) {
    switch (type) {
        case BlockType::F32: {
            float value;
            std::memcpy(&value, block, sizeof value);
            return std::isfinite(value);
        }
        case BlockType::BF16: {
            uint16_t bits;
            std::memcpy(&bits, block, sizeof bits);
            return (bits & 0x7F80) != 0x7F80;
        }
        case BlockType::Q4_1:
        case BlockType::Q5_1:
        case BlockType::Q4_K:
        case BlockType::Q5_K: return half_is_finite(block) && half_is_finite(block + 2);
        case BlockType::Q6_K: return half_is_finite(block + 208);
        case BlockType::MXFP4: return block[0] < kFirstBadPower;
        case BlockType::NVFP4: return true;
        default: return half_is_finite(block);
    }
}

int64_t quantise_rows(const QuantiseTask& task, int threads, const KernelTable& kernels) {
    const int64_t turn = std::max<int64_t>(1, kValuesPerTurn / std::max<int64_t>(1, task.columns));
    const int64_t turns = (task.rows + turn - 1) / turn;
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> first_bad{task.rows};
    std::vector<Worker> workers;
    workers.reserve(static_cast<size_t>(threads));
    for (int i = 0; i < threads; ++i) workers.emplace_back(task, kernels);
    const auto work = [&](int thread) {
        Worker& worker = workers[static_cast<size_t>(thread)];
        for (int64_t t = next.fetch_add(1); t < turns; t = next.fetch_add(1)) {
            const int64_t end = std::min(task.rows, (t + 1) * turn);
            for (int64_t row = t * turn; row < end; ++row) {
                // After a bad row, only those before it still matter.
                if (row >= first_bad.load(std::memory_order_relaxed)) return;
                if (worker.encode(row)) continue;
                int64_t known = first_bad.load();
                while (row < known && !first_bad.compare_exchange_weak(known, row)) {
                }
                return;
            }
        }
    };
    if (threads == 1 || turns == 1) {
        work(0);
    } else {
        ThreadPool(threads).run(work);
    }
    const int64_t bad = first_bad.load();
    return bad < task.rows ? bad : -1;
}

int64_t count_lattice_blocks(const float* x, int64_t blocks) {
    uint8_t block[18];
    int64_t found = 0;
    for (int64_t i = 0; i < blocks; ++i) {
        found += encode_q4_0_lattice(x + i * kLatticeColumns, block) ? 1 : 0;
    }
    return found;
}

}  // namespace nextn
