// The type of a function from the type of a pointer to it, for the lists of a backend's functions (declare.inc).
#pragma once

#include "kernels/backend.h"

namespace tokensieve::kernels {

template <class Pointer>
struct Pointee;
template <class Signature>
struct Pointee<Signature*> {
  using Type = Signature;
};
template <class Pointer>
using Function = typename Pointee<Pointer>::Type;

}  // namespace tokensieve::kernels
