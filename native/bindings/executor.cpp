// bindings/executor.cpp: the native executor as a Python class.
//
// Python builds the executor operation by operation from a plan, whose tracer has checked all
// widths. What is cheap to check is checked here again, so that mistakes in Python raise an
// exception and do not touch foreign memory.
#include "executor/executor.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/select.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using nextn::BlockType;
using nextn::Executor;

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Doubles = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bools = nb::ndarray<const bool, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Tables = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Seeds = nb::ndarray<const uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Chances = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using IntsOut = nb::ndarray<int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using CountsOut = nb::ndarray<int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using DoublesOut = nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using HiddenOut = nb::ndarray<uint16_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using LogitsArray = nb::ndarray<nb::numpy, float, nb::ndim<2>, nb::device::cpu>;

// Larger widths do not occur, and smaller ones keep every product with a number of rows, heads or
// bytes far from the end of 64 bits.
constexpr int kMostWidth = 1 << 28;
constexpr int kMostRows = 1 << 20;
constexpr int kMostThreads = 1 << 12;

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

BlockType checked_type(int type_id, int64_t rows, int64_t columns, size_t bytes) {
    const auto type = static_cast<BlockType>(type_id);
    const nextn::BlockSize size = nextn::block_size(type);
    require(size.bytes > 0, "[weight] unknown block type");
    require(rows > 0 && columns > 0 && rows < kMostWidth && columns < kMostWidth,
            "[weight] impossible shape");
    require(columns % size.elements == 0, "[weight] the columns are not whole blocks");
    require(bytes == static_cast<size_t>(rows) * nextn::row_bytes(type, columns),
            "[weight] the bytes do not fit the shape");
    return type;
}

nextn::CacheType cache_type_named(const std::string& name) {
    if (name == "f16") return nextn::CacheType::F16;
    if (name == "q8_0") return nextn::CacheType::Q8_0;
    throw std::invalid_argument("[cache] unknown type '" + name + "'");
}

nextn::NormParameters norm_of(const Executor& executor, int weight, float epsilon, int width) {
    return {executor.vector(weight, width), epsilon};
}

int add_buffer(Executor& executor, int width) {
    require(width > 0 && width < kMostWidth, "[buffer] impossible width");
    return executor.add_buffer(width);
}

int add_matrix(Executor& executor, int type_id, int rows, int columns, Bytes data, bool mapped) {
    const BlockType type = checked_type(type_id, rows, columns, data.shape(0));
    nb::gil_scoped_release release;
    return executor.add_matrix(type, rows, columns, data.data(), mapped);
}

int add_cache_layer(Executor& executor, int kv_heads, int head_width) {
    require(head_width > 0 && head_width % 16 == 0 && head_width <= nextn::kMaxHeadWidth,
            "[cache] the head width must be a multiple of 16, at most 512");
    require(executor.cache_type() == nextn::CacheType::F16 ||
                head_width % nextn::kCacheScaleColumns == 0,
            "[cache] a Q8_0 cache needs head widths that are multiples of 32");
    require(kv_heads > 0 && kv_heads < kMostWidth / head_width,
            "[cache] impossible number of key heads");
    return executor.add_cache_layer(kv_heads, head_width);
}

void embed(Executor& executor, int out, int type_id, int rows, int columns, Bytes data,
           float scale) {
    auto op = std::make_unique<nextn::Embed>();
    op->type = checked_type(type_id, rows, columns, data.shape(0));
    op->out = executor.buffer(out);
    require(op->out.width == columns, "[embed] the widths differ");
    op->table = data.data();
    op->columns = columns;
    op->scale = scale;
    executor.add_operation(std::move(op));
}

void norm(Executor& executor, int out, int x, int weight, float epsilon, int residual) {
    auto op = std::make_unique<nextn::Norm>();
    op->out = executor.buffer(out);
    op->x = executor.buffer(x);
    op->norm = norm_of(executor, weight, epsilon, op->x.width);
    op->has_residual = residual >= 0;
    if (op->has_residual) op->residual = executor.buffer(residual);
    require(op->norm.weight != nullptr, "[norm] no weight");
    require(
        op->out.width == op->x.width && (!op->has_residual || op->residual.width == op->x.width),
        "[norm] the widths differ");
    executor.add_operation(std::move(op));
}

