// formats/packed.cpp: repacking of a file's blocks into tiles, once at load.
//
// Everything works on 32-bit words of four neighbouring columns of one row, so that no code is
// ever handled alone.
#include "formats/packed.h"

#include <cstring>

namespace nextn {

namespace {

constexpr uint32_t kLowNibbles = 0x0F0F0F0F;
constexpr uint32_t kLowPairs = 0x03030303;
constexpr uint32_t kLowBits = 0x01010101;

// Where the parts of one tile go.
class Tile {
public:
    Tile(BlockType type, uint8_t* data)
        : layout_(packed_layout(type)),
          unit_blocks_(unit_blocks(type)),
          unit_bytes_(unit_bytes(type)),
          unit_scale_bytes_(unit_scale_bytes(type)),
          code_bytes_(code_bytes(type)),
          data_(data) {}

    // Scales of the unit that begins with block `super * 8`.
    uint8_t* supers(int super) const { return unit(super * kSuperBlocks); }
    uint8_t* scales(int block) const {
        return unit(block) + layout_.super_scale_bytes + block % unit_blocks_ * layout_.scale_bytes;
    }
    uint32_t* words(int block) const {
        return reinterpret_cast<uint32_t*>(unit(block) + unit_scale_bytes_ +
                                           static_cast<size_t>(block % unit_blocks_) * code_bytes_);
    }

private:
    uint8_t* unit(int block) const {
        return data_ + static_cast<size_t>(block / unit_blocks_) * unit_bytes_;
    }

