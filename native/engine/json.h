// A strict reader of JSON (RFC 8259) for files of strangers. It pulls one value after the other and keeps nothing, so
// that a header of any size costs no memory; small files can be read whole into a Node. Errors are Error(file_format).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tokensieve::json {

enum class Kind { null, boolean, number, string, array, object };

class Reader {
 public:
  static constexpr int kDepth = 64;                   // nested arrays and objects
  static constexpr size_t kLongest = size_t{1} << 20;  // bytes of a string

  // text must live as long as the reader; name stands in front of every message
  Reader(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {}

  Kind peek();  // what the next value is
  void begin_object();
  bool next_member(std::string* key);  // false: the object is over
  void begin_array();
  bool next_element();                 // false: the array is over
  std::string string();
  double number();
  uint64_t natural();                  // a whole number >= 0 without fraction or exponent
  bool boolean();
  void null();
  void skip();                         // any value
  void end();                          // nothing but white space may follow
  [[noreturn]] void fail(const std::string& expected);

 private:
  char look();                         // the next character that is not white space; 0 at the end
  void take(char c, const char* expected);
  void literal(std::string_view word);
  bool more(char close);
  std::string_view number_text();
  void escape(std::string* out);
  uint32_t hex4();

  std::string_view text_;
  std::string name_;
  size_t at_ = 0;
  int depth_ = 0;
  bool first_ = false;                 // the array or object just begun has had no value yet
};

struct Node {
  Kind kind = Kind::null;
  bool boolean = false;
  double number = 0;
  std::string text;
  std::vector<Node> items;
  std::map<std::string, Node> members;

  const Node* find(const std::string& key) const;  // null where absent or JSON's null
};

// The whole text as one value; a key that comes twice is an error.
Node parse(std::string_view text, const std::string& name);

// For messages: `text`, shortened, with every byte outside of printable ASCII as '?'.
std::string quoted(std::string_view text);

}  // namespace tokensieve::json
