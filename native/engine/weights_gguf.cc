// GGUF, versions 2 and 3, little endian (github.com/ggml-org/ggml/blob/master/docs/gguf.md).
#include <cstring>

#include "engine/json.h"
#include "engine/weights_formats.h"

namespace tokensieve::formats {

namespace {

// What a header may make us copy: with keys and tensor names, under 64 MiB in all. The largest vocabularies in use have
// 262,144 words, each with a score and a type.
constexpr uint64_t kMostEntries = 65536, kMostNumbers = uint64_t{1} << 21, kMostText = uint64_t{16} << 20;
constexpr size_t kLongestName = 255, kLeastEntry = 13, kLeastTensor = 32;
constexpr uint32_t kString = 8, kArray = 9, kTypes = 13;

struct NumberType {
  const char* name;
  uint8_t bytes;  // 0: not a number
  enum Kind : uint8_t { whole, natural, real, yes_no, other } kind;
};
constexpr NumberType kTypeTable[kTypes] = {
    {"u8", 1, NumberType::natural},  {"i8", 1, NumberType::whole},    {"u16", 2, NumberType::natural},
    {"i16", 2, NumberType::whole},   {"u32", 4, NumberType::natural}, {"i32", 4, NumberType::whole},
    {"f32", 4, NumberType::real},    {"bool", 1, NumberType::yes_no}, {"string", 0, NumberType::other},
    {"array", 0, NumberType::other}, {"u64", 8, NumberType::natural}, {"i64", 8, NumberType::whole},
    {"f64", 8, NumberType::real},
};

struct TensorType {
  uint32_t id;
  DType type;
};
constexpr TensorType kTensorTypes[] = {
    {0, DType::f32},  {1, DType::f16},   {2, DType::q4_0},  {3, DType::q4_1},  {6, DType::q5_0},  {7, DType::q5_1},
    {8, DType::q8_0}, {12, DType::q4_k}, {13, DType::q5_k}, {14, DType::q6_k}, {30, DType::bf16},
};

const char* other_type(uint32_t id) {
  static constexpr const char* kNames[] = {
      nullptr,      nullptr,      nullptr,      nullptr, "Q4_2",     "Q4_3",     nullptr,    nullptr,   nullptr,
      "Q8_1",       "Q2_K",       "Q3_K",       nullptr, nullptr,    nullptr,    "Q8_K",     "IQ2_XXS", "IQ2_XS",
      "IQ3_XXS",    "IQ1_S",      "IQ4_NL",     "IQ3_S", "IQ2_S",    "IQ4_XS",   "I8",       "I16",     "I32",
      "I64",        "F64",        "IQ1_M",      nullptr, "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",   "TQ2_0",
      "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4",    "Q1_0"};
  return id < sizeof kNames / sizeof *kNames ? kNames[id] : nullptr;
}

class Gguf {
 public:
  Gguf(Bytes file, const std::string& name) : file_(file), name_(name) {}
  Parsed parse();

 private:
  const uint8_t* take(uint64_t n, const char* what);
  template <class T>
  T number(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof value, what), sizeof value);
    return value;
  }
  std::string text(uint64_t longest, const char* what);
  uint64_t bounded_count(uint64_t most, uint64_t least_bytes, const char* what);
  void start();
  Value scalar(uint32_t type, const uint8_t* p, const std::string& key);
  Value array(const std::string& key);
  Strings strings(uint64_t count);
  void entry();
  size_t alignment() const;
  void tensor_info();

  struct Waiting {  // a tensor whose data cannot be checked before the header's end is known
    Tensor tensor;
    uint64_t offset;
  };
  Bytes file_;
  const std::string& name_;
  size_t at_ = 0;
  uint64_t numbers_ = 0, text_ = 0;
  Parsed parsed_;
  std::vector<Waiting> waiting_;
};

const uint8_t* Gguf::take(uint64_t n, const char* what) {
  if (n > file_.size - at_) {
    throw cut(name_, std::string("the file ends within ") + what + ": " + std::to_string(n) + " bytes expected at " +
                         std::to_string(at_) + ", " + std::to_string(file_.size - at_) + " are there");
  }
  const uint8_t* p = file_.data + at_;
  at_ += n;
  return p;
}

