#include "engine/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/sha256.h"
#include "engine/json.h"
#include "engine/weights_formats.h"

namespace tokensieve {

namespace formats {

namespace {

std::string shown(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace

void place(Tensor* t, Bytes data, uint64_t offset, const std::string& file) {
  const std::string who = "tensor " + json::quoted(t->name);
  if (t->shape.empty() || t->shape.size() > 4) {
    throw bad(file, who + " should have 1 to 4 dimensions, has " + std::to_string(t->shape.size()));
  }
  uint64_t elements = 1;
  for (const int64_t n : t->shape) {
    if (n < 1 || static_cast<uint64_t>(n) > kMostElements / elements) {
      throw bad(file, who + " has the impossible shape " + shown(t->shape));
    }
    elements *= static_cast<uint64_t>(n);
  }
  const DTypeTraits& type = traits(t->type);
  if (t->cols() % type.block != 0) {
    throw bad(file, who + " of type " + type.name + " should have rows of a multiple of " + std::to_string(type.block) +
                        " elements, has " + std::to_string(t->cols()));
  }
  const uint64_t bytes = row_bytes(t->type, elements);
  if (offset > data.size || bytes > data.size - offset) {
    throw cut(file, who + " needs " + std::to_string(bytes) + " bytes at " + std::to_string(offset) +
                        " of the data, the file has " + std::to_string(data.size) + " bytes of data");
  }
  t->data = data.data + offset;
  t->bytes = bytes;
}

void refuse_overlaps(const std::map<std::string, Tensor>& tensors, const std::string& file) {
  std::vector<const Tensor*> order;
  order.reserve(tensors.size());
  for (const auto& entry : tensors) order.push_back(&entry.second);
  std::sort(order.begin(), order.end(), [](const Tensor* a, const Tensor* b) { return a->data < b->data; });
  for (size_t i = 1; i < order.size(); i++) {
    if (order[i]->data < order[i - 1]->data + order[i - 1]->bytes) {
      throw bad(file, "tensors " + json::quoted(order[i - 1]->name) + " and " + json::quoted(order[i]->name) +
                          " claim the same bytes");
    }
  }
}

void merge(std::map<std::string, Tensor>* into, std::map<std::string, Tensor>&& from, const std::string& file) {
  if (into->size() + from.size() > kMostTensors) {
    throw unsupported(file, "a model may have " + std::to_string(kMostTensors) + " tensors, this one has more");
  }
  into->merge(from);  // leaves behind what was there already
  if (!from.empty()) throw bad(file, "tensor " + json::quoted(from.begin()->first) + " comes twice");
}

}  // namespace formats

namespace {

class FileWeights : public Weights {
 public:
  explicit FileWeights(formats::Model model) : model_(std::move(model)) {}

  const std::map<std::string, Value>& metadata() const override { return model_.metadata; }
  const std::map<std::string, Tensor>& tensors() const override { return model_.tensors; }
  bool rope_halves() const override { return model_.rope_halves; }
  bool norms_plus_one() const override { return model_.norms_plus_one; }
  std::string name() const override { return model_.path; }

  void release(const uint8_t* data, size_t bytes) override {
    for (const MappedFile& file : model_.files) {
      if (file.holds(data)) file.release(data, bytes);
    }
  }

  uint64_t file_bytes() const override {
    uint64_t total = 0;
    for (const MappedFile& file : model_.files) total += file.bytes().size;
    return total;
  }

  std::string fingerprint() const override {
    Sha256 hash;
    for (size_t i = 0; i < model_.files.size(); i++) sample(model_.files[i].bytes(), model_.headers[i], &hash);
    return hash.hex();
  }

 private:
  // The header in full, and pieces spread over the data from its first byte to its last.
  static void sample(Bytes file, size_t header, Sha256* hash) noexcept {
    constexpr size_t kSamples = 32, kSample = 65536;
    hash->number(file.size);
    hash->number(header);
    hash->update(file.data, header);
    const uint8_t* data = file.data + header;
    const size_t size = file.size - header;
    if (size <= kSamples * kSample) return hash->update(data, size);
    for (size_t i = 0; i < kSamples; i++) hash->update(data + (size - kSample) / (kSamples - 1) * i, kSample);
  }

