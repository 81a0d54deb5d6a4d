// Where the heads of slabs are whose memory the host does not reach, by the slab's address. Any thread may ask for the
// head of a slab that it holds a page of.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tokensieve {

// null: no such slab. base: a multiple of kSlabBytes, as in page_allocator.h.
void* head_beside(const uint8_t* base) noexcept;
bool put_head_beside(const uint8_t* base, void* head) noexcept;  // false: no memory
void drop_head_beside(const uint8_t* base) noexcept;

}  // namespace tokensieve
