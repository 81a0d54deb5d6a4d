// The one exception of the native side. Becomes TokensieveError in JavaScript (addon/worker.h).
#pragma once

#include <stdexcept>
#include <string>

namespace tokensieve {

// The codes that users see, with the prefix ERR_ (lib/errors.ts has the table).
enum class Code {
  file_not_found,
  file_format,
  file_truncated,
  unsupported,
  context_full,
  out_of_memory,
  plan,
  closed,
  device,
  aborted,   // turned into the signal's reason by the facade, never shown
  internal,  // a broken promise between our own parts
};

const char* code_name(Code code) noexcept;  // "ERR_FILE_FORMAT"

class Error : public std::runtime_error {
 public:
  // message: "[kernel or file] what was expected, what came"
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const noexcept { return code_; }

 private:
  Code code_;
};

}  // namespace tokensieve
