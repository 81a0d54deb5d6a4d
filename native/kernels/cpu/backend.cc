// The table of one instruction set, in the order of Backend's members.
#include "kernels/cpu/functions.h"

namespace tokensieve::kernels::TS_ISA {

const Backend& backend() noexcept {
  static constexpr Backend table = {
      TS_ISA_NAME,
      quantize,
      dequantize,
      packed_bytes,
      activation_kind,
      pack,
      prepare,
      matmul,
      matmul_gate,
      embedding,
      rms_norm,
      layer_norm,
      rope,
      hadamard,
      gate,
      activate,
      softmax,
      top_k,
      gather,
      merge,
      partners_scratch,
      partners,
      page_bytes,
      store_rows,
      store_kivi_keys,
      load_rows,
      copy_row,
      attention_scratch,
      attention,
      attention_probe_scratch,
      attention_probe,
      resample_across,
      resample_down,
      peak,
      read_memory,
      nullptr,
  };
  return table;
}

}  // namespace tokensieve::kernels::TS_ISA
