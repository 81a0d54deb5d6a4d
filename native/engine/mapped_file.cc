#include "engine/mapped_file.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/error.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace tokensieve {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void cannot_map(const std::string& path, const std::error_code& why) {
  if (why == std::errc::not_enough_memory) {
    throw Error(Code::out_of_memory, "[" + path + "] the file cannot be mapped: " + why.message());
  }
  if (why == std::errc::no_such_file_or_directory || why == std::errc::not_a_directory) {
    throw Error(Code::file_not_found, "[" + path + "] there is no such file");
  }
  throw Error(Code::file_not_found, "[" + path + "] the file cannot be read: " + why.message());
}

[[noreturn]] void not_a_file(const std::string& path) {
  throw Error(Code::file_format, "[" + path + "] expected a file, got a folder or a device");
}

#ifdef _WIN32

Bytes map(const std::string& path) {
  const auto last = [] { return std::error_code(static_cast<int>(GetLastError()), std::system_category()); };
  const HANDLE file = CreateFileW(fs::u8path(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                                  OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) cannot_map(path, last());
  LARGE_INTEGER size = {};
  const void* data = nullptr;
  std::error_code error;
  if (GetFileType(file) != FILE_TYPE_DISK || !GetFileSizeEx(file, &size)) {
    CloseHandle(file);
    not_a_file(path);
  }
  if (size.QuadPart > 0) {
    const HANDLE mapping = CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
    if (mapping) data = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    if (!data) error = last();
    if (mapping) CloseHandle(mapping);
  }
  CloseHandle(file);
  if (error) cannot_map(path, error);
  return {static_cast<const uint8_t*>(data), static_cast<size_t>(size.QuadPart)};
}

void unmap(Bytes b) noexcept { UnmapViewOfFile(b.data); }

// Unlocking pages that were never locked "fails", and takes them out of the working set: what is wanted here.
void forget(void* begin, size_t size) noexcept { VirtualUnlock(begin, size); }

constexpr uintptr_t kPage = 4096;

#else

Bytes map(const std::string& path) {
  const auto last = [] { return std::error_code(errno, std::generic_category()); };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not make us wait
  if (file < 0) cannot_map(path, last());
  struct stat info = {};
  if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(file);
    not_a_file(path);
  }
  const size_t size = static_cast<size_t>(info.st_size);
  void* data = size ? mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0) : nullptr;
  const std::error_code error = data == MAP_FAILED ? last() : std::error_code();
  close(file);
  if (error) cannot_map(path, error);
  return {static_cast<const uint8_t*>(data), size};
}

void unmap(Bytes b) noexcept { munmap(const_cast<uint8_t*>(b.data), b.size); }

void forget(void* begin, size_t size) noexcept { madvise(begin, size, MADV_DONTNEED); }

const uintptr_t kPage = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));

#endif

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  if (path.find('\0') != std::string::npos) throw Error(Code::file_not_found, "[file] a path holds a zero byte");
  bytes_ = map(path);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
  if (bytes_.size) unmap(bytes_);
}

void MappedFile::release(const uint8_t* begin, size_t size) const noexcept {
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage;
  size = std::min(size, static_cast<size_t>(bytes_.data + bytes_.size - begin));
  const uintptr_t end = reinterpret_cast<uintptr_t>(begin + size) / kPage * kPage;
  if (end > first) forget(reinterpret_cast<void*>(first), end - first);
}

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(fs::u8path(path), ignored);
}

bool is_there(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::u8path(path), ignored);
}

}  // namespace tokensieve
