#include "kernels/traced.h"

#include <array>
#include <utility>

#include "core/trace.h"

namespace tokensieve::kernels {

namespace {

constexpr int kSlots = sizeof(BackendList::items) / sizeof(const Backend*);

// The team is the last argument of those that have one.
int threads_of(const Team& team) { return team.size(); }
template <class T>
int threads_of(const T&) {
  return 1;
}
template <class T, class U, class... A>
int threads_of(const T&, const U& next, const A&... rest) {
  return threads_of(next, rest...);
}

template <class... A>
void describe(trace::Span& span, int threads, const A&...) {
  span.about(threads, 0, 0);
}
template <class... A>
void describe(trace::Span& span, int threads, const PackedMatrix& w, const A&...) {
  span.about(threads, w.rows, w.cols);
}

// A function of its own for each kernel of each backend: a table holds plain pointers, which carry no context.
template <int slot, class Function, Function Backend::* kernel>
struct Traced;

template <int slot, class... A, void (*Backend::*kernel)(A...) noexcept>
struct Traced<slot, void (*)(A...) noexcept, kernel> {
  static inline const char* name = nullptr;
  static inline void (*inner)(A...) noexcept = nullptr;

  static void call(A... arguments) noexcept {
    trace::Span span(trace::Kind::kernel, name);
    if (trace::on()) describe(span, threads_of(arguments...), arguments...);
    inner(arguments...);
  }
  static void put(Backend& table, const char* as) {
    if (table.*kernel == nullptr) return;
    name = as, inner = table.*kernel;
    table.*kernel = call;
  }
};

template <int slot>
Backend make_table(const BackendList& list) {
  if (slot >= list.count) return {};
  Backend table = *list.items[slot];
#define TS_TRACED(kernel) Traced<slot, decltype(table.kernel), &Backend::kernel>::put(table, #kernel)
  TS_TRACED(prepare);
  TS_TRACED(norm_prepare);
  TS_TRACED(matmul);
  TS_TRACED(matmul_gate);
  TS_TRACED(gate_prepare);
  TS_TRACED(screen);
  TS_TRACED(embedding);
  TS_TRACED(rms_norm);
  TS_TRACED(layer_norm);
  TS_TRACED(rope);
  TS_TRACED(hadamard);
  TS_TRACED(gate);
  TS_TRACED(activate);
  TS_TRACED(softmax);
  TS_TRACED(top_k);
  TS_TRACED(gather);
  TS_TRACED(merge);
  TS_TRACED(partners);
  TS_TRACED(attention);
  TS_TRACED(attention_probe);
  TS_TRACED(resample_across);
  TS_TRACED(resample_down);
#undef TS_TRACED
  return table;
}

template <int... slots>
std::array<Backend, kSlots> make_tables(std::integer_sequence<int, slots...>) {
  const BackendList& list = runnable_backends();
  return {make_table<slots>(list)...};
}

}  // namespace

const Backend& traced_backend(const Backend& backend) noexcept {
  static const std::array<Backend, kSlots> tables = make_tables(std::make_integer_sequence<int, kSlots>());
  const BackendList& list = runnable_backends();
  for (int i = 0; i < list.count; ++i) {
    if (list.items[i] == &backend) return tables[static_cast<size_t>(i)];
  }
  return backend;
}

}  // namespace tokensieve::kernels
