// Pictures of 8 bits to another size, as the processors that vision models were trained with do it: separable, filters
// that are stretched where the picture shrinks, weights of 22 bits, first across, then down, each rounded to 8 bits.
// Down comes first where the height loses more than twice what the width does, as in Pillow from version 13 on; what an
// older one makes of such a picture differs by a step of a few pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace tokensieve {

enum class Filter : uint8_t { bilinear, bicubic, lanczos };

struct Resize {
  int width = 0, height = 0;
  Filter filter = Filter::bicubic;
  float box[4] = {0, 0, 0, 0};  // the part that is read: left, top, right, bottom
};

// pixels: [height][width][3]. Throws plan (a box that is not inside the picture), out_of_memory.
std::vector<uint8_t> resample(const kernels::Backend& backend, const uint8_t* pixels, int width, int height,
                              const Resize& to, Team& team);

}  // namespace tokensieve
