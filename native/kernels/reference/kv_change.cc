#include "kernels/kv_change.h"

#include <cstring>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

#include "kernels/kv_change.inc"

}  // namespace tokensieve::kernels::reference
