// Tables over the words of a tokenizer, which lib/tokenizer reads. Made here because they are made once, at the start,
// while JavaScript is still interpreted: 50 ms for 49,152 words there, 4 ms here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokensieve {

// Strings end to end: string i is bytes [offsets[i], offsets[i + 1]). Whoever makes one checks that offsets ascend to at most `size`.
struct PackedStrings {
  const uint8_t* bytes = nullptr;
  const uint32_t* offsets = nullptr;  // [count + 1]
  size_t count = 0;
};

// What merging may make: not unknown, control, user-defined or byte tokens.
inline bool is_word(uint8_t type) { return type == 1 || type == 0 || type == 5; }

// A hash table by open addressing and linear probing, a third to two thirds full: a power of two of places, each the
// index of a string + 1, or 0. `find` of lib/tokenizer/bytes.ts begins at the same hash. Of equal strings the first is
// there. types: words alone; null: all.
std::vector<int32_t> byte_table(const PackedStrings& strings, const uint8_t* types);

struct Pieces {
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> offsets;
  // 1 for each byte that stands before a space inside some word.
  std::array<uint8_t, 256> glue = {};
};

// What tokens stand for in text. byte_level: words are written in GPT-2's stand-ins for bytes; else in SentencePiece's
// way, U+2581 for a space. Byte tokens (type 6) are written <0x0A>; others stand for what is written.
Pieces read_pieces(const PackedStrings& written, const uint8_t* types, bool byte_level);

}  // namespace tokensieve
