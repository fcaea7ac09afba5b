// executor/operations.cpp: everything but attention.
#include "executor/operations.h"

#include <algorithm>
#include <cstring>

namespace nextn {

namespace {

// Up to this many activations every thread converts all rows for itself: that is quicker than to
// wait for the others at a barrier.
constexpr int kPrivateActivations = 4096;

// The rows of an operation whose rows are independent.
Share rows_of(const StepContext& context, int thread) {
    return share_of(context.rows.count, thread, context.threads);
}

// Rows of this width that every thread converts for itself.
int private_rows(int width) { return std::max(1, kPrivateActivations / width); }

int padded(int width) { return (width + 15) / 16 * 16; }

}  // namespace

void Embed::run(StepContext& context, int thread) {
    const Share share = rows_of(context, thread);
    const size_t stride = row_bytes(type, columns);
    for (int row = share.begin; row < share.end; ++row) {
        float* target = out.row(row);
        const size_t token = static_cast<size_t>(context.rows.tokens[row]);
        decode_row(type, table + token * stride, columns, target);
        for (int i = 0; i < columns; ++i) target[i] *= scale;
        // What another operation left behind there must not reach the sums over whole vectors.
        std::fill(target + columns, target + out.stride, 0.0F);
    }
}

void Norm::run(StepContext& context, int thread) {
    const Share share = rows_of(context, thread);
    for (int row = share.begin; row < share.end; ++row) {
        const float* added = has_residual ? residual.row(row) : nullptr;
        context.kernels.rms_norm(x.row(row), norm.weight, x.width, norm.epsilon, added,
                                 out.row(row));
    }
}

void HeadNorm::run(StepContext& context, int thread) {
    const Share share = rows_of(context, thread);
    const int width = x.width / heads;
    for (int row = share.begin; row < share.end; ++row) {
        for (int h = 0; h < heads; ++h) {
            context.kernels.rms_norm(x.row(row) + h * width, norm.weight, width, norm.epsilon,
                                     nullptr, out.row(row) + h * width);
        }
    }
}

void Rope::run(StepContext& context, int thread) {
    const Share share = rows_of(context, thread);
    const RopeTask task = rotary->task();
    const int width = x.width / heads;
    for (int row = share.begin; row < share.end; ++row) {
        if (out.data != x.data) {
            std::memcpy(out.row(row), x.row(row), static_cast<size_t>(x.width) * sizeof(float));
        }
        for (int h = 0; h < heads; ++h) context.kernels.rope(out.row(row) + h * width, task, row);
    }
}

void Activate::run(StepContext& context, int thread) {
    const Share share = rows_of(context, thread);
    for (int row = share.begin; row < share.end; ++row) {
        context.kernels.activate(gate.row(row), up.row(row), padded(gate.width), activation,
                                 out.row(row));
    }
}

void Add::run(StepContext& context, int thread) {
    const Share share = rows_of(context, thread);
    for (int row = share.begin; row < share.end; ++row) {
        context.kernels.add(a.row(row), b.row(row), padded(a.width), out.row(row));
    }
}

void Prologue::reserve(Scratch& scratch, int max_rows) const {
    scratch.shared.reserve(max_rows, x.width, integer, real);
    for (ActivationScratch& own : scratch.private_)
        own.reserve(private_rows(x.width), x.width, integer, real);
    for (Memory& row : scratch.norm_rows) {
        const size_t bytes = x.stride * sizeof(float);
        if (row.bytes() < bytes) row = Memory(bytes);
    }
}

void Prologue::convert(StepContext& context, int thread, const ActivationScratch& scratch,
                       int source, int target) const {
    const float* values = x.row(source);
    if (norm.weight != nullptr) {
        float* normed = context.scratch.norm_rows[static_cast<size_t>(thread)].as<float>();
        context.kernels.rms_norm(values, norm.weight, x.width, norm.epsilon, nullptr, normed);
        values = normed;
    }
    int index = 0;
    const RowGroup& group = scratch.group_of(target, index);
    if (integer) context.kernels.quantise_row(values, x.width, group, index);
    if (real) context.kernels.spread_row(values, x.width, group, index);
}

const std::vector<RowGroup>& Prologue::run(StepContext& context, int thread, const int* rows,
                                           int count) const {
    const bool alone = context.threads == 1 || count <= private_rows(x.width);
    if (alone) {
        ActivationScratch& own = context.threads == 1
                                     ? context.scratch.shared
                                     : context.scratch.private_[static_cast<size_t>(thread)];
        own.arrange(count, x.width, fine);
        for (int i = 0; i < count; ++i) {
            convert(context, thread, own, rows == nullptr ? i : rows[i], i);
        }
        return own.groups();
    }
    if (thread == 0) context.scratch.shared.arrange(count, x.width, fine);
    context.pool.barrier();
    const Share share = share_of(count, thread, context.threads);
    for (int i = share.begin; i < share.end; ++i) {
        convert(context, thread, context.scratch.shared, rows == nullptr ? i : rows[i], i);
    }
    context.pool.barrier();
    return context.scratch.shared.groups();
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

void Linear::run(StepContext& context, int thread) {
    const std::vector<RowGroup>& groups =
        prologue.run(context, thread, nullptr, context.rows.count);
    for (const LinearPart& part : parts) {
        LinearTask task{};
        task.matrix = part.matrix;
        task.up = part.up;
        task.groups = groups.data();
        task.group_count = static_cast<int>(groups.size());
        task.out = part.out.data;
        task.out_stride = part.out.stride;
        task.scale = part.scale;
        task.up_scale = part.up_scale;
        task.bias = part.bias;
        task.up_bias = part.up_bias;
        task.residual = has_residual ? residual.data : nullptr;
        task.residual_stride = has_residual ? residual.stride : 0;
        task.activation = activation;
        const Share share = share_of(part.matrix->tiles, thread, context.threads);
        context.kernels.linear(task, share.begin, share.end);
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
        const Share share = rows_of(context, thread);
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
    (is_float_format(matrix->type) ? prologue.real : prologue.integer) = true;
    prologue.reserve(scratch, max_rows);
}

void Logits::run(StepContext& context, int thread) {
    const std::vector<int>& wanted = context.rows.logits_rows;
    if (wanted.empty()) return;
    const std::vector<RowGroup>& groups =
        prologue.run(context, thread, wanted.data(), static_cast<int>(wanted.size()));
    LinearTask task{};
    task.matrix = matrix;
    task.scale = scale;
    task.groups = groups.data();
    task.group_count = static_cast<int>(groups.size());
    task.out = context.logits;
    task.out_stride = static_cast<size_t>(matrix->tiles) * kTileRows;
    const Share share = share_of(matrix->tiles, thread, context.threads);
    context.kernels.linear(task, share.begin, share.end);
}

}  // namespace nextn
