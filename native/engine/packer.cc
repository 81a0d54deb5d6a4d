#include "engine/packer.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace tokensieve {

namespace {
constexpr int kStep = 1 << 15;      // elements that a thread takes at once: a matrix of 192 rows is work for two
constexpr int kReleaseSteps = 64;   // 1 to 8 MB
constexpr size_t kReleaseBytes = size_t{8} << 20;
constexpr ptrdiff_t kGap = 4096;
constexpr size_t kAhead = size_t{16} << 20;
constexpr size_t kDevicePart = size_t{64} << 20;  // which layers of a card go there is not known in one number
}  // namespace

Packer::Packer(const Weights& weights, WeightStore& store, const LoadControl& control,
               bool (*takes)(const std::string& name))
    : weights_(weights), store_(store), control_(control), device_{store.backend, nullptr} {
  for (const auto& entry : weights.tensors()) total_ += takes(entry.first) ? entry.second.bytes : 0;
}

void Packer::place(const Device& device) {
  if (device.memory() != device_.memory()) next_ = nullptr, left_ = 0;
  device_ = device;
}

// Bytes [from, to) of a tensor have been read and are not needed any more.
void Packer::advance(const Tensor& t, size_t from, size_t to) {
  read_[t.data + from] = to - from;
  unreleased_ += to - from;
  if (unreleased_ >= kReleaseBytes) release_read();
  done_ += to - from;
  if (control_.progress) control_.progress(std::min(done_, total_), total_);
}

// In few and long ranges: a call for each tensor would stop the other threads each time.
void Packer::release_read() {
  for (auto first = read_.begin(); first != read_.end();) {
    const uint8_t* end = first->first;
    auto next = first;
    for (; next != read_.end() && next->first - end < kGap; ++next) end = next->first + next->second;
    const_cast<Weights&>(weights_).release(first->first, static_cast<size_t>(end - first->first));
    first = next;
  }
  read_.clear();
  unreleased_ = 0;
}

// Zeroed. As few mappings as can be, in huge pages: decoding reads all of them for every token.
uint8_t* Packer::room(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (bytes > left_) {
    const size_t rest = static_cast<size_t>(total_ - std::min(done_, total_));
    left_ = device_.memory() ? std::max(bytes, kDevicePart) : std::max(bytes, rest + rest / 16);
    store_.buffers.emplace_back(left_, true, device_.memory());
    touched_ = next_ = store_.buffers.back().data();
  }
  uint8_t* const place = next_;
  next_ += bytes, left_ -= bytes;
  store_.weight_bytes += bytes;
  if (next_ > touched_ && !device_.memory()) touch_ahead();
  return place;
}

// What packing fills next, but no more than the rest of the tensors will take.
void Packer::touch_ahead() {
  const size_t rest = std::min({kAhead, left_, static_cast<size_t>(total_ - std::min(done_, total_))});
  Team team(store_.threads, control_.stop);
  uint8_t* const end = std::max(next_, touched_ + rest / kHugePage * kHugePage);
  touch(touched_, end, team);
  touched_ += (static_cast<size_t>(end - touched_) + kHugePage - 1) / kHugePage * kHugePage;
}

const float* Packer::keep(const std::vector<float>& values) {
  uint8_t* const place = room(values.size() * sizeof(float));
  std::memcpy(place, values.data(), values.size() * sizeof(float));
  return reinterpret_cast<const float*>(place);
}

std::vector<float> Packer::read(const Tensor& t) {
  std::vector<float> values(static_cast<size_t>(t.rows() * t.cols()));
  Team alone(1);
  store_.backend->dequantize(t.type, t.data, values.size(), values.data(), alone);
  advance(t, 0, t.bytes);
  return values;
}

const float* Packer::numbers(const Tensor& t) { return keep(read(t)); }

const float* Packer::vector(const std::string& name, int size, bool optional, bool plus_one) {
  const Tensor* t = optional ? find_tensor(weights_, name, {size}) : &need_tensor(weights_, name, {size});
  if (t == nullptr) return nullptr;
  std::vector<float> values = read(*t);
  for (float& value : values) value += plus_one && weights_.norms_plus_one() ? 1.f : 0.f;
  return keep(values);
}

