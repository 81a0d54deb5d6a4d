// Broken and hostile model files, each with the code it must be refused with.
#include <sys/stat.h>

#include <functional>

#include "check.h"
#include "engine/weights.h"
#include "engine/weights_formats.h"
#include "weights_files.h"

using namespace tokensieve;
using files::Exact;
using files::Out;

namespace {

const char* const kFormat = "ERR_FILE_FORMAT";
const char* const kCut = "ERR_FILE_TRUNCATED";
const char* const kOther = "ERR_UNSUPPORTED";
const char* const kMissing = "ERR_FILE_NOT_FOUND";

void expect(const char* what, const std::string& code, const std::string& words, const std::function<void()>& call) {
  const auto failed = files::failure(call);
  check::expect(
      failed.first == code && failed.second.size() > 20 && failed.second[0] == '[' &&
          failed.second.find(words) != std::string::npos,
      __FILE__, __LINE__,
      std::string(what) + ": expected " + code + " with \"" + words + "\", got " + failed.first + " " + failed.second);
}

void refused_gguf(const char* what, const std::string& code, const std::string& words, const std::string& content) {
  const Exact exact(content);
  expect(what, code, words, [&] { formats::parse_gguf(exact.bytes(), "x.gguf"); });
}

// A header with its metadata and tensors, and some bytes of data behind.
struct Gguf {
  uint32_t version = 3;
  uint64_t entries = 0, tensors = 0;
  Out metadata, infos;
  size_t data = 4096;

  Gguf& entry(const std::string& key, uint32_t type) {
    entries++;
    metadata.text(key).u32(type);
    return *this;
  }
  Gguf& alignment(uint32_t value) {
    entry("general.alignment", 4).metadata.u32(value);
    return *this;
  }
  Gguf& tensor(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    tensors++;
    infos.text(name).u32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t n : dims) infos.u64(n);
    infos.u32(type).u64(offset);
    return *this;
  }
  std::string bytes(size_t align = 32) const {
    Out out;
    out.bytes = "GGUF";
    out.u32(version).u64(tensors).u64(entries);
    out.bytes += metadata.bytes + infos.bytes;
    while (out.bytes.size() % align) out.bytes += '\0';
    return out.bytes + std::string(data, '\1');
  }
};

Gguf counts(uint64_t tensors, uint64_t entries) {
  Gguf g;
  g.tensors = tensors;
  g.entries = entries;
  return g;
}

constexpr uint64_t kHuge = uint64_t{1} << 62;

}  // namespace

TEST("a hand-made file is accepted, so that the others fail for their one fault") {
  Gguf g;
  g.alignment(64).tensor("t", {32, 2}, 2, 0).tensor("u", {4}, 0, 64);
  const Exact exact(g.bytes(64));
  const formats::Parsed parsed = formats::parse_gguf(exact.bytes(), "x.gguf");
  CHECK_EQ(parsed.tensors.size(), 2u);
  CHECK_EQ(parsed.tensors.at("t").bytes, 36u);
  CHECK(parsed.tensors.at("t").shape == (std::vector<int64_t>{2, 32}));
}

