// Tables of a tokenizer (lib/native.ts).
#pragma once

#include <napi.h>

namespace tokensieve::addon {

// byteTable(strings, types | null): Int32Array
Napi::Value make_byte_table(const Napi::CallbackInfo& info);
// pieces(written, types, byteLevel): { bytes, offsets, glue }
Napi::Value make_pieces(const Napi::CallbackInfo& info);

}  // namespace tokensieve::addon
