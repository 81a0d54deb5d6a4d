// What the tests of the weight formats share: fixtures, scratch files, bytes of hand-made files.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "engine/mapped_file.h"

namespace files {

namespace fs = std::filesystem;
using tokensieve::Bytes;
using tokensieve::Code;
using tokensieve::Error;

inline std::string fixture(const std::string& name) {
  return (fs::path(__FILE__).parent_path().parent_path() / "fixtures" / "weights" / name).string();
}

inline std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write(const std::string& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
}

// A folder that goes with the test.
class Scratch {
 public:
  Scratch() : path_(fs::temp_directory_path() / ("tokensieve-" + std::to_string(std::random_device()()))) {
    fs::create_directories(path_);
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

// A copy on the heap of exactly its size, so that AddressSanitizer sees a read past its end. safetensors data must be
// aligned as a mapped file's is, which new[] does.
class Exact {
 public:
  explicit Exact(const std::string& content) : data_(new uint8_t[content.size()]), size_(content.size()) {
    std::memcpy(data_, content.data(), size_);
  }
  Exact(const Exact&) = delete;
  Exact& operator=(const Exact&) = delete;
  ~Exact() { delete[] data_; }
  Bytes bytes() const { return {data_, size_}; }

 private:
  uint8_t* data_;
  size_t size_;
};

// A little-endian writer of GGUF pieces.
struct Out {
  std::string bytes;
  template <class T>
  Out& number(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Out& u32(uint32_t v) { return number(v); }
  Out& u64(uint64_t v) { return number(v); }
  Out& text(const std::string& s) {
    u64(s.size());
    bytes += s;
    return *this;
  }
};

// The code that a call fails with, and its message; "" where it succeeds.
template <class F>
std::pair<std::string, std::string> failure(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return {tokensieve::code_name(error.code()), error.what()};
  }
  return {"", ""};
}

}  // namespace files
