// executor/operations.h: the operations of a plan, as the native executor runs them.
//
// Each has the name and meaning of the record in src/nextn/plan/operations.py. `run` is called by
// every thread of the pool; the executor puts a barrier after each operation, and an operation puts
// barriers between its own phases.
#pragma once

#include <vector>

#include "executor/step.h"

namespace nextn {

struct Prologue;

class StepOperation {
public:
    virtual ~StepOperation() = default;
    // Its prologue, if an operation before it may feed that.
    virtual Prologue* prologue_to_feed() { return nullptr; }
    // Told once, before the first step, what the operation after it begins with: if that reads what
    // this one writes, each thread converts what it has written at once, while it is in its cache.
    // Between cores passes then a quarter of the bytes.
    void feed(Prologue& following);
    // Says what scratch memory it needs for `max_rows` rows; called once, before the first step.
    virtual void reserve(Scratch&, int /*max_rows*/) {}
    // Called on one thread before the others join in.
    virtual void prepare(StepContext&) {}
    virtual void run(StepContext& context, int thread) = 0;

protected:
    // Whether it writes this buffer, each thread whole blocks of columns.
    virtual bool can_feed(const Buffer& /*x*/) const { return false; }

    const Prologue* next_ = nullptr;  // that it feeds
};

struct NormParameters {
    const float* weight = nullptr;  // null: no norm
    float epsilon = 0.0F;
};

// Activations as the matrix kernels read them, and the factors of their norm, or null.
struct Activations {
    const std::vector<RowGroup>& groups;
    const float* row_factors;
};

// The shared beginning of Linear and Logits: norm, then quantise (or spread) into row groups. For
// Linear the norm's weight is in the converted values, and its factor, which needs the whole row,
// is applied to the products.
struct Prologue {
    Buffer x;
    NormParameters norm;
    bool integer = false;  // some weight has an integer format
    bool real = false;     // some weight has a float format
    bool fine = false;     // quantise with a scale per 16 columns instead of 32
    bool whole = false;    // norm whole rows, factor and all, before they are converted
    bool fed = false;      // the operation before converts all rows

    void reserve(Scratch& scratch, int max_rows);
    // Lays out room for `count` rows; called on one thread, before the step.
    void prepare(StepContext& context, int count);
    // Converts columns of a row where it is fed; see KernelTable::quantise_row for `begin` and
    // `end`.
    void convert(StepContext& context, int row, int begin, int end) const;
    // Returns the activations, ready to be read by the calling thread. `rows` lists the rows of x
    // to take, or is null for all.
    Activations run(StepContext& context, int thread, const int* rows) const;

private:
    void convert_into(StepContext& context, const std::vector<RowGroup>& groups,
                      const float* values, int target, int begin, int end) const;
    const float* factors(StepContext& context, int thread,
                         const std::vector<RowGroup>& groups) const;

    const ActivationScratch* shared_ = nullptr;
    std::vector<RowGroup> groups_;                // in shared_
    std::vector<std::vector<RowGroup>> private_;  // each thread's
    int count_ = 0;
    bool alone_ = false;  // every thread of several converts all rows for itself
};

// Operations whose rows are independent: each thread computes whole rows.
class RowOperation : public StepOperation {
public:
    Buffer out;
    void run(StepContext& context, int thread) final;

private:
    bool can_feed(const Buffer& x) const final { return x.data == out.data; }
    virtual void run_row(StepContext& context, int row) = 0;
};

struct Embed final : RowOperation {
    BlockType type;
    const uint8_t* table;  // in the model file
    int columns;
    float scale;
    void run_row(StepContext& context, int row) override;
};

struct Norm final : RowOperation {
    Buffer x;
    NormParameters norm;
    bool has_residual = false;
    Buffer residual;
    void run_row(StepContext& context, int row) override;
};

struct HeadNorm final : RowOperation {
    Buffer x;
    NormParameters norm;
    int heads;
    void run_row(StepContext& context, int row) override;
};

struct Rope final : RowOperation {
    Buffer x;
    const RotaryTable* rotary;
    int heads;
    void run_row(StepContext& context, int row) override;
};

struct Activate final : RowOperation {
    Buffer gate, up;
    int activation;
    void run_row(StepContext& context, int row) override;
};

struct Add final : RowOperation {
    Buffer a, b;
    void run_row(StepContext& context, int row) override;
};

struct Concat final : RowOperation {
    Buffer a, b;
    void run_row(StepContext& context, int row) override;
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
    Prologue* prologue_to_feed() override { return &prologue; }
    void reserve(Scratch& scratch, int max_rows) override;
    void prepare(StepContext& context) override;
    void run(StepContext& context, int thread) override;

private:
    bool can_feed(const Buffer& x) const override;
};

struct Logits final : StepOperation {
    Prologue prologue;
    const PackedMatrix* matrix;
    float scale = 1.0F;
    void reserve(Scratch& scratch, int max_rows) override;
    void prepare(StepContext& context) override;
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

    bool can_feed(const Buffer& x) const override;
    void store_rows(StepContext& context, int thread) const;
    void turn_head(StepContext& context, float* head, const NormParameters& norm, int row) const;
    void turn_queries(StepContext& context, const Item& item, int begin, int end) const;
    Place place_of(const StepContext& context, const Item& item, int n) const;
    AttendTask task_of(const StepContext& context, const Item& item) const;
    void run_item(StepContext& context, const Item& item) const;
    void run_chunk(StepContext& context, const Item& item, int chunk) const;
    void finish_item(StepContext& context, const Item& item) const;
    void convert_item(StepContext& context, const Item& item) const;
    AttendState state_at(const StepContext& context, size_t index) const;

    AttendSchedule* schedule = nullptr;
};

}  // namespace nextn
