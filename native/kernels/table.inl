// kernels/table.inl: the table of an instruction set's kernels.

static KernelTable make_table(const char* name) {
    KernelTable table{};
    table.name = name;
    table.quantise_row = quantise_row;
    table.spread_row = spread_row;
    table.square_row = square_row;
    table.norm_factor = norm_factor;
    table.rms_norm = rms_norm;
    table.linear = linear;
    table.rope = rope;
    table.store_key = store_key;
    table.store_value = store_value;
    table.attend_chunk = attend_chunk;
    table.attend_join = attend_join;
    table.attend_finish = attend_finish;
    table.activate = activate;
    table.add = add;
    table.read_vectors = read_vectors;
    table.dot_rounds = dot_rounds;
    table.decode_row = decode_floats;
    table.encode_row = encode_row;
    return table;
}
