// bindings/module.cpp: the Python module nextn._native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "kernels/select.h"

namespace nb = nanobind;

void bind_drafting(nb::module_& m);
void bind_executor(nb::module_& m);
void bind_formats(nb::module_& m);
void bind_quantise(nb::module_& m);
void bind_roofline(nb::module_& m);
void bind_sampling(nb::module_& m);

NB_MODULE(_native, m) {
    // What a program holds until it ends is no leak that its user should read about.
    nb::set_leak_warnings(false);
    m.doc() =
        "The native parts of nextn: drafting, executor, block formats, quantisers, sampling, "
        "roofline.";
    m.def("available_kernels", &nextn::available_kernels,
          "Names of the kernel sets that this processor can run, the best one first.");
    bind_drafting(m);
    bind_executor(m);
    bind_formats(m);
    bind_quantise(m);
    bind_roofline(m);
    bind_sampling(m);
}
