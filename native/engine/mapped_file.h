// A file mapped read-only into memory. The file must not shrink while it is mapped: reading past its new end is a fault
// that no check can catch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tokensieve {

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // UTF-8; throws Error(file_not_found | file_format | out_of_memory)
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const noexcept { return path_; }
  Bytes bytes() const noexcept { return bytes_; }
  bool holds(const uint8_t* p) const noexcept { return p >= bytes_.data && p < bytes_.data + bytes_.size; }
  // begin: in the file. Whole pages of this range leave our memory; what lies behind the file's end does not.
  void release(const uint8_t* begin, size_t size) const noexcept;

 private:
  std::string path_;
  Bytes bytes_;
};

bool is_folder(const std::string& path);  // UTF-8
bool is_there(const std::string& path);

}  // namespace tokensieve
