// executor/attend.cpp: attention: which thread computes what.
//
// The work is cut into items (some rows of a sequence, one key head). Where there are fewer items
// than threads could use, items are cut further into chunks of keys, whose states are joined in
// order afterwards. Both ways join the same states in the same order, so the result is the same.
#include <algorithm>

#include "executor/operations.h"

namespace nextn {

namespace {

constexpr int kItemsPerThread = 2;  // fewer items than this are split by chunk

// Rows of a segment that share loaded keys.
int rows_per_item(int group) { return std::max(1, kMaxQueries / group); }

}  // namespace

void Attend::reserve(Scratch& scratch, int max_rows) {
    const size_t row = align_up(static_cast<size_t>(heads * cache->head_width), 16) * sizeof(float);
    // A first guess; `prepare` makes it larger when a long context is split, which it seldom has
    // to.
    const size_t rows = static_cast<size_t>(std::min(max_rows, 64));
    const size_t bytes = rows * row;
    if (scratch.attend_states.bytes() < bytes) scratch.attend_states = Memory(bytes);
    items_.reserve(static_cast<size_t>(max_rows) * static_cast<size_t>(cache->kv_heads));
}

void Attend::prepare(StepContext& context) {
    items_.clear();
    chunk_jobs_.clear();
    const int group = heads / cache->kv_heads;
    const int step = rows_per_item(group);
    size_t states = 0;
    int most_chunks = 0;
    for (size_t s = 0; s < context.rows.segments.size(); ++s) {
        const Segment& segment = context.rows.segments[s];
        for (int row = 0; row < segment.rows; row += step) {
            const int rows = std::min(step, segment.rows - row);
            const int first = segment.position + row;
            const int first_key = window > 0 ? std::max(0, first - window + 1) : 0;
            const int first_chunk = first_key / kChunkKeys;
            const int chunks = (first + rows - 1) / kChunkKeys - first_chunk + 1;
            most_chunks = std::max(most_chunks, chunks);
            for (int head = 0; head < cache->kv_heads; ++head) {
                items_.push_back({static_cast<int>(s), segment.first_row + row, rows, head,
                                  first_chunk, chunks, states});
                states += static_cast<size_t>(chunks) * static_cast<size_t>(rows * group);
            }
        }
    }
    const size_t wanted = static_cast<size_t>(kItemsPerThread * context.threads);
    split_ = context.threads > 1 && most_chunks > 1 && items_.size() < wanted;
    if (!split_) return;
    const size_t state_floats = static_cast<size_t>(cache->head_width) + 16;
    const size_t bytes = states * state_floats * sizeof(float);
    if (context.scratch.attend_states.bytes() < bytes)
        context.scratch.attend_states = Memory(bytes);
    for (size_t i = 0; i < items_.size(); ++i) {
        for (int c = 0; c < items_[i].chunks; ++c) {
            chunk_jobs_.emplace_back(static_cast<int>(i), items_[i].first_chunk + c);
        }
    }
}

void Attend::turn_head(StepContext& context, float* head, const NormParameters& norm,
                       int row) const {
    if (norm.weight != nullptr) {
        context.kernels.rms_norm(head, norm.weight, cache->head_width, norm.epsilon, nullptr, head);
    }
    if (rotary != nullptr) context.kernels.rope(head, rotary->task(), row);
}

// Norm and rotation of queries and keys in place (nobody else reads them), and the cache's new
// rows.
void Attend::store_rows(StepContext& context, int thread) const {
    const int width = cache->head_width;
    const int per_row = heads + cache->kv_heads;
    const Share share = share_of(context.rows.count * per_row, thread, context.threads);
    SegmentCursor cursor(context.rows);
    for (int job = share.begin; job < share.end; ++job) {
        const int row = job / per_row;
        const int head = job % per_row;
        if (head < heads) {
            turn_head(context, query.row(row) + head * width, query_norm, row);
            continue;
        }
        const Segment& segment = cursor.of(row);
        const int position = segment.position + row - segment.first_row;
        const int kv_head = head - heads;
        uint8_t* block = cache->head(segment.table[position / kCacheBlockTokens], kv_head);
        turn_head(context, key.row(row) + kv_head * width, key_norm, row);
        const int token = position % kCacheBlockTokens;
        const float* new_key = key.row(row) + kv_head * width;
        const float* new_value = value.row(row) + kv_head * width;
        context.kernels.store_key(cache->type, new_key, width, token, block);
        context.kernels.store_value(cache->type, new_value, width, token, block);
    }
}

AttendTask Attend::task_of(const StepContext& context, const Item& item) const {
    const Segment& segment = context.rows.segments[static_cast<size_t>(item.segment)];
    const int group = heads / cache->kv_heads;
    AttendTask task{};
    task.type = cache->type;
    task.cache = cache->head(0, item.kv_head);
    task.block_stride = cache->block_stride;
    task.table = segment.table;
    const int last = segment.position + item.first_row - segment.first_row + item.rows - 1;
    task.block_count = last / kCacheBlockTokens + 1;
    task.head_width = cache->head_width;
    task.scale = scale;
    for (int r = 0; r < item.rows; ++r) {
        const int row = item.first_row + r;
        const int position = segment.position + row - segment.first_row;
        for (int g = 0; g < group; ++g) {
            const int n = task.query_count++;
            task.queries[n] = query.row(row) + (item.kv_head * group + g) * cache->head_width;
            task.first_key[n] = window > 0 ? std::max(0, position - window + 1) : 0;
            task.end_key[n] = position + 1;
        }
    }
    return task;
}

AttendState Attend::state_at(const StepContext& context, size_t index) const {
    const size_t state_floats = static_cast<size_t>(cache->head_width) + 16;
    float* at = context.scratch.attend_states.as<float>() + index * state_floats;
    // The two numbers of a state live behind its values.
    return {at[cache->head_width], at[cache->head_width + 1], at};
}

void Attend::run_item(StepContext& context, const Item& item) const {
    const AttendTask task = task_of(context, item);
    const int group = heads / cache->kv_heads;
    alignas(64) float partial[kMaxQueries][kMaxHeadWidth];
    alignas(64) float total[kMaxQueries][kMaxHeadWidth];
    AttendState states[kMaxQueries];
    AttendState totals[kMaxQueries];
    bool started[kMaxQueries] = {};
    for (int c = item.first_chunk; c < item.first_chunk + item.chunks; ++c) {
        for (int n = 0; n < task.query_count; ++n) {
            states[n].values = started[n] ? partial[n] : total[n];
        }
        context.kernels.attend_chunk(task, c, states);
        for (int n = 0; n < task.query_count; ++n) {
            const bool sees =
                task.first_key[n] < (c + 1) * kChunkKeys && task.end_key[n] > c * kChunkKeys;
            if (!sees) continue;
            if (started[n]) {
                context.kernels.attend_join(totals[n], states[n], cache->head_width);
            } else {
                totals[n] = states[n];
                started[n] = true;
            }
        }
    }
    for (int n = 0; n < task.query_count; ++n) {
        const int head = item.kv_head * group + n % group;
        float* target = out.row(item.first_row + n / group) + head * cache->head_width;
        context.kernels.attend_finish(totals[n], cache->head_width, target);
    }
}

void Attend::run_chunk(StepContext& context, const Item& item, int chunk) const {
    const AttendTask task = task_of(context, item);
    AttendState states[kMaxQueries];
    const size_t first = item.first_state + static_cast<size_t>(chunk - item.first_chunk) *
                                                static_cast<size_t>(task.query_count);
    for (int n = 0; n < task.query_count; ++n) {
        states[n] = state_at(context, first + static_cast<size_t>(n));
    }
    context.kernels.attend_chunk(task, chunk, states);
    for (int n = 0; n < task.query_count; ++n) {
        states[n].values[cache->head_width] = states[n].highest;
        states[n].values[cache->head_width + 1] = states[n].sum;
    }
}

void Attend::finish_item(StepContext& context, const Item& item) const {
    const AttendTask task = task_of(context, item);
    const int group = heads / cache->kv_heads;
    for (int n = 0; n < task.query_count; ++n) {
        AttendState total{};
        bool started = false;
        for (int c = 0; c < item.chunks; ++c) {
            const int chunk = item.first_chunk + c;
            const bool sees = task.first_key[n] < (chunk + 1) * kChunkKeys &&
                              task.end_key[n] > chunk * kChunkKeys;
            if (!sees) continue;
            const size_t index = item.first_state + static_cast<size_t>(c * task.query_count + n);
            const AttendState state = state_at(context, index);
            if (started) {
                context.kernels.attend_join(total, state, cache->head_width);
            } else {
                total = state;
                started = true;
            }
        }
        const int head = item.kv_head * group + n % group;
        float* target = out.row(item.first_row + n / group) + head * cache->head_width;
        context.kernels.attend_finish(total, cache->head_width, target);
    }
}

void Attend::run(StepContext& context, int thread) {
    store_rows(context, thread);
    context.pool.barrier();
    if (!split_) {
        for (size_t i = static_cast<size_t>(thread); i < items_.size();
             i += static_cast<size_t>(context.threads)) {
            run_item(context, items_[i]);
        }
        return;
    }
    // Neighbouring chunks, so that what a chunk asks for ahead is used by the same thread.
    const Share share = share_of(static_cast<int>(chunk_jobs_.size()), thread, context.threads);
    for (int j = share.begin; j < share.end; ++j) {
        const auto& [item, chunk] = chunk_jobs_[static_cast<size_t>(j)];
        run_chunk(context, items_[static_cast<size_t>(item)], chunk);
    }
    context.pool.barrier();
    for (size_t i = static_cast<size_t>(thread); i < items_.size();
         i += static_cast<size_t>(context.threads)) {
        finish_item(context, items_[i]);
    }
}

}  // namespace nextn
