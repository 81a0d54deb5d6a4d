#include "addon/file.h"

#include <cstring>
#include <utility>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/worker.h"

namespace tokensieve::addon {

namespace {

// { bytes, offsets }: all strings one after another, string i at [offsets[i], offsets[i + 1]); a vocabulary costs no string in JavaScript.
Napi::Value packed(Napi::Env env, const Strings& strings) {
  const uint8_t* end = strings.data;
  const auto length_at = [](const uint8_t* at) {
    uint64_t length;
    std::memcpy(&length, at, 8);
    return static_cast<size_t>(length);
  };
  for (uint64_t i = 0; i < strings.count; i++) end += 8 + length_at(end);
  const size_t count = static_cast<size_t>(strings.count);
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, static_cast<size_t>(end - strings.data) - 8 * count);
  Napi::Uint32Array offsets = Napi::Uint32Array::New(env, count + 1);
  uint8_t* const out = bytes.Data();
  uint32_t* const starts = offsets.Data();
  const uint8_t* from = strings.data;
  size_t at = 0;
  for (size_t i = 0; i < count; i++) {
    const size_t length = length_at(from);
    starts[i] = static_cast<uint32_t>(at);
    if (length) std::memcpy(out + at, from + 8, length);
    from += 8 + length, at += length;
  }
  starts[count] = static_cast<uint32_t>(at);
  Napi::Object packed = Napi::Object::New(env);
  packed.Set("bytes", bytes);
  packed.Set("offsets", offsets);
  return packed;
}

Napi::Value to_value(Napi::Env env, const Value& value) {
  if (const bool* b = std::get_if<bool>(&value)) return Napi::Boolean::New(env, *b);
  if (const int64_t* i = std::get_if<int64_t>(&value)) return Napi::Number::New(env, static_cast<double>(*i));
  if (const uint64_t* u = std::get_if<uint64_t>(&value)) return Napi::Number::New(env, static_cast<double>(*u));
  if (const double* d = std::get_if<double>(&value)) return Napi::Number::New(env, *d);
  if (const std::string* s = std::get_if<std::string>(&value)) return Napi::String::New(env, *s);
  if (const auto* doubles = std::get_if<std::vector<double>>(&value)) return copy_array(env, *doubles);
  if (const auto* ints = std::get_if<std::vector<int64_t>>(&value)) {
    Napi::Float64Array out = Napi::Float64Array::New(env, ints->size());
    for (size_t i = 0; i < ints->size(); i++) out.Data()[i] = static_cast<double>((*ints)[i]);
    return out;
  }
  return packed(env, std::get<Strings>(value));
}

}  // namespace

Napi::Function JsFile::define(Napi::Env env) {
  return DefineClass(env, "File",
                     {
                         InstanceAccessor<&JsFile::bytes>("bytes"),
                         InstanceAccessor<&JsFile::fingerprint>("fingerprint"),
                         InstanceMethod<&JsFile::metadata>("metadata"),
                         InstanceMethod<&JsFile::metadata_keys>("metadataKeys"),
                         InstanceMethod<&JsFile::tensors>("tensors"),
                         InstanceMethod<&JsFile::close>("close"),
                     });
}

JsFile::JsFile(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsFile>(info) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "Expected a file to be made by open");
  weights_ = *info[0].As<Napi::External<std::shared_ptr<Weights>>>().Data();
}

JsFile* JsFile::from(const Napi::Value& v) {
  const Napi::Object o = need_object(v, "file");
  if (!o.InstanceOf(AddonData::of(v.Env()).file_class.Value())) wrong(v.Env(), "file", "an open file");
  return Unwrap(o);
}

std::shared_ptr<Weights> JsFile::share(Napi::Env env) {
  get(env);
  return weights_;
}
const Weights& JsFile::get(Napi::Env env) {
  if (!weights_) throw to_js(env, Code::closed, "[file] expected an open file, this one was closed");
  return *weights_;
}

Napi::Value JsFile::bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(get(info.Env()).file_bytes()));
}
Napi::Value JsFile::fingerprint(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), get(info.Env()).fingerprint());
}
Napi::Value JsFile::metadata(const Napi::CallbackInfo& info) {
  const auto& all = get(info.Env()).metadata();
  const auto found = all.find(need_string(info[0], "key"));
  return found == all.end() ? info.Env().Undefined() : to_value(info.Env(), found->second);
}
Napi::Value JsFile::metadata_keys(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (const auto& entry : get(info.Env()).metadata()) out.Set(out.Length(), entry.first);
  return out;
}
Napi::Value JsFile::tensors(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (const auto& entry : get(info.Env()).tensors()) {
    Napi::Object o = Napi::Object::New(info.Env());
    o.Set("name", entry.first);
    o.Set("type", traits(entry.second.type).name);
    Napi::Array shape = Napi::Array::New(info.Env());
    for (int64_t d : entry.second.shape) shape.Set(shape.Length(), static_cast<double>(d));
    o.Set("shape", shape);
    out.Set(out.Length(), o);
  }
  return out;
}

void JsFile::close(const Napi::CallbackInfo&) { weights_.reset(); }

Napi::Value open(const Napi::CallbackInfo& info) {
  const std::string path = need_string(info[0], "path");
  auto* worker = new PromiseWorker<std::shared_ptr<Weights>>(
      info.Env(), [path] { return std::shared_ptr<Weights>(open_weights(path)); },
      [](Napi::Env env, std::shared_ptr<Weights>& w) {
        return AddonData::of(env).file_class.New({Napi::External<std::shared_ptr<Weights>>::New(env, &w)});
      },
      {});
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

}  // namespace tokensieve::addon