std::string Gguf::text(uint64_t longest, const char* what) {
  const uint64_t length = number<uint64_t>(what);
  if (length > longest) {
    throw bad(name_, std::string("expected ") + what + " of at most " + std::to_string(longest) + " bytes, got " +
                         std::to_string(length));
  }
  const uint8_t* p = take(length, what);
  text_ += length;
  if (text_ > kMostText) {
    throw unsupported(name_, "a header may have " + std::to_string(kMostText) + " bytes of text, this one has more");
  }
  return std::string(reinterpret_cast<const char*>(p), length);
}

uint64_t Gguf::bounded_count(uint64_t most, uint64_t least_bytes, const char* what) {
  const uint64_t count = number<uint64_t>("the header");
  if (count > most) {
    throw bad(name_, "expected at most " + std::to_string(most) + " " + what + ", got " + std::to_string(count));
  }
  if (count > (file_.size - at_) / least_bytes) {
    throw cut(name_, "the file has " + std::to_string(file_.size) + " bytes, too few for its " + std::to_string(count) +
                         " " + what);
  }
  return count;
}

void Gguf::start() {
  static constexpr char kMagic[] = "GGUF";
  const size_t n = file_.size < 4 ? file_.size : 4;
  if (n && std::memcmp(file_.data, kMagic, n) != 0) {
    throw bad(name_, "expected a GGUF file, which begins with `GGUF`, got " +
                         json::quoted({reinterpret_cast<const char*>(file_.data), n}));
  }
  take(4, "the header");
  const uint32_t version = number<uint32_t>("the header");
  if (version == 2 || version == 3) return;
  if (version != 0 && version % 65536 == 0)
    throw unsupported(name_, "the file is big-endian, little-endian is expected");
  throw unsupported(name_, "expected GGUF version 2 or 3, got version " + std::to_string(version));
}

Value Gguf::scalar(uint32_t type, const uint8_t* p, const std::string& key) {
  const NumberType& t = kTypeTable[type];
  uint64_t bits = 0;
  std::memcpy(&bits, p, t.bytes);
  switch (t.kind) {
    case NumberType::natural: return bits;
    case NumberType::whole: {
      const int unused = 64 - 8 * t.bytes;
      return static_cast<int64_t>(bits << unused) >> unused;
    }
    case NumberType::real: {
      if (t.bytes == 8) {
        double value;
        std::memcpy(&value, p, 8);
        return value;
      }
      float value;
      std::memcpy(&value, p, 4);
      return static_cast<double>(value);
    }
    default: break;
  }
  if (bits > 1) throw bad(name_, json::quoted(key) + " should be a bool, 0 or 1, got " + std::to_string(bits));
  return bits == 1;
}

Strings Gguf::strings(uint64_t count) {
  const Strings all = {file_.data + at_, count};
  for (uint64_t i = 0; i < count; i++) take(number<uint64_t>("a list of strings"), "a list of strings");
  return all;
}

Value Gguf::array(const std::string& key) {
  const uint32_t type = number<uint32_t>("a list");
  if (type == kArray) throw unsupported(name_, json::quoted(key) + " is a list of lists, which no supported model has");
  if (type >= kTypes) throw bad(name_, json::quoted(key) + " is a list of the unknown type " + std::to_string(type));
  const NumberType& t = kTypeTable[type];
  const uint64_t count = bounded_count(UINT64_MAX, type == kString ? 8 : t.bytes, "list elements");
  if (type == kString) return strings(count);
  numbers_ += count;
  if (numbers_ > kMostNumbers) {
    throw unsupported(name_, "the lists of a header may have " + std::to_string(kMostNumbers) + " numbers, with " +
                                 json::quoted(key) + " they have more");
  }
  const uint8_t* p = take(count * t.bytes, "a list");
  std::vector<double> reals;
  std::vector<int64_t> wholes;
  t.kind == NumberType::real ? reals.reserve(count) : wholes.reserve(count);
  for (uint64_t i = 0; i < count; i++, p += t.bytes) {
    const Value value = scalar(type, p, key);
    if (const double* real = std::get_if<double>(&value)) {
      reals.push_back(*real);
    } else if (const uint64_t* natural = std::get_if<uint64_t>(&value)) {
      if (*natural > INT64_MAX) throw unsupported(name_, json::quoted(key) + " has a number of more than 63 bits");
      wholes.push_back(static_cast<int64_t>(*natural));
    } else {
      const int64_t* whole = std::get_if<int64_t>(&value);
      wholes.push_back(whole ? *whole : std::get<bool>(value));
    }
  }
  if (t.kind == NumberType::real) return reals;
  return wholes;
}

