// executor/operations.cpp: everything but attention.
#include "executor/operations.h"

#include <algorithm>
#include <cstring>

namespace nextn {

namespace {

// Up to this many activations every thread converts all rows for itself: that is quicker than to
// wait for the others at a barrier.
constexpr int kPrivateActivations = 4096;

// Rows of this width that every thread converts for itself.
int private_rows(int width) { return std::max(1, kPrivateActivations / width); }

int padded(int width) { return (width + 15) / 16 * 16; }

// The group of a row, and its index inside.
const RowGroup& group_of(const std::vector<RowGroup>& groups, int row, int& index) {
    size_t g = static_cast<size_t>(row) / kMaxGroupRows;
    while (groups[g].first_row > row) --g;
    while (groups[g].first_row + groups[g].rows <= row) ++g;
    index = row - groups[g].first_row;
    return groups[g];
}

}  // namespace

void StepOperation::feed(Prologue& following) {
    if (!can_feed(following.x)) return;
    following.fed = true;
    next_ = &following;
}

void RowOperation::run(StepContext& context, int thread) {
    const Share share = share_of(context.rows.count, thread, context.threads);
    for (int row = share.begin; row < share.end; ++row) {
        run_row(context, row);
        if (next_ != nullptr) next_->convert(context, row, 0, next_->x.width);
    }
}

void Embed::run_row(StepContext& context, int row) {
    float* target = out.row(row);
    const size_t token = static_cast<size_t>(context.rows.tokens[row]);
    decode_row(type, table + token * row_bytes(type, columns), columns, target);
    for (int i = 0; i < columns; ++i) target[i] *= scale;
    // What another operation left behind there must not reach the sums over whole vectors.
    std::fill(target + columns, target + out.stride, 0.0F);
}

void Norm::run_row(StepContext& context, int row) {
    const float* added = has_residual ? residual.row(row) : nullptr;
    context.kernels.rms_norm(x.row(row), norm.weight, x.width, norm.epsilon, added, out.row(row));
}

void HeadNorm::run_row(StepContext& context, int row) {
    const int width = x.width / heads;
    for (int h = 0; h < heads; ++h) {
        context.kernels.rms_norm(x.row(row) + h * width, norm.weight, width, norm.epsilon, nullptr,
                                 out.row(row) + h * width);
    }
}

void Rope::run_row(StepContext& context, int row) {
    const RopeTask task = rotary->task();
    const int width = x.width / heads;
    if (out.data != x.data) {
        std::memcpy(out.row(row), x.row(row), static_cast<size_t>(x.width) * sizeof(float));
    }
    for (int h = 0; h < heads; ++h) context.kernels.rope(out.row(row) + h * width, task, row);
}

void Activate::run_row(StepContext& context, int row) {
    context.kernels.activate(gate.row(row), up.row(row), padded(gate.width), activation,
                             out.row(row));
}

void Add::run_row(StepContext& context, int row) {
    context.kernels.add(a.row(row), b.row(row), padded(a.width), out.row(row));
}

void Prologue::reserve(Scratch& scratch, int max_rows) {
    // In turn, so that what one operation reads is not what it feeds.
    ActivationScratch& shared = scratch.shared[scratch.next_shared];
    scratch.next_shared = 1 - scratch.next_shared;
    shared.reserve(max_rows, x.width, integer, real);
    shared_ = &shared;
    for (ActivationScratch& own : scratch.private_)
        own.reserve(private_rows(x.width), x.width, integer, real);
    private_.resize(scratch.private_.size());
    for (Memory& factors : scratch.row_factors) {
        const size_t bytes = static_cast<size_t>(max_rows) * sizeof(float);
        if (factors.bytes() < bytes) factors = Memory(bytes);
    }
    for (Memory& row : scratch.norm_rows) {
        const size_t bytes = x.stride * sizeof(float);
        if (row.bytes() < bytes) row = Memory(bytes);
    }
}

void Prologue::prepare(StepContext& context, int count) {
    if (count == count_) return;
    count_ = count;
    alone_ = !fed && context.threads > 1 && count <= private_rows(x.width);
    if (!alone_) {
        shared_->arrange(count, x.width, fine, groups_);
        return;
    }
    for (size_t thread = 0; thread < private_.size(); ++thread) {
        context.scratch.private_[thread].arrange(count, x.width, fine, private_[thread]);
    }
}

void Prologue::convert_into(StepContext& context, const std::vector<RowGroup>& groups,
                            const float* values, int target, int begin, int end) const {
    int index = 0;
    const RowGroup& group = group_of(groups, target, index);
    const float* weight = whole ? nullptr : norm.weight;
    if (weight != nullptr) context.kernels.square_row(values, begin, end, group, index);
    if (integer) context.kernels.quantise_row(values, weight, begin, end, group, index);
    if (real) context.kernels.spread_row(values, weight, begin, end, group, index);
}

void Prologue::convert(StepContext& context, int row, int begin, int end) const {
    convert_into(context, groups_, x.row(row), row, begin, end);
}

const float* Prologue::factors(StepContext& context, int thread,
                               const std::vector<RowGroup>& groups) const {
    if (norm.weight == nullptr || whole) return nullptr;
    float* factors = context.scratch.row_factors[static_cast<size_t>(thread)].as<float>();
    for (const RowGroup& group : groups) {
        for (int row = 0; row < group.rows; ++row) {
            const float* squares = group.squares + static_cast<size_t>(row) * group.square_stride;
            factors[group.first_row + row] =
                context.kernels.norm_factor(squares, x.width, norm.epsilon);
        }
    }
    return factors;
}

Activations Prologue::run(StepContext& context, int thread, const int* rows) const {
    const std::vector<RowGroup>& groups = alone_ ? private_[static_cast<size_t>(thread)] : groups_;
    if (!fed) {
        const Share share = alone_ ? Share{0, count_} : share_of(count_, thread, context.threads);
        for (int i = share.begin; i < share.end; ++i) {
            const float* values = x.row(rows == nullptr ? i : rows[i]);
            if (norm.weight != nullptr && whole) {
                float* normed = context.scratch.norm_rows[static_cast<size_t>(thread)].as<float>();
                context.kernels.rms_norm(values, norm.weight, x.width, norm.epsilon, nullptr,
                                         normed);
                values = normed;
            }
            convert_into(context, groups, values, i, 0, x.width);
        }
        if (!alone_) context.pool.barrier();
    }
    return {groups, factors(context, thread, groups)};
}

void Linear::reserve(Scratch& scratch, int max_rows) {
    for (const LinearPart& part : parts) {
        for (const PackedMatrix* matrix : {part.matrix, part.up}) {
            if (matrix == nullptr) continue;
            (is_float_format(matrix->type) ? prologue.real : prologue.integer) = true;
        }
    }
    prologue.reserve(scratch, max_rows);
}

void Linear::prepare(StepContext& context) { prologue.prepare(context, context.rows.count); }

bool Linear::can_feed(const Buffer& x) const {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const LinearPart& part) { return part.out.data == x.data; });
}

