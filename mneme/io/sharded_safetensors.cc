#include "mneme/io/sharded_safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "mneme/core/error.h"
#include "mneme/io/quote.h"
#include "mneme/io/utf8.h"

namespace mneme {
namespace {

using Json = nlohmann::json;
using WeightMap = std::map<std::string, std::string, std::less<>>;  // tensor to shard

constexpr int64_t kLargestIndex = 100'000'000;
constexpr int kDeepestIndex = 64;

// Takes "weight_map" from the outer object and lets everything else pass, without building a tree.
class IndexReader : public nlohmann::json_sax<Json> {
 public:
  IndexReader(const std::string& origin, WeightMap& map) : origin_(origin), map_(map) {}

  bool found() const { return found_; }

  bool start_object(size_t) override {
    if (awaiting_map_) {
      awaiting_map_ = false;
      in_map_ = found_ = true;
    } else {
      other("an object");
    }
    return descend();
  }
  bool start_array(size_t) override { return other("an array") && descend(); }
  bool end_object() override {
    if (in_map_) in_map_ = false;
    --depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& text) override {
    if (in_map_) {
      MNEME_CHECK(!map_.contains(text), origin_, ": duplicate tensor ", quote(text));
      tensor_ = text;
    } else if (depth_ == 1 && text == "weight_map") {
      MNEME_CHECK(!found_, origin_, ": duplicate weight_map");
      awaiting_map_ = true;
    }
    return true;
  }
  bool string(std::string& text) override {
    if (!in_map_) return other("text");
    map_.emplace(tensor_, text);
    return true;
  }
  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("a bool"); }
  bool number_integer(number_integer_t) override { return other("a number"); }
  bool number_unsigned(number_unsigned_t) override { return other("a number"); }
  bool number_float(number_float_t, const string_t&) override { return other("a number"); }
  bool binary(binary_t&) override { return other("binary data"); }
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception&) override {
    fail(origin_, ": not JSON: unexpected ", quote(token), " at byte ", position);
  }

 private:
  // A value that is neither the map nor the name of a shard.
  bool other(const char* what) const {
    MNEME_CHECK(!awaiting_map_, origin_, ": weight_map must be an object, got ", what);
    MNEME_CHECK(!in_map_, origin_, ": tensor ", quote(tensor_),
                ": expected the name of a file, got ", what);
    return true;
  }
  bool descend() {
    MNEME_CHECK(++depth_ <= kDeepestIndex, origin_, ": nested deeper than ", kDeepestIndex);
    return true;
  }

  const std::string& origin_;
  WeightMap& map_;
  std::string tensor_;
  int depth_ = 0;
  bool awaiting_map_ = false, in_map_ = false, found_ = false;
};

WeightMap read_index(const std::string& path) {
  const MappedFile file(path, MappedFile::Mode::kCopy);
  MNEME_CHECK(file.size() <= kLargestIndex, path, ": an index of ", file.size(), " bytes, at most ",
              kLargestIndex);
  const std::string_view text(reinterpret_cast<const char*>(file.data()),
                              static_cast<size_t>(file.size()));
  MNEME_CHECK(is_utf8(text), path, ": not UTF-8");
  // The parser takes a NUL byte for the end of its input.
  MNEME_CHECK(text.find('\0') == std::string_view::npos, path, ": not JSON: a NUL byte at ",
              text.find('\0'));
  WeightMap map;
  IndexReader reader(path, map);
  Json::sax_parse(text, &reader);
  MNEME_CHECK(reader.found(), path, ": no weight_map");
  return map;
}

void check_shard_name(const std::string& name, const std::string& tensor,
                      const std::string& origin) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     std::none_of(name.begin(), name.end(), [](char c) {
                       return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
                     });
  MNEME_CHECK(plain, origin, ": tensor ", quote(tensor), ": shard ", quote(name),
              " must be the plain name of a file beside the index");
}

}  // namespace

std::unique_ptr<ShardedSafetensors> ShardedSafetensors::open(const std::string& index_path) {
  const WeightMap map = read_index(index_path);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : map) {
    check_shard_name(shard, tensor, index_path);
    names.insert(shard);
  }
  std::unique_ptr<ShardedSafetensors> model(new ShardedSafetensors);
  model->origin_ = index_path;
  for (const std::string& name : names) model->add_shard(name, map);
  for (const auto& [tensor, shard] : map) {
    MNEME_CHECK(model->find(tensor) != nullptr, index_path, ": tensor ", quote(tensor),
                " is not in its shard ", quote(shard));
  }
  return model;
}

void ShardedSafetensors::add_shard(const std::string& name, const WeightMap& weight_map) {
  const std::string folder = origin_.substr(0, origin_.rfind('/') + 1);
  shards_.push_back(SafetensorsFile::open(folder + name));
  for (const TensorView& tensor : shards_.back()->tensors()) {
    const auto listed = weight_map.find(tensor.name);
    MNEME_CHECK(listed != weight_map.end(), folder, name, ": tensor ", quote(tensor.name),
                " is not in the index ", origin_);
    MNEME_CHECK(listed->second == name, folder, name, ": tensor ", quote(tensor.name),
                " belongs into shard ", quote(listed->second), " by the index");
    index_.emplace(tensor.name, tensors_.size());
    tensors_.push_back(tensor);
  }
}

const TensorView* ShardedSafetensors::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace mneme