void Gguf::entry() {
  const std::string key = text(65535, "a metadata key");
  if (key.empty()) throw bad(name_, "expected a metadata key, got an empty one");
  if (parsed_.metadata.count(key)) throw bad(name_, "metadata key " + json::quoted(key) + " comes twice");
  const uint32_t type = number<uint32_t>("the metadata");
  if (type >= kTypes) throw bad(name_, json::quoted(key) + " has the unknown type " + std::to_string(type));
  Value value;
  if (type == kString) {
    value = text(kMostText, "a metadata string");
  } else if (type == kArray) {
    value = array(key);
  } else {
    value = scalar(type, take(kTypeTable[type].bytes, "the metadata"), key);
  }
  parsed_.metadata.emplace(key, std::move(value));
}

size_t Gguf::alignment() const {
  const auto at = parsed_.metadata.find("general.alignment");
  if (at == parsed_.metadata.end()) return 32;
  const uint64_t* value = std::get_if<uint64_t>(&at->second);
  if (value && *value >= 8 && *value <= (1u << 20) && (*value & (*value - 1)) == 0) return *value;
  throw bad(name_, "expected `general.alignment` to be a power of two from 8 to 1048576" +
                       (value ? ", got " + std::to_string(*value) : std::string(", got another type")));
}

void Gguf::tensor_info() {
  Waiting w;
  w.tensor.name = text(kLongestName, "a tensor name");
  const std::string who = "tensor " + json::quoted(w.tensor.name);
  if (w.tensor.name.empty()) throw bad(name_, "expected a tensor name, got an empty one");
  const uint32_t dims = number<uint32_t>("the tensor list");
  if (dims < 1 || dims > 4) throw bad(name_, who + " should have 1 to 4 dimensions, has " + std::to_string(dims));
  for (uint32_t i = 0; i < dims; i++) {  // the innermost comes first in the file
    const uint64_t n = number<uint64_t>("the tensor list");
    if (n < 1 || n > kMostElements) throw bad(name_, who + " has a dimension of " + std::to_string(n));
    w.tensor.shape.insert(w.tensor.shape.begin(), static_cast<int64_t>(n));
  }
  const uint32_t id = number<uint32_t>("the tensor list");
  const TensorType* type = nullptr;
  for (const TensorType& t : kTensorTypes) {
    if (t.id == id) type = &t;
  }
  if (!type) {
    const char* name = other_type(id);
    throw unsupported(name_, who + " is of type " + (name ? name : "number " + std::to_string(id)) +
                                 "; supported are F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K");
  }
  w.tensor.type = type->type;
  w.offset = number<uint64_t>("the tensor list");
  waiting_.push_back(std::move(w));
}

Parsed Gguf::parse() {
  start();
  const uint64_t tensors = bounded_count(kMostTensors, kLeastTensor, "tensors");
  const uint64_t entries = bounded_count(kMostEntries, kLeastEntry, "metadata entries");
  for (uint64_t i = 0; i < entries; i++) entry();
  for (uint64_t i = 0; i < tensors; i++) tensor_info();
  const size_t align = alignment(), begin = (at_ + align - 1) / align * align;
  parsed_.header = begin < file_.size ? begin : file_.size;
  const Bytes data = {file_.data + parsed_.header, file_.size - parsed_.header};
  for (Waiting& w : waiting_) {
    if (w.offset % align != 0) {
      throw bad(name_, "tensor " + json::quoted(w.tensor.name) + " should begin at a multiple of " +
                           std::to_string(align) + ", begins at " + std::to_string(w.offset));
    }
    place(&w.tensor, data, w.offset, name_);
    const std::string key = w.tensor.name;
    if (!parsed_.tensors.emplace(key, std::move(w.tensor)).second) {
      throw bad(name_, "tensor " + json::quoted(key) + " comes twice");
    }
  }
  refuse_overlaps(parsed_.tensors, name_);
  return std::move(parsed_);
}

}  // namespace