void Linear::run(StepContext& context, int thread) {
    const Activations activations = prologue.run(context, thread, nullptr);
    for (const LinearPart& part : parts) {
        LinearTask task{};
        task.matrix = part.matrix;
        task.up = part.up;
        task.groups = activations.groups.data();
        task.group_count = static_cast<int>(activations.groups.size());
        task.row_factors = activations.row_factors;
        task.out = part.out.data;
        task.out_stride = part.out.stride;
        task.scale = part.scale;
        task.up_scale = part.up_scale;
        task.bias = part.bias;
        task.up_bias = part.up_bias;
        task.residual = has_residual ? residual.data : nullptr;
        task.residual_stride = has_residual ? residual.stride : 0;
        task.activation = activation;
        task.passing = context.passing;
        const int tiles = part.matrix->tiles;
        if (next_ == nullptr || next_->x.data != part.out.data) {
            const Share share = share_of(tiles, thread, context.threads);
            context.kernels.linear(task, share.begin, share.end);
            continue;
        }
        const Share blocks = share_of((tiles + 1) / 2, thread, context.threads);
        context.kernels.linear(task, 2 * blocks.begin, std::min(2 * blocks.end, tiles));
        const int end = std::min(blocks.end * kBlockColumns, part.out.width);
        for (int row = 0; row < context.rows.count; ++row) {
            next_->convert(context, row, blocks.begin * kBlockColumns, end);
        }
    }
}

void Observe::reserve(Scratch& scratch, int max_rows) {
    if (norm.weight == nullptr) return;
    const size_t bytes = static_cast<size_t>(max_rows) * x.stride * sizeof(float);
    if (scratch.observed.bytes() < bytes) scratch.observed = Memory(bytes);
}

void Observe::run(StepContext& context, int thread) {
    const float* values = x.data;
    if (norm.weight != nullptr) {
        float* normed = context.scratch.observed.as<float>();
        const Share share = share_of(context.rows.count, thread, context.threads);
        for (int row = share.begin; row < share.end; ++row) {
            context.kernels.rms_norm(x.row(row), norm.weight, x.width, norm.epsilon, nullptr,
                                     normed + static_cast<size_t>(row) * x.stride);
        }
        context.pool.barrier();
        values = normed;
    }
    // Every column is summed by one thread, in the order of the rows.
    const Share columns = share_of(x.width, thread, context.threads);
    for (int row = 0; row < context.rows.count; ++row) {
        const float* from = values + static_cast<size_t>(row) * x.stride;
        for (int column = columns.begin; column < columns.end; ++column) {
            const double value = from[column];
            sums[static_cast<size_t>(column)] += value * value;
        }
    }
    if (thread == 0) rows += context.rows.count;
}

void Logits::reserve(Scratch& scratch, int max_rows) {
    // What is lost here goes straight into the probabilities: two fifths of the whole executor's
    // divergence from exact arithmetic came from this one operation with coarse scales.
    prologue.fine = true;
    // The same bits as where the norm is an operation of its own, since a head wants its result.
    prologue.whole = true;
    (is_float_format(matrix->type) ? prologue.real : prologue.integer) = true;
    prologue.reserve(scratch, max_rows);
}

void Logits::prepare(StepContext& context) {
    prologue.prepare(context, static_cast<int>(context.rows.logits_rows.size()));
}

void Logits::run(StepContext& context, int thread) {
    const std::vector<int>& wanted = context.rows.logits_rows;
    if (wanted.empty()) return;
    const Activations activations = prologue.run(context, thread, wanted.data());
    LinearTask task{};
    task.matrix = matrix;
    task.scale = scale;
    task.groups = activations.groups.data();
    task.group_count = static_cast<int>(activations.groups.size());
    task.row_factors = activations.row_factors;
    task.out = context.logits;
    task.passing = context.passing;
    task.out_stride = static_cast<size_t>(matrix->tiles) * kTileRows;
    const Share share = share_of(matrix->tiles, thread, context.threads);
    context.kernels.linear(task, share.begin, share.end);
}

}  // namespace nextn
