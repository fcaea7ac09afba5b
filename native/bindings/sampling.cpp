// Python names of native/sampling: NumPy arrays in and out, errors for NaN.
#include "../sampling/sampling.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "../sampling/draft.h"

namespace nb = nanobind;

namespace {

using Logits = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename T>
using Vector = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

template <typename T>
Vector<T> take(std::unique_ptr<T[]> data, std::size_t n) {
    T* raw = data.release();
    nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return Vector<T>(raw, {n}, owner);
}

void require_logits(const Logits& logits) {
    if (logits.size() == 0 || logits.size() > 0x7fffffff) {
        throw std::invalid_argument("[sampling] logits must hold between 1 and 2^31 - 1 values");
    }
}

std::int64_t require_number(std::int64_t result) {
    if (result == nextn::kNanLogit) {
        throw std::invalid_argument("[sampling] the logits hold NaN, or no finite largest value");
    }
    return result;
}

void require_temperature(double temperature) {
    if (!(temperature >= 0.0) || std::isinf(temperature)) {
        throw std::invalid_argument("[sampling] temperature must be 0 or more, and finite");
    }
}

}  // namespace

void bind_sampling(nb::module_& m) {
    m.def(
        "argmax",
        [](const Logits& logits) {
            require_logits(logits);
            return require_number(nextn::argmax(logits.data(), logits.size()));
        },
        nb::arg("logits").noconvert(), "Index of the largest logit, the lowest one among equals.");
    m.def(
        "top_k",
        [](const Logits& logits, std::size_t k) {
            require_logits(logits);
            k = k < logits.size() ? k : logits.size();
            std::unique_ptr<std::int32_t[]> ids(new std::int32_t[k]);
            std::unique_ptr<float[]> values(new float[k]);
            require_number(nextn::top_k(logits.data(), logits.size(), k, ids.get()));
            for (std::size_t i = 0; i < k; ++i) values[i] = logits.data()[ids[i]];
            return std::make_pair(take(std::move(ids), k), take(std::move(values), k));
        },
        nb::arg("logits").noconvert(), nb::arg("k"),
        "(ids int32, values float32) of the k largest logits, largest first, equal ones by id.");
    m.def(
        "logsumexp",
        [](const Logits& logits) {
            require_logits(logits);
            return nextn::logsumexp(logits.data(), logits.size());
        },
        nb::arg("logits").noconvert(), "log(sum(exp(logits))), always summed in the same order.");
    m.def(
        "at_least",
        [](const Logits& logits, double threshold) {
            require_logits(logits);
            const std::vector<std::int32_t> found =
                nextn::at_least(logits.data(), logits.size(), threshold);
            std::unique_ptr<std::int32_t[]> ids(new std::int32_t[found.size()]);
            std::copy(found.begin(), found.end(), ids.get());
            return take(std::move(ids), found.size());
        },
        nb::arg("logits").noconvert(), nb::arg("threshold"),
        "Ids (int32, ascending) with logit >= threshold.");
    m.def(
        "gumbel",
        [](std::uint64_t seed, std::uint64_t position, const Ids& ids) {
            std::unique_ptr<double[]> noise(new double[ids.size()]);
            nextn::gumbel(seed, position, ids.data(), ids.size(), noise.get());
            return take(std::move(noise), ids.size());
        },
        nb::arg("seed"), nb::arg("position"), nb::arg("ids").noconvert(),
        "Gumbel noise (float64) of token ids at a position.");
    m.def(
        "gumbel_argmax",
        [](const Logits& logits, double temperature, std::uint64_t seed, std::uint64_t position) {
            require_logits(logits);
            if (!(temperature > 0.0) || std::isinf(temperature)) {
                throw std::invalid_argument("[sampling] temperature must be positive and finite");
            }
            return require_number(
                nextn::gumbel_argmax(logits.data(), logits.size(), temperature, seed, position));
        },
        nb::arg("logits").noconvert(), nb::arg("temperature"), nb::arg("seed"), nb::arg("position"),
        "argmax of (logits - max) / temperature + gumbel, over all ids.");
    m.def(
        "choose",
        [](const Logits& logits, std::uint64_t position, double temperature, std::int32_t top_k,
           double top_p, double min_p, std::uint64_t seed) {
            require_logits(logits);
            require_temperature(temperature);
            return require_number(nextn::choose(logits.data(), logits.size(), nullptr, position,
                                                {temperature, top_k, top_p, min_p, seed}));
        },
        nb::arg("logits").noconvert(), nb::arg("position"), nb::arg("temperature"),
        nb::arg("top_k"), nb::arg("top_p"), nb::arg("min_p"), nb::arg("seed"),
        "The id that the filters and the noise choose.");
    m.def(
        "choose_draft",
        [](const Logits& logits, const std::optional<Ids>& token_ids, std::uint64_t position,
           double temperature, std::int32_t top_k, double top_p, double min_p, std::uint64_t seed) {
            require_logits(logits);
            require_temperature(temperature);
            if (token_ids && token_ids->size() != logits.size()) {
                throw std::invalid_argument("[sampling] there must be one token id for each logit");
            }
            const nextn::DraftChoice choice = nextn::choose_draft(
                logits.data(), logits.size(), token_ids ? token_ids->data() : nullptr, position,
                {temperature, top_k, top_p, min_p, seed});
            return std::make_pair(require_number(choice.index), choice.probability);
        },
        nb::arg("logits").noconvert(), nb::arg("token_ids").none(), nb::arg("position"),
        nb::arg("temperature"), nb::arg("top_k"), nb::arg("top_p"), nb::arg("min_p"),
        nb::arg("seed"),
        "Index that a head drafts from its logits, and its probability at temperature 1.");
}