void head_norm(Executor& executor, int out, int x, int weight, float epsilon, int heads) {
    auto op = std::make_unique<nextn::HeadNorm>();
    op->out = executor.buffer(out);
    op->x = executor.buffer(x);
    op->heads = heads;
    require(heads > 0 && op->x.width % heads == 0 && op->x.width / heads % 16 == 0 &&
                op->out.width == op->x.width,
            "[head_norm] impossible heads");
    op->norm = norm_of(executor, weight, epsilon, op->x.width / heads);
    require(op->norm.weight != nullptr, "[head_norm] no weight");
    executor.add_operation(std::move(op));
}

void rope(Executor& executor, int out, int x, int rotary, int heads) {
    auto op = std::make_unique<nextn::Rope>();
    op->out = executor.buffer(out);
    op->x = executor.buffer(x);
    op->rotary = &executor.rotary(rotary);
    op->heads = heads;
    require(heads > 0 && op->x.width % heads == 0 &&
                static_cast<size_t>(op->x.width / heads) >= 2 * op->rotary->frequencies.size(),
            "[rope] impossible heads");
    require(op->out.width == op->x.width, "[rope] the widths differ");
    executor.add_operation(std::move(op));
}

void activate(Executor& executor, int out, int gate, int up, int activation) {
    auto op = std::make_unique<nextn::Activate>();
    op->out = executor.buffer(out);
    op->gate = executor.buffer(gate);
    op->up = executor.buffer(up);
    op->activation = activation;
    require(activation == 1 || activation == 2, "[activate] unknown activation");
    require(op->gate.width == op->up.width && op->out.width == op->gate.width,
            "[activate] the widths differ");
    executor.add_operation(std::move(op));
}

void add(Executor& executor, int out, int a, int b) {
    auto op = std::make_unique<nextn::Add>();
    op->out = executor.buffer(out);
    op->a = executor.buffer(a);
    op->b = executor.buffer(b);
    require(op->a.width == op->b.width && op->out.width == op->a.width, "[add] the widths differ");
    executor.add_operation(std::move(op));
}

void linear(Executor& executor, std::vector<int> outs, int x, std::vector<int> matrices,
            std::vector<float> scales, std::vector<int> biases, int norm_weight, float epsilon,
            bool fine, int activation, int residual) {
    auto op = std::make_unique<nextn::Linear>();
    require(
        !matrices.empty() && matrices.size() == biases.size() && matrices.size() == scales.size(),
        "[linear] nothing to multiply");
    op->prologue.x = executor.buffer(x);
    op->prologue.norm = norm_of(executor, norm_weight, epsilon, op->prologue.x.width);
    op->prologue.fine = fine;
    require(activation >= 0 && activation <= 2, "[linear] unknown activation");
    op->activation = activation;
    op->has_residual = residual >= 0;
    if (op->has_residual) op->residual = executor.buffer(residual);
    const size_t step = activation == 0 ? 1 : 2;
    require(outs.size() * step == matrices.size(), "[linear] outputs and matrices do not match");
    for (size_t i = 0; i < outs.size(); ++i) {
        nextn::LinearPart part;
        part.out = executor.buffer(outs[i]);
        part.matrix = &executor.matrix(matrices[i * step]);
        part.scale = scales[i * step];
        part.bias = executor.vector(biases[i * step], part.matrix->rows);
        if (step == 2) {
            part.up = &executor.matrix(matrices[i * step + 1]);
            part.up_scale = scales[i * step + 1];
            part.up_bias = executor.vector(biases[i * step + 1], part.up->rows);
            require(part.up->rows == part.matrix->rows && part.up->columns == part.matrix->columns,
                    "[linear] gate and up differ in shape");
        }
        require(part.matrix->columns == op->prologue.x.width && part.out.width == part.matrix->rows,
                "[linear] the widths differ");
        require(!op->has_residual || op->residual.width == part.out.width,
                "[linear] the residual has another width");
        op->parts.push_back(part);
    }
    executor.add_operation(std::move(op));
}

