// The table of the reference backend, in the order of Backend's members.
#include "kernels/reference/functions.h"

namespace tokensieve::kernels {

const Backend& reference_backend() noexcept {
  static constexpr Backend table = {
      "reference",
      reference::quantize,
      reference::dequantize,
      reference::packed_bytes,
      reference::activation_kind,
      reference::pack,
      reference::prepare,
      reference::matmul,
      reference::matmul_gate,
      reference::embedding,
      reference::rms_norm,
      reference::layer_norm,
      reference::rope,
      reference::hadamard,
      reference::gate,
      reference::activate,
      reference::softmax,
      reference::top_k,
      reference::gather,
      reference::merge,
      reference::partners_scratch,
      reference::partners,
      reference::page_bytes,
      reference::store_rows,
      reference::store_kivi_keys,
      reference::load_rows,
      reference::copy_row,
      reference::attention_scratch,
      reference::attention,
      reference::attention_probe_scratch,
      reference::attention_probe,
      reference::resample_across,
      reference::resample_down,
      reference::peak,
      reference::read_memory,
      nullptr,
  };
  return table;
}

}  // namespace tokensieve::kernels
