// A folder of its own for a test, removed with all its content at the end, and small file helpers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mneme::testing {

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  // The path of `name` inside the folder.
  std::string operator/(std::string_view name) const;
  // Names of everything inside, sorted.
  std::vector<std::string> names() const;

 private:
  std::string path_;
};

// Plain, without the library under test.
void write_file(const std::string& path, std::string_view content);
std::string read_file(const std::string& path);

}  // namespace mneme::testing
