// Checks of what crosses from JavaScript. The facade has checked its users already: a failure here is a mistake of ours, but never undefined behaviour.
#pragma once

#include <napi.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace tokensieve::addon {

[[noreturn]] inline void wrong(Napi::Env env, const char* name, const char* what) {
  throw Napi::TypeError::New(env, std::string("Expected ") + what + " for `" + name + "`");
}

inline Napi::Object need_object(const Napi::Value& v, const char* name) {
  if (!v.IsObject()) wrong(v.Env(), name, "an object");
  return v.As<Napi::Object>();
}
inline std::string need_string(const Napi::Value& v, const char* name) {
  if (!v.IsString()) wrong(v.Env(), name, "a string");
  return v.As<Napi::String>().Utf8Value();
}
inline double need_number(const Napi::Value& v, const char* name) {
  if (!v.IsNumber()) wrong(v.Env(), name, "a number");
  return v.As<Napi::Number>().DoubleValue();
}
inline int need_int(const Napi::Value& v, const char* name, int min, int max) {
  const double x = need_number(v, name);
  if (!(x >= min && x <= max) || x != std::floor(x))
    wrong(v.Env(), name, ("an integer from " + std::to_string(min) + " to " + std::to_string(max)).c_str());
  return static_cast<int>(x);
}
inline bool is_true(const Napi::Value& v) { return v.IsBoolean() && v.As<Napi::Boolean>().Value(); }

template <class T>
inline napi_typedarray_type array_type();
template <>
inline napi_typedarray_type array_type<float>() {
  return napi_float32_array;
}
template <>
inline napi_typedarray_type array_type<double>() {
  return napi_float64_array;
}
template <>
inline napi_typedarray_type array_type<int32_t>() {
  return napi_int32_array;
}
template <>
inline napi_typedarray_type array_type<uint8_t>() {
  return napi_uint8_array;
}

template <class T>
inline Napi::TypedArrayOf<T> need_array(const Napi::Value& v, const char* name) {
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != array_type<T>())
    wrong(v.Env(), name, "a typed array of the right kind");
  return v.As<Napi::TypedArrayOf<T>>();
}
template <class T>
inline std::vector<T> copy_of(const Napi::Value& v, const char* name) {
  const Napi::TypedArrayOf<T> a = need_array<T>(v, name);
  const T* data = const_cast<Napi::TypedArrayOf<T>&>(a).Data();
  return std::vector<T>(data, data + a.ElementLength());
}
inline DType need_dtype(const Napi::Value& v, const char* name) {
  DType type;
  if (!dtype_from_name(need_string(v, name).c_str(), &type)) wrong(v.Env(), name, "the name of a data type");
  return type;
}

}  // namespace tokensieve::addon
