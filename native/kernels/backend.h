// One function pointer a kernel. A backend is chosen once, by what the machine can run or by TOKENSIEVE_ISA.
#pragma once

#include "kernels/activate.h"
#include "kernels/attention.h"
#include "kernels/gate.h"
#include "kernels/hadamard.h"
#include "kernels/kv_page.h"
#include "kernels/layer_norm.h"
#include "kernels/limits.h"
#include "kernels/matmul.h"
#include "kernels/partners.h"
#include "kernels/quantize.h"
#include "kernels/resample.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "kernels/softmax.h"
#include "kernels/top_k.h"

namespace tokensieve::kernels {

struct Backend {
  const char* name;  // "reference", "avx2", "avx512-vnni", "avx512-vnni-bf16", "neon", "neon-dotprod"
  Quantize quantize;
  Dequantize dequantize;
  PackedBytes packed_bytes;
  ActivationKind activation_kind;
  Pack pack;
  Prepare prepare;
  Matmul matmul;
  Embedding embedding;
  RmsNorm rms_norm;
  LayerNorm layer_norm;
  Rope rope;
  Hadamard hadamard;
  Gate gate;
  Activate activate;
  Softmax softmax;
  TopK top_k;
  Gather gather;
  Merge merge;
  PartnersScratch partners_scratch;
  Partners partners;
  PageBytes page_bytes;
  StoreRows store_rows;
  StoreKiviKeys store_kivi_keys;
  LoadRows load_rows;
  CopyRow copy_row;
  AttentionScratch attention_scratch;
  Attention attention;
  AttentionProbeScratch attention_probe_scratch;
  AttentionProbe attention_probe;
  ResampleAcross resample_across;
  ResampleDown resample_down;
  Peak peak;
  ReadMemory read_memory;
};

const Backend& reference_backend() noexcept;

// The backends compiled into this binary that this machine can run, best first; the last is the reference.
struct BackendList {
  const Backend* items[8];
  int count;
};
const BackendList& runnable_backends() noexcept;
const Backend* backend_by_name(const char* name) noexcept;  // null where absent or not runnable

}  // namespace tokensieve::kernels
