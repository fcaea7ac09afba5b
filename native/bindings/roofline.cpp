// bindings/roofline.cpp: times what the machine can do at most, with the threads of an executor.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "executor/thread_pool.h"
#include "kernels/select.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Clock = std::chrono::steady_clock;

constexpr int kMaxThreads = 1024;
constexpr int kVectorBytes = 64;

// Runs part(thread) on every thread, again and again, and returns the seconds of each pass.
std::vector<double> time_passes(int threads, int passes, const std::function<int32_t(int)>& part) {
    if (threads < 1 || threads > kMaxThreads || passes < 1) {
        throw std::invalid_argument("[roofline] impossible number of threads or passes");
    }
    const nb::gil_scoped_release release;
    nextn::ThreadPool pool(threads);
    std::vector<double> seconds(static_cast<size_t>(passes));
    std::atomic<int32_t> sum{0};  // somebody must want the results
    pool.run([&](int thread) {
        int32_t mine = 0;
        for (double& pass : seconds) {
            pool.barrier();
            const Clock::time_point start = Clock::now();
            mine += part(thread) & 1;
            pool.barrier();
            const std::chrono::duration<double> taken = Clock::now() - start;
            if (thread == 0) pass = taken.count();
        }
        sum.fetch_add(mine);
    });
    return seconds;
}

std::vector<double> time_reads(Bytes data, int threads, int passes, const std::string& kernels) {
    const nextn::KernelTable& table = nextn::kernels_named(kernels);
    const size_t vectors = data.shape(0) / kVectorBytes;
    const uint8_t* bytes = data.data();
    return time_passes(threads, passes, [=, &table](int thread) {
        const auto cut = [=](int n) {
            return vectors * static_cast<size_t>(n) / static_cast<size_t>(threads);
        };
        return table.read_vectors(bytes + kVectorBytes * cut(thread),
                                  cut(thread + 1) - cut(thread));
    });
}

std::vector<double> time_dots(size_t vectors, int threads, int passes, const std::string& kernels) {
    const nextn::KernelTable& table = nextn::kernels_named(kernels);
    alignas(kVectorBytes) uint8_t data[4 * kVectorBytes];
    for (size_t i = 0; i < sizeof data; ++i) {
        // Every other round of 16 activations has the opposite sign, so that sums stay small.
        const auto value = static_cast<int8_t>(37 * (i & ~size_t{16}) % 100);
        const bool opposite = i >= 3 * kVectorBytes && (i & 16) != 0;
        data[i] = static_cast<uint8_t>(opposite ? -value : value);
    }
    const size_t rounds = vectors / nextn::kDotsPerRound;
    return time_passes(threads, passes, [&](int) { return table.dot_rounds(data, rounds); });
}

}  // namespace

void bind_roofline(nb::module_& m) {
    m.attr("DOT_PRODUCTS") = kVectorBytes;
    m.def("time_reads", &time_reads, "data"_a, "threads"_a, "passes"_a, "kernels"_a,
          "Seconds of each of some passes in which the threads together read `data` once.");
    m.def("time_dots", &time_dots, "vectors"_a, "threads"_a, "passes"_a, "kernels"_a,
          "Seconds of each of some passes in which every thread multiplies `vectors` vectors.");
}