void attend(Executor& executor, int out, int query, int key, int value, int layer, int heads,
            float scale, int window, int query_norm, int key_norm, float epsilon, int rotary) {
    auto op = std::make_unique<nextn::Attend>();
    op->out = executor.buffer(out);
    op->query = executor.buffer(query);
    op->key = executor.buffer(key);
    op->value = executor.buffer(value);
    op->cache = &executor.cache_layer(layer);
    op->heads = heads;
    op->scale = scale;
    op->window = window;
    const int width = op->cache->head_width;
    op->query_norm = norm_of(executor, query_norm, epsilon, width);
    op->key_norm = norm_of(executor, key_norm, epsilon, width);
    if (rotary >= 0) op->rotary = &executor.rotary(rotary);
    const int kv_heads = op->cache->kv_heads;
    require(heads > 0 && heads % kv_heads == 0 && heads / kv_heads <= nextn::kMaxQueries &&
                heads < kMostWidth / width,
            "[attend] impossible heads");
    // The heads of all rows are numbered with 32 bits.
    require(int64_t{executor.max_rows()} * (heads + kv_heads) <= INT32_MAX,
            "[attend] too many heads for so many rows");
    require(
        op->rotary == nullptr || 2 * op->rotary->frequencies.size() <= static_cast<size_t>(width),
        "[attend] more pairs than fit into a head");
    // Keys and queries are normed and turned in place.
    const bool in_place =
        op->rotary != nullptr || op->query_norm.weight != nullptr || op->key_norm.weight != nullptr;
    require(!in_place || (value != key && value != query && key != query),
            "[attend] one buffer is used twice");
    require(op->query.width == heads * width && op->key.width == kv_heads * width &&
                op->value.width == op->key.width && op->out.width == op->query.width,
            "[attend] the widths differ");
    executor.add_operation(std::move(op));
}

void logits(Executor& executor, int x, int matrix, float scale, int norm_weight, float epsilon) {
    auto op = std::make_unique<nextn::Logits>();
    op->prologue.x = executor.buffer(x);
    op->prologue.norm = norm_of(executor, norm_weight, epsilon, op->prologue.x.width);
    op->matrix = &executor.matrix(matrix);
    op->scale = scale;
    require(op->matrix->columns == op->prologue.x.width, "[logits] the widths differ");
    executor.add_logits(std::move(op));
}

int observe(Executor& executor, int x, int norm_weight, float epsilon) {
    auto op = std::make_unique<nextn::Observe>();
    op->x = executor.buffer(x);
    op->norm = norm_of(executor, norm_weight, epsilon, op->x.width);
    op->sums.assign(static_cast<size_t>(op->x.width), 0.0);
    return executor.add_observer(std::move(op));
}

int64_t read_observed(const Executor& executor, int number, DoublesOut out) {
    const nextn::Observe& observer = executor.observer(number);
    require(out.shape(0) == observer.sums.size(), "[observe] the array does not fit");
    std::copy(observer.sums.begin(), observer.sums.end(), out.data());
    return observer.rows;
}

void concat(Executor& executor, int out, int a, int b) {
    auto op = std::make_unique<nextn::Concat>();
    op->out = executor.buffer(out);
    op->a = executor.buffer(a);
    op->b = executor.buffer(b);
    require(int64_t{op->a.width} + op->b.width == op->out.width, "[concat] the widths differ");
    require(out != a && out != b, "[concat] one buffer is used twice");
    executor.add_operation(std::move(op));
}

int add_hidden_layer(Executor& executor, int width) {
    require(width > 0 && width < kMostWidth, "[hidden] impossible width");
    return executor.add_hidden_layer(width);
}

void store_hidden(Executor& executor, int x, int layer, bool only_wanted) {
    auto op = std::make_unique<nextn::StoreHidden>();
    op->x = executor.buffer(x);
    op->cache = &executor.hidden_layer(layer);
    op->only_wanted = only_wanted;
    require(op->x.width == op->cache->width, "[store_hidden] the widths differ");
    executor.add_operation(std::move(op));
}

void load_hidden(Executor& executor, int out, int layer) {
    auto op = std::make_unique<nextn::LoadHidden>();
    op->out = executor.buffer(out);
    op->cache = &executor.hidden_layer(layer);
    require(op->out.width == op->cache->width, "[load_hidden] the widths differ");
    executor.add_operation(std::move(op));
}

