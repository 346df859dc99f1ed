#include "tests/support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "mneme/core/error.h"
#include "mneme/core/half.h"

namespace mneme::testing {
namespace {

template <typename Stored, typename Result, typename Convert>
std::vector<Result> convert(const TensorView& tensor, Convert to_result) {
  std::vector<Result> values(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, tensor.data + i * sizeof(Stored), sizeof(Stored));
    values[i] = static_cast<Result>(to_result(stored));
  }
  return values;
}

template <typename Stored>
std::vector<int64_t> to_integers(const TensorView& tensor) {
  return convert<Stored, int64_t>(tensor, [](Stored value) { return value; });
}

std::string golden_folder() {
  const char* folder = std::getenv("MNEME_GOLDEN_DIR");
  return folder != nullptr && *folder != '\0' ? folder : MNEME_SOURCE_DIR "/tests/golden";
}

}  // namespace

std::string GoldenCase::kind() const { return name_.substr(0, name_.find('_')); }

bool GoldenCase::has(const std::string& part) const {
  return file_->find(name_ + "/" + part) != nullptr;
}

const TensorView& GoldenCase::tensor(const std::string& part) const {
  const TensorView* tensor = file_->find(name_ + "/" + part);
  MNEME_CHECK(tensor != nullptr, file_->origin(), ": no tensor ", name_, "/", part);
  return *tensor;
}

const std::vector<int64_t>& GoldenCase::shape(const std::string& part) const {
  return tensor(part).shape;
}

std::vector<float> GoldenCase::floats(const std::string& part) const {
  const TensorView& from = tensor(part);
  switch (from.dtype) {
    case DType::kF32:
      return convert<float, float>(from, [](float value) { return value; });
    case DType::kF64:
      return convert<double, float>(from, [](double value) { return value; });
    case DType::kF16:
      return convert<uint16_t, float>(from, f16_to_float);
    case DType::kBF16:
      return convert<uint16_t, float>(from, bf16_to_float);
    default:
      fail(file_->origin(), ": ", from.name, " is ", dtype_name(from.dtype), ", expected floats");
  }
}

std::vector<double> GoldenCase::doubles(const std::string& part) const {
  const TensorView& from = tensor(part);
  MNEME_CHECK(from.dtype == DType::kF64, file_->origin(), ": ", from.name, " is ",
              dtype_name(from.dtype), ", expected F64");
  return convert<double, double>(from, [](double value) { return value; });
}

std::vector<int64_t> GoldenCase::integers(const std::string& part) const {
  const TensorView& from = tensor(part);
  switch (from.dtype) {
    case DType::kI8:
      return to_integers<int8_t>(from);
    case DType::kI16:
      return to_integers<int16_t>(from);
    case DType::kI32:
      return to_integers<int32_t>(from);
    case DType::kI64:
      return to_integers<int64_t>(from);
    case DType::kU8:
    case DType::kBool:
      return to_integers<uint8_t>(from);
    case DType::kU16:
      return to_integers<uint16_t>(from);
    case DType::kU32:
      return to_integers<uint32_t>(from);
    case DType::kU64:
      return to_integers<uint64_t>(from);
    default:
      fail(file_->origin(), ": ", from.name, " is ", dtype_name(from.dtype), ", expected integers");
  }
}

std::vector<std::string> GoldenCase::parts() const {
  std::vector<std::string> found;
  const std::string prefix = name_ + "/";
  for (const TensorView& tensor : file_->tensors()) {
    if (tensor.name.starts_with(prefix)) found.push_back(tensor.name.substr(prefix.size()));
  }
  return found;
}

std::unique_ptr<GoldenFile> GoldenFile::open(const std::string& stem) {
  const std::string path = golden_folder() + "/" + stem + ".safetensors";
  if (!std::filesystem::exists(path)) {
    std::printf("golden file not there: %s\n", path.c_str());
    return nullptr;
  }
  return open_path(path);
}

std::unique_ptr<GoldenFile> GoldenFile::open_path(const std::string& path) {
  auto golden = std::make_unique<GoldenFile>();
  golden->file_ = SafetensorsFile::open(path);
  // The map of metadata is sorted, hence the cases are.
  for (const auto& [name, text] : golden->file_->metadata()) {
    if (name == "provenance" || name == "format") continue;
    const auto json = nlohmann::json::parse(text, nullptr, false);
    MNEME_CHECK(json.is_object(), path, ": case ", name, " is not a JSON object");
    GoldenCase one;
    one.file_ = golden->file_.get();
    one.name_ = name;
    one.config_ = json.value("config", nlohmann::json::object());
    const auto tolerance = json.value("tolerance", nlohmann::json::object());
    one.abs_tolerance_ = tolerance.value("abs", 0.0);
    one.rel_tolerance_ = tolerance.value("rel", 0.0);
    golden->cases_.push_back(std::move(one));
  }
  return golden;
}

void expect_close(const std::vector<float>& got, const std::vector<float>& want, double abs,
                  double rel, const std::string& where) {
  ASSERT_EQ(got.size(), want.size()) << where;
  size_t worst = 0;
  double worst_excess = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    double excess = 0;
    if (std::isnan(got[i]) || std::isnan(want[i]) || std::isinf(got[i]) || std::isinf(want[i])) {
      const bool same = got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]));
      if (!same) excess = HUGE_VAL;
    } else {
      const double difference = std::fabs(double{got[i]} - double{want[i]});
      excess = difference - (abs + rel * std::fabs(double{want[i]}));
    }
    if (excess > worst_excess) {
      worst = i;
      worst_excess = excess;
    }
  }
  EXPECT_EQ(worst_excess, 0) << where << ": worst element " << worst << " of " << got.size()
                             << ": got " << got[worst] << ", want " << want[worst]
                             << ", allowed abs " << abs << " + rel " << rel;
}

}  // namespace mneme::testing
