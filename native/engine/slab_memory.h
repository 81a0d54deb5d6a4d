// Memory of slabs, from the system: kSlabBytes each and aligned to that, which is a huge page of most of them.
#pragma once

#include <cstddef>

#include "engine/page_allocator.h"

namespace tokensieve {

constexpr size_t kMinGranule = 4096;

size_t granule();  // bytes that can be given back: the system's page, at least kMinGranule

void* map_slab();  // zeros, in small pages; null where there is no more
void unmap_slab(void* slab);
bool drop_memory(void* start, size_t bytes);  // whole granules go back, the addresses stay

// A fresh slab as one huge page: one fault, where small pages are 512 and are copied in the end. False where it stays in
// small ones, as memory is too scattered or the system was told not to.
bool begin_huge(void* slab);
// A full slab becomes one huge page: reading a long cache would else miss the TLB at every page. Before Linux 6.1: not.
void make_huge(void* slab);
// Small pages again, from the next granule on that is touched: else the system fills up what was given back.
void make_small(void* slab);

}  // namespace tokensieve
