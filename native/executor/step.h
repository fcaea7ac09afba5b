// executor/step.h: the rows of a step and the memory that its operations share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "executor/memory.h"
#include "executor/thread_pool.h"
#include "kernels/kernels.h"

namespace nextn {

// Rows of one sequence, contiguous in the step and in position.
struct Segment {
    int first_row;
    int rows;
    int position;          // of the first row
    const int32_t* table;  // cache blocks of the sequence
};

struct StepRows {
    int count;
    const int32_t* tokens;
    const int32_t* positions;
    std::vector<Segment> segments;
    std::vector<int> logits_rows;
};

// Finds the segments of ascending rows.
class SegmentCursor {
public:
    explicit SegmentCursor(const StepRows& rows) : segments_(rows.segments) {}

    const Segment& of(int row) {
        while (segments_[index_].first_row + segments_[index_].rows <= row) ++index_;
        return segments_[index_];
    }

private:
    const std::vector<Segment>& segments_;
    size_t index_ = 0;
};

// float32 [max_rows][stride]; the stride is the width padded to 32, and the padding stays zero.
struct Buffer {
    float* data;
    int width;
    size_t stride;

    float* row(int index) const { return data + static_cast<size_t>(index) * stride; }
};

// One layer of the key/value cache. A block holds all layers, one after the other, so that memory
// is touched by block and not by layer; see AttendTask for the layout of a layer's part.
struct CacheLayer {
    CacheType type;
    int kv_heads;
    int head_width;
    size_t head_stride;   // bytes of one key head in one block
    size_t block_stride;  // bytes of one block, with all layers
    uint8_t* data;        // its part of block 0

    uint8_t* head(int block, int kv_head) const {
        return data + static_cast<size_t>(block) * block_stride +
               static_cast<size_t>(kv_head) * head_stride;
    }
};

// One layer of hidden states: bfloat16 [positions of a block][width], in every cache block.
struct HiddenLayer {
    int width;
    size_t block_stride;  // bytes of one block, with all layers
    uint8_t* data;        // its part of block 0

    size_t bytes() const {
        return static_cast<size_t>(kCacheBlockTokens) * static_cast<size_t>(width) * 2;
    }
    // The state of one position of a sequence.
    uint16_t* row(const Segment& segment, int position) const {
        const size_t block = static_cast<size_t>(segment.table[position / kCacheBlockTokens]);
        const size_t offset = static_cast<size_t>(position % kCacheBlockTokens);
        return reinterpret_cast<uint16_t*>(data + block * block_stride) +
               offset * static_cast<size_t>(width);
    }
};

// Cosines and sines of a step's rows for one set of frequencies: [rows][pairs].
struct RotaryTable {
    std::vector<double> frequencies;
    bool interleaved;
    double magnitude;
    std::vector<float> cos;
    std::vector<float> sin;

    void fill(const StepRows& rows, int begin, int end);
    RopeTask task() const {
        return {cos.data(), sin.data(), static_cast<int>(frequencies.size()), interleaved};
    }
};

// Memory for quantised or spread activations of up to `rows` rows.
class ActivationScratch {
public:
    void reserve(int rows, int columns, bool integer, bool real);
    // Lays out `rows` rows of `columns` columns in groups of at most kMaxGroupRows, evenly. `fine`
    // asks for a scale per 16 columns.
    void arrange(int rows, int columns, bool fine, std::vector<RowGroup>& groups) const;

private:
    Memory q_, scale_, scaled_sum_, sums_, values_, squares_;
    size_t max_integer_ = 0;
    size_t max_blocks_ = 0;
    size_t max_values_ = 0;
};

// Which thread computes what of attention: the same for all layers with these heads and window.
struct AttendSchedule {
    // Queries n of a sequence, row by row and within a row head by head, that share a key head.
    struct Item {
        int segment;
        int kv_head;
        int first_query;
        int queries;  // at most kMaxQueries
        int first_chunk;
        int chunks;
        size_t first_state;  // index of its states where the work is split by chunk
    };

    int heads;
    int kv_heads;
    int window;
    uint64_t step = 0;  // that it was built for
    bool split;         // into chunk_jobs
    size_t states;
    std::vector<Item> items;
    std::vector<int> begins;  // where each thread's items begin, and the end; unless split
    std::vector<std::pair<int, int>> chunk_jobs;  // (item, chunk)

    void build(const StepRows& rows, int threads);
};

// Memory that operations use within themselves; one operation runs at a time.
struct Scratch {
    // Two, for the operations that convert activations in turn: while one is read, the other is
    // written.
    ActivationScratch shared[2];
    int next_shared = 0;
    std::vector<ActivationScratch> private_;  // one for each thread, for few rows
    std::vector<Memory> row_factors;          // one for each thread: float32 [rows]
    std::vector<Memory> norm_rows;            // one for each thread: a row
    Memory attend_states;                     // partial results of split attention
    Memory observed;                          // normed rows of an observer
    std::vector<std::unique_ptr<AttendSchedule>> schedules;

    AttendSchedule& schedule(int heads, int kv_heads, int window);
};

struct StepContext {
    const StepRows& rows;
    const KernelTable& kernels;
    ThreadPool& pool;
    Scratch& scratch;
    int threads;
    uint64_t number;  // of the step, from 1 on
    bool passing;     // see LinearTask
    float* logits;
};

// The part of `count` items that a thread works on.
struct Share {
    int begin;
    int end;
};

inline Share share_of(int count, int thread, int threads) {
    const int64_t total = count;
    return {static_cast<int>(total * thread / threads),
            static_cast<int>(total * (thread + 1) / threads)};
}

}  // namespace nextn
