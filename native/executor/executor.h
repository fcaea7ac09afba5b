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
#include "sampling/draft.h"

namespace nextn {

struct ExecutorLimits {
    int threads;
    int max_rows;
    int block_count;
    CacheType cache_type;
};

// Chains of drafted tokens; see src/nextn/backends/drafting.py for the meaning of all fields.
struct DraftChain {
    int depth;
    ChoiceSettings settings;
    double least;
    const float* chances;  // [depths][bins]
};

struct DraftRequest {
    std::vector<DraftChain> chains;  // chain i starts at the i-th row that wants logits
    int depths;
    int bins;
};

// [chains][stride], and one count for each chain.
struct DraftResult {
    size_t stride;
    int32_t* tokens;
    float* chances;
    float* probabilities;
    int32_t* counts;
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
    int add_hidden_layer(int width);
    // All operations added from now on are those of the head. Its logits are for `vocab_size`
    // tokens: those of `token_ids`, or if that is empty, the first ones.
    void begin_head(int vocab_size, std::vector<int32_t> token_ids);
    void add_operation(std::unique_ptr<StepOperation> operation);
    void add_logits(std::unique_ptr<Logits> operation);
    int add_observer(std::unique_ptr<Observe> operation);

    const Buffer& buffer(int index) const { return buffers_.at(index); }
    const PackedMatrix& matrix(int index) const { return *matrices_.at(index); }
    // A vector of exactly this width; null for an index below 0. Throws std::invalid_argument.
    const float* vector(int index, int width) const;
    RotaryTable& rotary(int index) { return *rotaries_.at(index); }
    const CacheLayer& cache_layer(int index) const { return *cache_layers_.at(index); }
    const Observe& observer(int index) const { return *observers_.at(index); }
    const HiddenLayer& hidden_layer(int index) const { return *hidden_layers_.at(index); }

    // Allocates what depends on all operations; to be called once, after the last one was added,
    // and before the first step.
    void finish();

    // Runs one step. The rows have been checked. Returns [rows that want logits][logits_stride()].
    const float* step(const StepRows& rows);

    // Runs the head over the rows, and then over the tokens that it drafts. Rows and request have
    // been checked.
    void draft(const StepRows& rows, const DraftRequest& request, const DraftResult& result);

    size_t logits_stride() const { return trunk_.logits_columns; }
    bool has_head() const { return building_ == &head_; }
    int threads() const { return pool_.size(); }
    int block_count() const { return limits_.block_count; }
    int max_rows() const { return limits_.max_rows; }
    CacheType cache_type() const { return limits_.cache_type; }
    const KernelTable& kernels() const { return kernels_; }
    size_t weight_bytes() const { return weights_.bytes(); }
    size_t cache_bytes() const { return cache_.bytes(); }

private:
    // The operations of trunk or head, and their logits.
    struct Program {
        std::vector<std::unique_ptr<StepOperation>> operations;
        size_t weight_bytes = 0;  // of the matrices that were added for it
        size_t logits_columns = 0;
        Memory logits;
    };
    // Held while a step or draft runs: two at once would share all buffers.
    class Running {
    public:
        explicit Running(Executor& executor);
        ~Running() { flag_.clear(); }
        Running(const Running&) = delete;
        Running& operator=(const Running&) = delete;

    private:
        std::atomic_flag& flag_;
    };

    void run(const Program& program, const StepRows& rows, bool passing);

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
    std::vector<std::unique_ptr<HiddenLayer>> hidden_layers_;
    std::vector<const Observe*> observers_;
    Memory cache_;
    Program trunk_;
    Program head_;
    Program* building_ = &trunk_;
    size_t head_vocab_ = 0;
    std::vector<int32_t> head_token_ids_;
    Scratch scratch_;
    // A head that drafted in one of the last steps will do so soon again.
    static constexpr int kLastingSteps = 4;

    uint64_t steps_ = 0;
    std::atomic_flag stepping_ = ATOMIC_FLAG_INIT;
    bool finished_ = false;
    bool head_may_stay_ = false;  // in the third cache, if the trunk's weights pass it by
    int steps_since_draft_ = kLastingSteps;
};

}  // namespace nextn
