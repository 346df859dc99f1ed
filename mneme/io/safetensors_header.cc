#include "mneme/io/safetensors_header.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "mneme/core/error.h"
#include "mneme/io/quote.h"
#include "mneme/io/utf8.h"

namespace mneme {
namespace {

using Json = nlohmann::json;

// Far beyond any tensor; without it a header of ones would take eight times its size in memory.
constexpr size_t kMostDimensions = 64;
constexpr std::string_view kMetadataKey = "__metadata__";

// Follows the only structure that a header may have. Each callback either knows its place or
// throws.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(const std::string& origin, SafetensorsHeader& header)
      : origin_(origin), header_(header) {}

  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kNames;
    } else if (place_ == Place::kName) {
      place_ = Place::kFields;
      has_dtype_ = has_shape_ = has_offsets_ = false;
    } else if (place_ == Place::kMetadataName) {
      place_ = Place::kMetadata;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(std::string& text) override {
    if (place_ == Place::kNames) {
      MNEME_CHECK(names_.insert(text).second, origin_, ": duplicate name ", quote(text));
      name_ = text;
      place_ = text == kMetadataKey ? Place::kMetadataName : Place::kName;
      if (place_ == Place::kName) header_.entries.emplace_back().name = text;
    } else if (place_ == Place::kMetadata) {
      MNEME_CHECK(!header_.metadata.contains(text), origin_, ": duplicate metadata key ",
                  quote(text));
      metadata_key_ = text;
    } else {
      start_field(text);
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kFields) {
      MNEME_CHECK(has_dtype_ && has_shape_ && has_offsets_, where(), "no ",
                  !has_dtype_ ? "dtype" : (!has_shape_ ? "shape" : "data_offsets"));
    }
    place_ = place_ == Place::kNames ? Place::kEnd : Place::kNames;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::kShape) {
      place_ = Place::kExtents;
    } else if (place_ == Place::kOffsets) {
      place_ = Place::kOffsetValues;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsetValues) {
      MNEME_CHECK(offsets_.size() == 2, where(), "data_offsets must be two numbers, got ",
                  offsets_.size());
      MNEME_CHECK(offsets_[0] <= offsets_[1], where(), "data_offsets are reversed: [", offsets_[0],
                  ", ", offsets_[1], "]");
      header_.entries.back().begin = offsets_[0];
      header_.entries.back().end = offsets_[1];
    }
    place_ = Place::kFields;
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::kMetadata) {
      header_.metadata.emplace(metadata_key_, text);
    } else if (place_ == Place::kDtype) {
      const auto dtype = dtype_from_name(text);
      MNEME_CHECK(dtype && is_safetensors_dtype(*dtype), where(), "unknown dtype ", quote(text));
      header_.entries.back().dtype = *dtype;
      place_ = Place::kFields;
    } else {
      unexpected("the text " + quote(text));
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kExtents && place_ != Place::kOffsetValues) {
      unexpected(concat("the number ", value));
    }
    MNEME_CHECK(value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), where(),
                "size overflow: ", list_name(), " has ", value);
    if (place_ == Place::kExtents) {
      MNEME_CHECK(header_.entries.back().shape.size() < kMostDimensions, where(),
                  "shape has more than ", kMostDimensions, " dimensions");
      header_.entries.back().shape.push_back(static_cast<int64_t>(value));
    } else {
      // A third is enough to refuse the list at its end.
      if (offsets_.size() < 3) offsets_.push_back(static_cast<int64_t>(value));
    }
    return true;
  }

  bool number_integer(number_integer_t value) override { return bad_number(concat(value)); }
  bool number_float(number_float_t, const string_t& text) override {
    return bad_number(text.substr(0, 40));
  }
  bool null() override { return unexpected("null"); }
  bool boolean(bool value) override { return unexpected(value ? "true" : "false"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception&) override {
    fail(origin_, ": header is not JSON: unexpected ", quote(token), " at byte ", position);
  }

 private:
  enum class Place {
    kStart,
    kNames,   // in the outer object
    kName,    // behind the name of a tensor
    kFields,  // in the object of a tensor
    kDtype,   // behind "dtype", and so on
    kShape,
    kExtents,
    kOffsets,
    kOffsetValues,
    kMetadataName,
    kMetadata,
    kEnd,
  };

  void start_field(const std::string& text) {
    bool* seen = nullptr;
    if (text == "dtype") {
      place_ = Place::kDtype;
      seen = &has_dtype_;
    } else if (text == "shape") {
      place_ = Place::kShape;
      seen = &has_shape_;
    } else if (text == "data_offsets") {
      place_ = Place::kOffsets;
      seen = &has_offsets_;
      offsets_.clear();
    }
    MNEME_CHECK(seen != nullptr, where(), "unknown field ", quote(text));
    MNEME_CHECK(!*seen, where(), "duplicate field ", quote(text));
    *seen = true;
  }

  std::string where() const { return concat(origin_, ": tensor ", quote(name_), ": "); }
  const char* list_name() const { return place_ == Place::kExtents ? "shape" : "data_offsets"; }

  bool bad_number(const std::string& text) {
    if (place_ != Place::kExtents && place_ != Place::kOffsetValues) {
      return unexpected("the number " + text);
    }
    fail(where(), list_name(), " has ", text, ", expected a whole number from 0 to 2^63 - 1");
  }

  // Names what stands where something else belongs.
  bool unexpected(const std::string& what) const {
    switch (place_) {
      case Place::kStart:
        fail(origin_, ": header is ", what, ", expected an object");
      case Place::kName:
        fail(where(), "expected an object, got ", what);
      case Place::kDtype:
        fail(where(), "dtype must be text, got ", what);
      case Place::kShape:
        fail(where(), "shape must be an array, got ", what);
      case Place::kOffsets:
        fail(where(), "data_offsets must be an array, got ", what);
      case Place::kExtents:
      case Place::kOffsetValues:
        fail(where(), list_name(), " has ", what, ", expected a whole number");
      case Place::kMetadataName:
        fail(origin_, ": __metadata__ must be an object, got ", what);
      case Place::kMetadata:
        fail(origin_, ": metadata ", quote(metadata_key_), " must be text, got ", what);
      default:
        fail(origin_, ": header has ", what, " out of place");
    }
  }

  const std::string& origin_;
  SafetensorsHeader& header_;
  Place place_ = Place::kStart;
  std::set<std::string, std::less<>> names_;
  std::string name_, metadata_key_;
  std::vector<int64_t> offsets_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
};

}  // namespace

bool is_safetensors_dtype(DType dtype) { return dtype_info(dtype).block_elements == 1; }

SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& origin) {
  MNEME_CHECK(is_utf8(json), origin, ": header is not UTF-8");
  MNEME_CHECK(!json.empty() && json.front() == '{', origin, ": header begins with ",
              quote(json.substr(0, 8)), ", expected '{'");
  // The parser takes a NUL byte for the end of its input: what stands behind it would go unread.
  MNEME_CHECK(json.find('\0') == std::string_view::npos, origin, ": header has a NUL byte at ",
              json.find('\0'));
  SafetensorsHeader header;
  HeaderReader reader(origin, header);
  const bool read = Json::sax_parse(json, &reader);
  MNEME_ASSERT(read);
  return header;
}

}  // namespace mneme
