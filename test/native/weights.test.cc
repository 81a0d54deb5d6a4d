// The fixtures were written, and what must be read from them was listed, by fixtures/weights/make.py with other software.
#include "engine/weights.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "check.h"
#include "core/sha256.h"
#include "engine/json.h"
#include "weights_files.h"

using namespace tokensieve;

namespace {

std::string sha(const void* data, size_t size) {
  Sha256 hash;
  hash.update(data, size);
  return hash.hex();
}

std::string sha(const std::string& s) { return sha(s.data(), s.size()); }

std::string real(double value) {
  char text[64];
  std::snprintf(text, sizeof text, " %.13a", value);
  return text;
}

struct Listed {
  std::string operator()(bool v) const { return v ? "bool 1" : "bool 0"; }
  std::string operator()(int64_t v) const { return "i64 " + std::to_string(v); }
  std::string operator()(uint64_t v) const { return "u64 " + std::to_string(v); }
  std::string operator()(double v) const { return "f64" + real(v); }
  std::string operator()(const std::string& v) const { return "text " + sha(v); }
  std::string operator()(const std::vector<int64_t>& v) const {
    std::string all = "wholes";
    for (const int64_t n : v) all += " " + std::to_string(n);
    return all;
  }
  std::string operator()(const std::vector<double>& v) const {
    std::string all = "reals";
    for (const double n : v) all += real(n);
    return all;
  }
  std::string operator()(const Strings& v) const {
    std::string all;
    for (const std::string& word : v.read()) all += word + '\0';
    return "words " + std::to_string(v.count) + " " + sha(all);
  }
};

std::string listing(const Weights& w) {
  std::string all =
      "rope_halves " + std::to_string(w.rope_halves()) + " norms_plus_one " + std::to_string(w.norms_plus_one()) + "\n";
  for (const auto& entry : w.metadata()) all += entry.first + " " + std::visit(Listed(), entry.second) + "\n";
  for (const auto& entry : w.tensors()) {
    const Tensor& t = entry.second;
    std::string shape;
    for (const int64_t n : t.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(n);
    all += "tensor " + entry.first + " " + traits(t.type).name + " [" + shape + "] " + std::to_string(t.bytes) + " " +
           sha(t.data, t.bytes) + "\n";
    CHECK(t.name == entry.first);
  }
  return all;
}

void expect_listing(const std::string& file, const std::string& expected) {
  const auto w = open_weights(files::fixture(file));
  const std::string got = listing(*w), want = files::read(files::fixture(expected + ".expected"));
  if (!check::expect(got == want, __FILE__, __LINE__, file + " was read otherwise than written")) {
    const size_t at =
        static_cast<size_t>(std::mismatch(got.begin(), got.end(), want.begin(), want.end()).first - got.begin());
    const size_t line = got.rfind('\n', at ? at - 1 : 0) + 1;
    std::printf("got:  %.200s\nwant: %.200s\n", got.c_str() + line, want.c_str() + line);
  }
}

// In-memory weights for the look-ups.
class Fake : public Weights {
 public:
  std::map<std::string, Value> keys;
  std::map<std::string, Tensor> all;
  const std::map<std::string, Value>& metadata() const override { return keys; }
  const std::map<std::string, Tensor>& tensors() const override { return all; }
  bool rope_halves() const override { return false; }
  bool norms_plus_one() const override { return false; }
  void release(const uint8_t*, size_t) override {}
  uint64_t file_bytes() const override { return 0; }
  std::string fingerprint() const override { return ""; }
};

void expect_refused(const std::function<void()>& call, const std::vector<std::string>& words) {
  const auto failed = files::failure(call);
  CHECK(failed.first == "ERR_FILE_FORMAT");
  for (const std::string& word : words) {
    check::expect(failed.second.find(word) != std::string::npos, __FILE__, __LINE__, failed.second + " lacks " + word);
  }
}

}  // namespace

TEST("SHA-256 of the standard's examples") {
  CHECK(sha("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  Sha256 million;
  const std::string piece(613, 'a');  // pieces that do not fit into blocks
  size_t left = 1000000;
  for (; left >= piece.size(); left -= piece.size()) million.update(piece.data(), piece.size());
  million.update(piece.data(), left);
  CHECK(million.hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  Sha256 loop(false);
  loop.update(std::string(1000000, 'a').data(), 1000000);
  CHECK(loop.hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST("GGUF files are read as they were written") {
  expect_listing("types.gguf", "types");
  expect_listing("version2.gguf", "version2");
  expect_listing("aligned.gguf", "aligned");
  expect_listing("split-00001-of-00003.gguf", "split");
}

TEST("safetensors folders speak the same language") {
  expect_listing("llama", "llama");
  expect_listing("llama-sharded", "llama-sharded");
  expect_listing("gemma3", "gemma3");
}

TEST("data stands where it is aligned, and outlives a release") {
  for (const char* name : {"types.gguf", "aligned.gguf", "llama", "llama-sharded"}) {
    const auto w = open_weights(files::fixture(name));
    const std::string before = listing(*w);
    for (const auto& entry : w->tensors()) {
      const Tensor& t = entry.second;
      const size_t unit = std::string(name) == "aligned.gguf" ? 64 : std::min(4, traits(t.type).bytes);
      CHECK_EQ(reinterpret_cast<uintptr_t>(t.data) % unit, 0u);
      CHECK_EQ(t.bytes, static_cast<size_t>(t.rows()) * row_bytes(t.type, static_cast<size_t>(t.cols())));
      w->release(t.data, t.bytes);
      w->release(t.data, size_t{1} << 46);  // no further than its file
    }
    CHECK(listing(*w) == before);
  }
}

TEST("a fingerprint follows the content, not the name") {
  const files::Scratch scratch;
  const std::string content = files::read(files::fixture("types.gguf")), path = scratch / "other.gguf";
  files::write(path, content);
  const auto of = [&] { return open_weights(path)->fingerprint(); };
  const std::string same = of();
  CHECK_EQ(same.size(), 64u);
  CHECK(same == open_weights(files::fixture("types.gguf"))->fingerprint());
  for (const size_t at : {content.find("a.u8") + 8, content.size() - 1}) {
    std::string changed = content;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    files::write(path, changed);
    CHECK(of() != same);
  }
  CHECK_EQ(open_weights(path)->file_bytes(), content.size());
  CHECK(open_weights(files::fixture("llama"))->fingerprint() != open_weights(files::fixture("gemma3"))->fingerprint());
}

TEST("a large file's fingerprint sees its first and its last byte") {
  const files::Scratch scratch;
  const std::string path = scratch / "large.gguf";
  files::Out out;
  out.bytes = "GGUF";
  out.u32(3).u64(1).u64(0).text("t").u32(1).u64(1 << 20).u32(0).u64(0);
  out.bytes.resize(64 + (1 << 22));
  std::vector<std::string> seen;
  for (const size_t at : {size_t{64}, size_t{64 + (1 << 22) - 1}, size_t{63}}) {
    std::string content = out.bytes;
    content[at] = 1;
    files::write(path, content);
    seen.push_back(open_weights(path)->fingerprint());
  }
  CHECK(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
}

TEST("numbers are looked up with their bounds") {
  Fake w;
  w.keys = {{"u", uint64_t{7}},
            {"i", int64_t{-7}},
            {"big", std::numeric_limits<uint64_t>::max()},
            {"f", 0.5},
            {"text", std::string("seven")},
            {"yes", true},
            {"nan", std::nan("")},
            {"list", std::vector<int64_t>{1, 2}}};
  CHECK_EQ(need_int(w, "u", 7, 7), 7);
  CHECK_EQ(need_int(w, "i", -10, 0), -7);
  CHECK_EQ(get_int(w, "none", 1, 2, 99), 99);
  CHECK_EQ(get_double(w, "f", 1), 0.5);
  CHECK_EQ(get_double(w, "u", 1), 7.0);
  CHECK_EQ(get_double(w, "i", 1), -7.0);
  CHECK_EQ(get_double(w, "none", 1.5), 1.5);
  CHECK(get_string(w, "text", "x") == "seven" && get_string(w, "none", "x") == "x");
  CHECK(get_bool(w, "yes", false) && !get_bool(w, "none", false));
  expect_refused([&] { need_int(w, "u", 8, 9); }, {"`u`", "from 8 to 9", "got 7"});
  expect_refused([&] { need_int(w, "none", 8, 9); }, {"`none`", "from 8 to 9"});
  expect_refused([&] { get_int(w, "big", 0, 9, 1); }, {"`big`", "18446744073709551615"});
  expect_refused([&] { get_int(w, "f", 0, 9, 1); }, {"`f`", "0.5"});
  expect_refused([&] { get_int(w, "list", 0, 9, 1); }, {"`list`", "2 numbers"});
  expect_refused([&] { get_double(w, "nan", 1); }, {"`nan`", "finite"});
  expect_refused([&] { get_double(w, "text", 1); }, {"`text`", "seven"});
  expect_refused([&] { get_string(w, "u", ""); }, {"`u`", "a string"});
  expect_refused([&] { get_bool(w, "u", true); }, {"`u`", "true or false"});
}

TEST("tensors are looked up with their shape") {
  const auto w = open_weights(files::fixture("types.gguf"));
  CHECK_EQ(need_tensor(*w, "d.3", {2, 3, 4}).rows(), 6);
  CHECK(find_tensor(*w, "d.5", {1}) == nullptr);
  expect_refused([&] { need_tensor(*w, "d.5", {1, 2}); }, {"types.gguf]", "`d.5`", "[1, 2]"});
  expect_refused([&] { find_tensor(*w, "d.3", {3, 2, 4}); }, {"`d.3`", "[3, 2, 4]", "[2, 3, 4]"});
}

TEST("JSON is read as the standard says") {
  const std::string text =
      "{\"a\":[1,-2.5e3,0.1,1e-06],\"s\":\"\\u00e9\\ud83d\\ude00\\n\\\"\\/\",\"o\":{\"t\":true,"
      "\"f\":false,\"n\":null}}";
  const json::Node root = json::parse(" " + text + "\r\n", "x");
  const std::vector<json::Node>& a = root.find("a")->items;
  CHECK(a.size() == 4 && a[0].number == 1 && a[1].number == -2500 && a[2].number == 0.1 && a[3].number == 1e-6);
  CHECK(root.find("s")->text == "é😀\n\"/");
  CHECK(root.find("o")->find("t")->boolean && !root.find("o")->find("f")->boolean && !root.find("o")->find("n"));
  json::Reader whole("18446744073709551615", "x");
  CHECK(whole.natural() == std::numeric_limits<uint64_t>::max());
  std::string deep(json::Reader::kDepth, '[');
  deep += std::string(json::Reader::kDepth, ']');
  CHECK_EQ(json::parse(deep, "x").items.size(), 1u);
}

static const char* const kNotJson[] = {"",
                                       " ",
                                       "{",
                                       "}",
                                       "[",
                                       "[1",
                                       "[1,",
                                       "[1,]",
                                       "[,1]",
                                       "[1 2]",
                                       "{\"a\"}",
                                       "{\"a\":}",
                                       "{\"a\":1,}",
                                       "{a:1}",
                                       "{\"a\":1 \"b\":2}",
                                       "{\"a\":1,\"a\":2}",
                                       "1 2",
                                       "01",
                                       "-",
                                       "+1",
                                       ".5",
                                       "5.",
                                       "1e",
                                       "1e+",
                                       "0x1",
                                       "NaN",
                                       "Infinity",
                                       "1e999",
                                       "tru",
                                       "nul",
                                       "True",
                                       "\"",
                                       "\"\\\"",
                                       "\"\\x\"",
                                       "\"\\u12\"",
                                       "\"\\u12g4\"",
                                       "\"\\ud800\"",
                                       "\"\\ud800\\u0041\"",
                                       "\"\\udc00\"",
                                       "\"\n\"",
                                       "'a'",
                                       "[1]]",
                                       "/**/1"};

TEST("what is not JSON is refused") {
  std::vector<std::string> broken(std::begin(kNotJson), std::end(kNotJson));
  broken.insert(broken.end(),
                {std::string("1\0", 2), std::string("\xef\xbb\xbf") + "1", std::string(65, '[') + std::string(65, ']'),
                 std::string(100000, '['), std::string(1000, '1')});
  for (const std::string& text : broken) {
    const files::Exact exact(text);
    const auto failed = files::failure(
        [&] { json::parse({reinterpret_cast<const char*>(exact.bytes().data), exact.bytes().size}, "x"); });
    check::expect(failed.first == "ERR_FILE_FORMAT", __FILE__, __LINE__, "accepted: " + text.substr(0, 40));
  }
  for (const char* text : {"18446744073709551616", "-1", "1.0", "1e3", "99999999999999999999999"}) {
    CHECK_THROWS(json::Reader(text, "x").natural(), Error);
  }
}
