#include <cstddef>

#include "kernel_test.h"

using tokensieve::kernels::backend_by_name;
using tokensieve::kernels::runnable_backends;

namespace {
constexpr const char* kNames[] = {"avx512-vnni-bf16", "avx512-vnni", "avx2", "neon-dotprod", "neon", "reference"};
}

TEST("what runs here is what the processor says, best first, the reference last") {
  const tokensieve::kernels::BackendList& list = runnable_backends();
  int found = 0;
  for (const char* const name : kNames) {
    if (!check::runs_here(name)) continue;
    CHECK(found < list.count && std::strcmp(list.items[found]->name, name) == 0);
    ++found;
  }
  CHECK_EQ(found, list.count);
  CHECK(std::strcmp(list.items[list.count - 1]->name, "reference") == 0);
  CHECK(&runnable_backends() == &list);
}

TEST("a backend is found by its name, an unknown one is not") {
  for (const char* const name : kNames) {
    const tokensieve::kernels::Backend* const backend = backend_by_name(name);
    CHECK_EQ(backend != nullptr, check::runs_here(name));
    if (backend) CHECK(std::strcmp(backend->name, name) == 0);
  }
  for (const char* const name : {"", "avx", "avx512", "AVX2"}) CHECK(backend_by_name(name) == nullptr);
}

TEST("every table is complete and is not another's") {
  const tokensieve::kernels::BackendList& list = runnable_backends();
  for (int i = 0; i < list.count; ++i) {
    void* members[offsetof(tokensieve::kernels::Backend, memory) / sizeof(void*)];
    std::memcpy(members, list.items[i], sizeof members);
    int missing = 0;
    for (void* const member : members) missing += member == nullptr;
    // Those two are, in the reference, the kernels that they are made of.
    const bool reference = std::strcmp(list.items[i]->name, "reference") == 0;
    CHECK_EQ(list.items[i]->norm_prepare == nullptr, reference);
    CHECK_EQ(list.items[i]->gate_prepare == nullptr, reference);
    CHECK_EQ(missing, reference ? 2 : 0);
    CHECK(list.items[i]->memory == nullptr);  // the process's own
    for (int j = 0; j < i; ++j) CHECK(list.items[i]->matmul != list.items[j]->matmul);
  }
}
