// Python names of native/drafting.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../drafting/suffix.h"

namespace nb = nanobind;

namespace {

using Tokens = std::vector<std::int32_t>;

// A token of -1 would look like no token at all, and positions must fit into 32 bits.
void require_tokens(const Tokens& tokens, std::size_t before) {
    for (const std::int32_t token : tokens) {
        if (token < 0) throw std::invalid_argument("[drafting] token ids must be 0 or more");
    }
    if (tokens.size() + before > std::numeric_limits<std::int32_t>::max() / 2) {
        throw std::invalid_argument("[drafting] a text of more than 2^30 tokens");
    }
}

nextn::SuffixSettings checked(nextn::SuffixSettings settings) {
    if (settings.class_of.empty() || settings.assumed.empty()) {
        throw std::invalid_argument("[drafting] there must be a class of matches");
    }
    for (const std::int32_t index : settings.class_of) {
        if (index < 0 || static_cast<std::size_t>(index) >= settings.assumed.size()) {
            throw std::invalid_argument("[drafting] a length has a class that does not exist");
        }
    }
    return settings;
}

}  // namespace

void bind_drafting(nb::module_& m) {
    nb::class_<nextn::SuffixCounts>(
        m, "SuffixCounts",
        "How matches fared in all texts of an engine: class of each length, the chance of each "
        "class that is assumed, and (weight of what is assumed, what is left of a count after the "
        "next) for the engine and for a text.")
        .def(
            "__init__",
            [](nextn::SuffixCounts* self, std::vector<std::int32_t> class_of,
               std::vector<double> assumed, std::pair<double, double> engine,
               std::pair<double, double> text) {
                new (self) nextn::SuffixCounts(
                    checked({std::move(class_of), std::move(assumed), engine.first, engine.second,
                             text.first, text.second}));
            },
            nb::arg("class_of"), nb::arg("assumed"), nb::arg("engine"), nb::arg("text"));
    nb::class_<nextn::SuffixText>(m, "SuffixText",
                                  "A text that knows where its end occurred before.")
        .def(
            "__init__",
            [](nextn::SuffixText* self, nextn::SuffixCounts& counts, const Tokens& prompt) {
                require_tokens(prompt, 0);
                new (self) nextn::SuffixText(counts, prompt);
            },
            nb::arg("counts"), nb::arg("prompt"), nb::keep_alive<1, 2>())
        .def(
            "append",
            [](nextn::SuffixText& self, const Tokens& tokens) {
                require_tokens(tokens, self.automaton().text().size());
                self.append(tokens);
            },
            nb::arg("tokens"), "Append what the model wrote, and count how the matches fared.")
        .def(
            "draft",
            [](const nextn::SuffixText& self, std::size_t limit, std::int32_t min_match,
               const Tokens& prefix) {
                require_tokens(prefix, self.automaton().text().size());
                nextn::SuffixText::Guesses guesses = self.draft(limit, min_match, prefix);
                return std::make_pair(std::move(guesses.tokens), std::move(guesses.chances));
            },
            nb::arg("limit"), nb::arg("min_match"), nb::arg("prefix"),
            "(tokens, chances): what followed the earlier occurrence, `limit` tokens; none if the "
            "match of the text and the prefix is shorter than `min_match`.")
        .def_prop_ro("match_length", &nextn::SuffixText::match_length,
                     "Length of the longest suffix of the text that occurred before; 0 for none.")
        .def_prop_ro("source", &nextn::SuffixText::source,
                     "Index of the last token of its earlier occurrence; -1 for none.")
        .def_prop_ro(
            "bytes", [](const nextn::SuffixText& self) { return self.automaton().bytes(); },
            "Memory that the text takes.");
}
