// Golden files: reference inputs, parameters, outputs and gradients of one mechanism, made by its
// official code.
//
// A file is safetensors: tensors "<case>/in.x", "<case>/param.w", "<case>/out.y", "<case>/grad.x";
// metadata holds "provenance" and for each case a JSON text {config, tolerance, note}. Tests walk
// over every case of a file and choose what to run from the case's config, its tensor names and the
// leading word of its name, so that other files of the same kind pass through the same test. The
// folder is MNEME_GOLDEN_DIR, else tests/golden/ of the source tree.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mneme/io/safetensors.h"

namespace mneme::testing {

class GoldenCase {
 public:
  const std::string& name() const { return name_; }
  // The first word: "attn" of "attn_gqa3".
  std::string kind() const;
  const nlohmann::json& config() const { return config_; }
  double abs_tolerance() const { return abs_tolerance_; }
  double rel_tolerance() const { return rel_tolerance_; }

  // `part` is what follows "<case>/": "in.x", "out.words".
  bool has(const std::string& part) const;
  const std::vector<int64_t>& shape(const std::string& part) const;
  // Values converted to the type asked for: any float type to float, any integer type or bool to
  // int64. Throws Error naming the tensor.
  std::vector<float> floats(const std::string& part) const;
  std::vector<int64_t> integers(const std::string& part) const;
  // Of a float64 tensor, as they are.
  std::vector<double> doubles(const std::string& part) const;
  // Every part of the case, in file order.
  std::vector<std::string> parts() const;

 private:
  friend class GoldenFile;
  const TensorView& tensor(const std::string& part) const;

  const SafetensorsFile* file_ = nullptr;
  std::string name_;
  nlohmann::json config_;
  double abs_tolerance_ = 0, rel_tolerance_ = 0;
};

class GoldenFile {
 public:
  // Opens "<folder>/<stem>.safetensors"; null (with the name printed) when the file is not there:
  // the test then calls GTEST_SKIP.
  static std::unique_ptr<GoldenFile> open(const std::string& stem);
  // The same for one file anywhere; throws Error when it is not there.
  static std::unique_ptr<GoldenFile> open_path(const std::string& path);

  const std::vector<GoldenCase>& cases() const { return cases_; }

 private:
  std::unique_ptr<SafetensorsFile> file_;
  std::vector<GoldenCase> cases_;
};

// Fails the current test when got and want differ by more than abs + rel * |want| anywhere; prints
// the worst element, its index and both values. `where` names case and tensor.
void expect_close(const std::vector<float>& got, const std::vector<float>& want, double abs,
                  double rel, const std::string& where);

}  // namespace mneme::testing