void begin_head(Executor& executor, int vocab_size, std::optional<Ints> token_ids) {
    require(vocab_size > 0 && vocab_size < kMostWidth, "[head] impossible vocabulary");
    std::vector<int32_t> ids;
    if (token_ids) {
        ids.assign(token_ids->data(), token_ids->data() + token_ids->shape(0));
        require(ids.size() == static_cast<size_t>(vocab_size),
                "[head] there must be one token id for each logit");
    }
    executor.begin_head(vocab_size, std::move(ids));
}

// Copies whole cache blocks out: [blocks][positions of a block][width].
void read_hidden(Executor& executor, int layer, Ints blocks, HiddenOut out) {
    const nextn::HiddenLayer& hidden = executor.hidden_layer(layer);
    require(hidden.data != nullptr, "[hidden] read before the executor is finished");
    require(out.shape(0) == blocks.shape(0) && out.shape(1) == nextn::kCacheBlockTokens &&
                out.shape(2) == static_cast<size_t>(hidden.width),
            "[hidden] the arrays do not fit");
    for (size_t i = 0; i < blocks.shape(0); ++i) {
        const int32_t block = blocks.data()[i];
        require(block >= 0 && block < executor.block_count(), "[hidden] there is no such block");
        std::memcpy(out.data() + i * out.shape(1) * out.shape(2),
                    hidden.data + static_cast<size_t>(block) * hidden.block_stride, hidden.bytes());
    }
}

// The blocks of the first `end` positions of a sequence.
void require_blocks(const Executor& executor, const int32_t* table, int64_t end) {
    const int64_t blocks = (end + nextn::kCacheBlockTokens - 1) / nextn::kCacheBlockTokens;
    for (int64_t i = 0; i < blocks; ++i) {
        require(table[i] >= 0 && table[i] < executor.block_count(),
                "[step] a block id is outside the cache");
    }
}

// The rows of a step, by the rules of nextn.backends.base.check_rows, which says the same in
// Python.
nextn::StepRows step_rows(const Executor& executor, Ints tokens, Ints positions, Ints slots,
                          Bools wants, Tables tables, size_t vocab_size) {
    const size_t count = tokens.shape(0);
    require(count > 0 && count <= static_cast<size_t>(executor.max_rows()),
            "[step] no rows, or more than the executor takes");
    require(positions.shape(0) == count && slots.shape(0) == count && wants.shape(0) == count,
            "[step] the arrays of the rows differ in length");
    nextn::StepRows rows{};
    rows.count = static_cast<int>(count);
    rows.tokens = tokens.data();
    rows.positions = positions.data();
    std::vector<bool> seen(tables.shape(0));
    for (int row = 0; row < rows.count; ++row) {
        const int32_t slot = slots.data()[row];
        const int32_t position = positions.data()[row];
        require(rows.tokens[row] >= 0 && static_cast<size_t>(rows.tokens[row]) < vocab_size,
                "[step] a token id is outside the vocabulary");
        require(slot >= 0 && static_cast<size_t>(slot) < tables.shape(0),
                "[step] a slot has no block table");
        require(position >= 0 &&
                    static_cast<size_t>(position) / nextn::kCacheBlockTokens < tables.shape(1),
                "[step] a position lies outside its block table");
        if (row == 0 || slots.data()[row - 1] != slot) {
            require(!seen[slot], "[step] the rows of a slot are not contiguous");
            seen[slot] = true;
            const int32_t* table = tables.data() + static_cast<size_t>(slot) * tables.shape(1);
            rows.segments.push_back({row, 0, position, table});
        } else {
            require(position == positions.data()[row - 1] + 1,
                    "[step] the positions of a slot are not consecutive");
        }
        ++rows.segments.back().rows;
        if (wants.data()[row]) rows.logits_rows.push_back(row);
    }
    for (const nextn::Segment& segment : rows.segments) {
        require_blocks(executor, segment.table, segment.position + segment.rows);
    }
    return rows;
}

LogitsArray step(Executor& executor, Ints tokens, Ints positions, Ints slots, Bools wants,
                 Tables tables, size_t vocab_size) {
    require(vocab_size <= executor.logits_stride(), "[step] the vocabulary is smaller");
    const nextn::StepRows rows =
        step_rows(executor, tokens, positions, slots, wants, tables, vocab_size);
    const float* result;
    {
        nb::gil_scoped_release release;
        result = executor.step(rows);
    }
    return LogitsArray(const_cast<float*>(result), {rows.logits_rows.size(), vocab_size},
                       nb::find(executor), {static_cast<int64_t>(executor.logits_stride()), 1});
}