  formats::Model model_;
};

}  // namespace

std::vector<std::string> Strings::read() const {
  std::vector<std::string> all;
  all.reserve(count);
  const uint8_t* at = data;
  for (uint64_t i = 0; i < count; i++) {
    uint64_t length;
    std::memcpy(&length, at, 8);
    all.emplace_back(reinterpret_cast<const char*>(at + 8), length);
    at += 8 + length;
  }
  return all;
}

int64_t Tensor::rows() const {
  int64_t n = 1;
  for (size_t i = 0; i + 1 < shape.size(); i++) n *= shape[i];
  return n;
}

std::unique_ptr<Weights> open_weights(const std::string& path) {
  formats::Model model = is_folder(path) ? formats::open_safetensors(path) : formats::open_gguf(path);
  if (model.tensors.empty()) throw formats::bad(path, "expected a model, found no tensor in it");
  return std::make_unique<FileWeights>(std::move(model));
}

namespace {

std::string shown(const Value& value) {
  struct Show {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(uint64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return std::to_string(v); }
    std::string operator()(const std::string& v) const { return "the string " + json::quoted(v); }
    std::string operator()(const std::vector<int64_t>& v) const { return list(v.size(), "numbers"); }
    std::string operator()(const std::vector<double>& v) const { return list(v.size(), "numbers"); }
    std::string operator()(const Strings& v) const { return list(v.count, "strings"); }
    static std::string list(uint64_t n, const char* what) { return "a list of " + std::to_string(n) + " " + what; }
  };
  return std::visit(Show(), value);
}

[[noreturn]] void refuse(const Weights& w, const std::string& key, const std::string& expected, const Value* got) {
  throw formats::bad(w.name(), "expected " + json::quoted(key) + " to be " + expected + ", " +
                                   (got ? "got " + shown(*got) : "but the file does not say it"));
}

const Value* find(const Weights& w, const std::string& key) {
  const auto at = w.metadata().find(key);
  return at == w.metadata().end() ? nullptr : &at->second;
}

int64_t to_int(const Weights& w, const std::string& key, int64_t min, int64_t max, const Value* value) {
  if (value) {
    if (const int64_t* v = std::get_if<int64_t>(value)) {
      if (*v >= min && *v <= max) return *v;
    } else if (const uint64_t* u = std::get_if<uint64_t>(value)) {
      if (*u <= static_cast<uint64_t>(INT64_MAX)) {
        const int64_t v = static_cast<int64_t>(*u);
        if (v >= min && v <= max) return v;
      }
    }
  }
  refuse(w, key, "a whole number from " + std::to_string(min) + " to " + std::to_string(max), value);
}

}  // namespace

int64_t need_int(const Weights& w, const std::string& key, int64_t min, int64_t max) {
  return to_int(w, key, min, max, find(w, key));
}

int64_t get_int(const Weights& w, const std::string& key, int64_t min, int64_t max, int64_t fallback) {
  const Value* value = find(w, key);
  return value ? to_int(w, key, min, max, value) : fallback;
}

double get_double(const Weights& w, const std::string& key, double fallback) {
  const Value* value = find(w, key);
  if (!value) return fallback;
  if (const double* v = std::get_if<double>(value)) {
    if (std::isfinite(*v)) return *v;
  } else if (const int64_t* i = std::get_if<int64_t>(value)) {
    return static_cast<double>(*i);
  } else if (const uint64_t* u = std::get_if<uint64_t>(value)) {
    return static_cast<double>(*u);
  }
  refuse(w, key, "a finite number", value);
}

std::string get_string(const Weights& w, const std::string& key, const std::string& fallback) {
  const Value* value = find(w, key);
  if (!value) return fallback;
  if (const std::string* v = std::get_if<std::string>(value)) return *v;
  refuse(w, key, "a string", value);
}

bool get_bool(const Weights& w, const std::string& key, bool fallback) {
  const Value* value = find(w, key);
  if (!value) return fallback;
  if (const bool* v = std::get_if<bool>(value)) return *v;
  refuse(w, key, "true or false", value);
}

const Tensor* find_tensor(const Weights& w, const std::string& name, std::vector<int64_t> shape) {
  const auto at = w.tensors().find(name);
  if (at == w.tensors().end()) return nullptr;
  if (at->second.shape == shape) return &at->second;
  throw formats::bad(w.name(), "expected tensor " + json::quoted(name) + " to have the shape " + formats::shown(shape) +
                                   ", got " + formats::shown(at->second.shape));
}

const Tensor& need_tensor(const Weights& w, const std::string& name, std::vector<int64_t> shape) {
  const Tensor* tensor = find_tensor(w, name, shape);
  if (tensor) return *tensor;
  throw formats::bad(w.name(), "expected a tensor " + json::quoted(name) + " of shape " + formats::shown(shape) +
                                   ", the file has none");
}

}  // namespace tokensieve