Parsed parse_gguf(Bytes file, const std::string& name) { return Gguf(file, name).parse(); }

namespace {

// A number of a piece: absent is 0.
uint64_t split_number(const Parsed& piece, const char* key, const std::string& file) {
  const auto at = piece.metadata.find(key);
  if (at == piece.metadata.end()) return 0;
  if (const uint64_t* value = std::get_if<uint64_t>(&at->second)) return *value;
  if (const int64_t* value = std::get_if<int64_t>(&at->second)) {
    if (*value >= 0) return static_cast<uint64_t>(*value);
  }
  throw bad(file, "expected " + json::quoted(key) + " to be a whole number from 0");
}

// "-00002-of-00003.gguf"
std::string piece_ending(uint64_t index, uint64_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05u-of-%05u.gguf", static_cast<unsigned>(index + 1),
                static_cast<unsigned>(count));
  return text;
}

void add_piece(Model* model, MappedFile file, uint64_t index, uint64_t count) {
  const std::string path = file.path();
  Parsed piece = parse_gguf(file.bytes(), path);
  const uint64_t number = split_number(piece, "split.no", path), of = split_number(piece, "split.count", path);
  if (number != index || of != count) {
    throw bad(path, "expected piece " + std::to_string(index + 1) + " of " + std::to_string(count) +
                        ", the file says " + std::to_string(number + 1) + " of " + std::to_string(of));
  }
  merge(&model->tensors, std::move(piece.tensors), path);
  model->files.push_back(std::move(file));
  model->headers.push_back(piece.header);
}

void open_pieces(Model* model, uint64_t count, uint64_t number, uint64_t total) {
  const std::string& path = model->path;
  if (count > 65535 || number >= count) {
    throw bad(path, "the file says it is piece " + std::to_string(number + 1) + " of " + std::to_string(count));
  }
  const std::string ending = piece_ending(number, count), first = piece_ending(0, count);
  if (path.size() < ending.size() || path.compare(path.size() - ending.size(), ending.size(), ending) != 0) {
    throw bad(path, "the file is one piece of " + std::to_string(count) + ", so its name should end in " + ending);
  }
  const std::string stem = path.substr(0, path.size() - ending.size());
  if (number != 0) throw bad(path, "expected the first piece of the model: open " + stem + first);
  for (uint64_t i = 1; i < count; i++) add_piece(model, MappedFile(stem + piece_ending(i, count)), i, count);
  if (total && total != model->tensors.size()) {
    throw bad(path, "expected " + std::to_string(total) + " tensors in all pieces, got " +
                        std::to_string(model->tensors.size()));
  }
}

}  // namespace

Model open_gguf(const std::string& path) {
  Model model;
  model.path = path;
  MappedFile file(path);
  Parsed parsed = parse_gguf(file.bytes(), path);
  const uint64_t count = split_number(parsed, "split.count", path), number = split_number(parsed, "split.no", path);
  const uint64_t total = split_number(parsed, "split.tensors.count", path);
  model.metadata = std::move(parsed.metadata);
  model.tensors = std::move(parsed.tensors);
  model.headers = {parsed.header};
  model.files.push_back(std::move(file));
  if (count > 1) open_pieces(&model, count, number, total);
  // The converter of llama files reorders the rows of q and k so that rotated pairs are neighbours; others do not.
  const auto architecture = model.metadata.find("general.architecture");
  const std::string* name =
      architecture == model.metadata.end() ? nullptr : std::get_if<std::string>(&architecture->second);
  model.rope_halves = !name || *name != "llama";
  return model;
}

}  // namespace tokensieve::formats
