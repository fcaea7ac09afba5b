// kernels/encode/row.inl: encodes rows of float32 into blocks.
//
// Without importance, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 are what the package `gguf` makes of the same
// values, byte for byte. All else is a search for the least weighted squared error.

static void decode_floats(BlockType type, const uint8_t* row, int64_t columns, float* out) {
    int64_t i = 0;
    if (type == BlockType::F32) {
        __builtin_memcpy(out, row, static_cast<size_t>(columns) * 4);
        i = columns;
    } else if (type == BlockType::F16) {
        for (; i + kLanes <= columns; i += kLanes) f_store(out + i, f_from_half(row + 2 * i));
    } else if (type == BlockType::BF16) {
        for (; i + kLanes <= columns; i += kLanes) f_store(out + i, f_from_bfloat(row + 2 * i));
    }
    if (i < columns) decode_row(type, row + row_bytes(type, i), columns - i, out + i);
}

static void encode_block(BlockType type, const float* x, const float* importance, float mean_square,
                         uint8_t* out) {
    switch (type) {
        case BlockType::Q8_0: encode_q8_0(x, out); break;
        case BlockType::Q4_0:
            if (importance != nullptr) {
                encode_symmetric<16>(x, importance, mean_square, out);
            } else {
                encode_from_extreme<16>(x, out);
            }
            break;
        case BlockType::Q5_0:
            if (importance != nullptr) {
                encode_symmetric<32>(x, importance, mean_square, out);
            } else {
                encode_from_extreme<32>(x, out);
            }
            break;
        case BlockType::Q4_1:
            if (importance != nullptr) {
                encode_affine<16>(x, importance, mean_square, out);
            } else {
                encode_from_range<16>(x, out);
            }
            break;
        case BlockType::Q5_1:
            if (importance != nullptr) {
                encode_affine<32>(x, importance, mean_square, out);
            } else {
                encode_from_range<32>(x, out);
            }
            break;
        case BlockType::Q4_K: encode_k<4>(x, importance, out); break;
        case BlockType::Q5_K: encode_k<5>(x, importance, out); break;
        case BlockType::Q6_K: encode_q6_k(x, importance, out); break;
        case BlockType::IQ4_NL: encode_iq4_nl(x, importance, 2.0F * mean_square, out); break;
        case BlockType::MXFP4: encode_mxfp4(x, importance, out); break;
        case BlockType::NVFP4: encode_nvfp4(x, importance, out); break;
        default: break;
    }
}

static void encode_row(BlockType type, const float* x, const float* importance, int64_t columns,
                       uint8_t* out) {
    if (type == BlockType::F32) {
        __builtin_memcpy(out, x, static_cast<size_t>(columns) * 4);
        return;
    }
    if (type == BlockType::F16) return encode_f16(x, columns, out);
    if (type == BlockType::BF16) return encode_bf16(x, columns, out);
    const BlockSize size = block_size(type);
    const float mean_square = importance == nullptr ? 0.0F
                                                    : sum_of_squares(x, static_cast<int>(columns)) /
                                                          static_cast<float>(columns);
    for (int64_t i = 0; i < columns; i += size.elements, out += size.bytes) {
        encode_block(type, x + i, importance == nullptr ? nullptr : importance + i, mean_square,
                     out);
    }
}
