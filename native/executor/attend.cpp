// executor/attend.cpp: attention: which thread computes what.
//
// The work is cut into items: some queries of one sequence with one key head. Each thread gets
// items that cost about as much as those of any other; so one key head may be read by two threads,
// and nothing passes between threads. With few queries, where there are more threads than key heads
// or many keys would be read twice, items are cut by chunks of keys instead, whose states are
// joined in order afterwards. Both ways join the same states in the same order, so the result is
// the same.
#include <algorithm>

#include "executor/operations.h"

namespace nextn {

namespace {

// With more queries for one key head, to exchange the states of all chunks between threads costs
// more than to read the keys and values in each of them.
constexpr int kMostSplitQueries = 2 * kMaxQueries;

// So few queries wait for the keys, which come from memory where there are many chunks of them:
// then these are read once only.
constexpr int kFewQueries = 8;
constexpr int kManyChunks = 16;

// What a query costs beside its keys, in keys.
constexpr int kQueryCost = 64;

}  // namespace

void AttendSchedule::build(const StepRows& rows, int threads) {
    items.clear();
    chunk_jobs.clear();
    states = 0;
    const int group = heads / kv_heads;
    const auto first_key = [&](int position) {
        return window > 0 ? std::max(0, position - window + 1) : 0;
    };
    const auto cost = [&](int position) {
        return int64_t{position} - first_key(position) + kQueryCost;
    };
    int64_t total = 0;
    int most_chunks = 0;
    int most_queries = 0;
    for (const Segment& segment : rows.segments) {
        const int last = segment.position + segment.rows - 1;
        for (int r = 0; r < segment.rows; ++r) total += cost(segment.position + r);
        most_chunks =
            std::max(most_chunks, last / kChunkKeys - first_key(segment.position) / kChunkKeys + 1);
        most_queries = std::max(most_queries, segment.rows * group);
    }
    total *= heads;
    const size_t key_heads = rows.segments.size() * static_cast<size_t>(kv_heads);
    const size_t team = static_cast<size_t>(threads);
    const bool read_twice =
        key_heads % team != 0 && most_chunks >= kManyChunks && most_queries < kFewQueries;
    split = most_queries < kMostSplitQueries && most_chunks > 1 && (team > key_heads || read_twice);
    begins.assign(1, 0);
    int64_t done = 0;
    const auto share_is_done = [&] {
        return !split && done * threads >= total * static_cast<int64_t>(begins.size());
    };
    for (size_t s = 0; s < rows.segments.size(); ++s) {
        const Segment& segment = rows.segments[s];
        const int queries = segment.rows * group;
        for (int head = 0; head < kv_heads; ++head) {
            for (int n = 0; n < queries;) {
                Item item{static_cast<int>(s), head, n, 0, 0, 0, states};
                do {
                    done += cost(segment.position + n / group);
                    ++n;
                } while (n < queries && n - item.first_query < kMaxQueries && !share_is_done());
                item.queries = n - item.first_query;
                const int first = segment.position + item.first_query / group;
                const int last = segment.position + (n - 1) / group;
                item.first_chunk = first_key(first) / kChunkKeys;
                item.chunks = last / kChunkKeys - item.first_chunk + 1;
                states += static_cast<size_t>(item.chunks) * static_cast<size_t>(item.queries);
                items.push_back(item);
                while (share_is_done()) begins.push_back(static_cast<int>(items.size()));
            }
        }
    }
    if (!split) return;
    for (size_t i = 0; i < items.size(); ++i) {
        for (int c = 0; c < items[i].chunks; ++c) {
            chunk_jobs.emplace_back(static_cast<int>(i), items[i].first_chunk + c);
        }
    }
}

AttendSchedule& Scratch::schedule(int heads, int kv_heads, int window) {
    for (const auto& known : schedules) {
        if (known->heads == heads && known->kv_heads == kv_heads && known->window == window) {
            return *known;
        }
    }
    schedules.push_back(std::make_unique<AttendSchedule>());
    AttendSchedule& schedule = *schedules.back();
    schedule.heads = heads;
    schedule.kv_heads = kv_heads;
    schedule.window = window;
    return schedule;
}

bool Attend::can_feed(const Buffer& x) const {
    return x.data == out.data && cache->head_width % kBlockColumns == 0;
}

void Attend::reserve(Scratch& scratch, int /*max_rows*/) {
    schedule = &scratch.schedule(heads, cache->kv_heads, window);
}

void Attend::prepare(StepContext& context) {
    if (schedule->step != context.number) {
        schedule->build(context.rows, context.threads);
        schedule->step = context.number;
    }
    if (!schedule->split) return;
    const size_t state_floats = static_cast<size_t>(cache->head_width) + 16;
    const size_t bytes = schedule->states * state_floats * sizeof(float);
    if (context.scratch.attend_states.bytes() < bytes)
        context.scratch.attend_states = Memory(bytes);
}

void Attend::turn_head(StepContext& context, float* head, const NormParameters& norm,
                       int row) const {
    if (norm.weight != nullptr) {
        context.kernels.rms_norm(head, norm.weight, cache->head_width, norm.epsilon, nullptr, head);
    }
    if (rotary != nullptr) context.kernels.rope(head, rotary->task(), row);
}

// The cache's new rows, key head by key head, so that few threads write into one block. Keys are
// normed and turned in place, like queries: nobody else reads them.
void Attend::store_rows(StepContext& context, int thread) const {
    const int width = cache->head_width;
    const Share share = share_of(context.rows.count * cache->kv_heads, thread, context.threads);
    int begin = 0;  // the first job of the segment
    for (const Segment& segment : context.rows.segments) {
        const int jobs = segment.rows * cache->kv_heads;
        const int end = std::min(share.end, begin + jobs);
        for (int job = std::max(share.begin, begin); job < end; ++job) {
            const int kv_head = (job - begin) / segment.rows;
            const int offset = (job - begin) % segment.rows;
            const int row = segment.first_row + offset;
            const int position = segment.position + offset;
            uint8_t* block = cache->head(segment.table[position / kCacheBlockTokens], kv_head);
            turn_head(context, key.row(row) + kv_head * width, key_norm, row);
            const int token = position % kCacheBlockTokens;
            const float* new_key = key.row(row) + kv_head * width;
            const float* new_value = value.row(row) + kv_head * width;
            context.kernels.store_key(cache->type, new_key, width, token, block);
            context.kernels.store_value(cache->type, new_value, width, token, block);
        }
        begin += jobs;
    }
}

Attend::Place Attend::place_of(const StepContext& context, const Item& item, int n) const {
    const Segment& segment = context.rows.segments[static_cast<size_t>(item.segment)];
    const int group = heads / cache->kv_heads;
    const int query_index = item.first_query + n;
    const int head = item.kv_head * group + query_index % group;
    return {segment.first_row + query_index / group, head * cache->head_width};
}

void Attend::turn_queries(StepContext& context, const Item& item, int begin, int end) const {
    for (int n = begin; n < end; ++n) {
        const Place place = place_of(context, item, n);
        turn_head(context, query.row(place.row) + place.column, query_norm, place.row);
    }
}

AttendTask Attend::task_of(const StepContext& context, const Item& item) const {
    const Segment& segment = context.rows.segments[static_cast<size_t>(item.segment)];
    AttendTask task{};
    task.type = cache->type;
    task.cache = cache->head(0, item.kv_head);
    task.block_stride = cache->block_stride;
    task.table = segment.table;
    task.head_width = cache->head_width;
    task.scale = scale;
    task.query_count = item.queries;
    for (int n = 0; n < item.queries; ++n) {
        const Place place = place_of(context, item, n);
        const int position = segment.position + place.row - segment.first_row;
        task.queries[n] = query.row(place.row) + place.column;
        task.first_key[n] = window > 0 ? std::max(0, position - window + 1) : 0;
        task.end_key[n] = position + 1;
    }
    task.block_count = (task.end_key[item.queries - 1] - 1) / kCacheBlockTokens + 1;
    return task;
}

AttendState Attend::state_at(const StepContext& context, size_t index) const {
    const size_t state_floats = static_cast<size_t>(cache->head_width) + 16;
    float* at = context.scratch.attend_states.as<float>() + index * state_floats;
    // The two numbers of a state live behind its values.
    return {at[cache->head_width], at[cache->head_width + 1], at};
}

void Attend::run_item(StepContext& context, const Item& item) const {
    turn_queries(context, item, 0, item.queries);
    const AttendTask task = task_of(context, item);
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
        const Place place = place_of(context, item, n);
        float* target = out.row(place.row) + place.column;
        context.kernels.attend_finish(totals[n], cache->head_width, target);
    }
    convert_item(context, item);
}

