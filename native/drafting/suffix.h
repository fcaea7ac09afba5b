// A text that knows where its end occurred before, and what tends to come of that.
//
// The text is kept in the online suffix automaton of Blumer et al. (1985, "The smallest automaton
// recognizing the subwords of a text"): tokens are appended in amortised constant time, and n of
// them make at most 2n states. A state stands for all strings that end at the same set of
// positions; its suffix link leads to the longest suffix of them that also ends elsewhere. So after
// an append the suffix link of the newest state is the longest suffix that occurred before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace nextn {

// How the counts of right guesses become chances; see SuffixDrafter in Python.
struct SuffixSettings {
    std::vector<std::int32_t> class_of;  // by length of the match; the last for all longer ones
    std::vector<double> assumed;         // by class: the chance before anything was counted
    double engine_prior, engine_memory;  // weight of what is assumed, and what a count leaves of it
    double text_prior, text_memory;      // the same, for a text against what the engine counted
};

// How often the token after a match was the one after its earlier occurrence, by class of length.
class MatchCounts {
public:
    explicit MatchCounts(std::size_t classes) : hits_(classes), trials_(classes) {}
    void add(std::size_t index, bool hit, double memory) {
        hits_[index] = hits_[index] * memory + hit;
        trials_[index] = trials_[index] * memory + 1.0;
    }
    // The mean of a Beta distribution, with a chance that is assumed as its prior.
    double chance(std::size_t index, double assumed, double weight) const {
        return (hits_[index] + weight * assumed) / (trials_[index] + weight);
    }

private:
    std::vector<double> hits_, trials_;
};

// What all texts of an engine have in common.
struct SuffixCounts {
    explicit SuffixCounts(SuffixSettings given)
        : settings(std::move(given)), counts(settings.assumed.size()) {}
    SuffixSettings settings;
    MatchCounts counts;
};

class SuffixAutomaton {
public:
    SuffixAutomaton();
    // token >= 0
    void append(std::int32_t token);
    // The match that the text would have if `tokens` followed it: its length, and the index of the
    // last token of an occurrence within the text, -1 for none. Changes nothing.
    std::pair<std::int32_t, std::int32_t> match_with(const std::vector<std::int32_t>& tokens) const;

    const std::vector<std::int32_t>& text() const { return text_; }
    // Length of the longest suffix of the text that also ends earlier, and the index of the last
    // token of such an occurrence: the most recent one that is known without extra work.
    std::int32_t match_length() const { return match_length_; }
    std::int32_t match_end() const { return match_end_; }
    std::size_t bytes() const;

private:
    // Most states have one transition, which they hold themselves; further ones are `edges_`.
    struct State {
        std::int32_t length, link, recent;  // recent: where a string of this state ended lately
        std::int32_t token, target;         // the first transition; -1 for none
        std::int32_t edges;                 // the newest further one; -1 for none
    };
    struct Edge {
        std::int32_t state, token, target, older;
    };

    std::int32_t target_of(std::int32_t state, std::int32_t token) const;
    std::int32_t split(std::int32_t state, std::int32_t token, std::int32_t target);
    std::size_t slot_of(std::int32_t state, std::int32_t token) const;
    void add_edge(std::int32_t state, std::int32_t token, std::int32_t target);

    std::vector<std::int32_t> text_;
    std::vector<State> states_;
    std::vector<Edge> edges_;
    std::vector<std::int32_t> table_;  // indices of edges by state and token, open addressing
    std::int32_t last_ = 0, match_length_ = 0, match_end_ = -1;
};

class SuffixText {
public:
    // The tokens of the prompt teach nothing about chances. `engine` must live as long as this.
    SuffixText(SuffixCounts& engine, const std::vector<std::int32_t>& prompt);
    void append(const std::vector<std::int32_t>& tokens);

    struct Guesses {
        std::vector<std::int32_t> tokens;
        std::vector<double> chances;
    };
    // What followed the match of the text and `prefix`; nothing if it is shorter than `min_match`.
    Guesses draft(std::size_t limit, std::int32_t min_match,
                  const std::vector<std::int32_t>& prefix) const;

    const SuffixAutomaton& automaton() const { return automaton_; }
    // The present match; an occurrence that is being copied is kept while it goes on.
    std::int32_t match_length() const { return length_; }
    std::int32_t source() const { return source_; }

private:
    void push(std::int32_t token, bool counts);
    std::size_t class_of(std::int32_t length) const;
    std::pair<std::int32_t, std::int32_t> match_after(
        const std::vector<std::int32_t>& prefix) const;

    SuffixCounts& engine_;
    MatchCounts counts_;
    SuffixAutomaton automaton_;
    std::int32_t length_ = 0, source_ = -1;
};

}  // namespace nextn
