// executor/executor.h: runs a plan's steps. Built operation by operation, then stepped.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "executor/memory.h"
#include "executor/operations.h"
#include "executor/step.h"
#include "executor/thread_pool.h"
#include "kernels/kernels.h"

namespace nextn {

struct ExecutorLimits {
    int threads;
    int max_rows;
    int block_count;
    CacheType cache_type;
};

class Executor {
public:
    explicit Executor(const ExecutorLimits& limits, const KernelTable& kernels);

    // Building. Every function returns the number by which operations refer to the thing.
    int add_buffer(int width);
    // Packs a row-major matrix. If `mapped`, `data` is a read-only mapping of a file, and its pages
    // are given back as soon as they were read, so that the matrix is never twice in memory. Throws
    // std::domain_error if a scale is NaN or infinite.
    int add_matrix(BlockType type, int rows, int columns, const uint8_t* data, bool mapped);
    int add_vector(const float* values, int width);
    int add_rotary(const double* frequencies, int pairs, bool interleaved, double magnitude);
    int add_cache_layer(int kv_heads, int head_width);
    void add_operation(std::unique_ptr<StepOperation> operation);
    void add_logits(std::unique_ptr<Logits> operation);

    const Buffer& buffer(int index) const { return buffers_.at(index); }
    const PackedMatrix& matrix(int index) const { return *matrices_.at(index); }
    // A vector of exactly this width; null for an index below 0. Throws std::invalid_argument.
    const float* vector(int index, int width) const;
    RotaryTable& rotary(int index) { return *rotaries_.at(index); }
    const CacheLayer& cache_layer(int index) const { return *cache_layers_.at(index); }

    // Allocates what depends on all operations; to be called once, after the last one was added,
    // and before the first step.
    void finish();

    // Runs one step. The rows have been checked. Returns [rows that want logits][logits_stride()].
    const float* step(const StepRows& rows);

    size_t logits_stride() const { return logits_columns_; }
    int threads() const { return pool_.size(); }
    int max_rows() const { return limits_.max_rows; }
    CacheType cache_type() const { return limits_.cache_type; }
    const KernelTable& kernels() const { return kernels_; }
    size_t weight_bytes() const { return weights_.bytes(); }
    size_t cache_bytes() const { return cache_.bytes(); }

private:
    const ExecutorLimits limits_;
    const KernelTable& kernels_;
    ThreadPool pool_;
    Arena weights_;
    std::vector<Memory> buffer_memory_;
    std::vector<Buffer> buffers_;
    std::vector<std::unique_ptr<PackedMatrix>> matrices_;
    struct Vector {
        const float* data;
        int width;
    };
    std::vector<Vector> vectors_;
    std::vector<std::unique_ptr<RotaryTable>> rotaries_;
    std::vector<std::unique_ptr<CacheLayer>> cache_layers_;
    Memory cache_;
    std::vector<std::unique_ptr<StepOperation>> operations_;
    Scratch scratch_;
    Memory logits_;
    std::atomic_flag stepping_ = ATOMIC_FLAG_INIT;
    size_t logits_columns_ = 0;
    bool finished_ = false;
};

}  // namespace nextn
