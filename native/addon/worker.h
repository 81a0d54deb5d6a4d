// One AsyncWorker for everything that leaves the event loop, and the translation of native errors.
#pragma once

#include <napi.h>

#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"

namespace tokensieve::addon {

// TokensieveError's code travels as the `code` of a plain Error (lib/errors.ts makes the class).
inline Napi::Error to_js(Napi::Env env, Code code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code_name(code)));
  return error;
}

// Runs a synchronous piece of native work; an Error becomes a JS exception with a code.
template <class F>
auto guarded(Napi::Env env, F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const Error& e) {
    throw to_js(env, e.code(), e.what());
  } catch (const std::bad_alloc&) {
    throw to_js(env, Code::out_of_memory, "[memory] expected more memory to be free");
  }
}

// work: off the event loop, may throw Error. finish: on it, result to JS. keep: JS objects that must live until then.
// settled: on the event loop before the promise settles, whatever the outcome.
template <class Result>
class PromiseWorker : public Napi::AsyncWorker {
 public:
  PromiseWorker(Napi::Env env, std::function<Result()> work, std::function<Napi::Value(Napi::Env, Result&)> finish,
                std::vector<Napi::Object> keep, std::function<void()> settled = {})
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        finish_(std::move(finish)),
        settled_(std::move(settled)) {
    for (const Napi::Object& o : keep) keep_.push_back(Napi::Persistent(o));
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    try {
      result_ = std::make_unique<Result>(work_());
    } catch (const Error& e) {
      code_ = e.code();
      SetError(e.what());
    } catch (const std::bad_alloc&) {
      code_ = Code::out_of_memory;
      SetError("[memory] expected more memory to be free");
    }
  }
  void OnOK() override {
    if (settled_) settled_();
    try {
      deferred_.Resolve(finish_(Env(), *result_));
    } catch (const Napi::Error& e) {
      deferred_.Reject(e.Value());
    }
  }
  void OnError(const Napi::Error& e) override {
    if (settled_) settled_();
    deferred_.Reject(to_js(Env(), code_, e.Message()).Value());
  }

 private:
  Napi::Promise::Deferred deferred_;
  std::function<Result()> work_;
  std::function<Napi::Value(Napi::Env, Result&)> finish_;
  std::function<void()> settled_;
  std::vector<Napi::ObjectReference> keep_;
  std::unique_ptr<Result> result_;
  Code code_ = Code::internal;
};

template <class T>
inline Napi::TypedArrayOf<T> copy_array(Napi::Env env, const T* data, size_t n) {
  Napi::TypedArrayOf<T> out = Napi::TypedArrayOf<T>::New(env, n);
  if (n > 0) std::memcpy(out.Data(), data, n * sizeof(T));
  return out;
}
template <class T, class Allocator>
inline Napi::TypedArrayOf<T> copy_array(Napi::Env env, const std::vector<T, Allocator>& v) {
  return copy_array(env, v.data(), v.size());
}

}  // namespace tokensieve::addon
