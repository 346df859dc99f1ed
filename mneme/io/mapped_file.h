// A read-only file in memory. Regular files only: folders, FIFOs, devices and dangling links are
// refused by name, without waiting. Tests: mapped_file_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mneme {

class MappedFile {
 public:
  // kMap shares the page cache and costs resident bytes only for pages that are read; if another
  // process truncates the file meanwhile, reading beyond its new end is fatal (SIGBUS). kCopy reads
  // the file whole into private memory and is immune.
  enum class Mode { kMap, kCopy };

  MappedFile() = default;
  // Throws Error naming `path` and what is wrong with it.
  explicit MappedFile(const std::string& path, Mode mode = Mode::kMap);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

  // Drops the whole pages within [data, data + bytes), a part of this file, from this process; they
  // are read again where they are needed. Returns their bytes; 0 and no effect for a copied file.
  int64_t release(const std::byte* data, int64_t bytes) const;

 private:
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
  Mode mode_ = Mode::kMap;
};

}  // namespace mneme