TEST("GGUF: what begins wrongly") {
  refused_gguf("empty", kCut, "ends within", "");
  refused_gguf("three bytes", kCut, "ends within", "GGU");
  refused_gguf("magic only", kCut, "ends within", "GGUF");
  refused_gguf("text", kFormat, "`hell`", "hello\nhello\nhello\nhello\n");
  refused_gguf("old ggml", kFormat, "expected a GGUF file",
               std::string("tjgg\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24));
  for (const uint32_t version : {0u, 1u, 4u, 99u, 0xffffffffu}) {
    Gguf g;
    g.version = version;
    refused_gguf("version", kOther, "version", g.bytes());
  }
  Gguf big;
  big.version = 0x03000000;
  refused_gguf("big-endian", kOther, "big-endian", big.bytes());
}

TEST("GGUF: counts that the file cannot hold") {
  refused_gguf("2^60 tensors", kFormat, "tensors", counts(uint64_t{1} << 60, 0).bytes());
  refused_gguf("2^62 entries", kFormat, "metadata entries", counts(0, kHuge).bytes());
  refused_gguf("65,536 tensors in 4 kB", kCut, "too few", counts(65536, 0).bytes());
  refused_gguf("65,536 entries in 4 kB", kCut, "too few", counts(0, 65536).bytes());
  refused_gguf("an entry beyond the end", kCut, "ends within", [] {
    Gguf g = counts(0, 1);
    g.data = 0;
    g.metadata.u64(13);
    return g.bytes(1) + "12345";
  }());
  for (const uint32_t type : {0u, 4u, 8u, 10u, 12u}) {
    for (const uint64_t count : {kHuge, ~uint64_t{0}, uint64_t{5000}}) {
      Gguf g;
      g.entry("a", 9).metadata.u32(type).u64(count);
      refused_gguf("a long list", kCut, "", g.bytes());
    }
  }
  Gguf many;
  many.entry("a", 9).metadata.u32(0).u64(3u << 20);
  many.data = 4u << 20;
  refused_gguf("a list of three million numbers", kOther, "2097152", many.bytes());
  Gguf text;
  text.entry("a", 8).metadata.u64(17u << 20);
  text.data = 18u << 20;
  refused_gguf("a string of 17 MiB", kFormat, "16777216", text.bytes());
}

TEST("GGUF: metadata") {
  const auto with = [](const std::string& key, uint32_t type, const std::function<void(Out*)>& value) {
    Gguf g;
    g.entry(key, type);
    value(&g.metadata);
    return g.bytes();
  };
  const auto nothing = [](Out*) {};
  refused_gguf("unknown type", kFormat, "type 13", with("a", 13, nothing));
  refused_gguf("unknown type", kFormat, "type 4294967295", with("a", 0xffffffff, nothing));
  refused_gguf("unknown element type", kFormat, "type 13", with("a", 9, [](Out* o) { o->u32(13).u64(0); }));
  refused_gguf("nested list", kOther, "list of lists", with("a", 9, [](Out* o) { o->u32(9).u64(1).u32(0).u64(0); }));
  refused_gguf("a bool of 2", kFormat, "0 or 1", with("a", 7, [](Out* o) { o->bytes += '\2'; }));
  refused_gguf("a list with a bool of 9", kFormat, "0 or 1",
               with("a", 9, [](Out* o) { o->u32(7).u64(1).bytes += '\11'; }));
  refused_gguf("a list with 2^63", kOther, "63 bits",
               with("a", 9, [](Out* o) { o->u32(10).u64(1).u64(uint64_t{1} << 63); }));
  refused_gguf("empty key", kFormat, "empty", with("", 7, nothing));
  refused_gguf("long key", kFormat, "65535", with(std::string(65536, 'k'), 7, nothing));
  refused_gguf("endless string", kFormat, "16777216", with("a", 8, [](Out* o) { o->u64(~uint64_t{0}); }));
  refused_gguf("a string beyond the end", kCut, "ends within", with("a", 8, [](Out* o) { o->u64(100000); }));
  refused_gguf("a listed string beyond the end", kCut, "list of strings",
               with("a", 9, [](Out* o) { o->u32(8).u64(2).text("ok").u64(~uint64_t{0} - 3); }));
  Gguf twice;
  twice.alignment(32).alignment(32);
  refused_gguf("a key twice", kFormat, "`general.alignment` comes twice", twice.bytes());
  for (const uint32_t align : {0u, 1u, 4u, 24u, 33u, 0x200000u, 0x80000000u, 0xffffffffu}) {
    Gguf g;
    refused_gguf("alignment", kFormat, "power of two", g.alignment(align).tensor("t", {1}, 0, 0).bytes());
  }
  refused_gguf("alignment of a kind", kFormat, "another type",
               with("general.alignment", 8, [](Out* o) { o->text("32"); }));
}

TEST("GGUF: tensors") {
  const auto with = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    Gguf g;
    return g.tensor("bad", dims, type, offset).bytes();
  };
  refused_gguf("no dimension", kFormat, "has 0", with({}, 0, 0));
  refused_gguf("five dimensions", kFormat, "has 5", with({1, 1, 1, 1, 1}, 0, 0));
  refused_gguf("a dimension of 0", kFormat, "`bad`", with({4, 0}, 0, 0));
  refused_gguf("a dimension of 2^64 - 1", kFormat, "`bad`", with({~uint64_t{0}}, 0, 0));
  refused_gguf("a dimension of 2^63", kFormat, "`bad`", with({uint64_t{1} << 63}, 0, 0));
  refused_gguf("a product of 2^64", kFormat, "impossible shape", with({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0));
  refused_gguf("a product of 2^80", kFormat, "impossible shape", with({1u << 20, 1u << 20, 1u << 20, 1u << 20}, 0, 0));
  refused_gguf("bytes of 2^58", kCut, "needs", with({uint64_t{1} << 56}, 0, 0));
  refused_gguf("one row too many", kCut, "needs 4100", with({1025}, 0, 0));
  refused_gguf("an offset at the end", kCut, "needs", with({1}, 0, 4096));
  refused_gguf("an offset far out", kCut, "needs", with({1}, 0, ~uint64_t{0} - 31));
  refused_gguf("an unaligned offset", kFormat, "multiple of 32", with({1}, 0, 4));
  refused_gguf("half a block", kFormat, "multiple of 32", with({48, 2}, 8, 0));
  refused_gguf("half a superblock", kFormat, "multiple of 256", with({128, 2}, 12, 0));
  refused_gguf("Q2_K", kOther, "Q2_K", with({256}, 10, 0));
  refused_gguf("IQ4_XS", kOther, "IQ4_XS", with({256}, 23, 0));
  refused_gguf("F64", kOther, "F64", with({1}, 28, 0));
  for (const uint32_t type : {4u, 31u, 36u, 38u, 1000u, 0xffffffffu})
    refused_gguf("type", kOther, "`bad`", with({1}, type, 0));
  Gguf name, twice, overlap, none;
  refused_gguf("a long name", kFormat, "255", name.tensor(std::string(256, 'n'), {1}, 0, 0).bytes());
  refused_gguf("a name twice", kFormat, "comes twice", twice.tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).bytes());
  refused_gguf("shared bytes", kFormat, "same bytes", overlap.tensor("t", {32}, 0, 0).tensor("u", {1}, 0, 96).bytes());
  refused_gguf("no name", kFormat, "empty", none.tensor("", {1}, 0, 0).bytes());
}

TEST("GGUF: every cut is refused") {
  const std::string content = files::read(files::fixture("types.gguf"));
  for (size_t size = 0; size < content.size(); size++) {
    const Exact exact(content.substr(0, size));
    const auto failed = files::failure([&] { formats::parse_gguf(exact.bytes(), "x.gguf"); });
    const bool padding = failed.first.empty() && size + 32 > content.size();  // behind the last tensor
    check::expect(failed.first == kCut || padding, __FILE__, __LINE__,
                  "cut at " + std::to_string(size) + ": " + failed.second);
  }
}

TEST("paths that lead to no model") {
  const files::Scratch scratch;
  const auto refused = [&](const std::string& path, const char* code, const char* words) {
    expect(path.c_str(), code, words, [&] { open_weights(path); });
  };
  refused(scratch / "none.gguf", kMissing, "none.gguf");
  refused(scratch / "none/none.gguf", kMissing, "none.gguf");
  refused(scratch.path(), kMissing, "config.json");
  refused("", kMissing, "");
  refused(std::string("a\0b", 3), kMissing, "zero byte");
  files::write(scratch / "empty.gguf", "");
  refused(scratch / "empty.gguf", kCut, "empty.gguf");
  Gguf none;
  files::write(scratch / "no-tensors.gguf", none.bytes());
  refused(scratch / "no-tensors.gguf", kFormat, "no tensor");
#ifndef _WIN32
  CHECK_EQ(mkfifo((scratch / "pipe").c_str(), 0600), 0);
  refused(scratch / "pipe", kFormat, "expected a file");
  refused("/dev/zero", kFormat, "expected a file");
#endif
}

TEST("GGUF in pieces: each piece must be there and be the one") {
  const files::Scratch scratch;
  const auto piece = [](int i) { return "split-0000" + std::to_string(i) + "-of-00003.gguf"; };
  const auto restore = [&] {
    for (int i = 1; i <= 3; i++) files::write(scratch / piece(i), files::read(files::fixture(piece(i))));
  };
  const auto refused = [&](const char* what, const std::string& name, const char* code, const std::string& words) {
    expect(what, code, words, [&] { open_weights(scratch / name); });
  };
  restore();
  CHECK_EQ(open_weights(scratch / piece(1))->tensors().size(), 5u);
  refused("not the first", piece(2), kFormat, "split-00001-of-00003.gguf");
  files::write(scratch / "renamed.gguf", files::read(scratch / piece(1)));
  refused("renamed", "renamed.gguf", kFormat, "-00001-of-00003.gguf");
  files::fs::remove(scratch / piece(3));
  refused("a piece is missing", piece(1), kMissing, piece(3));
  files::write(scratch / piece(3), files::read(scratch / piece(2)));
  refused("a piece twice", piece(1), kFormat, "piece 3 of 3");
  files::write(scratch / piece(3), "GGUF");
  refused("a broken piece", piece(1), kCut, piece(3));
  restore();
  std::string content = files::read(scratch / piece(3));
  content[content.find("blk.4") + 4] = '0';  // the name of a tensor in the first piece
  files::write(scratch / piece(3), content);
  refused("a tensor twice", piece(1), kFormat, "`blk.0.attn_q.weight` comes twice");
  restore();
  content = files::read(scratch / piece(1));
  content[content.find("split.tensors.count") + 19 + 4] = 6;
  files::write(scratch / piece(1), content);
  refused("a tensor less than said", piece(1), kFormat, "expected 6 tensors");
}
