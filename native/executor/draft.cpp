// executor/draft.cpp: chains of drafted tokens, one pass of the head after the other.
#include <algorithm>
#include <stdexcept>

#include "executor/executor.h"

namespace nextn {

namespace {

// The chance of acceptance that the table gives to a token of this probability.
float chance_of(const DraftRequest& request, const DraftChain& chain, int depth,
                float probability) {
    const int row = std::min(depth, request.depths - 1);
    const int bin = std::min(static_cast<int>(probability * static_cast<float>(request.bins)),
                             request.bins - 1);
    return chain.chances[row * request.bins + bin];
}

// One row for each chain that goes on.
struct ChainRows {
    std::vector<int32_t> tokens;
    std::vector<int32_t> positions;
    std::vector<size_t> chains;
    StepRows rows{};

    void add(size_t chain, int32_t token, int position, const int32_t* table) {
        const int row = static_cast<int>(tokens.size());
        tokens.push_back(token);
        positions.push_back(position);
        chains.push_back(chain);
        rows.segments.push_back({row, 1, position, table});
        rows.logits_rows.push_back(row);
    }

    void finish() {
        rows.count = static_cast<int>(tokens.size());
        rows.tokens = tokens.data();
        rows.positions = positions.data();
    }
};

}  // namespace

void Executor::draft(const StepRows& rows, const DraftRequest& request, const DraftResult& result) {
    if (!has_head()) throw std::logic_error("[executor] there is no head");
    const Running running(*this);
    steps_since_draft_ = 0;
    const size_t count = request.chains.size();
    std::vector<double> products(count, 1.0);
    std::fill(result.counts, result.counts + count, 0);
    ChainRows current;
    const StepRows* pass = &rows;
    for (int depth = 0; pass->count > 0; ++depth) {
        run(head_, *pass, false);
        ChainRows next;
        SegmentCursor cursor(*pass);
        for (size_t i = 0; i < pass->logits_rows.size(); ++i) {
            const size_t chain_index = depth == 0 ? i : current.chains[i];
            const DraftChain& chain = request.chains[chain_index];
            const int row = pass->logits_rows[i];
            const int position = pass->positions[row] + 1;
            const DraftChoice choice =
                choose_draft(head_.logits.as<float>() + i * head_.logits_columns, head_vocab_,
                             head_token_ids_.empty() ? nullptr : head_token_ids_.data(),
                             static_cast<uint64_t>(position), chain.settings);
            // A head that computes NaN drafts nothing; the trunk says so if it is the model.
            if (choice.index < 0) continue;
            const size_t index = static_cast<size_t>(choice.index);
            const int32_t token = head_token_ids_.empty() ? static_cast<int32_t>(choice.index)
                                                          : head_token_ids_[index];
            const float chance = chance_of(request, chain, depth, choice.probability);
            const size_t at = chain_index * result.stride + static_cast<size_t>(depth);
            result.tokens[at] = token;
            result.chances[at] = chance;
            result.probabilities[at] = choice.probability;
            result.counts[chain_index] = depth + 1;
            products[chain_index] *= static_cast<double>(chance);
            if (depth + 1 < chain.depth && products[chain_index] >= chain.least) {
                next.add(chain_index, token, position, cursor.of(row).table);
            }
        }
        // `pass` may point into `current`, which is not needed any more.
        current = std::move(next);
        current.finish();
        pass = &current.rows;
    }
}

}  // namespace nextn
