#include "engine/card_check.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/half.h"
#include "engine/card_trial.h"

namespace tokensieve {

namespace {

using kernels::Backend;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{120};

// ---- products -----------------------------------------------------------------------------------------------------

constexpr DType kWeights[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1,
                              DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k};

struct Matrix {
  DType type;
  int rows, cols;
  std::vector<float> plain;  // [rows][cols]
  Buffer packed;

  kernels::PackedMatrix of_card() const { return {type, rows, cols, packed.data()}; }
};

void put_half(uint8_t* to, float x) {
  const uint16_t half = float_to_f16(x);
  std::memcpy(to, &half, sizeof half);
}

// Any codes, under scales (and minima) of an order.
std::vector<uint8_t> blocks_of(Trial& t, DType type, size_t count) {
  std::vector<uint8_t> data(row_bytes(type, count));
  if (traits(type).block == 1) {
    std::vector<float> x(count);
    for (float& one : x) one = t.uniform();
    t.exact.quantize(type, x.data(), count, data.data(), t.alone);
    return data;
  }
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(128 + 128 * static_cast<double>(t.uniform()));
  const bool minimum = type == DType::q4_1 || type == DType::q5_1 || type == DType::q4_k || type == DType::q5_k;
  for (size_t at = 0; at < data.size(); at += static_cast<size_t>(traits(type).bytes)) {
    put_half(&data[at + (type == DType::q6_k ? 208 : 0)], 0.005f + 0.015f * t.uniform());
    if (minimum) put_half(&data[at + 2], 0.05f * t.uniform());
  }
  return data;
}

Matrix matrix_of(Trial& t, DType type, int rows, int cols) {
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(cols);
  const std::vector<uint8_t> blocks = blocks_of(t, type, count);
  Matrix m{type, rows, cols, std::vector<float>(count),
           Buffer(t.card.packed_bytes(type, rows, cols), true, t.card.memory)};
  t.exact.dequantize(type, blocks.data(), count, m.plain.data(), t.alone);
  t.card.pack(type, blocks.data(), rows, cols, nullptr, 0, rows, m.packed.data());
  return m;
}

// out [n][rows] = x w^T by the reference; sizes: of the products' absolute values.
std::vector<float> product(Trial& t, const Matrix& m, std::vector<float> w, std::vector<float> x, bool sizes) {
  if (sizes) {
    for (std::vector<float>* all : {&w, &x}) {
      for (float& one : *all) one = std::fabs(one);
    }
  }
  const size_t cols = static_cast<size_t>(m.cols), rows = static_cast<size_t>(m.rows), n = x.size() / cols;
  std::vector<float> out(n * rows);
  kernels::Prepared p;
  p.n = static_cast<int>(n), p.cols = m.cols, p.f32 = x.data(), p.ld = cols;
  t.exact.matmul({DType::f32, m.rows, m.cols, reinterpret_cast<const uint8_t*>(w.data())}, p, nullptr, false,
                 out.data(), rows, t.alone);
  return out;
}

void round_all(std::vector<float>& all) {
  for (float& one : all) one = bf16_to_float(float_to_bf16(one));
}

// By the contract of kernels/matmul.h: activations, with more than 8 tokens weights too, are rounded to bf16. Scales
// that are added up before they meet a code may round another way there.
// Seconds that the card took the second time.
double try_product(Trial& t, const Matrix& m, int n) {
  const size_t cols = static_cast<size_t>(m.cols), rows = static_cast<size_t>(m.rows), count = static_cast<size_t>(n);
  Numbers<float> x = t.numbers(count * cols), out = t.nothing(count * rows), bias = t.numbers(rows);
  Numbers<uint16_t> halves(count * (cols + 1), t.card.memory);
  kernels::Prepared p;
  p.n = n, p.cols = m.cols, p.f32 = x.data(), p.ld = cols;
  if (t.card.activation_kind(m.type) == kernels::Kind::bf16) {
    p.bf16 = halves.data();
    t.card.prepare(p, t.team);
  }
  const std::string what = std::string("a product of ") + traits(m.type).name + " weights with " + std::to_string(n) +
                           " tokens (" + std::to_string(m.rows) + " x " + std::to_string(m.cols) + ")";
  Clock::time_point start;
  for (const bool more : {false, true}) {
    start = Clock::now();
    t.card.matmul(m.of_card(), p, bias.data(), more, out.data(), rows, t.team);
    t.wait(what);
  }
  const double time = std::chrono::duration<double>(Clock::now() - start).count();
  std::vector<float> w = m.plain, rounded(x.begin(), x.end());
  if (m.type != DType::f32) {
    round_all(rounded);
    if (n > 8) round_all(w);
  }
  std::vector<float> want = product(t, m, w, rounded, false), size = product(t, m, w, rounded, true);
  for (size_t i = 0; i < want.size(); i++) want[i] = 2 * (want[i] + bias[i % rows]), size[i] = 2 * size[i] + 2;
  compare(what, out.data(), want.data(), size.data(), want.size(), {n > 8 ? 4e-4 : 1e-5, 0});
  return time;
}

void try_embedding(Trial& t, const Matrix& m) {
  const int32_t ids[] = {0, m.rows - 1, 16};
  const size_t cols = static_cast<size_t>(m.cols);
  Numbers<float> out = t.nothing(3 * cols);
  t.card.embedding(m.of_card(), ids, 3, 1, out.data(), t.team);
  const std::string what = std::string("embedding of ") + traits(m.type).name + " weights";
  t.wait(what);
  for (size_t i = 0; i < 3; i++) {
    const float* const row = m.plain.data() + static_cast<size_t>(ids[i]) * cols;
    compare(what, out.data() + i * cols, row, row, cols, {0, 0});
  }
}

// What matmul gives in the order of its rows, gated by the reference.
void try_gated(Trial& t, const Matrix& m, int n) {
  if (t.card.matmul_gate == nullptr) return;
  const size_t cols = static_cast<size_t>(m.cols), rows = static_cast<size_t>(m.rows), half = rows / 2;
  const size_t count = static_cast<size_t>(n);
  Numbers<float> x = t.numbers(count * cols), plain = t.nothing(count * rows), gated = t.nothing(count * half);
  Numbers<uint16_t> halves(count * (cols + 1), t.card.memory);
  kernels::Prepared p;
  p.n = n, p.cols = m.cols, p.f32 = x.data(), p.ld = cols, p.bf16 = halves.data();
  t.card.prepare(p, t.team);
  t.card.matmul(m.of_card(), p, nullptr, false, plain.data(), rows, t.team);
  t.card.matmul_gate(m.of_card(), p, nullptr, kernels::Activation::silu, gated.data(), half, t.team);
  const std::string what = "a gated product with " + std::to_string(n) + " tokens";
  t.wait(what);
  std::vector<float> sides(count * rows), want(count * half);
  for (size_t i = 0; i < count * rows; i++) {
    const size_t row = i % rows, place = row / 32 * 16 + row % 16;
    sides[i - row + place + (row % 32 < 16 ? 0 : half)] = plain[i];
  }
  t.exact.gate(kernels::Activation::silu, sides.data(), rows, n, static_cast<int>(half), want.data(), half, t.alone);
  compare(what, gated.data(), want.data(), want.data(), want.size(), {1e-5, 1e-6});
}

void try_products(Trial& t) {
  double time = 0;
  for (const DType type : kWeights) {
    const Matrix m = matrix_of(t, type, 20, traits(type).block == 256 ? 256 : 160);
    try_embedding(t, m);
    for (const int n : {3, 12}) time = try_product(t, m, n);
  }
  const Matrix gated = matrix_of(t, DType::q8_0, 64, 160);
  for (const int n : {3, 12}) try_gated(t, gated, n);
  // Enough blocks for large tiles: where a hundred times the work is nothing.
  if (time < 0.003) try_product(t, matrix_of(t, DType::q4_0, 95 * 256 + 1, 32), 9);
}

// ---- rows, in a step that becomes a graph --------------------------------------------------------------------------

constexpr int kRows = 5, kWidth = 96, kRotated = 32;
constexpr size_t kCount = size_t{kRows} * kWidth, kGated = kCount / 2;

// What a step makes of rows x: normed, rotated, gated, and where the largest is.
struct Steps {
  Numbers<float> normed, rotated, gated;
  Numbers<int32_t> largest;
};

struct StepInput {
  Numbers<float> x, weight, cos, sin;
};

// picked [kRows]: rows of x.
void run_step(const Backend& backend, const StepInput& in, const std::vector<int32_t>& picked, Steps& to, Team& team) {
  const size_t width = kWidth;
  backend.gather(in.x.data(), width, kWidth, picked.data(), kRows, to.rotated.data(), width, team);
  backend.rms_norm(to.rotated.data(), width, kRows, 1, kWidth, in.weight.data(), 1e-5f, in.x.data(), to.normed.data(),
                   width, team);
  backend.gather(to.normed.data(), width, kWidth, picked.data(), kRows, to.rotated.data(), width, team);
  backend.rope(to.rotated.data(), width, kRows, kWidth / kRotated, kRotated, kRotated, in.cos.data(), in.sin.data(),
               team);
  backend.hadamard(to.rotated.data(), width, kRows, kWidth / kRotated, kRotated, team);
  backend.gate(kernels::Activation::silu, to.rotated.data(), width, kRows, kWidth / 2, to.gated.data(), width / 2,
               team);
  backend.top_k(to.gated.data(), static_cast<int>(kGated), 1, kernels::Order::index, to.largest.data(), nullptr, team);
}

Steps room_for_steps(Trial& t) {
  return {t.nothing(kCount), t.nothing(kCount), t.nothing(kGated), Numbers<int32_t>(1, t.card.memory)};
}

// The same step three times with other numbers: alone, as a graph that is made, and as one that is there.
void try_steps(Trial& t) {
  const size_t angles = size_t{kRows} * kRotated / 2;
  StepInput in{t.numbers(kCount), t.numbers(kWidth), t.numbers(angles), t.numbers(angles)};
  Steps mine = room_for_steps(t), others = room_for_steps(t);
  for (int round = 0; round < 3; round++) {
    const std::string what = "step " + std::to_string(round + 1) + " of three";
    std::vector<float> news(kCount);
    for (float& one : news) one = t.uniform();
    std::vector<int32_t> picked;
    for (int i = 0; i < kRows; i++) picked.push_back((2 * i + round) % kRows);
    const float *normed, *rotated, *gated;
    {
      const HeldBack held(t.device, true);
      t.device.send(news.data(), in.x.data(), kCount);
      run_step(t.card, in, picked, mine, t.team);
      normed = t.device.fetch(mine.normed.data(), kCount), rotated = t.device.fetch(mine.rotated.data(), kCount),
      gated = t.device.fetch(mine.gated.data(), kGated);
    }
    t.wait(what);
    if (std::memcmp(in.x.data(), news.data(), sizeof(float) * kCount) != 0)
      throw Error(Code::device, what + ": numbers that were sent to it did not arrive");
    run_step(t.exact, in, picked, others, t.alone);
    const Tolerance most{1e-5, 1e-5};
    compare(what + ", norm", normed, others.normed.data(), normed, kCount, most);
    compare(what + ", rotation", rotated, others.rotated.data(), rotated, kCount, most);
    compare(what + ", gate", gated, others.gated.data(), gated, kGated, most);
    const auto largest = std::max_element(gated, gated + kGated) - gated;
    if (mine.largest[0] != largest)
      throw Error(Code::device, what + ": the largest number was said to be number " + std::to_string(mine.largest[0]) +
                                    ", it is number " + std::to_string(largest));
  }
}

}  // namespace

std::string check_card(const Backend& card) noexcept {
  try {
    Trial t(card);
    try_steps(t);
    try_products(t);
    try_attentions(t);
    return "";
  } catch (const Error& e) {
    return e.what();
  } catch (const std::bad_alloc&) {
    return "has no memory for a check of its kernels";
  } catch (const std::exception& e) {
    return e.what();
  }
}

namespace {

// A thread of its own, which is left behind where the card does not answer: nobody can stop it.
std::string check_patiently(const Backend& card) {
  struct Outcome {
    std::mutex mutex;
    std::condition_variable ended;
    bool known = false;
    std::string fault;
  };
  const auto outcome = std::make_shared<Outcome>();
  const auto check = [outcome, &card] {
    std::string fault = check_card(card);
    const std::lock_guard<std::mutex> lock(outcome->mutex);
    outcome->fault = std::move(fault), outcome->known = true;
    outcome->ended.notify_all();
  };
  try {
    std::thread(check).detach();
  } catch (const std::system_error&) {
    check();
  }
  std::unique_lock<std::mutex> lock(outcome->mutex);
  if (outcome->ended.wait_for(lock, kPatience, [&] { return outcome->known; })) return outcome->fault;
  return "did not end a check of its kernels in " + std::to_string(kPatience.count()) + " seconds";
}

struct Known {
  std::once_flag once;
  std::string fault;
};

}  // namespace

const std::string& card_fault(int card) {
  static std::array<Known, 16> all;  // as many cards as there may be
  Known& known = all.at(static_cast<size_t>(card));
  std::call_once(known.once, [&] {
    const Backend* const backend = kernels::cuda_backend(card);
    if (backend == nullptr) return;  // whoever asks for it is told that it is not there
    const std::string fault = check_patiently(*backend);
    if (!fault.empty()) known.fault = "\"" + std::string(kernels::cuda_device_name(card)) + "\" " + fault;
  });
  return known.fault;
}

}  // namespace tokensieve