    const PackedLayout layout_;
    const int unit_blocks_;
    const size_t unit_bytes_;
    const size_t unit_scale_bytes_;
    const size_t code_bytes_;
    uint8_t* const data_;
};

uint32_t read_word(const uint8_t* bytes) {
    uint32_t word;
    std::memcpy(&word, bytes, sizeof word);
    return word;
}

// Spreads 32 bits, one per column, to one byte per column position (mod 4) with one bit per vector.
uint32_t transpose_bits(uint32_t bits) {
    uint32_t word = 0;
    for (int j = 0; j < 8; ++j) {
        const uint32_t four = bits >> (4 * j) & 15;
        // Bit k of `four` moves to byte k.
        word |= ((four & 1) | (four & 2) << 7 | (four & 4) << 14 | (four & 8) << 21) << j;
    }
    return word;
}

// Legacy formats: [f16 d][f16 m?][u32 high bits?][16 bytes of nibbles].
void pack_legacy(const uint8_t* block, int header, bool has_high, const Tile& tile, int b,
                 int row) {
    std::memcpy(tile.scales(b) + row * 2, block, 2);
    if (header == 4) std::memcpy(tile.scales(b) + 32 + row * 2, block + 2, 2);
    const uint8_t* nibbles = block + header + (has_high ? 4 : 0);
    uint32_t* words = tile.words(b);
    for (int i = 0; i < 4; ++i) words[i * 16 + row] = read_word(nibbles + 4 * i);
    if (has_high) words[4 * 16 + row] = transpose_bits(read_word(block + header));
}

void pack_q8_0(const uint8_t* block, const Tile& tile, int b, int row) {
    std::memcpy(tile.scales(b) + row * 2, block, 2);
    uint32_t* words = tile.words(b);
    for (int i = 0; i < 8; ++i) words[i * 16 + row] = read_word(block + 2 + 4 * i) ^ 0x80808080;
}

void pack_k(const uint8_t* block, bool has_high, const Tile& tile, int super, int row) {
    std::memcpy(tile.supers(super) + row * 2, block, 2);
    std::memcpy(tile.supers(super) + 32 + row * 2, block + 2, 2);
    const uint8_t* high = block + 16;
    const uint8_t* codes = block + (has_high ? 48 : 16);
    for (int j = 0; j < 8; ++j) {
        const int b = super * kSuperBlocks + j;
        const ScaleMin s = k_scale_min(block + 4, j);
        tile.scales(b)[row] = s.scale;
        tile.scales(b)[16 + row] = s.minimum;
        uint32_t* words = tile.words(b);
        const uint8_t* source = codes + 32 * (j / 2);
        const int shift = 4 * (j % 2);
        for (int i = 0; i < 4; ++i) {
            const uint32_t low = read_word(source + 4 * i) >> shift & kLowNibbles;
            const uint32_t next = read_word(source + 16 + 4 * i) >> shift & kLowNibbles;
            words[i * 16 + row] = low | next << 4;
        }
        if (has_high) {
            uint32_t plane = 0;
            for (int i = 0; i < 8; ++i) {
                plane |= (read_word(high + 4 * i) >> j & kLowBits) << i;
            }
            words[4 * 16 + row] = plane;
        }
    }
}

void pack_q6_k(const uint8_t* block, const Tile& tile, int super, int row) {
    std::memcpy(tile.supers(super) + row * 2, block + 208, 2);
    for (int j = 0; j < 8; ++j) {
        const int b = super * kSuperBlocks + j;
        tile.scales(b)[row] = block[192 + 2 * j];
        tile.scales(b)[16 + row] = block[192 + 2 * j + 1];
        const int half = j / 4;
        const int group = j % 4;
        const uint8_t* low = block + 64 * half + 32 * (group % 2);
        const uint8_t* high = block + 128 + 32 * half;
        uint32_t* words = tile.words(b);
        uint32_t codes[8];
        uint32_t planes[2] = {0, 0};
        for (int i = 0; i < 8; ++i) {
            codes[i] = read_word(low + 4 * i) >> (4 * (group / 2)) & kLowNibbles;
            const uint32_t top = read_word(high + 4 * i) >> (2 * group) & kLowPairs;
            planes[i / 4] |= top << (2 * (i % 4));
        }
        for (int i = 0; i < 4; ++i) words[i * 16 + row] = codes[i] | codes[i + 4] << 4;
        words[4 * 16 + row] = planes[0];
        words[5 * 16 + row] = planes[1];
    }
}

// 2-bit codes of sub-block j: four vectors share a plane.
void pack_pairs(const uint8_t* codes, int j, uint32_t* words, int row) {
    const uint8_t* source = codes + 32 * (j / 4);
    uint32_t planes[2] = {0, 0};
    for (int i = 0; i < 8; ++i) {
        const uint32_t pairs = read_word(source + 4 * i) >> (2 * (j % 4)) & kLowPairs;
        planes[i / 4] |= pairs << (2 * (i % 4));
    }
    words[row] = planes[0];
    words[16 + row] = planes[1];
}

void pack_q2_k(const uint8_t* block, const Tile& tile, int super, int row) {
    std::memcpy(tile.supers(super) + row * 2, block + 80, 2);
    std::memcpy(tile.supers(super) + 32 + row * 2, block + 82, 2);
    for (int j = 0; j < 8; ++j) {
        const int b = super * kSuperBlocks + j;
        tile.scales(b)[row] = block[2 * j];
        tile.scales(b)[16 + row] = block[2 * j + 1];
        pack_pairs(block + 16, j, tile.words(b), row);
    }
}

void pack_q3_k(const uint8_t* block, const Tile& tile, int super, int row) {
    std::memcpy(tile.supers(super) + row * 2, block + 108, 2);
    for (int j = 0; j < 8; ++j) {
        const int b = super * kSuperBlocks + j;
        for (int half = 0; half < 2; ++half) {
            const int scale = q3_scale(block + 96, 2 * j + half) - 32;
            tile.scales(b)[16 * half + row] = static_cast<uint8_t>(scale);
        }
        uint32_t* words = tile.words(b);
        pack_pairs(block + 32, j, words, row);
        uint32_t plane = 0;
        for (int i = 0; i < 8; ++i) plane |= (read_word(block + 4 * i) >> j & kLowBits) << i;
        words[2 * 16 + row] = plane;
    }
}

void pack_nibbles(const uint8_t* nibbles, uint32_t* words, int row) {
    for (int i = 0; i < 4; ++i) words[i * 16 + row] = read_word(nibbles + 4 * i);
}

void pack_iq4_xs(const uint8_t* block, const Tile& tile, int super, int row) {
    std::memcpy(tile.supers(super) + row * 2, block, 2);
    for (int j = 0; j < 8; ++j) {
        const int b = super * kSuperBlocks + j;
        tile.scales(b)[row] = static_cast<uint8_t>(iq4_xs_scale(block, j) - 32);
        pack_nibbles(block + 8 + 16 * j, tile.words(b), row);
    }
}

void pack_mxfp4(const uint8_t* block, const Tile& tile, int b, int row) {
    tile.scales(b)[row] = block[0];
    pack_nibbles(block + 1, tile.words(b), row);
}

// Two of our blocks. A group of 16 elements has a scale of its own, and 8 bytes of nibbles of which
// the low ones come first.
void pack_nvfp4(const uint8_t* block, const Tile& tile, int file_block, int row) {
    for (int j = 0; j < 2; ++j) {
        const int b = 2 * file_block + j;
        tile.scales(b)[row] = e4m3_scale(block[2 * j]);
        tile.scales(b)[16 + row] = e4m3_scale(block[2 * j + 1]);
        const uint8_t* group = block + 4 + 16 * j;
        uint32_t* words = tile.words(b);
        for (int i = 0; i < 4; ++i) {
            const uint32_t low = read_word(group + 4 * (i % 2)) >> (4 * (i / 2)) & kLowNibbles;
            const uint32_t next = read_word(group + 8 + 4 * (i % 2)) >> (4 * (i / 2)) & kLowNibbles;
            words[i * 16 + row] = low | next << 4;
        }
    }
}

void pack_float(BlockType type, const uint8_t* source, int columns, uint8_t* out, int row) {
    const size_t size = static_cast<size_t>(block_size(type).bytes);
    for (int c = 0; c < columns; ++c) {
        const size_t target = static_cast<size_t>(c) * kTileRows + static_cast<size_t>(row);
        std::memcpy(out + target * size, source + static_cast<size_t>(c) * size, size);
    }
}

// Whether no 16-bit number has all bits of its exponent set.
bool are_finite(const uint8_t* data, size_t bytes, uint32_t exponent) {
    uint16_t bits;
    bool bad = false;
    for (size_t at = 0; at < bytes; at += sizeof bits) {
        std::memcpy(&bits, data + at, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    return !bad;
}

}  // namespace

void pack_tile(BlockType type, const uint8_t* source, int rows, int columns, int tile_index,
               uint8_t* out) {
    const int blocks = (columns + kBlockColumns - 1) / kBlockColumns;
    std::memset(out, 0, tile_bytes(type, blocks));
    const Tile tile(type, out);
    const size_t stride = row_bytes(type, columns);
    for (int row = 0; row < kTileRows && tile_index * kTileRows + row < rows; ++row) {
        const uint8_t* from = source + static_cast<size_t>(tile_index * kTileRows + row) * stride;
        const int bytes = block_size(type).bytes;
        if (is_float_format(type)) {
            pack_float(type, from, columns, out, row);
            continue;
        }
        const int file_blocks = columns / block_size(type).elements;
        for (int b = 0; b < file_blocks; ++b, from += bytes) {
            switch (type) {
                case BlockType::Q4_0: pack_legacy(from, 2, false, tile, b, row); break;
                case BlockType::Q4_1: pack_legacy(from, 4, false, tile, b, row); break;
                case BlockType::Q5_0: pack_legacy(from, 2, true, tile, b, row); break;
                case BlockType::Q5_1: pack_legacy(from, 4, true, tile, b, row); break;
                case BlockType::Q8_0: pack_q8_0(from, tile, b, row); break;
                case BlockType::Q2_K: pack_q2_k(from, tile, b, row); break;
                case BlockType::Q3_K: pack_q3_k(from, tile, b, row); break;
                case BlockType::Q4_K: pack_k(from, false, tile, b, row); break;
                case BlockType::Q5_K: pack_k(from, true, tile, b, row); break;
                case BlockType::Q6_K: pack_q6_k(from, tile, b, row); break;
                case BlockType::IQ4_NL: pack_legacy(from, 2, false, tile, b, row); break;
                case BlockType::IQ4_XS: pack_iq4_xs(from, tile, b, row); break;
                case BlockType::MXFP4: pack_mxfp4(from, tile, b, row); break;
                case BlockType::NVFP4: pack_nvfp4(from, tile, b, row); break;
                default: break;
            }
        }
    }
}

bool is_finite(BlockType type, const uint8_t* tile, int blocks) {
    const PackedLayout layout = packed_layout(type);
    if (layout.bits == 32) {
        uint32_t bits;
        for (size_t at = 0; at < tile_bytes(type, blocks); at += sizeof bits) {
            std::memcpy(&bits, tile + at, sizeof bits);
            if ((bits & 0x7F800000) == 0x7F800000) return false;
        }
        return true;
    }
    if (is_float_format(type)) {
        return are_finite(tile, tile_bytes(type, blocks),
                          type == BlockType::BF16 ? 0x7F80 : 0x7C00);
    }
    if (type == BlockType::NVFP4) return true;  // its NaN counts as zero
    // Where scales of 16 bits are multiplied by bytes, only they can be bad.
    const size_t bytes = layout.super_scale_bytes > 0
                             ? static_cast<size_t>(layout.super_scale_bytes)
                             : unit_scale_bytes(type);
    bool good = true;
    for (int b = 0; b < blocks; b += unit_blocks(type), tile += unit_bytes(type)) {
        if (type == BlockType::MXFP4) {
            for (size_t at = 0; at < bytes; ++at) good &= tile[at] < kFirstBadPower;
        } else {
            good &= are_finite(tile, bytes, 0x7C00);
        }
    }
    return good;
}

}  // namespace nextn
