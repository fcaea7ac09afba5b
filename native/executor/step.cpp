// executor/step.cpp
#include "executor/step.h"

#include <algorithm>
#include <cmath>

namespace nextn {

namespace {

// Two for each block, in whole cache lines.
size_t square_stride(size_t blocks) { return align_up(2 * blocks, 16); }

}  // namespace

void RotaryTable::fill(const StepRows& rows, int begin, int end) {
    const size_t pairs = frequencies.size();
    for (int row = begin; row < end; ++row) {
        for (size_t i = 0; i < pairs; ++i) {
            const double angle = static_cast<double>(rows.positions[row]) * frequencies[i];
            cos[static_cast<size_t>(row) * pairs + i] =
                static_cast<float>(std::cos(angle) * magnitude);
            sin[static_cast<size_t>(row) * pairs + i] =
                static_cast<float>(std::sin(angle) * magnitude);
        }
    }
}

void ActivationScratch::reserve(int rows, int columns, bool integer, bool real) {
    const size_t blocks = static_cast<size_t>((columns + kBlockColumns - 1) / kBlockColumns);
    const size_t padded = static_cast<size_t>(rows) * blocks * kBlockColumns;
    if (integer) {
        max_integer_ = std::max(max_integer_, padded);
        max_blocks_ = std::max(max_blocks_, static_cast<size_t>(rows) * blocks);
    }
    if (real) max_values_ = std::max(max_values_, padded);
    if (q_.bytes() < max_integer_) {
        q_ = Memory(max_integer_);
        scale_ = Memory(max_blocks_ * 2 * sizeof(float));
        scaled_sum_ = Memory(max_blocks_ * sizeof(float));
        sums_ = Memory(max_blocks_ * 2 * sizeof(int16_t));
    }
    if (values_.bytes() < max_values_ * sizeof(float))
        values_ = Memory(max_values_ * sizeof(float));
    const size_t squares = static_cast<size_t>(rows) * square_stride(blocks) * sizeof(float);
    if (squares_.bytes() < squares) squares_ = Memory(squares);
}

void ActivationScratch::arrange(int rows, int columns, bool fine,
                                std::vector<RowGroup>& groups) const {
    const size_t blocks = static_cast<size_t>((columns + kBlockColumns - 1) / kBlockColumns);
    const int count = (rows + kMaxGroupRows - 1) / kMaxGroupRows;
    groups.clear();
    for (int g = 0; g < count; ++g) {
        const Share share = share_of(rows, g, count);
        const size_t first = static_cast<size_t>(share.begin);
        RowGroup group{};
        group.first_row = share.begin;
        group.rows = share.end - share.begin;
        group.fine = fine;
        group.q = q_.as<int8_t>() + first * blocks * kBlockColumns;
        group.scale = scale_.as<float>() + first * blocks * (fine ? 2 : 1);
        group.scaled_sum = scaled_sum_.as<float>() + first * blocks;
        group.sums = sums_.as<int16_t>() + first * blocks * 2;
        group.square_stride = square_stride(blocks);
        group.squares = squares_.as<float>() + first * group.square_stride;
        group.values = values_.as<float>() + first * blocks * kBlockColumns;
        groups.push_back(group);
    }
}

}  // namespace nextn
