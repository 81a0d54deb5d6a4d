// Moves and packing go through the functions of kv_page.cc, row by row or page by page as there.
#include "kernels/kv_change.h"

#include <cstring>

#include "kernels/cpu/functions.h"

namespace tokensieve::kernels::TS_ISA {

#include "kernels/kv_change.inc"

}  // namespace tokensieve::kernels::TS_ISA
