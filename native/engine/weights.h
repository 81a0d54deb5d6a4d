// A model file opened for reading: its metadata and its tensors, wherever they lie (GGUF, split GGUF, safetensors folders).
// Every length, offset, count and dimension is checked when the file is opened; what is handed out afterwards is safe to read.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/dtype.h"

namespace tokensieve {

// Strings are held as ranges of the mapped file until asked for: 262,144 words cost nothing to open.
struct Strings {
  const uint8_t* data = nullptr;          // GGUF string array: each a u64 length and its bytes (checked)
  uint64_t count = 0;
  std::vector<std::string> read() const;  // a copy
};
using Value = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>, std::vector<double>, Strings>;

struct Tensor {
  std::string name;
  DType type = DType::f32;
  std::vector<int64_t> shape;     // outermost first, as PyTorch prints it: [rows, cols]; 1 to 4 dimensions, each >= 1
  const uint8_t* data = nullptr;  // GGUF-layout rows, valid while Weights lives
  size_t bytes = 0;

  int64_t cols() const { return shape.back(); }
  int64_t rows() const;           // product of all but the last
};

// Where a model's numbers come from. GGUF: metadata under GGUF keys, tensors under GGUF names ("blk.0.attn_q.weight").
// Safetensors folders are presented the same way: config.json is translated to GGUF keys, tensor names to GGUF names, so that an architecture knows one vocabulary.
// What differs in content is said by flags, not hidden: rope_halves() is true where q and k rows are in the halves order already.
class Weights {
 public:
  virtual ~Weights() = default;
  virtual const std::map<std::string, Value>& metadata() const = 0;
  virtual const std::map<std::string, Tensor>& tensors() const = 0;
  virtual bool rope_halves() const = 0;
  virtual bool norms_plus_one() const = 0;       // Gemma: safetensors hold w for (1 + w), GGUF holds 1 + w
  virtual void release(const Tensor& t) = 0;     // its pages are not needed any more (madvise)
  virtual uint64_t file_bytes() const = 0;
  virtual std::string fingerprint() const = 0;   // 64 hex digits: hash of header(s), sizes and samples of the data; the same file gives the same
};

// path: a .gguf file (also the first piece name-00001-of-0000N.gguf) or a folder with config.json and safetensors. Throws Error.
std::unique_ptr<Weights> open_weights(const std::string& path);

// Typed look-ups that throw Error(file_format) naming the key, what was expected and what came.
int64_t need_int(const Weights& w, const std::string& key, int64_t min, int64_t max);
int64_t get_int(const Weights& w, const std::string& key, int64_t min, int64_t max, int64_t fallback);
double get_double(const Weights& w, const std::string& key, double fallback);     // finite
std::string get_string(const Weights& w, const std::string& key, const std::string& fallback);
bool get_bool(const Weights& w, const std::string& key, bool fallback);
const Tensor& need_tensor(const Weights& w, const std::string& name, std::vector<int64_t> shape);  // exact shape
const Tensor* find_tensor(const Weights& w, const std::string& name, std::vector<int64_t> shape);   // null where absent; throws on a wrong shape

}  // namespace tokensieve