// The rules of the chains are those of nextn.backends.drafting.check_chains.
void draft(Executor& executor, Ints tokens, Ints positions, Ints slots, Bools wants, Tables tables,
           size_t vocab_size, Ints depths, Doubles temperature, Ints top_k, Doubles top_p,
           Doubles min_p, Seeds seeds, Doubles least, Chances chances, IntsOut out_tokens,
           FloatsOut out_chances, FloatsOut out_probabilities, CountsOut out_counts) {
    const nextn::StepRows rows =
        step_rows(executor, tokens, positions, slots, wants, tables, vocab_size);
    const size_t chains = rows.logits_rows.size();
    require(depths.shape(0) == chains && temperature.shape(0) == chains &&
                top_k.shape(0) == chains && top_p.shape(0) == chains && min_p.shape(0) == chains &&
                seeds.shape(0) == chains && least.shape(0) == chains &&
                chances.shape(0) == chains && out_counts.shape(0) == chains,
            "[draft] there are not as many chains as rows that want logits");
    require(chances.shape(1) > 0 && chances.shape(2) > 0 && chances.shape(1) < kMostRows &&
                chances.shape(2) < kMostRows,
            "[draft] the table of chances is empty");
    const size_t stride = out_tokens.shape(1);
    for (const auto& [rows_of_it, columns] :
         {std::pair{out_tokens.shape(0), out_tokens.shape(1)},
          std::pair{out_chances.shape(0), out_chances.shape(1)},
          std::pair{out_probabilities.shape(0), out_probabilities.shape(1)}}) {
        require(rows_of_it == chains && columns == stride, "[draft] the results do not fit");
    }
    nextn::DraftRequest request{
        {}, static_cast<int>(chances.shape(1)), static_cast<int>(chances.shape(2))};
    const size_t table = chances.shape(1) * chances.shape(2);
    for (size_t i = 0; i < chains; ++i) {
        const int depth = depths.data()[i];
        const int row = rows.logits_rows[i];
        const int32_t slot = slots.data()[row];
        require(row + 1 == rows.count || slots.data()[row + 1] != slot,
                "[draft] a row that wants logits is not the last of its slot");
        const int64_t end = int64_t{rows.positions[row]} + depth;
        require(depth > 0, "[draft] a depth is below 1");
        require(static_cast<size_t>(depth) <= stride, "[draft] the results do not fit");
        require(end <= static_cast<int64_t>(tables.shape(1)) * nextn::kCacheBlockTokens,
                "[draft] a chain leaves its block table");
        require_blocks(executor, tables.data() + static_cast<size_t>(slot) * tables.shape(1), end);
        require(temperature.data()[i] >= 0.0 && std::isfinite(temperature.data()[i]),
                "[draft] a temperature is negative or not finite");
        require(top_k.data()[i] >= 0, "[draft] a top_k is below 0");
        request.chains.push_back({depth,
                                  {temperature.data()[i], top_k.data()[i], top_p.data()[i],
                                   min_p.data()[i], seeds.data()[i]},
                                  least.data()[i],
                                  chances.data() + i * table});
    }
    const nextn::DraftResult result{stride, out_tokens.data(), out_chances.data(),
                                    out_probabilities.data(), out_counts.data()};
    nb::gil_scoped_release release;
    executor.draft(rows, request, result);
}

}  // namespace

