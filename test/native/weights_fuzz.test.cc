// Real headers, damaged at random: each gives an Error or weights that can be read from end to end, soon and in little
// memory. TOKENSIEVE_FUZZ=N makes N files instead of a few thousand, TOKENSIEVE_FUZZ_SEED another sequence of them.
#include <algorithm>
#include <atomic>
#include <ctime>
#include <functional>
#include <new>

#include "check.h"
#include "engine/weights.h"
#include "engine/weights_formats.h"
#include "weights_files.h"

using namespace tokensieve;

// ---- what is allocated, counted -----------------------------------------------------------------------------------

namespace {
std::atomic<size_t> live{0}, peak{0};

// Never inlined: a compiler that sees through both halves calls this free() a mistake.
__attribute__((noinline)) void* counted(size_t size) noexcept {
  constexpr size_t kFront = alignof(std::max_align_t);
  char* p = static_cast<char*>(std::malloc(size + kFront));
  if (!p) return nullptr;
  std::memcpy(p, &size, sizeof size);
  const size_t now = live += size;
  if (now > peak) peak = now;
  return p + kFront;
}

__attribute__((noinline)) void uncounted(void* p) noexcept {
  if (!p) return;
  char* front = static_cast<char*>(p) - alignof(std::max_align_t);
  size_t size;
  std::memcpy(&size, front, sizeof size);
  live -= size;
  std::free(front);
}
}  // namespace

void* operator new(size_t size) {
  if (void* p = counted(size)) return p;
  throw std::bad_alloc();
}
void* operator new[](size_t size) { return operator new(size); }
void operator delete(void* p) noexcept { uncounted(p); }
void operator delete[](void* p) noexcept { uncounted(p); }
void operator delete(void* p, size_t) noexcept { uncounted(p); }
void operator delete[](void* p, size_t) noexcept { uncounted(p); }

namespace {

constexpr size_t kMostMemory = size_t{64} << 20;

int from_environment(const char* name, int fallback) {
  const char* text = std::getenv(name);
  return text && std::atoi(text) > 0 ? std::atoi(text) : fallback;
}

// Bytes that parsers stumble over, in place of what was there.
void edit(std::string* s, check::Random* random) {
  if (s->empty()) return;
  const auto at = [&](size_t room) {
    return static_cast<size_t>(random->next() % (s->size() - std::min(room, s->size() - 1)));
  };
  const auto put = [&](uint64_t value, size_t bytes) {
    bytes = std::min(bytes, s->size());
    std::memcpy(&(*s)[at(bytes)], &value, bytes);
  };
  static constexpr uint64_t kEdges[] = {
      0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, uint64_t{1} << 62, ~uint64_t{0} >> 1, ~uint64_t{0}};
  switch (random->below(9)) {
    case 0: (*s)[at(0)] ^= static_cast<char>(1 << random->below(8)); break;
    case 1: (*s)[at(0)] = static_cast<char>(random->next()); break;
    case 2: put(kEdges[random->below(11)], 8); break;
    case 3: put(kEdges[random->below(11)], 4); break;
    case 4: put(random->next() % (2 * s->size()), 8); break;
    case 5: put(static_cast<uint64_t>(random->below(42)), 4); break;       // a type, a count
    case 6: s->erase(at(16), static_cast<size_t>(random->below(16))); break;
    case 7: {                                                               // a piece of itself somewhere else
      const std::string piece = s->substr(at(64), static_cast<size_t>(random->below(64)));
      s->insert(at(0), piece);
      break;
    }
    default: s->resize(static_cast<size_t>(random->next() % (s->size() + 1))); break;
  }
}

// The same for JSON: its own words, so that damage gets past the first character.
void edit_json(std::string* s, check::Random* random) {
  static const char* const kWords[] = {"{",
                                       "}",
                                       "[",
                                       "]",
                                       ",",
                                       ":",
                                       "\"",
                                       "\\",
                                       "\\u0000",
                                       "\\ud800",
                                       "null",
                                       "true",
                                       "-1",
                                       "0",
                                       "1e308",
                                       "18446744073709551615",
                                       "9007199254740993",
                                       "4294967296",
                                       "1.5",
                                       "\"F32\"",
                                       "\"BF16\"",
                                       "[0,18446744073709551615]",
                                       "{\"a\":{\"a\":[[[[",
                                       "\xff\xfe",
                                       "\"__metadata__\":{},",
                                       " "};
  const size_t at = static_cast<size_t>(random->next() % (s->size() + 1));
  const std::string word = kWords[random->below(26)];
  switch (random->below(3)) {
    case 0: s->insert(at, word); break;
    case 1: s->replace(at, std::min(word.size(), s->size() - at), word); break;
    default: {  // a number becomes another
      const size_t digit = s->find_first_of("0123456789", at);
      if (digit == std::string::npos) break;
      const size_t end = std::min(s->find_first_not_of("0123456789", digit), s->size());
      s->replace(digit, end - digit, random->below(2) ? word : std::to_string(random->next() >> random->below(64)));
    }
  }
}

volatile uint64_t sink;

// Reads all that was handed out: a wrong pointer or length shows under AddressSanitizer.
void read_all(const formats::Parsed& parsed) {
  uint64_t sum = parsed.header;
  for (const auto& entry : parsed.tensors) {
    const Tensor& t = entry.second;
    CHECK(t.bytes == static_cast<size_t>(t.rows()) * row_bytes(t.type, static_cast<size_t>(t.cols())));
    for (size_t i = 0; i < t.bytes; i++) sum += t.data[i];
  }
  for (const auto& entry : parsed.metadata) {
    if (const Strings* words = std::get_if<Strings>(&entry.second)) {
      for (const std::string& word : words->read()) sum += word.size();
    }
  }
  sink = sum;
}

struct Outcome {
  int accepted = 0, refused = 0;
  size_t most = 0;
  double seconds = 0;
};

void attempt(const std::function<void()>& parse, Outcome* outcome) {
  const size_t before = live;
  peak = before;
  const std::clock_t start = std::clock();  // of this process: others may be busy
  try {
    parse();
    outcome->accepted++;
  } catch (const Error& error) {
    CHECK(std::strlen(error.what()) > 20 && error.what()[0] == '[');
    outcome->refused++;
  }
  outcome->seconds += static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  outcome->most = std::max(outcome->most, peak - before);
  CHECK_EQ(live.load(), before);
}

using Edit = void (*)(std::string*, check::Random*);

void fuzz(const char* what, const std::string& original, int share, Edit first, Edit second,
          const std::function<void(const std::string&)>& parse) {
  const int files = std::max(1, from_environment("TOKENSIEVE_FUZZ", 6000) / share);
  check::Random random(static_cast<uint64_t>(from_environment("TOKENSIEVE_FUZZ_SEED", 1)));
  Outcome outcome;
  for (int i = 0; i < files; i++) {
    std::string damaged = original;
    for (int n = 1 + random.below(4); n > 0; n--) (random.below(3) ? first : second)(&damaged, &random);
    attempt([&] { parse(damaged); }, &outcome);
  }
  std::printf("%s: %d files, %d accepted, %.1f us and at most %zu kB each\n", what, files, outcome.accepted,
              1e6 * outcome.seconds / files, outcome.most >> 10);
  CHECK(outcome.refused > 0 && outcome.accepted > 0);
  CHECK(outcome.most < kMostMemory);
  CHECK(outcome.seconds / files < 1e-3);
}

std::string_view as_text(Bytes b) { return {reinterpret_cast<const char*>(b.data), b.size}; }

void parse_gguf(const std::string& content) {
  const files::Exact exact(content);
  read_all(formats::parse_gguf(exact.bytes(), "x.gguf"));
}

void parse_safetensors(const std::string& content) {
  const files::Exact exact(content);
  read_all(formats::parse_safetensors(exact.bytes(), "x.safetensors"));
}

}  // namespace

