// Between the readers of the formats and weights.cc. The parsers are pure functions of bytes, so that a test can give
// them anything.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "engine/mapped_file.h"
#include "engine/weights.h"

namespace tokensieve::formats {

constexpr size_t kMostTensors = 65536;                     // of a model, all pieces together
constexpr uint64_t kMostElements = uint64_t{1} << 56;      // of a tensor: its bytes stay far from overflow

struct Parsed {
  std::map<std::string, Value> metadata;
  std::map<std::string, Tensor> tensors;
  size_t header = 0;  // bytes before the data
};

// name stands in front of every message. Throw Error(file_format | file_truncated | unsupported).
Parsed parse_gguf(Bytes file, const std::string& name);
Parsed parse_safetensors(Bytes file, const std::string& name);  // metadata stays empty, names stay as they are

// config.json in GGUF's words.
struct Config {
  std::string architecture;           // "llama" | "gemma3"
  std::map<std::string, Value> metadata;
  std::vector<float> rope_factors;    // rope_freqs.weight; empty: none
  bool tied = false, untied = false;  // tie_word_embeddings, where it is said
};
Config translate_config(std::string_view json, const std::string& name);
std::string translate_name(const std::string& architecture, const std::string& name);

// name of the shard of each tensor, from model.safetensors.index.json
std::map<std::string, std::string> parse_index(std::string_view json, const std::string& name);

// Checks shape and type against the bytes that are there: data[offset …) of `size`. Sets data and bytes.
void place(Tensor* tensor, Bytes data, uint64_t offset, const std::string& file);
// No two tensors may share bytes: a file that says so is not what its writer meant.
void refuse_overlaps(const std::map<std::string, Tensor>& tensors, const std::string& file);
// Moves all tensors of one piece into another map; a name that is there already is an error.
void merge(std::map<std::string, Tensor>* into, std::map<std::string, Tensor>&& from, const std::string& file);

inline Error bad(const std::string& file, const std::string& what) {
  return Error(Code::file_format, "[" + file + "] " + what);
}
inline Error cut(const std::string& file, const std::string& what) {
  return Error(Code::file_truncated, "[" + file + "] " + what);
}
inline Error unsupported(const std::string& file, const std::string& what) {
  return Error(Code::unsupported, "[" + file + "] " + what);
}

// An opened model of either format.
struct Model {
  std::string path;
  std::vector<MappedFile> files;      // those with tensors first, a config.json last
  std::vector<size_t> headers;        // bytes of each file that are hashed in full
  std::map<std::string, Value> metadata;
  std::map<std::string, Tensor> tensors;
  std::vector<float> rope_factors;    // what rope_freqs.weight points to, if the format has no such tensor
  bool rope_halves = false, norms_plus_one = false;
};
Model open_gguf(const std::string& path);
Model open_safetensors(const std::string& folder);

}  // namespace tokensieve::formats
