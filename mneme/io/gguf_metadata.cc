#include <string>

#include "mneme/core/error.h"
#include "mneme/io/gguf.h"
#include "mneme/io/quote.h"

namespace mneme {
namespace {

template <typename T>
constexpr const char* kTypeName = nullptr;
template <>
constexpr const char* kTypeName<bool> = "a bool";
template <>
constexpr const char* kTypeName<int64_t> = "an integer";
template <>
constexpr const char* kTypeName<double> = "a real";
template <>
constexpr const char* kTypeName<std::string> = "a text";
template <>
constexpr const char* kTypeName<std::vector<bool>> = "an array of bools";
template <>
constexpr const char* kTypeName<std::vector<int64_t>> = "an array of integers";
template <>
constexpr const char* kTypeName<std::vector<double>> = "an array of reals";
template <>
constexpr const char* kTypeName<std::vector<std::string>> = "an array of texts";

const char* type_name(const GgufValue& value) {
  return std::visit([](const auto& held) { return kTypeName<std::decay_t<decltype(held)>>; },
                    value);
}

const GgufValue& value_of(const GgufFile& file, std::string_view key) {
  const auto found = file.metadata().find(key);
  MNEME_CHECK(found != file.metadata().end(), file.origin(), ": no metadata ", quote(key));
  return found->second;
}

template <typename T>
const T& typed(const GgufFile& file, std::string_view key) {
  const GgufValue& value = value_of(file, key);
  const T* held = std::get_if<T>(&value);
  MNEME_CHECK(held != nullptr, file.origin(), ": metadata ", quote(key), " is ", type_name(value),
              ", expected ", kTypeName<T>);
  return *held;
}

}  // namespace

int64_t GgufFile::integer(std::string_view key) const { return typed<int64_t>(*this, key); }

double GgufFile::real(std::string_view key) const {
  const GgufValue& value = value_of(*this, key);
  if (const auto* whole = std::get_if<int64_t>(&value)) return static_cast<double>(*whole);
  return typed<double>(*this, key);
}

bool GgufFile::boolean(std::string_view key) const { return typed<bool>(*this, key); }

const std::string& GgufFile::text(std::string_view key) const {
  return typed<std::string>(*this, key);
}

const std::vector<std::string>& GgufFile::texts(std::string_view key) const {
  return typed<std::vector<std::string>>(*this, key);
}

const std::vector<int64_t>& GgufFile::integers(std::string_view key) const {
  return typed<std::vector<int64_t>>(*this, key);
}

const std::vector<double>& GgufFile::reals(std::string_view key) const {
  return typed<std::vector<double>>(*this, key);
}

int64_t GgufFile::integer_or(std::string_view key, int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}

double GgufFile::real_or(std::string_view key, double fallback) const {
  return has(key) ? real(key) : fallback;
}

bool GgufFile::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}

std::string GgufFile::text_or(std::string_view key, std::string fallback) const {
  return has(key) ? text(key) : std::move(fallback);
}

}  // namespace mneme
