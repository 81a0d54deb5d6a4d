// 16 lanes of f32 (and int32) on every instruction set: one zmm, two ymm, or four q registers. Each unit that includes this is compiled with its own
// flags; everything here is in an anonymous namespace, so that no unit can share code with another (the linker would merge it).
//
//   F: 16 f32      load, store, set1, zero, add, sub, mul, fma(a, b, c) = a * b + c, min, max, reduce_add, reduce_max, exp2 (2^x, x <= 0 and general), div, sqrt
//                  load_f16, load_bf16, load_i8, load_u4lo / load_u4hi, store_f16, store_bf16, load_part / store_part (n < 16 lanes)
//   I: 16 int32    set1, zero, add, to_f32
//   B: 64 bytes    load; dot(I acc, B w, int32 x4): acc[lane] += sum_{j<4} w[4 lane + j] * x4's byte j (w unsigned, x signed), see kDotBias
//   H: 16 pairs of bf16   dot_bf16(F acc, H w, uint32 pair) where TS_ISA_BF16
#pragma once
