#include "engine/vocabulary.h"

#include <cstring>

namespace tokensieve {

namespace {

constexpr uint8_t kByte = 6;

// FNV-1a, with a last mix so that the low bits depend on every byte.
uint32_t hash(const uint8_t* bytes, size_t size) {
  uint32_t h = 0x811c9dc5;
  for (size_t i = 0; i < size; i++) h = (h ^ bytes[i]) * 0x01000193u;
  h ^= h >> 15;
  h *= 0x85ebca6bu;
  return h ^ (h >> 13);
}

// GPT-2's table backwards: printable Latin-1 characters stand for themselves, the other 68 bytes have U+0100 and on.
std::array<int16_t, 0x180> stand_ins() {
  std::array<int16_t, 0x180> byte_of;
  byte_of.fill(-1);
  size_t next = 0x100;
  for (size_t byte = 0; byte < 256; byte++) {
    const bool printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
    byte_of[printable ? byte : next++] = static_cast<int16_t>(byte);
  }
  return byte_of;
}

// Stand-ins are below U+0144: one or two bytes of UTF-8. What is no stand-in is meant as it is.
uint8_t* from_stand_ins(const uint8_t* at, const uint8_t* end, uint8_t* out) {
  static const std::array<int16_t, 0x180> byte_of = stand_ins();
  while (at < end) {
    const uint8_t byte = *at++;
    const bool two = byte >= 0xc2 && byte <= 0xc5 && at < end;
    const int stand = two ? byte_of[static_cast<size_t>((byte & 0x1f) << 6 | (*at & 0x3f))] : -1;
    *out++ = stand < 0 ? byte : static_cast<uint8_t>(stand);
    if (stand >= 0) at++;
  }
  return out;
}

uint8_t* from_sentence(const uint8_t* at, const uint8_t* end, uint8_t* out) {
  while (at < end) {
    const bool space = end - at >= 3 && at[0] == 0xe2 && at[1] == 0x96 && at[2] == 0x81;
    *out++ = space ? ' ' : *at;
    at += space ? 3 : 1;
  }
  return out;
}

int digit(uint8_t code) {
  if (code >= '0' && code <= '9') return code - '0';
  return code >= 'A' && code <= 'F' ? code - 'A' + 10 : -1;
}

// "<0x0A>" -> 10, anything else -> -1
int byte_name(const uint8_t* at, size_t size) {
  if (size != 6 || std::memcmp(at, "<0x", 3) != 0 || at[5] != '>') return -1;
  const int high = digit(at[3]), low = digit(at[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

std::vector<int32_t> byte_table(const PackedStrings& strings, const uint8_t* types) {
  size_t size = 2;
  while (2 * size < 3 * strings.count + 4) size *= 2;
  std::vector<int32_t> slots(size, 0);
  const auto length = [&](size_t i) { return strings.offsets[i + 1] - strings.offsets[i]; };
  for (size_t i = 0; i < strings.count; i++) {
    if (types != nullptr && !is_word(types[i])) continue;
    const uint8_t* const own = strings.bytes + strings.offsets[i];
    size_t slot = hash(own, length(i)) & (size - 1);
    const auto is = [&](size_t other) {
      return length(other) == length(i) && std::memcmp(strings.bytes + strings.offsets[other], own, length(i)) == 0;
    };
    while (slots[slot] != 0 && !is(static_cast<size_t>(slots[slot] - 1))) slot = (slot + 1) & (size - 1);
    if (slots[slot] == 0) slots[slot] = static_cast<int32_t>(i + 1);
  }
  return slots;
}

Pieces read_pieces(const PackedStrings& written, const uint8_t* types, bool byte_level) {
  Pieces out;
  out.bytes.resize(written.offsets[written.count]);  // nothing stands for more than is written
  out.offsets.resize(written.count + 1);
  uint8_t* const begin = out.bytes.data();
  uint8_t* at = begin;
  for (size_t i = 0; i < written.count; i++) {
    const uint8_t *from = written.bytes + written.offsets[i], *end = written.bytes + written.offsets[i + 1];
    const size_t size = static_cast<size_t>(end - from);
    const int byte = types[i] == kByte ? byte_name(from, size) : -1;
    if (byte >= 0) {
      *at++ = static_cast<uint8_t>(byte);
    } else if (is_word(types[i])) {
      const uint8_t* const start = at;
      at = byte_level ? from_stand_ins(from, end, at) : from_sentence(from, end, at);
      for (const uint8_t* p = start + 1; p < at; p++) {
        if (p[0] == ' ' && p[-1] != ' ') out.glue[p[-1]] = 1;
      }
    } else if (size > 0) {
      std::memcpy(at, from, size);
      at += size;
    }
    out.offsets[i + 1] = static_cast<uint32_t>(at - begin);
  }
  out.bytes.resize(static_cast<size_t>(at - begin));
  return out;
}

}  // namespace tokensieve
