// SHA-256 (FIPS 180-4), for fingerprints of models and sessions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tokensieve {

class Sha256 {
 public:
  explicit Sha256(bool instructions = true) noexcept : instructions_(instructions) {}  // false: by the loop alone

  void update(const void* data, size_t size) noexcept;
  void number(uint64_t value) noexcept;  // eight bytes, little endian
  std::string hex();                     // 64 digits; ends the hash

 private:
  void block(const uint8_t* p) noexcept;

  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t waiting_[64] = {};
  uint64_t total_ = 0;
  bool instructions_;
};

}  // namespace tokensieve