// The rows of an item that are finished, for the operation that follows. Heads that lie beside each
// other are converted together.
void Attend::convert_item(StepContext& context, const Item& item) const {
    if (next_ == nullptr) return;
    for (int n = 0; n < item.queries;) {
        const Place first = place_of(context, item, n);
        const int begin = n;
        do ++n;
        while (n < item.queries && place_of(context, item, n).row == first.row);
        next_->convert(context, first.row, first.column,
                       first.column + (n - begin) * cache->head_width);
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
        const Place place = place_of(context, item, n);
        float* target = out.row(place.row) + place.column;
        context.kernels.attend_finish(total, cache->head_width, target);
    }
    convert_item(context, item);
}

void Attend::run(StepContext& context, int thread) {
    store_rows(context, thread);
    if (!schedule->split) {
        context.pool.barrier();
        const int end = schedule->begins[static_cast<size_t>(thread) + 1];
        for (int i = schedule->begins[static_cast<size_t>(thread)]; i < end; ++i) {
            run_item(context, schedule->items[static_cast<size_t>(i)]);
        }
        return;
    }
    for (const Item& item : schedule->items) {
        const Share queries = share_of(item.queries, thread, context.threads);
        turn_queries(context, item, queries.begin, queries.end);
    }
    context.pool.barrier();
    // Neighbouring chunks, so that what a chunk asks for ahead is used by the same thread.
    const std::vector<std::pair<int, int>>& jobs = schedule->chunk_jobs;
    const Share share = share_of(static_cast<int>(jobs.size()), thread, context.threads);
    for (int j = share.begin; j < share.end; ++j) {
        const auto& [item, chunk] = jobs[static_cast<size_t>(j)];
        run_chunk(context, schedule->items[static_cast<size_t>(item)], chunk);
    }
    context.pool.barrier();
    for (size_t i = static_cast<size_t>(thread); i < schedule->items.size();
         i += static_cast<size_t>(context.threads)) {
        finish_item(context, schedule->items[i]);
    }
}

}  // namespace nextn
