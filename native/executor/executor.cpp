// executor/executor.cpp
#include "executor/executor.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>

namespace nextn {

namespace {

constexpr ptrdiff_t kReleaseBytes = ptrdiff_t{1} << 20;

}  // namespace

Executor::Executor(const ExecutorLimits& limits, const KernelTable& kernels)
    : limits_(limits), kernels_(kernels), pool_(limits.threads) {
    scratch_.private_.resize(static_cast<size_t>(limits.threads));
    scratch_.row_factors.resize(static_cast<size_t>(limits.threads));
    scratch_.norm_rows.resize(static_cast<size_t>(limits.threads));
}

int Executor::add_buffer(int width) {
    const size_t stride = align_up(static_cast<size_t>(width), 32);
    buffer_memory_.emplace_back(static_cast<size_t>(limits_.max_rows) * stride * sizeof(float));
    buffers_.push_back({buffer_memory_.back().as<float>(), width, stride});
    return static_cast<int>(buffers_.size()) - 1;
}

int Executor::add_matrix(BlockType type, int rows, int columns, const uint8_t* data, bool mapped) {
    auto matrix = std::make_unique<PackedMatrix>();
    matrix->type = type;
    matrix->rows = rows;
    matrix->columns = columns;
    matrix->blocks = (columns + kBlockColumns - 1) / kBlockColumns;
    matrix->tiles = (rows + kTileRows - 1) / kTileRows;
    matrix->tile_bytes = tile_bytes(type, matrix->blocks);
    const size_t bytes = static_cast<size_t>(matrix->tiles) * matrix->tile_bytes;
    uint8_t* packed = weights_.allocate(bytes);
    building_->weight_bytes += bytes;
    matrix->data = packed;
    const PackedMatrix& m = *matrix;
    std::atomic<bool> finite{true};
    // The thread that will read a tile touches its memory first.
    pool_.run([&](int thread) {
        const Share share = share_of(m.tiles, thread, pool_.size());
        const auto source_of = [&](int tile) {
            const int row = std::min(tile * kTileRows, rows);
            return data + static_cast<size_t>(row) * row_bytes(type, columns);
        };
        const uint8_t* kept = source_of(share.begin);
        for (int tile = share.begin; tile < share.end; ++tile) {
            pack_tile(type, data, rows, columns, tile,
                      packed + static_cast<size_t>(tile) * m.tile_bytes);
            if (!is_finite(type, packed + static_cast<size_t>(tile) * m.tile_bytes, m.blocks))
                finite.store(false, std::memory_order_relaxed);
            const uint8_t* end = source_of(tile + 1);
            if (mapped && (end - kept >= kReleaseBytes || tile + 1 == share.end)) {
                release_mapped(kept, end);
                kept = end;
            }
        }
    });
    if (!finite.load()) throw std::domain_error("[weight] a scale is NaN or infinite");
    matrices_.push_back(std::move(matrix));
    return static_cast<int>(matrices_.size()) - 1;
}

int Executor::add_vector(const float* values, int width) {
    const size_t stored = align_up(static_cast<size_t>(width), 32) * sizeof(float);
    float* copy = reinterpret_cast<float*>(weights_.allocate(stored));
    std::memcpy(copy, values, static_cast<size_t>(width) * sizeof(float));
    vectors_.push_back({copy, width});
    return static_cast<int>(vectors_.size()) - 1;
}

const float* Executor::vector(int index, int width) const {
    if (index < 0) return nullptr;
    const Vector& vector = vectors_.at(static_cast<size_t>(index));
    if (vector.width != width) throw std::invalid_argument("[weight] a vector of another width");
    return vector.data;
}

int Executor::add_rotary(const double* frequencies, int pairs, bool interleaved, double magnitude) {
    auto table = std::make_unique<RotaryTable>();
    table->frequencies.assign(frequencies, frequencies + pairs);
    table->interleaved = interleaved;
    table->magnitude = magnitude;
    const size_t size = static_cast<size_t>(limits_.max_rows) * static_cast<size_t>(pairs);
    table->cos.resize(size);
    table->sin.resize(size);
    rotaries_.push_back(std::move(table));
    return static_cast<int>(rotaries_.size()) - 1;
}

int Executor::add_cache_layer(int kv_heads, int head_width) {
    auto layer = std::make_unique<CacheLayer>();
    layer->type = limits_.cache_type;
    layer->kv_heads = kv_heads;
    layer->head_width = head_width;
    layer->head_stride = 2 * cache_part_bytes(layer->type, head_width);
    cache_layers_.push_back(std::move(layer));
    return static_cast<int>(cache_layers_.size()) - 1;
}

int Executor::add_hidden_layer(int width) {
    hidden_layers_.push_back(std::make_unique<HiddenLayer>(HiddenLayer{width, 0, nullptr}));
    return static_cast<int>(hidden_layers_.size()) - 1;
}

void Executor::begin_head(int vocab_size, std::vector<int32_t> token_ids) {
    if (finished_ || has_head()) throw std::logic_error("[executor] a head begins twice, or late");
    building_ = &head_;
    head_vocab_ = static_cast<size_t>(vocab_size);
    head_token_ids_ = std::move(token_ids);
}

void Executor::add_operation(std::unique_ptr<StepOperation> operation) {
    if (finished_) throw std::logic_error("[executor] an operation was added after the last one");
    building_->operations.push_back(std::move(operation));
}

void Executor::add_logits(std::unique_ptr<Logits> operation) {
    const size_t columns = static_cast<size_t>(operation->matrix->tiles) * kTileRows;
    add_operation(std::move(operation));
    building_->logits_columns = columns;
}

int Executor::add_observer(std::unique_ptr<Observe> operation) {
    observers_.push_back(operation.get());
    add_operation(std::move(operation));
    return static_cast<int>(observers_.size()) - 1;
}

void Executor::finish() {
    if (finished_) throw std::logic_error("[executor] finished twice");
    if (has_head() && head_vocab_ > head_.logits_columns) {
        throw std::logic_error("[executor] the head has fewer logits than its vocabulary");
    }
    size_t block_stride = 0;
    for (const auto& layer : cache_layers_) {
        block_stride += layer->head_stride * static_cast<size_t>(layer->kv_heads);
    }
    for (const auto& layer : hidden_layers_) block_stride += layer->bytes();
    const size_t blocks = static_cast<size_t>(limits_.block_count);
    if (block_stride > 0 && blocks > SIZE_MAX / block_stride) throw std::bad_alloc();
    cache_ = Memory(blocks * block_stride);
    uint8_t* data = cache_.as<uint8_t>();
    for (const auto& layer : cache_layers_) {
        layer->block_stride = block_stride;
        layer->data = data;
        data += layer->head_stride * static_cast<size_t>(layer->kv_heads);
    }
    for (const auto& layer : hidden_layers_) {
        layer->block_stride = block_stride;
        layer->data = data;
        data += layer->bytes();
    }
    const size_t cache = third_cache_bytes();
    head_may_stay_ = may_pass_caches() && head_.weight_bytes < cache && cache < trunk_.weight_bytes;
    for (Program* program : {&trunk_, &head_}) {
        // Room for the logits of all rows, of which only what is used is ever touched.
        program->logits =
            Memory(static_cast<size_t>(limits_.max_rows) * program->logits_columns * sizeof(float));
        for (size_t i = 0; i + 1 < program->operations.size(); ++i) {
            Prologue* next = program->operations[i + 1]->prologue_to_feed();
            if (next != nullptr) program->operations[i]->feed(*next);
        }
        for (const auto& operation : program->operations) {
            operation->reserve(scratch_, limits_.max_rows);
        }
    }
    finished_ = true;
}

void Executor::run(const Program& program, const StepRows& rows, bool passing) {
    StepContext context{rows,         kernels_, pool_,   scratch_,
                        pool_.size(), ++steps_, passing, program.logits.as<float>()};
    for (const auto& operation : program.operations) operation->prepare(context);
    pool_.run([&](int thread) {
        const Share share = share_of(rows.count, thread, pool_.size());
        for (const auto& rotary : rotaries_) rotary->fill(rows, share.begin, share.end);
        pool_.barrier();
        for (const auto& operation : program.operations) {
            operation->run(context, thread);
            pool_.barrier();
        }
    });
}

Executor::Running::Running(Executor& executor) : flag_(executor.stepping_) {
    if (!executor.finished_) {
        throw std::logic_error("[executor] a step before the last operation was added");
    }
    if (flag_.test_and_set()) {
        throw std::logic_error("[executor] another thread is running a step");
    }
}

const float* Executor::step(const StepRows& rows) {
    const Running running(*this);
    // The trunk's weights go through the whole cache in every step, and few are found there again.
    // Those of a head that drafts before most steps are, if they are let alone.
    run(trunk_, rows, head_may_stay_ && steps_since_draft_ < kLastingSteps);
    steps_since_draft_ = std::min(steps_since_draft_ + 1, kLastingSteps);
    return trunk_.logits.as<float>();
}

}  // namespace nextn
