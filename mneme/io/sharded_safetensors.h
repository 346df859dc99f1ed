// A model whose tensors are spread over several safetensors files: an index
// (model.safetensors.index.json, {"weight_map": {tensor: file}}) and its shards in the same folder.
// Tests: sharded_safetensors_test.cc.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/core/tensor_view.h"
#include "mneme/io/safetensors.h"

namespace mneme {

class ShardedSafetensors : public TensorSource {
 public:
  // Opens the index and every shard that it names. Shards are plain names of files beside the
  // index: a path, absolute or with a folder in it, is refused (a shard may be a link, as download
  // caches make them). Index and shards must agree: each tensor of the index lies in its shard, and
  // each tensor of a shard is in the index. Throws Error naming the file, the tensor and the fault.
  static std::unique_ptr<ShardedSafetensors> open(const std::string& index_path);

  const TensorView* find(std::string_view name) const override;
  // Shard after shard, in the order of their names.
  const std::vector<TensorView>& tensors() const override { return tensors_; }
  // The path of the index.
  const std::string& origin() const override { return origin_; }
  size_t shard_count() const { return shards_.size(); }

 private:
  ShardedSafetensors() = default;
  void add_shard(const std::string& name,
                 const std::map<std::string, std::string, std::less<>>& weight_map);

  std::string origin_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<TensorView> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace mneme
