// Safetensors files: a reader that maps the file and trusts nothing in it, and a writer that
// replaces atomically. Format: u64 header length, JSON header {name: {dtype, shape, data_offsets},
// "__metadata__": {string: string}}, tensor bytes without holes in the order of their offsets.
// Tensors lie at multiples of their element size only if the file's writer saw to it, as ours does.
// Tests: safetensors_test.cc (one story per corrupt file), safetensors_writer_test.cc,
// safetensors_fuzz.cc.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/core/tensor_view.h"
#include "mneme/io/mapped_file.h"

namespace mneme {

class SafetensorsFile : public TensorSource {
 public:
  // Maps and checks `path`. Throws Error naming the file, the tensor and the fault.
  static std::unique_ptr<SafetensorsFile> open(const std::string& path);
  // Reads from memory that outlives the object; `origin` is used in messages.
  static std::unique_ptr<SafetensorsFile> parse(const std::byte* data, int64_t size,
                                                std::string origin);

  const TensorView* find(std::string_view name) const override;
  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const std::string& origin() const override { return origin_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  SafetensorsFile() = default;

  MappedFile file_;
  std::string origin_;
  std::vector<TensorView> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

// Writes tensors (any order, unique names; data must be valid) and metadata to `path` through
// io/atomic_file.h: the old file or the whole new one, never a part. Throws Error on a full disk, a
// read-only folder, a bad name or shape.
void write_safetensors(const std::string& path, const std::vector<TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace mneme
