// One function pointer a kernel. A backend is chosen once, by what the machine can run or by TOKENSIEVE_ISA.
#pragma once

#include "core/memory.h"
#include "kernels/activate.h"
#include "kernels/attention.h"
#include "kernels/gate.h"
#include "kernels/hadamard.h"
#include "kernels/kv_change.h"
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
#include "kernels/screen.h"
#include "kernels/softmax.h"
#include "kernels/top_k.h"

namespace tokensieve::kernels {

struct Backend {
  const char* name;  // "reference", "avx2", "avx512-vnni", "avx512-vnni-bf16", "neon", "neon-dotprod", "cuda:0"
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
  ChangePages change_pages;
  AttentionScratch attention_scratch;
  Attention attention;
  AttentionProbeScratch attention_probe_scratch;
  AttentionProbe attention_probe;
  ResampleAcross resample_across;
  ResampleDown resample_down;
  MatmulGate matmul_gate;
  NormPrepare norm_prepare;  // null, as the next, on devices and in the reference
  GatePrepare gate_prepare;
  PlaneSizes plane_bytes;  // null, as the next two, where matrices have no planes
  PackPlanes pack_planes;
  Screen screen;
  Peak peak;
  ReadMemory read_memory;
  const Memory* memory;  // of a device; null: the process's own, and a call is done when it returns
};

const Backend& reference_backend() noexcept;

// Of the processor: compiled into this binary and runnable here, best first; the last is the reference.
struct BackendList {
  const Backend* items[8];
  int count;
};
const BackendList& runnable_backends() noexcept;
const Backend* backend_by_name(
    const char* name) noexcept;  // of those, and of devices; null where absent or not runnable

// NVIDIA cards that can be used, 0 to 8, each with a table of its own ("cuda:0", "cuda:1").
int cuda_devices() noexcept;
const Backend* cuda_backend(int device) noexcept;  // null where there is none
const char* cuda_device_name(int device) noexcept;

}  // namespace tokensieve::kernels
