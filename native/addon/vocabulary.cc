// byteTable and pieces of lib/native.ts.
#include <cstring>

#include "addon/arguments.h"
#include "addon/vocabulary.h"
#include "engine/vocabulary.h"

namespace tokensieve::addon {

namespace {

PackedStrings need_strings(const Napi::Value& v) {
  const Napi::Object o = need_object(v, "strings");
  Napi::Uint8Array bytes = need_array<uint8_t>(o.Get("bytes"), "bytes");
  const Napi::Value given = o.Get("offsets");
  if (!given.IsTypedArray() || given.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array)
    wrong(v.Env(), "offsets", "an Uint32Array");
  Napi::Uint32Array offsets = given.As<Napi::Uint32Array>();
  if (offsets.ElementLength() == 0) wrong(v.Env(), "offsets", "one more than there are strings");
  const PackedStrings strings = {bytes.Data(), offsets.Data(), offsets.ElementLength() - 1};
  for (size_t i = 0; i < strings.count; i++) {
    if (strings.offsets[i] > strings.offsets[i + 1]) wrong(v.Env(), "offsets", "an ascending list");
  }
  if (strings.offsets[strings.count] > bytes.ElementLength() || strings.count > (size_t{1} << 28))
    wrong(v.Env(), "offsets", "a list within the bytes");
  return strings;
}

const uint8_t* need_types(const Napi::Value& v, size_t count) {
  Napi::Uint8Array types = need_array<uint8_t>(v, "types");
  if (types.ElementLength() != count) wrong(v.Env(), "types", "one for each string");
  return types.Data();
}

template <class Array, class T>
Array array_of(Napi::Env env, const T* data, size_t count) {
  Array out = Array::New(env, count);
  if (count) std::memcpy(out.Data(), data, count * sizeof(T));
  return out;
}

}  // namespace

Napi::Value make_byte_table(const Napi::CallbackInfo& info) {
  const PackedStrings strings = need_strings(info[0]);
  const std::vector<int32_t> slots =
      byte_table(strings, info[1].IsNull() ? nullptr : need_types(info[1], strings.count));
  return array_of<Napi::Int32Array>(info.Env(), slots.data(), slots.size());
}

Napi::Value make_pieces(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const PackedStrings written = need_strings(info[0]);
  const Pieces pieces = read_pieces(written, need_types(info[1], written.count), is_true(info[2]));
  Napi::Object out = Napi::Object::New(env);
  out.Set("bytes", array_of<Napi::Uint8Array>(env, pieces.bytes.data(), pieces.bytes.size()));
  out.Set("offsets", array_of<Napi::Uint32Array>(env, pieces.offsets.data(), pieces.offsets.size()));
  out.Set("glue", array_of<Napi::Uint8Array>(env, pieces.glue.data(), pieces.glue.size()));
  return out;
}

}  // namespace tokensieve::addon
