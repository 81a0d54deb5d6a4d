#include "engine/vocabulary.h"

#include <algorithm>
#include <string>

#include "check.h"

using namespace tokensieve;

namespace {

struct Packed {
  std::string bytes;
  std::vector<uint32_t> offsets = {0};
  explicit Packed(const std::vector<std::string>& all) {
    for (const std::string& one : all) {
      bytes += one;
      offsets.push_back(static_cast<uint32_t>(bytes.size()));
    }
  }
  PackedStrings view() const {
    return {reinterpret_cast<const uint8_t*>(bytes.data()), offsets.data(), offsets.size() - 1};
  }
};

std::string piece(const Pieces& pieces, size_t i) {
  return {reinterpret_cast<const char*>(pieces.bytes.data()) + pieces.offsets[i],
          pieces.offsets[i + 1] - pieces.offsets[i]};
}

}  // namespace

TEST("byte tables hold each string once, the first of equal ones, and words alone where types are given") {
  const Packed strings({"the", "", "cat", "the", "sat", "on"});
  std::vector<int32_t> found;
  for (int32_t slot : byte_table(strings.view(), nullptr)) {
    if (slot) found.push_back(slot);
  }
  std::sort(found.begin(), found.end());
  CHECK((found == std::vector<int32_t>{1, 2, 3, 5, 6}));
  CHECK(byte_table(strings.view(), nullptr).size() == 16);  // the power of two from 1.5 * 6 + 2
  const uint8_t types[] = {3, 1, 2, 1, 0, 5};  // the first "the" is a control token
  found.clear();
  for (int32_t slot : byte_table(strings.view(), types)) {
    if (slot) found.push_back(slot);
  }
  std::sort(found.begin(), found.end());
  CHECK((found == std::vector<int32_t>{2, 4, 5, 6}));
}

TEST("a string lies where its hash says: FNV-1a of \"a\" is e40c292c") {
  uint32_t h = 0xe40c292c;
  h ^= h >> 15;
  h *= 0x85ebca6bu;
  h ^= h >> 13;
  const std::vector<int32_t> slots = byte_table(Packed({"a"}).view(), nullptr);
  CHECK(slots.size() == 4);
  CHECK(slots[h & 3] == 1);
}

TEST("words of byte-level vocabularies are read back from their stand-ins") {
  // U+0120 is a space, U+010A a line feed, U+00E9 the byte e9; a plain space is no stand-in. Control tokens stay as they are.
  const Packed written({"\xc4\xa0the",
                        "a\xc4\xa0"
                        "b",
                        "\xc4\x8a", "\xc3\xa9", " ", "\xc4\xa0", "\xc4"});
  const uint8_t types[] = {1, 1, 1, 0, 5, 3, 1};
  const Pieces pieces = read_pieces(written.view(), types, true);
  const char* const expected[] = {" the", "a b", "\n", "\xe9", " ", "\xc4\xa0", "\xc4"};
  for (size_t i = 0; i < 7; i++) CHECK(piece(pieces, i) == expected[i]);
  for (size_t byte = 0; byte < 256; byte++) CHECK(pieces.glue[byte] == (byte == 'a' ? 1 : 0));
}

TEST("words of SentencePiece: U+2581 is a space, byte tokens are a byte") {
  const Packed written({"\xe2\x96\x81the", "<0x0A>", "<0x0a>", "<0x0A>", "\xe2\x96", "o\xe2\x96\x81\xe2\x96\x81x", ""});
  const uint8_t types[] = {1, 6, 6, 1, 1, 1, 6};
  const Pieces pieces = read_pieces(written.view(), types, false);
  const char* const expected[] = {" the", "\n", "<0x0a>", "<0x0A>", "\xe2\x96", "o  x", ""};
  for (size_t i = 0; i < 7; i++) CHECK(piece(pieces, i) == expected[i]);
  CHECK(pieces.glue['o'] == 1);
  CHECK(pieces.glue[' '] == 0);
}

TEST("an empty vocabulary has empty tables") {
  const Packed none({});
  CHECK((byte_table(none.view(), nullptr) == std::vector<int32_t>{0, 0}));
  CHECK(read_pieces(none.view(), nullptr, true).bytes.empty());
}
