// kernels/roofline.inl: what the machine can do at most, for comparison with what a step does.

// Reads whole vectors, each once, and returns a number that depends on all of them, so that no
// read can be left out. A vector of dot products is the cheapest use of a load that every
// instruction set has.
static int32_t read_vectors(const uint8_t* data, size_t vectors) {
    constexpr size_t kStreams = 4;  // sums that do not wait for each other
    static const int8_t ones[4] = {1, 1, 1, 1};
    I sums[kStreams];
    for (size_t i = 0; i < kStreams; ++i) sums[i] = i_zero();
    size_t at = 0;
    for (; at + kStreams <= vectors; at += kStreams) {
        for (size_t i = 0; i < kStreams; ++i) {
            const uint8_t* p = data + 64 * (at + i);
            sums[i] = dot4<false>(sums[i], b_load(p), ones);
        }
    }
    for (; at < vectors; ++at) sums[0] = dot4<false>(sums[0], b_load(data + 64 * at), ones);
    return i_sum(i_add(i_add(sums[0], sums[1]), i_add(sums[2], sums[3])));
}

// Dot products of data that lie in registers and the nearest cache, at the rate of the processor.
// `data` is 3 vectors of codes below 128 and 64 activations. Each round is kDotsPerRound vectors.
static int32_t dot_rounds(const uint8_t* data, size_t rounds) {
    constexpr int kCodes = 3;
    constexpr int kWords = kDotsPerRound / kCodes;
    const int8_t* words = reinterpret_cast<const int8_t*>(data + 64 * kCodes);
    B codes[kCodes];
    I sums[kDotsPerRound];
    for (int i = 0; i < kCodes; ++i) codes[i] = b_load(data + 64 * i);
    for (I& sum : sums) sum = i_zero();
    for (size_t round = 0; round < rounds; ++round) {
        // Other words in each round: equal ones would let a compiler multiply instead.
        const int8_t* four = words + 16 * (round & 3);
        for (int w = 0; w < kWords; ++w) {
            for (int i = 0; i < kCodes; ++i) {
                I& sum = sums[kCodes * w + i];
                sum = dot4<false>(sum, codes[i], four + 4 * w);
            }
        }
    }
    I total = sums[0];
    for (int i = 1; i < kDotsPerRound; ++i) total = i_add(total, sums[i]);
    return i_sum(total);
}
