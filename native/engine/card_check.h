// Whether a card computes what the contracts of the kernels promise: asked before layers are placed on it.
#pragma once

#include <string>

#include "kernels/backend.h"

namespace tokensieve {

// Kernels of each kind on small shapes, against the reference: products of every type of weights with few tokens and
// with many, attention over every type of cache, rows that are stored, normed, rotated and gated, in a step that becomes
// a graph. Empty, or in plain words the first thing that was otherwise. Milliseconds where the kernels are compiled for
// the card. Not for the event loop.
std::string check_card(const kernels::Backend& card) noexcept;

// The same of a card of this machine, found out once a process. A card that does not answer in two minutes is said to.
const std::string& card_fault(int card);

}  // namespace tokensieve
