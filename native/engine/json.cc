#include "engine/json.h"

#include <cmath>
#include <limits>
#include <locale>
#include <sstream>

#include "core/error.h"

namespace tokensieve::json {

namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string* out, uint32_t c) {
  const auto byte = [out](uint32_t b) { out->push_back(static_cast<char>(b)); };
  if (c < 0x80) return byte(c);
  if (c < 0x800) {
    byte(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      byte(0xe0 | c >> 12);
    } else {
      byte(0xf0 | c >> 18);
      byte(0x80 | (c >> 12 & 63));
    }
    byte(0x80 | (c >> 6 & 63));
  }
  byte(0x80 | (c & 63));
}

}  // namespace

void Reader::fail(const std::string& expected) {
  const std::string got = at_ < text_.size() ? quoted(text_.substr(at_, 1)) : "the end";
  throw Error(Code::file_format,
              "[" + name_ + "] expected " + expected + " at byte " + std::to_string(at_) + " of the JSON, got " + got);
}

char Reader::look() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
    at_++;
  }
  return at_ < text_.size() ? text_[at_] : '\0';
}

void Reader::take(char c, const char* expected) {
  if (look() != c) fail(expected);
  at_++;
}

void Reader::literal(std::string_view word) {
  look();
  if (text_.substr(at_, word.size()) != word) fail(std::string(word));
  at_ += word.size();
}

Kind Reader::peek() {
  switch (look()) {
    case '{': return Kind::object;
    case '[': return Kind::array;
    case '"': return Kind::string;
    case 't':
    case 'f': return Kind::boolean;
    case 'n': return Kind::null;
    default:
      if (at_ < text_.size() && (text_[at_] == '-' || digit(text_[at_]))) return Kind::number;
      fail("a value");
  }
}

void Reader::begin_object() {
  take('{', "an object");
  if (++depth_ > kDepth) fail("at most " + std::to_string(kDepth) + " nested values");
  first_ = true;
}

void Reader::begin_array() {
  take('[', "an array");
  if (++depth_ > kDepth) fail("at most " + std::to_string(kDepth) + " nested values");
  first_ = true;
}

bool Reader::more(char close) {
  const bool first = first_;
  first_ = false;
  if (look() == close) {
    at_++;
    depth_--;
    return false;
  }
  if (!first) take(',', close == '}' ? "a comma or the end of the object" : "a comma or the end of the array");
  return true;
}

bool Reader::next_member(std::string* key) {
  if (!more('}')) return false;
  *key = string();
  take(':', "a colon");
  return true;
}

bool Reader::next_element() { return more(']'); }

uint32_t Reader::hex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++, at_++) {
    const char c = at_ < text_.size() ? text_[at_] : '\0', lower = static_cast<char>(c | 32);
    if (digit(c)) {
      value = value * 16 + static_cast<uint32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value * 16 + static_cast<uint32_t>(lower - 'a' + 10);
    } else {
      fail("four hexadecimal digits");
    }
  }
  return value;
}

void Reader::escape(std::string* out) {
  static constexpr char kFrom[] = "\"\\/bfnrt", kTo[] = "\"\\/\b\f\n\r\t";
  const char c = at_ < text_.size() ? text_[at_++] : '\0';
  for (int i = 0; i < 8; i++) {
    if (c == kFrom[i]) return out->push_back(kTo[i]);
  }
  if (c != 'u') fail("an escape sequence");
  uint32_t code = hex4();
  if (code >= 0xd800 && code < 0xdc00) {
    if (text_.substr(at_, 2) != "\\u") fail("the second half of a surrogate pair");
    at_ += 2;
    const uint32_t low = hex4();
    if (low < 0xdc00 || low > 0xdfff) fail("the second half of a surrogate pair");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  } else if (code >= 0xdc00 && code < 0xe000) {
    fail("the first half of a surrogate pair");
  }
  append_utf8(out, code);
}