TEST("damaged GGUF headers") {
  for (const char* name : {"types.gguf", "aligned.gguf", "split-00001-of-00003.gguf"}) {
    fuzz(name, files::read(files::fixture(name)), 6, edit, edit, parse_gguf);
  }
}

TEST("damaged safetensors files") {
  const std::string content = files::read(files::fixture("llama/model.safetensors"));
  fuzz("safetensors", content, 6, edit, edit, parse_safetensors);
  uint64_t header;
  std::memcpy(&header, content.data(), 8);
  fuzz("safetensors header", content.substr(8, header), 6, edit_json, edit, [&](const std::string& text) {
    files::Out out;
    out.u64(text.size());
    parse_safetensors(out.bytes + text + content.substr(8 + header));
  });
}

TEST("damaged configurations and indices") {
  for (const char* name : {"llama/config.json", "gemma3/config.json", "llama-sharded/config.json"}) {
    fuzz(name, files::read(files::fixture(name)), 12, edit_json, edit, [](const std::string& text) {
      const files::Exact exact(text);
      sink = formats::translate_config(as_text(exact.bytes()), "config.json").metadata.size();
    });
  }
  fuzz("index", files::read(files::fixture("llama-sharded/model.safetensors.index.json")), 12, edit_json, edit,
       [](const std::string& text) {
         const files::Exact exact(text);
         sink = formats::parse_index(as_text(exact.bytes()), "index.json").size();
       });
}

TEST("damaged files, opened from disk") {
  const files::Scratch scratch;
  const std::string path = scratch / "x.gguf";
  fuzz("mapped", files::read(files::fixture("types.gguf")), 12, edit, edit, [&](const std::string& content) {
    files::write(path, content);
    sink = open_weights(path)->fingerprint().size();
  });
}

TEST("the largest headers that are let through stay within their memory") {
  files::Out many;  // as many entries and tensors as may be, with the longest lists and texts
  many.bytes = "GGUF";
  many.u32(3).u64(65536).u64(65536);
  many.text("numbers").u32(9).u32(0).u64((2u << 20)).bytes += std::string(2u << 20, '\1');
  for (int i = 1; i < 65536; i++)
    many.text("k" + std::to_string(i) + std::string(60, 'k')).u32(8).text(std::string(80, 'v'));
  for (int i = 0; i < 65536; i++)
    many.text("t" + std::to_string(i) + std::string(60, 't')).u32(1).u64(8).u32(0).u64(32u * static_cast<unsigned>(i));
  const files::Exact exact(many.bytes + std::string(31 + 32 * 65536, '\0'));
  Outcome outcome;
  attempt([&] { read_all(formats::parse_gguf(exact.bytes(), "x.gguf")); }, &outcome);
  std::printf("largest: %d accepted, %zu kB, %.0f ms\n", outcome.accepted, outcome.most >> 10, 1e3 * outcome.seconds);
  CHECK_EQ(outcome.accepted, 1);
  CHECK(outcome.most < kMostMemory);
  std::string config = "[0";
  while (config.size() < (256u << 10) - 2) config += ",0";
  attempt([&] { formats::translate_config(config + "]", "config.json"); }, &outcome);
  CHECK(outcome.most < kMostMemory);
}
