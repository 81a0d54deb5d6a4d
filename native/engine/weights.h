// A model file opened for reading: its metadata and its tensors, wherever they lie (GGUF, split GGUF, safetensors folders).
// Every length, offset, count and dimension is checked when the file is opened; what is handed out afterwards is safe to
// read until Weights goes. What is copied out of a file's header stays under 64 MiB, whatever the file says.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/dtype.h"

namespace tokensieve {

// Strings are held as ranges of the mapped file until asked for: 262,144 words cost nothing to open.
struct Strings {
  const uint8_t* data = nullptr;  // GGUF string array: each a u64 length and its bytes (checked)
  uint64_t count = 0;
  std::vector<std::string> read() const;  // a copy
};

// GGUF's unsigned types are uint64_t, its signed ones int64_t, its floats double; arrays of bools and of whole numbers
// are vector<int64_t>.
using Value =
    std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>, std::vector<double>, Strings>;

struct Tensor {
  std::string name;
  DType type = DType::f32;
  std::vector<int64_t> shape;  // outermost first, as PyTorch prints it: [rows, cols]; 1 to 4 dimensions, each >= 1
  // Rows in GGUF layout, aligned to the element (f32: 4, f16 and bf16: 2), valid while Weights lives.
  const uint8_t* data = nullptr;
  size_t bytes = 0;

  int64_t cols() const { return shape.back(); }
  int64_t rows() const;  // product of all but the last
};

// Where a model's numbers come from. GGUF: metadata under GGUF keys, tensors under GGUF names ("blk.0.attn_q.weight").
// Safetensors folders are presented the same way: config.json is translated to GGUF keys, tensor names to GGUF names
// (names that have no translation stay as they are), so that an architecture knows one vocabulary. A tied head is an
// absent "output.weight". What differs in content is said by flags, not hidden.
//
// Keys of a translated config.json, A being general.architecture (llama, gemma3):
//   A.block_count  A.context_length  A.embedding_length  A.feed_forward_length  A.vocab_size
//   A.attention.head_count  .head_count_kv  .key_length  .value_length  .layer_norm_rms_epsilon
//   A.rope.dimension_count  A.rope.freq_base
//   A.rope.scaling.type      "linear": positions are divided by .factor (Gemma 3: in the global layers only)
//                            "dynamic": once a context is longer than .original_context_length L, the base grows to
//                            base (factor * length / L - factor + 1)^(d / (d - 2)). Absent: no scaling.
//   rope_freqs.weight        a tensor f32 [dimension_count / 2]: frequency i is divided by element i. GGUF files of Llama
//                            3.1 and later carry it; for safetensors it is computed from the "llama3" factors.
//   gemma3 only: .attention.sliding_window, .attention.sliding_window_pattern (n: every nth layer sees all, the others
//                slide; a list, where they are not regular, has 1 for each sliding layer), .rope.freq_base_swa (of the
//                sliding layers), .attention.scale (of q k). GGUF files may leave the last three out: 6, 10000 and
//                1 / sqrt(key_length), but 1 / sqrt(embedding_length / head_count) in the one of 62 layers.
//   tokenizer.ggml.bos_token_id  .eos_token_id (the first, where config.json lists several)
class Weights {
 public:
  virtual ~Weights() = default;
  virtual const std::map<std::string, Value>& metadata() const = 0;
  virtual const std::map<std::string, Tensor>& tensors() const = 0;
  // Rows of q and k. True: all first halves of the rotated pairs, then the second halves; false (GGUF files of llama):
  // pair by pair.
  virtual bool rope_halves() const = 0;
  virtual bool norms_plus_one() const = 0;  // Gemma: safetensors hold w for (1 + w), GGUF holds 1 + w
  virtual void release(const uint8_t* data, size_t bytes) = 0;  // of a tensor: not needed any more (madvise)
  virtual uint64_t file_bytes() const = 0;  // of all pieces
  // 64 hex digits, a hash of headers, sizes and samples of the data: the same model gives the same, under any name.
  virtual std::string fingerprint() const = 0;
  virtual std::string name() const { return "weights"; }  // what stands in brackets before a message: the path
};

// How a model is made of them.
struct LoadControl {
  std::function<void(uint64_t done, uint64_t total)> progress;  // called from the loading thread; may be empty
  const std::atomic<bool>* stop = nullptr;  // once true: Error(aborted)
  bool screen = true;  // heads are packed for kernels/screen.h where they can be
};

// path: a .gguf file (also the first piece name-00001-of-0000N.gguf) or a folder with config.json and safetensors.
// Throws Error. The files must not be cut while they are open.
std::unique_ptr<Weights> open_weights(const std::string& path);

// Typed look-ups that throw Error(file_format) naming the key, what was expected and what came.
int64_t need_int(const Weights& w, const std::string& key, int64_t min, int64_t max);
int64_t get_int(const Weights& w, const std::string& key, int64_t min, int64_t max, int64_t fallback);
double get_double(const Weights& w, const std::string& key, double fallback);  // finite
std::string get_string(const Weights& w, const std::string& key, const std::string& fallback);
bool get_bool(const Weights& w, const std::string& key, bool fallback);
// The shape must be exactly this. find_tensor gives null where the file has no such tensor.
const Tensor& need_tensor(const Weights& w, const std::string& name, std::vector<int64_t> shape);
const Tensor* find_tensor(const Weights& w, const std::string& name, std::vector<int64_t> shape);

}  // namespace tokensieve
