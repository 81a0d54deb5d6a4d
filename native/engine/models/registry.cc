// The architectures, one line each.
#include "engine/loader.h"

namespace tokensieve {

void describe_llama(Loader& loader);
void describe_gemma3(Loader& loader);

namespace {
constexpr Architecture kArchitectures[] = {
    {"llama", describe_llama},
    {"gemma3", describe_gemma3},
};
}  // namespace

const Architecture* find_architecture(const std::string& name) {
  for (const Architecture& a : kArchitectures) {
    if (name == a.name) return &a;
  }
  return nullptr;
}

std::string architecture_names() {
  std::string names;
  for (const Architecture& a : kArchitectures) names += (names.empty() ? "" : ", ") + std::string(a.name);
  return names;
}

}  // namespace tokensieve
