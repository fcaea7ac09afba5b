#include "suffix.h"

#include <algorithm>

namespace nextn {

namespace {

constexpr std::int32_t kNone = -1;
constexpr std::size_t kLeastSlots = 64;  // a power of two

}  // namespace

SuffixAutomaton::SuffixAutomaton() {
    states_.push_back({0, kNone, kNone, kNone, kNone, kNone});  // the empty string
}

std::size_t SuffixAutomaton::bytes() const {
    return text_.capacity() * sizeof(text_[0]) + states_.capacity() * sizeof(State) +
           edges_.capacity() * sizeof(Edge) + table_.capacity() * sizeof(table_[0]);
}

// Where the edge of a state with a token is in the table, or the free place for it.
std::size_t SuffixAutomaton::slot_of(std::int32_t state, std::int32_t token) const {
    // Fibonacci hashing (Knuth, TAOCP 6.4).
    const std::uint64_t key = static_cast<std::uint64_t>(static_cast<std::uint32_t>(state)) << 32 |
                              static_cast<std::uint32_t>(token);
    const std::size_t mask = table_.size() - 1;
    std::size_t slot = static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (table_[slot] != kNone) {
        const Edge& edge = edges_[static_cast<std::size_t>(table_[slot])];
        if (edge.state == state && edge.token == token) break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

void SuffixAutomaton::add_edge(std::int32_t state, std::int32_t token, std::int32_t target) {
    if (2 * (edges_.size() + 1) > table_.size()) {
        table_.assign(std::max(kLeastSlots, 2 * table_.size()), kNone);
        for (std::size_t i = 0; i < edges_.size(); ++i) {
            table_[slot_of(edges_[i].state, edges_[i].token)] = static_cast<std::int32_t>(i);
        }
    }
    State& from = states_[static_cast<std::size_t>(state)];
    const std::size_t slot = slot_of(state, token);
    const auto index = static_cast<std::int32_t>(edges_.size());
    edges_.push_back({state, token, target, from.edges});
    table_[slot] = index;
    from.edges = index;
}

// The state of the strings of a state with a token after them; -1 if there is none.
std::int32_t SuffixAutomaton::target_of(std::int32_t state, std::int32_t token) const {
    const State& from = states_[static_cast<std::size_t>(state)];
    if (from.token == token) return from.target;
    if (from.edges == kNone) return kNone;
    const std::int32_t index = table_[slot_of(state, token)];
    return index == kNone ? kNone : edges_[static_cast<std::size_t>(index)].target;
}

void SuffixAutomaton::append(std::int32_t token) {
    const auto position = static_cast<std::int32_t>(text_.size());
    text_.push_back(token);
    const auto newest = static_cast<std::int32_t>(states_.size());
    states_.push_back({position + 1, 0, position, kNone, kNone, kNone});

    // Walk the suffixes, longest first, up to the first that had this token after it before.
    std::int32_t state = last_, target = kNone;
    while (state != kNone) {
        target = target_of(state, token);
        if (target != kNone) break;
        State& from = states_[static_cast<std::size_t>(state)];
        if (from.token == kNone) {
            from.token = token;
            from.target = newest;
        } else {
            add_edge(state, token, newest);
        }
        state = states_[static_cast<std::size_t>(state)].link;
    }

    std::int32_t match = 0;
    if (target != kNone) {
        const bool whole = states_[static_cast<std::size_t>(target)].length ==
                           states_[static_cast<std::size_t>(state)].length + 1;
        match = whole ? target : split(state, token, target);
    }
    states_[static_cast<std::size_t>(newest)].link = match;
    last_ = newest;
    State& found = states_[static_cast<std::size_t>(match)];
    match_length_ = found.length;
    match_end_ = match ? found.recent : kNone;
    found.recent = position;
}

// Gives the strings that reach `target` from `state` and its suffixes a state of their own: they
// end at the new position now, the longer strings of `target` do not.
std::int32_t SuffixAutomaton::split(std::int32_t state, std::int32_t token, std::int32_t target) {
    const auto clone = static_cast<std::int32_t>(states_.size());
    State copy = states_[static_cast<std::size_t>(target)];
    std::int32_t edge = copy.edges;
    copy.length = states_[static_cast<std::size_t>(state)].length + 1;
    copy.edges = kNone;
    states_.push_back(copy);
    for (; edge != kNone; edge = edges_[static_cast<std::size_t>(edge)].older) {
        const Edge found = edges_[static_cast<std::size_t>(edge)];
        add_edge(clone, found.token, found.target);
    }
    states_[static_cast<std::size_t>(target)].link = clone;
    for (; state != kNone; state = states_[static_cast<std::size_t>(state)].link) {
        State& from = states_[static_cast<std::size_t>(state)];
        std::int32_t& leads_to =
            from.token == token
                ? from.target
                : edges_[static_cast<std::size_t>(table_[slot_of(state, token)])].target;
        if (leads_to != target) break;
        leads_to = clone;
    }
    return clone;
}

std::pair<std::int32_t, std::int32_t> SuffixAutomaton::match_with(
    const std::vector<std::int32_t>& tokens) const {
    std::int32_t length = match_length_;
    std::int32_t state = text_.empty() ? 0 : states_[static_cast<std::size_t>(last_)].link;
    for (const std::int32_t token : tokens) {
        std::int32_t target = target_of(state, token);
        while (target == kNone && state != 0) {
            state = states_[static_cast<std::size_t>(state)].link;
            length = states_[static_cast<std::size_t>(state)].length;
            target = target_of(state, token);
        }
        if (target == kNone) {
            length = 0;
        } else {
            state = target;
            ++length;
        }
    }
    return {length, length ? states_[static_cast<std::size_t>(state)].recent : kNone};
}

SuffixText::SuffixText(SuffixCounts& engine, const std::vector<std::int32_t>& prompt)
    : engine_(engine), counts_(engine.settings.assumed.size()) {
    for (const std::int32_t token : prompt) push(token, false);
}

void SuffixText::append(const std::vector<std::int32_t>& tokens) {
    for (const std::int32_t token : tokens) push(token, true);
}

std::size_t SuffixText::class_of(std::int32_t length) const {
    const auto& classes = engine_.settings.class_of;
    return static_cast<std::size_t>(
        classes[std::min(static_cast<std::size_t>(length), classes.size() - 1)]);
}

void SuffixText::push(std::int32_t token, bool counts) {
    // The source is the end of an earlier occurrence, so the token after it exists.
    const bool hit =
        length_ > 0 && automaton_.text()[static_cast<std::size_t>(source_ + 1)] == token;
    if (length_ > 0 && counts) {
        const std::size_t index = class_of(length_);
        counts_.add(index, hit, engine_.settings.text_memory);
        engine_.counts.add(index, hit, engine_.settings.engine_memory);
    }
    automaton_.append(token);
    if (hit && automaton_.match_length() == length_ + 1) {
        ++source_;
    } else {
        source_ = automaton_.match_end();
    }
    length_ = automaton_.match_length();
}

// Length and source of the match that the text would have with `prefix` after it.
std::pair<std::int32_t, std::int32_t> SuffixText::match_after(
    const std::vector<std::int32_t>& prefix) const {
    const auto& text = automaton_.text();
    const std::size_t begin = static_cast<std::size_t>(source_ + 1);
    // As long as the prefix is what would be copied anyway, the copy stays with its source.
    if (length_ > 0 && begin + prefix.size() <= text.size() &&
        std::equal(prefix.begin(), prefix.end(),
                   text.begin() + static_cast<std::ptrdiff_t>(begin))) {
        const auto count = static_cast<std::int32_t>(prefix.size());
        return {length_ + count, source_ + count};
    }
    return automaton_.match_with(prefix);
}

SuffixText::Guesses SuffixText::draft(std::size_t limit, std::int32_t min_match,
                                      const std::vector<std::int32_t>& prefix) const {
    Guesses guesses;
    const auto [length, source] =
        prefix.empty() ? std::make_pair(length_, source_) : match_after(prefix);
    if (length < min_match) return guesses;
    const auto& text = automaton_.text();
    auto& tokens = guesses.tokens;
    const std::size_t begin = static_cast<std::size_t>(source + 1);
    const std::size_t end = std::min(begin + limit, text.size());
    tokens.assign(text.begin() + static_cast<std::ptrdiff_t>(begin),
                  text.begin() + static_cast<std::ptrdiff_t>(end));
    if (tokens.size() < limit) {
        // A copy that runs into the end of the text goes on with the tokens after it: the text is
        // periodic there, with the distance between the two occurrences as its period.
        const std::size_t period = tokens.size() + prefix.size();
        tokens.insert(tokens.end(), prefix.begin(), prefix.end());
        while (tokens.size() < limit) tokens.push_back(tokens[tokens.size() - period]);
        tokens.resize(limit);
    }
    guesses.chances.reserve(limit);
    const SuffixSettings& settings = engine_.settings;
    for (std::size_t i = 0; i < limit; ++i) {
        const std::size_t index = class_of(length + static_cast<std::int32_t>(i));
        const double engine =
            engine_.counts.chance(index, settings.assumed[index], settings.engine_prior);
        guesses.chances.push_back(counts_.chance(index, engine, settings.text_prior));
    }
    return guesses;
}

}  // namespace nextn