// Packs tensors of one type and input side by side into one matrix; inner tensors have a multiple of 16 rows.
kernels::PackedMatrix Packer::pack(const std::vector<const Tensor*>& tensors,
                                   const std::vector<const std::vector<int32_t>*>& maps) {
  kernels::PackedMatrix m;
  m.type = tensors[0]->type;
  m.cols = static_cast<int>(tensors[0]->cols());
  for (const Tensor* t : tensors) m.rows += static_cast<int>(t->rows());
  const kernels::Backend& backend = *device_.backend;
  uint8_t* const data = room(backend.packed_bytes(m.type, m.rows, m.cols));
  Team team(store_.threads, control_.stop);
  int row = 0;
  for (size_t i = 0; i < tensors.size(); i++) {
    const Tensor* t = tensors[i];
    uint8_t* out = data + backend.packed_bytes(m.type, row, m.cols);
    pack_rows(*t, maps[i], false, out, team);
    row += static_cast<int>(t->rows());
  }
  m.data = data;
  if (device_.queue)
    device_.memory()->prefetch(device_.queue.get(), data, backend.packed_bytes(m.type, m.rows, m.cols));
  return m;
}

namespace {
int step_of(int cols) { return std::max(16, kStep / cols / 16 * 16); }
}  // namespace

void Packer::each_rows(const Tensor& t, int reach, Team& team, const std::function<void(int first, int end)>& pack) {
  const int rows = static_cast<int>(t.rows()), step = step_of(static_cast<int>(t.cols()));
  const size_t row_bytes = t.bytes / static_cast<size_t>(rows);
  for (int from = 0; from < rows; from += reach) {
    const int to = std::min(rows, from + reach);
    team.each((to - from + step - 1) / step,
              [&](int part, int) { pack(from + part * step, std::min(to, from + (part + 1) * step)); });
    if (team.stopped()) throw Error(Code::aborted, "[load] the load was stopped");
    advance(t, static_cast<size_t>(from) * row_bytes, static_cast<size_t>(to) * row_bytes);
  }
}

// A tensor whose rows keep their order leaves our memory as it is packed: of a big one never all is there twice.
void Packer::pack_rows(const Tensor& t, const std::vector<int32_t>* map, bool spread, uint8_t* out, Team& team) {
  const int rows = static_cast<int>(t.rows()), cols = static_cast<int>(t.cols()), step = step_of(cols);
  each_rows(t, map ? rows : std::min(rows, kReleaseSteps * step), team, [&](int from, int end) {
    const int run = spread ? 16 : step;
    for (int first = from; first < end; first += run) {
      uint8_t* const place = out + (spread ? device_.backend->packed_bytes(t.type, first, cols) : 0);
      device_.backend->pack(t.type, t.data, rows, cols, map ? map->data() : nullptr, first, std::min(end, first + run),
                            place);
    }
  });
}

kernels::PackedMatrix Packer::matrix(const std::string& name, int rows, int cols) {
  return pack({&need_tensor(weights_, name, {rows, cols})}, {nullptr});
}

kernels::PackedMatrix Packer::head(const std::string& name, int rows, int cols) {
  const Tensor& t = need_tensor(weights_, name, {rows, cols});
  const kernels::Backend& backend = *device_.backend;
  const kernels::PlaneBytes bytes =
      control_.screen && backend.plane_bytes ? backend.plane_bytes(t.type, rows, cols) : kernels::PlaneBytes{0, 0, 0};
  if (bytes.coarse == 0) return matrix(name, rows, cols);
  uint8_t *const coarse = room(bytes.coarse), *const fine = room(bytes.fine), *const reach = room(bytes.reach);
  const kernels::PackedMatrix m{t.type, rows, cols, coarse, fine, reach};
  Team team(store_.threads, control_.stop);
  each_rows(t, std::min(rows, kReleaseSteps * step_of(cols)), team,
            [&](int first, int end) { backend.pack_planes(t.data, m, first, end, coarse, fine, reach); });
  return m;
}