std::string Reader::string() {
  take('"', "a string");
  std::string out;
  while (true) {
    if (at_ >= text_.size()) fail("the end of a string");
    const char c = text_[at_];
    if (static_cast<unsigned char>(c) < 32) fail("a string without control characters");
    if (out.size() > kLongest) fail("a string of at most a mebibyte");
    at_++;
    if (c == '"') return out;
    if (c == '\\') {
      escape(&out);
    } else {
      out.push_back(c);
    }
  }
}

std::string_view Reader::number_text() {
  look();
  const size_t begin = at_;
  const auto is = [this](char c) { return at_ < text_.size() && text_[at_] == c; };
  const auto digits = [this] {
    const size_t from = at_;
    while (at_ < text_.size() && digit(text_[at_])) at_++;
    if (at_ == from) fail("a digit");
  };
  if (is('-')) at_++;
  if (is('0')) {
    at_++;
  } else {
    digits();
  }
  if (is('.')) {
    at_++;
    digits();
  }
  if (is('e') || is('E')) {
    at_++;
    if (is('+') || is('-')) at_++;
    digits();
  }
  if (at_ - begin > 400) fail("a number of at most 400 digits");
  return text_.substr(begin, at_ - begin);
}

double Reader::number() {
  std::istringstream in{std::string(number_text())};
  in.imbue(std::locale::classic());  // a decimal point, whatever the host's language
  double value = 0;
  if (!(in >> value) || !std::isfinite(value)) fail("a number in the range of a double");
  return value;
}

uint64_t Reader::natural() {
  uint64_t value = 0;
  for (const char c : number_text()) {
    const uint64_t d = static_cast<uint64_t>(c - '0');
    if (!digit(c) || value > (std::numeric_limits<uint64_t>::max() - d) / 10) fail("a whole number of 64 bits");
    value = value * 10 + d;
  }
  return value;
}

bool Reader::boolean() {
  const bool yes = look() == 't';
  literal(yes ? "true" : "false");
  return yes;
}

void Reader::null() { literal("null"); }

void Reader::skip() {
  std::string key;
  switch (peek()) {
    case Kind::object:
      for (begin_object(); next_member(&key);) skip();
      break;
    case Kind::array:
      for (begin_array(); next_element();) skip();
      break;
    case Kind::string: string(); break;
    case Kind::number: number_text(); break;
    case Kind::boolean: boolean(); break;
    case Kind::null: null(); break;
  }
}

void Reader::end() {
  look();
  if (at_ < text_.size()) fail("the end of the file");
}

namespace {

Node read(Reader* reader) {
  Node node;
  std::string key;
  node.kind = reader->peek();
  switch (node.kind) {
    case Kind::object:
      for (reader->begin_object(); reader->next_member(&key);) {
        if (!node.members.try_emplace(key, Node()).second) reader->fail("each key once, not " + quoted(key) + " again");
        node.members[key] = read(reader);
      }
      break;
    case Kind::array:
      for (reader->begin_array(); reader->next_element();) node.items.push_back(read(reader));
      break;
    case Kind::string: node.text = reader->string(); break;
    case Kind::number: node.number = reader->number(); break;
    case Kind::boolean: node.boolean = reader->boolean(); break;
    case Kind::null: reader->null(); break;
  }
  return node;
}

}  // namespace

const Node* Node::find(const std::string& key) const {
  const auto at = members.find(key);
  return at == members.end() || at->second.kind == Kind::null ? nullptr : &at->second;
}

Node parse(std::string_view text, const std::string& name) {
  Reader reader(text, name);
  Node node = read(&reader);
  reader.end();
  return node;
}

std::string quoted(std::string_view text) {
  std::string out = "`";
  for (const char c : text.substr(0, 64)) out.push_back(c >= 32 && c < 127 ? c : '?');
  return out + (text.size() > 64 ? "…`" : "`");
}

}  // namespace tokensieve::json
