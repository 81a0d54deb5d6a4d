#include "core/dtype.h"

#include <cstring>

namespace tokensieve {

namespace {
constexpr DTypeTraits kTraits[] = {
    {"f32", 1, 4},      {"f16", 1, 2},    {"bf16", 1, 2},   {"q8_0", 32, 34},   {"q4_0", 32, 18},
    {"q4_1", 32, 20},   {"q5_0", 32, 22}, {"q5_1", 32, 24}, {"q4_k", 256, 144}, {"q5_k", 256, 176},
    {"q6_k", 256, 210}, {"kivi4", 32, 0}, {"kivi2", 32, 0},
};
}  // namespace

const DTypeTraits& traits(DType type) noexcept { return kTraits[static_cast<int>(type)]; }

bool dtype_from_name(const char* name, DType* type) noexcept {
  for (int i = 0; i < static_cast<int>(sizeof kTraits / sizeof *kTraits); i++) {
    if (std::strcmp(kTraits[i].name, name) == 0) {
      *type = static_cast<DType>(i);
      return true;
    }
  }
  return false;
}

}  // namespace tokensieve