// In the order of the packed rows; empty where the file has none.
std::vector<float> Packer::bias(const Source& s) {
  const Tensor* t = find_tensor(weights_, s.name + ".bias", {s.rows});
  if (t == nullptr) return {};
  std::vector<float> raw = read(*t), values(raw.size());
  for (size_t i = 0; i < raw.size(); i++) values[i] = raw[s.map ? static_cast<size_t>((*s.map)[i]) : i];
  return values;
}

Linear Packer::linear(const std::vector<Source>& sources, int cols) {
  Linear linear;
  std::vector<const Tensor*> tensors;
  for (const Source& s : sources) tensors.push_back(&need_tensor(weights_, s.name + ".weight", {s.rows, cols}));
  for (size_t i = 0; i < sources.size();) {
    size_t end = i + 1;  // [i, end) share a type: one matrix, one call
    while (end < sources.size() && tensors[end]->type == tensors[i]->type && sources[end - 1].rows % 16 == 0) end++;
    std::vector<const std::vector<int32_t>*> maps;
    std::vector<float> biases;
    bool biased = false;
    for (size_t j = i; j < end; j++) {
      const std::vector<float> own = bias(sources[j]);
      biased = biased || !own.empty();
      maps.push_back(sources[j].map);
      biases.insert(biases.end(), own.begin(), own.end());
      biases.resize(biases.size() + (own.empty() ? static_cast<size_t>(sources[j].rows) : 0));
    }
    Linear::Part part;
    part.w = pack({tensors.begin() + static_cast<long>(i), tensors.begin() + static_cast<long>(end)}, maps);
    part.offset = linear.rows;
    if (biased) part.bias = keep(biases);
    linear.rows += part.w.rows;
    linear.parts.push_back(part);
    i = end;
  }
  return linear;
}

Linear Packer::gated(const Source& gate, const Source& up, int cols) {
  const Tensor& a = need_tensor(weights_, gate.name + ".weight", {gate.rows, cols});
  const Tensor& b = need_tensor(weights_, up.name + ".weight", {up.rows, cols});
  const kernels::Backend& backend = *device_.backend;
  if (backend.matmul_gate == nullptr || a.type != b.type || gate.rows != up.rows || gate.rows % 16 != 0)
    return linear({gate, up}, cols);
  Linear linear;
  linear.rows = 2 * gate.rows;
  linear.gated = true;
  uint8_t* const data = room(backend.packed_bytes(a.type, linear.rows, cols));
  Team team(store_.threads, control_.stop);
  pack_rows(a, nullptr, true, data, team);
  pack_rows(b, nullptr, true, data + backend.packed_bytes(a.type, 16, cols), team);
  const std::vector<float> gate_bias = bias(gate), up_bias = bias(up);
  Linear::Part part;
  part.w = {a.type, linear.rows, cols, data};
  if (!gate_bias.empty() || !up_bias.empty()) {
    std::vector<float> both(static_cast<size_t>(linear.rows));
    for (size_t i = 0; i < both.size(); i++) {
      const std::vector<float>& own = i % 32 < 16 ? gate_bias : up_bias;
      if (!own.empty()) both[i] = own[i / 32 * 16 + i % 16];
    }
    part.bias = keep(both);
  }
  linear.parts.push_back(part);
  return linear;
}

Linear Packer::convolution(const std::string& name, const std::vector<int64_t>& shape) {
  Tensor flat = need_tensor(weights_, name + ".weight", shape);
  if (traits(flat.type).block != 1) {
    throw Error(Code::unsupported,
                "[weights] expected tensor " + name + ".weight in F32, F16 or BF16, got " + traits(flat.type).name);
  }
  const int rows = static_cast<int>(shape[0]);
  flat.shape = {shape[0], flat.rows() * flat.cols() / shape[0]};
  const std::vector<float> own = bias({name, rows, nullptr});
  Linear linear;
  linear.rows = rows;
  linear.parts.push_back({pack({&flat}, {nullptr}), 0, own.empty() ? nullptr : keep(own)});
  return linear;
}

}  // namespace tokensieve
