// executor/operations.h: the operations of a plan, as the native executor runs them.
//
// Each has the name and meaning of the record in src/nextn/plan/operations.py. `run` is called by
// every thread of the pool; the executor puts a barrier after each operation, and an operation puts
// barriers between its own phases.
#pragma once

#include <vector>

#include "executor/step.h"

namespace nextn {

class StepOperation {
public:
    virtual ~StepOperation() = default;
    // Says what scratch memory it needs for `max_rows` rows; called once, before the first step.
    virtual void reserve(Scratch&, int /*max_rows*/) {}
    // Called on one thread before the others join in.
    virtual void prepare(StepContext&) {}
    virtual void run(StepContext& context, int thread) = 0;
};

struct Embed final : StepOperation {
    Buffer out;
    BlockType type;
    const uint8_t* table;  // in the model file
    int columns;
    float scale;
    void run(StepContext& context, int thread) override;
};

struct NormParameters {
    const float* weight = nullptr;  // null: no norm
    float epsilon = 0.0F;
};

struct Norm final : StepOperation {
    Buffer out, x;
    NormParameters norm;
    bool has_residual = false;
    Buffer residual;
    void run(StepContext& context, int thread) override;
};

struct HeadNorm final : StepOperation {
    Buffer out, x;
    NormParameters norm;
    int heads;
    void run(StepContext& context, int thread) override;
};

struct Rope final : StepOperation {
    Buffer out, x;
    const RotaryTable* rotary;
    int heads;
    void run(StepContext& context, int thread) override;
};

struct Activate final : StepOperation {
    Buffer out, gate, up;
    int activation;
    void run(StepContext& context, int thread) override;
};

struct Add final : StepOperation {
    Buffer out, a, b;
    void run(StepContext& context, int thread) override;
};

struct Concat final : StepOperation {
    Buffer out, a, b;
    void run(StepContext& context, int thread) override;
};

struct StoreHidden final : StepOperation {
    Buffer x;
    const HiddenLayer* cache;
    bool only_wanted;
    void run(StepContext& context, int thread) override;
};

struct LoadHidden final : StepOperation {
    Buffer out;
    const HiddenLayer* cache;
    void run(StepContext& context, int thread) override;
};

// The shared beginning of Linear and Logits: norm, then quantise (or spread) into row groups.
struct Prologue {
    Buffer x;
    NormParameters norm;
    bool integer = false;  // some weight has an integer format
    bool real = false;     // some weight has a float format
    bool fine = false;     // quantise with a scale per 16 columns instead of 32

    void reserve(Scratch& scratch, int max_rows) const;
    // Returns the row groups, ready to be read by the calling thread. `rows` lists the rows of x to
    // take, or is null for all.
    const std::vector<RowGroup>& run(StepContext& context, int thread, const int* rows,
                                     int count) const;

private:
    void convert(StepContext& context, int thread, const ActivationScratch& scratch, int source,
                 int target) const;
};

struct LinearPart {
    const PackedMatrix* matrix;
    const PackedMatrix* up = nullptr;
    float scale = 1.0F;
    float up_scale = 1.0F;
    const float* bias = nullptr;
    const float* up_bias = nullptr;
    Buffer out;
};

struct Linear final : StepOperation {
    Prologue prologue;
    std::vector<LinearPart> parts;
    int activation = 0;
    bool has_residual = false;
    Buffer residual;
    void reserve(Scratch& scratch, int max_rows) override;
    void run(StepContext& context, int thread) override;
};

struct Logits final : StepOperation {
    Prologue prologue;
    const PackedMatrix* matrix;
    float scale = 1.0F;
    void reserve(Scratch& scratch, int max_rows) override;
    void run(StepContext& context, int thread) override;
};

// Sums up the squares of the (normed) rows of x, column by column.
struct Observe final : StepOperation {
    Buffer x;
    NormParameters norm;
    std::vector<double> sums;  // [x.width]
    int64_t rows = 0;
    void reserve(Scratch& scratch, int max_rows) override;
    void run(StepContext& context, int thread) override;
};

struct Attend final : StepOperation {
    Buffer out, query, key, value;
    const CacheLayer* cache;
    int heads;
    float scale;
    int window;  // 0: all
    NormParameters query_norm, key_norm;
    const RotaryTable* rotary = nullptr;

    void reserve(Scratch& scratch, int max_rows) override;
    void prepare(StepContext& context) override;
    void run(StepContext& context, int thread) override;

private:
    using Item = AttendSchedule::Item;

    // Where a query lies, and what comes of it.
    struct Place {
        int row;
        int column;
    };

    void store_rows(StepContext& context, int thread) const;
    void turn_head(StepContext& context, float* head, const NormParameters& norm, int row) const;
    void turn_queries(StepContext& context, const Item& item, int begin, int end) const;
    Place place_of(const StepContext& context, const Item& item, int n) const;
    AttendTask task_of(const StepContext& context, const Item& item) const;
    void run_item(StepContext& context, const Item& item) const;
    void run_chunk(StepContext& context, const Item& item, int chunk) const;
    void finish_item(StepContext& context, const Item& item) const;
    AttendState state_at(const StepContext& context, size_t index) const;

    AttendSchedule* schedule = nullptr;
};

}  // namespace nextn
