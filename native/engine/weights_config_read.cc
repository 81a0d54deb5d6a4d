// Typed look-ups in config.json, and names by table.
#include <cmath>

#include "engine/weights_config.h"

namespace tokensieve::formats {

using json::Kind;
using json::Node;
using json::quoted;

const Node* ConfigReader::find(const Node& in, const char* key, Kind kind, const char* expected) const {
  const Node* node = in.find(key);
  if (node && node->kind != kind) throw bad(name_, "expected " + quoted(key) + " to be " + expected);
  return node;
}

uint64_t ConfigReader::natural(const Node& in, const char* key, uint64_t most, uint64_t fallback) const {
  const Node* node = find(in, key, Kind::number, "a number");
  if (!node && fallback) return fallback;
  if (!node) throw bad(name_, "expected " + quoted(key) + ", but the file does not say it");
  if (node->number >= 1 && node->number <= static_cast<double>(most) && node->number == std::floor(node->number)) {
    return static_cast<uint64_t>(node->number);
  }
  throw bad(name_, "expected " + quoted(key) + " to be a whole number from 1 to " + std::to_string(most) + ", got " +
                       std::to_string(node->number));
}

double ConfigReader::positive(const Node& in, const char* key, double fallback) const {
  const Node* node = find(in, key, Kind::number, "a number");
  if (!node && fallback > 0) return fallback;
  if (node && node->number > 0) return node->number;
  throw bad(name_, "expected " + quoted(key) + " to be a number above 0" +
                       (node ? ", got " + std::to_string(node->number) : ", but the file does not say it"));
}

std::string ConfigReader::text(const Node& in, const char* key, const char* fallback) const {
  const Node* node = find(in, key, Kind::string, "a string");
  return node ? node->text : fallback;
}

const char* look_up(const Name* names, size_t count, std::string_view from, bool gemma) {
  for (size_t i = 0; i < count; i++) {
    if (from == names[i].from) return gemma && names[i].gemma ? names[i].gemma : names[i].to;
  }
  return nullptr;
}

bool drop_prefix(std::string_view* text, std::string_view prefix) {
  if (text->substr(0, prefix.size()) != prefix) return false;
  text->remove_prefix(prefix.size());
  return true;
}

std::string translate_in_layer(const Name* names, size_t count, std::string_view rest, bool gemma) {
  const size_t digits = rest.find_first_not_of("0123456789"), dot = rest.rfind('.');
  if (digits == 0 || digits > 4 || digits == std::string_view::npos || rest[digits] != '.' || dot <= digits) return "";
  const std::string_view kind = rest.substr(dot + 1);
  if (kind != "weight" && kind != "bias") return "";
  const char* to = look_up(names, count, rest.substr(digits + 1, dot - digits - 1), gemma);
  if (!to) return "";
  return std::string(rest.substr(0, digits)) + "." + to + "." + std::string(kind);
}

}  // namespace tokensieve::formats