void bind_executor(nb::module_& m) {
    m.attr("CACHE_BLOCK_TOKENS") = nextn::kCacheBlockTokens;
    nb::class_<Executor>(m, "Executor", "Runs the steps of one plan on the processor's cores.")
        .def(
            "__init__",
            [](Executor* self, int threads, int max_rows, int block_count, std::string kernels,
               std::string cache_type) {
                require(threads > 0 && max_rows > 0 && block_count > 0, "[executor] empty limits");
                require(threads <= kMostThreads && max_rows <= kMostRows,
                        "[executor] impossible limits");
                new (self) Executor({threads, max_rows, block_count, cache_type_named(cache_type)},
                                    nextn::kernels_named(kernels));
            },
            "threads"_a, "max_rows"_a, "block_count"_a, "kernels"_a, "cache_type"_a)
        .def("add_buffer", &add_buffer, "width"_a)
        .def("add_matrix", &add_matrix, "type_id"_a, "rows"_a, "columns"_a, "data"_a, "mapped"_a)
        .def(
            "add_vector",
            [](Executor& self, Floats values) {
                require(values.shape(0) < kMostWidth, "[weight] impossible width");
                return self.add_vector(values.data(), static_cast<int>(values.shape(0)));
            },
            "values"_a)
        .def(
            "add_rotary",
            [](Executor& self, Doubles frequencies, bool interleaved, double magnitude) {
                require(frequencies.shape(0) < kMostWidth, "[rope] impossible width");
                return self.add_rotary(frequencies.data(), static_cast<int>(frequencies.shape(0)),
                                       interleaved, magnitude);
            },
            "frequencies"_a, "interleaved"_a, "magnitude"_a)
        .def("add_cache_layer", &add_cache_layer, "kv_heads"_a, "head_width"_a)
        // The table is read in every step: a converted copy of it would be gone by then.
        .def("embed", &embed, "out"_a, "type_id"_a, "rows"_a, "columns"_a, "data"_a.noconvert(),
             "scale"_a, nb::keep_alive<1, 6>())
        .def("norm", &norm, "out"_a, "x"_a, "weight"_a, "epsilon"_a, "residual"_a)
        .def("head_norm", &head_norm, "out"_a, "x"_a, "weight"_a, "epsilon"_a, "heads"_a)
        .def("rope", &rope, "out"_a, "x"_a, "rotary"_a, "heads"_a)
        .def("activate", &activate, "out"_a, "gate"_a, "up"_a, "activation"_a)
        .def("add", &add, "out"_a, "a"_a, "b"_a)
        .def("linear", &linear, "outs"_a, "x"_a, "matrices"_a, "scales"_a, "biases"_a,
             "norm_weight"_a, "epsilon"_a, "fine"_a, "activation"_a, "residual"_a)
        .def("attend", &attend, "out"_a, "query"_a, "key"_a, "value"_a, "layer"_a, "heads"_a,
             "scale"_a, "window"_a, "query_norm"_a, "key_norm"_a, "epsilon"_a, "rotary"_a)
        .def("logits", &logits, "x"_a, "matrix"_a, "scale"_a, "norm_weight"_a, "epsilon"_a)
        .def("observe", &observe, "x"_a, "norm_weight"_a, "epsilon"_a)
        .def("read_observed", &read_observed, "number"_a, "out"_a.noconvert())
        .def("concat", &concat, "out"_a, "a"_a, "b"_a)
        .def("add_hidden_layer", &add_hidden_layer, "width"_a)
        .def("store_hidden", &store_hidden, "x"_a, "layer"_a, "only_wanted"_a)
        .def("load_hidden", &load_hidden, "out"_a, "layer"_a)
        .def("read_hidden", &read_hidden, "layer"_a, "blocks"_a.noconvert(), "out"_a.noconvert())
        .def("begin_head", &begin_head, "vocab_size"_a, "token_ids"_a.none())
        .def("finish", &Executor::finish)
        // What was checked must be what is used, so nothing is converted.
        .def("step", &step, "tokens"_a.noconvert(), "positions"_a.noconvert(),
             "slots"_a.noconvert(), "wants_logits"_a.noconvert(), "block_tables"_a.noconvert(),
             "vocab_size"_a, nb::rv_policy::reference)
        .def("draft", &draft, "tokens"_a.noconvert(), "positions"_a.noconvert(),
             "slots"_a.noconvert(), "wants_logits"_a.noconvert(), "block_tables"_a.noconvert(),
             "vocab_size"_a, "depths"_a.noconvert(), "temperature"_a.noconvert(),
             "top_k"_a.noconvert(), "top_p"_a.noconvert(), "min_p"_a.noconvert(),
             "seeds"_a.noconvert(), "least"_a.noconvert(), "chances"_a.noconvert(),
             "out_tokens"_a.noconvert(), "out_chances"_a.noconvert(),
             "out_probabilities"_a.noconvert(), "out_counts"_a.noconvert())
        .def_prop_ro("weight_bytes", &Executor::weight_bytes)
        .def_prop_ro("cache_bytes", &Executor::cache_bytes);
}
