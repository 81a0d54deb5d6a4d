// The functions of the reference backend, one for each member of Backend.
#pragma once

#include "kernels/backend.h"

namespace tokensieve::kernels::reference {

namespace {
template <class Pointer>
struct Pointee;
template <class Signature>
struct Pointee<Signature*> {
  using Type = Signature;
};
template <class Pointer>
using Function = typename Pointee<Pointer>::Type;
}  // namespace

Function<Quantize> quantize;
Function<Dequantize> dequantize;
Function<PackedBytes> packed_bytes;
Function<ActivationKind> activation_kind;
Function<Pack> pack;
Function<Prepare> prepare;
Function<Matmul> matmul;
Function<MatmulGate> matmul_gate;
Function<Embedding> embedding;
Function<RmsNorm> rms_norm;
Function<LayerNorm> layer_norm;
Function<Rope> rope;
Function<Hadamard> hadamard;
Function<Gate> gate;
Function<Activate> activate;
Function<Softmax> softmax;
Function<TopK> top_k;
Function<Gather> gather;
Function<Merge> merge;
Function<PartnersScratch> partners_scratch;
Function<Partners> partners;
Function<PageBytes> page_bytes;
Function<StoreRows> store_rows;
Function<StoreKiviKeys> store_kivi_keys;
Function<LoadRows> load_rows;
Function<CopyRow> copy_row;
Function<AttentionScratch> attention_scratch;
Function<Attention> attention;
Function<AttentionProbeScratch> attention_probe_scratch;
Function<AttentionProbe> attention_probe;
Function<ResampleAcross> resample_across;
Function<ResampleDown> resample_down;
Function<Peak> peak;
Function<ReadMemory> read_memory;

}  // namespace tokensieve::kernels::reference
