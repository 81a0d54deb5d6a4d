// Between the translations of config.json: typed look-ups in it, and the part that describes a vision tower.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "engine/json.h"
#include "engine/weights_formats.h"

namespace tokensieve::formats {

class ConfigReader {
 public:
  explicit ConfigReader(const std::string& name) : name_(name) {}

 protected:
  const json::Node* find(const json::Node& in, const char* key, json::Kind kind, const char* expected) const;
  // 0: it must be there
  uint64_t natural(const json::Node& in, const char* key, uint64_t most, uint64_t fallback) const;
  double positive(const json::Node& in, const char* key, double fallback) const;
  std::string text(const json::Node& in, const char* key, const char* fallback) const;

  const std::string& name_;
};

// config.json of LLaVA -> keys of a clip GGUF.
void translate_vision(const json::Node& root, const std::string& name, std::map<std::string, Value>* metadata);
// "vision_tower.vision_model.encoder.layers.7.mlp.fc1.bias" -> "v.blk.7.ffn_up.bias"; empty where it is none of a tower.
std::string translate_vision_name(std::string_view name);

bool drop_prefix(std::string_view* text, std::string_view prefix);

struct Name {
  const char *from, *to, *gemma;  // gemma: where it differs
};
const char* look_up(const Name* names, size_t count, std::string_view from, bool gemma);
// "7.mlp.fc1.bias" -> "7.", the new name of "mlp.fc1", ".bias"; empty where it has none.
std::string translate_in_layer(const Name* names, size_t count, std::string_view rest, bool gemma);

}  // namespace tokensieve::formats
