// Folders as Hugging Face publishes them: config.json and model.safetensors, or several of them and an index
// (github.com/huggingface/safetensors, README "Format").
#include <algorithm>
#include <cstring>
#include <set>

#include "engine/json.h"
#include "engine/weights_formats.h"

namespace tokensieve::formats {

namespace {

constexpr uint64_t kLongestHeader = 100000000;  // the format's own limit
constexpr size_t kLongestConfig = size_t{256} << 10, kLongestIndex = size_t{32} << 20, kLongestName = 255;

std::string_view as_text(Bytes b) { return {reinterpret_cast<const char*>(b.data), b.size}; }

struct Range {
  uint64_t begin = 0, end = 0;
};

std::vector<int64_t> read_shape(json::Reader* reader) {
  std::vector<int64_t> shape;
  for (reader->begin_array(); reader->next_element();) {
    const uint64_t n = reader->natural();
    if (n > kMostElements || shape.size() == 4) reader->fail("a shape of 1 to 4 sensible dimensions");
    shape.push_back(static_cast<int64_t>(n));
  }
  return shape;
}

DType read_dtype(json::Reader* reader, const std::string& tensor, const std::string& file) {
  const std::string name = reader->string();
  if (name == "F32") return DType::f32;
  if (name == "F16") return DType::f16;
  if (name == "BF16") return DType::bf16;
  throw unsupported(
      file, "tensor " + json::quoted(tensor) + " is of type " + json::quoted(name) + "; supported are F32 F16 BF16");
}

// {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}
Range read_tensor(json::Reader* reader, Tensor* t, const std::string& file) {
  Range range;
  std::string key;
  int seen = 0;  // one bit a key
  for (reader->begin_object(); reader->next_member(&key);) {
    const int bit = key == "dtype" ? 1 : key == "shape" ? 2 : key == "data_offsets" ? 4 : 0;
    if (!bit || (seen & bit)) reader->fail("dtype, shape and data_offsets once each, not " + json::quoted(key));
    seen |= bit;
    if (bit == 1) t->type = read_dtype(reader, t->name, file);
    if (bit == 2) t->shape = read_shape(reader);
    if (bit != 4) continue;
    reader->begin_array();
    if (!reader->next_element()) reader->fail("two offsets");
    range.begin = reader->natural();
    if (!reader->next_element()) reader->fail("two offsets");
    range.end = reader->natural();
    if (reader->next_element()) reader->fail("two offsets");
  }
  if (seen != 7) reader->fail("dtype, shape and data_offsets of tensor " + json::quoted(t->name));
  return range;
}

void place_exactly(Tensor* t, Bytes data, Range range, const std::string& file) {
  if (range.end < range.begin) throw bad(file, "tensor " + json::quoted(t->name) + " ends before it begins");
  place(t, data, range.begin, file);
  if (range.end - range.begin != t->bytes) {
    throw bad(file, "tensor " + json::quoted(t->name) + " should have " + std::to_string(t->bytes) +
                        " bytes by its shape, has " + std::to_string(range.end - range.begin));
  }
  const size_t unit = static_cast<size_t>(traits(t->type).bytes);
  if (reinterpret_cast<uintptr_t>(t->data) % unit != 0) {
    throw unsupported(file, "the data of tensor " + json::quoted(t->name) + " should begin at a multiple of " +
                                std::to_string(unit) + " bytes: save the file again with safetensors 0.3 or newer");
  }
}

}  // namespace

Parsed parse_safetensors(Bytes file, const std::string& name) {
  uint64_t length = 0;
  if (file.size < 8) throw cut(name, "the file ends within the length of its header");
  std::memcpy(&length, file.data, 8);
  if (length > kLongestHeader) {
    throw bad(name, "expected a safetensors header of at most " + std::to_string(kLongestHeader) + " bytes, got " +
                        std::to_string(length));
  }
  if (length > file.size - 8) {
    throw cut(name, "the file has " + std::to_string(file.size) + " bytes, too few for its header of " +
                        std::to_string(length));
  }
  Parsed parsed;
  parsed.header = 8 + length;
  const Bytes data = {file.data + parsed.header, file.size - parsed.header};
  json::Reader reader(as_text({file.data + 8, length}), name);
  Tensor tensor;
  for (reader.begin_object(); reader.next_member(&tensor.name);) {
    if (tensor.name == "__metadata__") {
      reader.skip();
      continue;
    }
    if (tensor.name.empty() || tensor.name.size() > kLongestName) reader.fail("a tensor name of 1 to 255 bytes");
    if (parsed.tensors.size() == kMostTensors) throw unsupported(name, "the file has more than 65536 tensors");
    const Range range = read_tensor(&reader, &tensor, name);
    place_exactly(&tensor, data, range, name);
    if (!parsed.tensors.emplace(tensor.name, tensor).second) {
      throw bad(name, "tensor " + json::quoted(tensor.name) + " comes twice");
    }
    tensor = Tensor();
  }
  reader.end();
  refuse_overlaps(parsed.tensors, name);
  return parsed;
}

std::map<std::string, std::string> parse_index(std::string_view text, const std::string& name) {
  std::map<std::string, std::string> shards;
  std::string key, tensor;
  json::Reader reader(text, name);
  for (reader.begin_object(); reader.next_member(&key);) {
    if (key != "weight_map") {
      reader.skip();
      continue;
    }
    for (reader.begin_object(); reader.next_member(&tensor);) {
      const std::string file = reader.string();
      const bool plain = !file.empty() && file.size() <= kLongestName && file[0] != '.' &&
                         file.find_first_of(std::string_view("/\\:\0", 4)) == std::string::npos;
      if (!plain) throw bad(name, "expected the name of a file in the same folder, got " + json::quoted(file));
      if (tensor.size() > kLongestName || shards.size() == kMostTensors) {
        throw unsupported(name, "expected at most 65536 tensors with names of at most 255 bytes, got more");
      }
      if (!shards.emplace(tensor, file).second) throw bad(name, "tensor " + json::quoted(tensor) + " comes twice");
    }
  }
  reader.end();
  if (shards.empty()) throw bad(name, "expected a `weight_map` with tensors, found none");
  return shards;
}

namespace {

Bytes small(const MappedFile& file, size_t longest) {
  if (file.bytes().size <= longest) return file.bytes();
  throw bad(file.path(),
            "expected at most " + std::to_string(longest) + " bytes, got " + std::to_string(file.bytes().size));
}

void add_file(Model* model, const std::string& path, const std::string& architecture) {
  MappedFile file(path);
  Parsed parsed = parse_safetensors(file.bytes(), path);
  std::map<std::string, Tensor> named;
  for (auto& entry : parsed.tensors) {
    const std::string name = translate_name(architecture, entry.first);
    entry.second.name = name;
    if (!named.emplace(name, std::move(entry.second)).second) {
      throw bad(path, "tensor " + json::quoted(entry.first) + " comes twice under another name");
    }
  }
  merge(&model->tensors, std::move(named), path);
  model->headers.push_back(parsed.header);
  model->files.push_back(std::move(file));
}

void add_shards(Model* model, const std::string& folder, const std::string& architecture) {
  const std::string index_path = folder + "/model.safetensors.index.json";
  const MappedFile index_file(index_path);
  const auto index = parse_index(as_text(small(index_file, kLongestIndex)), index_path);
  std::set<std::string> shards;
  for (const auto& entry : index) shards.insert(entry.second);
  for (const std::string& shard : shards) add_file(model, folder + "/" + shard, architecture);
  for (const auto& entry : index) {
    const auto at = model->tensors.find(translate_name(architecture, entry.first));
    const auto holder = std::find_if(model->files.begin(), model->files.end(), [&](const MappedFile& file) {
      return at != model->tensors.end() && file.holds(at->second.data);
    });
    if (holder == model->files.end() || holder->path() != folder + "/" + entry.second) {
      throw bad(index_path, "tensor " + json::quoted(entry.first) + " is not in " + json::quoted(entry.second));
    }
  }
}

// A head that is tied to the embedding is not in the vocabulary of the architectures, even if the file has a copy.
void settle_head(Model* model, const Config& config) {
  const bool there = model->tensors.count("output.weight") != 0;
  if (config.tied && there) model->tensors.erase("output.weight");
  if (config.untied && !there) {
    throw bad(model->path, "config.json says that the head is a tensor of its own, but there is no `lm_head.weight`");
  }
}

void add_rope_factors(Model* model, std::vector<float> factors) {
  if (factors.empty()) return;
  model->rope_factors = std::move(factors);
  Tensor t;
  t.name = "rope_freqs.weight";
  t.shape = {static_cast<int64_t>(model->rope_factors.size())};
  t.data = reinterpret_cast<const uint8_t*>(model->rope_factors.data());
  t.bytes = model->rope_factors.size() * sizeof(float);
  if (!model->tensors.emplace(t.name, t).second) throw bad(model->path, "tensor `rope_freqs.weight` comes twice");
}

// What pictures are normalised with stands in a file of its own.
void add_processor(Model* model, const std::string& folder) {
  const std::string path = folder + "/preprocessor_config.json";
  if (!model->metadata.count("clip.vision.block_count") || !is_there(path)) return;
  MappedFile file(path);
  const json::Node root = json::parse(as_text(small(file, kLongestConfig)), path);
  for (const char* key : {"image_mean", "image_std"}) {
    const json::Node* list = root.find(key);
    if (!list) continue;
    std::vector<double> numbers;
    for (const json::Node& item : list->items) numbers.push_back(item.number);
    model->metadata[std::string("clip.vision.") + key] = std::move(numbers);
  }
  model->headers.push_back(file.bytes().size);
  model->files.push_back(std::move(file));
}

}  // namespace

Model open_safetensors(const std::string& folder) {
  const std::string config_path = folder + "/config.json", single = folder + "/model.safetensors";
  const bool has_single = is_there(single);
  if (!is_there(config_path) || (!has_single && !is_there(single + ".index.json"))) {
    throw Error(Code::file_not_found,
                "[" + folder + "] expected a GGUF file, or a folder with config.json and model.safetensors (or " +
                    "model.safetensors.index.json), got a folder without them");
  }
  Model model;
  model.path = folder;
  MappedFile config_file(config_path);
  Config config = translate_config(as_text(small(config_file, kLongestConfig)), config_path);
  if (has_single) {
    add_file(&model, single, config.architecture);
  } else {
    add_shards(&model, folder, config.architecture);
  }
  settle_head(&model, config);
  add_rope_factors(&model, std::move(config.rope_factors));
  model.metadata = std::move(config.metadata);
  add_processor(&model, folder);
  model.headers.push_back(config_file.bytes().size);
  model.files.push_back(std::move(config_file));
  model.rope_halves = true;
  model.norms_plus_one = config.architecture == "gemma3";
  return model;
}

}  // namespace tokensieve::formats
