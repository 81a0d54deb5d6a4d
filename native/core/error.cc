#include "core/error.h"

namespace tokensieve {

const char* code_name(Code code) noexcept {
  switch (code) {
    case Code::file_not_found: return "ERR_FILE_NOT_FOUND";
    case Code::file_format: return "ERR_FILE_FORMAT";
    case Code::file_truncated: return "ERR_FILE_TRUNCATED";
    case Code::unsupported: return "ERR_UNSUPPORTED";
    case Code::context_full: return "ERR_CONTEXT_FULL";
    case Code::out_of_memory: return "ERR_OUT_OF_MEMORY";
    case Code::plan: return "ERR_PLAN";
    case Code::closed: return "ERR_CLOSED";
    case Code::device: return "ERR_DEVICE";
    case Code::aborted: return "ERR_ABORTED";
    case Code::internal: break;
  }
  return "ERR_INTERNAL";
}

}  // namespace tokensieve
