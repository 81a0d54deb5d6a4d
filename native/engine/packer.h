// Tensors into packed and checked matrices and vectors, which a WeightStore owns.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/device.h"
#include "engine/linear.h"
#include "engine/weights.h"

namespace tokensieve {

class Packer {
 public:
  // takes: which tensors will be packed, for progress and the size of buffers; the others stay in the file.
  Packer(const Weights& weights, WeightStore& store, const LoadControl& control,
         bool (*takes)(const std::string& name));

  const Weights& weights() const { return weights_; }

  // Where what comes next will be read. Before the first call: the store's backend.
  void place(const Device& device);

  // A vector of f32; null where `optional` and absent. plus_one: Gemma's (1 + w) convention is applied where the file has it open.
  const float* vector(const std::string& name, int size, bool optional = false, bool plus_one = false);
  kernels::PackedMatrix matrix(const std::string& name, int rows, int cols);
  // In two planes (kernels/screen.h) where the backend and the type have them.
  kernels::PackedMatrix head(const std::string& name, int rows, int cols);
  // A tensor of any shape, its numbers in f32.
  const float* numbers(const Tensor& tensor);

  struct Source {
    std::string name;  // without ".weight"
    int rows;
    const std::vector<int32_t>* map;  // packed row r is row map[r], or null
  };
  // bias vectors (name + ".bias") are taken where the file has them.
  Linear linear(const std::vector<Source>& sources, int cols);
  // Gate and up projection as kernel matmul_gate takes them; side by side where the backend has none, where they differ
  // in type or where their rows are no multiple of 16.
  Linear gated(const Source& gate, const Source& up, int cols);
  // The same of one tensor whose inputs have several dimensions. f32, f16 or bf16.
  Linear convolution(const std::string& name, const std::vector<int64_t>& shape);

 private:
  kernels::PackedMatrix pack(const std::vector<const Tensor*>& tensors,
                             const std::vector<const std::vector<int32_t>*>& maps);
  uint8_t* room(size_t bytes);
  void touch_ahead();
  const float* keep(const std::vector<float>& values);
  std::vector<float> read(const Tensor& tensor);
  std::vector<float> bias(const Source& source);
  // spread: 16 rows are followed by room for 16 others.
  void pack_rows(const Tensor& t, const std::vector<int32_t>* map, bool spread, uint8_t* out, Team& team);
  // pack(first, end) for rows of a tensor from a multiple of 16 on, a few at a time; reach: how many before the file's
  // pages are let go.
  void each_rows(const Tensor& t, int reach, Team& team, const std::function<void(int first, int end)>& pack);
  void advance(const Tensor& t, size_t from, size_t to);
  void release_read();

  const Weights& weights_;
  WeightStore& store_;
  const LoadControl& control_;
  uint64_t done_ = 0, total_ = 0;  // bytes of tensors
  std::map<const uint8_t*, size_t> read_;  // bytes from there on that are not needed any more, but still mapped
  size_t unreleased_ = 0;
  Device device_;
  uint8_t* next_ = nullptr;  // what is left of the newest buffer
  uint8_t* touched_ = nullptr;  // where its fresh pages begin
  size_t left_ = 0;
};

}  // namespace tokensieve
