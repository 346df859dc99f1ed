#include "mneme/io/jinja/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "mneme/core/error.h"
#include "mneme/io/jinja/limits.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

// Builds values as the parser meets them: no recursion, whatever the nesting.
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Reader(std::string_view what) : what_(what) {}
  Value result() { return std::move(result_); }

  bool null() override { return add(Value()); }
  bool boolean(bool value) override { return add(Value(value)); }
  bool number_integer(int64_t value) override { return add(Value(value)); }
  bool number_unsigned(uint64_t value) override {
    MNEME_CHECK(value <= static_cast<uint64_t>(INT64_MAX), what_, ": the integer ", value,
                " does not fit 64 bits");
    return add(Value(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string& spelling) override {
    MNEME_CHECK(spelling.find_first_of(".eE") != std::string::npos, what_, ": the integer ",
                spelling, " does not fit 64 bits");
    return add(Value(value));
  }
  bool string(std::string& value) override {
    return add(Value(Text(std::move(value), Source::kInput)));
  }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(true); }
  bool start_array(size_t) override { return open(false); }
  bool key(std::string& name) override {
    open_.back().key = Value(Text(std::move(name), Source::kInput));
    return true;
  }
  bool end_object() override {
    std::shared_ptr<const Dict> dict = std::move(open_.back().dict);
    open_.pop_back();
    return add(Value(std::move(dict)));
  }
  bool end_array() override {
    Values items = std::move(open_.back().items);
    open_.pop_back();
    return add(Value::list(std::move(items)));
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    fail(what_, ": not valid JSON at byte ", position, ": ", error.what());
  }

 private:
  struct Open {
    std::shared_ptr<Dict> dict;  // null for an array
    Value key;
    Values items;
  };

  bool open(bool object) {
    MNEME_CHECK(static_cast<int>(open_.size()) < kMaxValueDepth, what_, ": nested deeper than ",
                kMaxValueDepth);
    open_.emplace_back();
    if (object) open_.back().dict = std::make_shared<Dict>();
    return true;
  }
  bool add(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (open_.back().dict) {
      open_.back().dict->set(open_.back().key, std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::string what_;
  Value result_;
  std::vector<Open> open_;
};

void append_unit(int32_t unit, std::string* out) {
  constexpr char kDigits[] = "0123456789abcdef";
  *out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out->push_back(kDigits[(unit >> shift) & 15]);
}

class Writer {
 public:
  explicit Writer(const JsonStyle& style) : style_(style) {}

  Text write(const Value& value) {
    write(value, 0);
    return std::move(out_);
  }

 private:
  void write(const Value& value, int level) {
    switch (value.kind()) {
      case Value::Kind::kNone:
        return out_.append("null");
      case Value::Kind::kBool:
        return out_.append(value.as_bool() ? "true" : "false");
      case Value::Kind::kInt:
        return out_.append(to_text(value));
      case Value::Kind::kFloat:
        return out_.append(number(value.as_double()));
      case Value::Kind::kText:
        return quote(value.as_text());
      case Value::Kind::kDict:
        return write_dict(value.as_dict(), level);
      case Value::Kind::kSequence: {
        const auto flavour = value.as_sequence().flavour;
        if (flavour == Sequence::Flavour::kList || flavour == Sequence::Flavour::kTuple)
          return write_list(value.as_sequence().items, level);
        break;
      }
      default:
        break;
    }
    fail("Object of type ", type_name(value), " is not JSON serializable");
  }

  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return float_text(value);
  }

  void write_list(const Values& items, int level) {
    if (items.empty()) return out_.append("[]");
    out_.append("[");
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out_.append(style_.item_separator);
      new_line(level + 1);
      write(items[i], level + 1);
    }
    new_line(level);
    out_.append("]");
  }

  void write_dict(const Dict& dict, int level) {
    if (dict.entries().empty()) return out_.append("{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) {
        return compare(a->first, b->first) < 0;
      });
    out_.append("{");
    bool first = true;
    for (const auto* entry : entries) {
      if (!first) out_.append(style_.item_separator);
      first = false;
      new_line(level + 1);
      write_key(entry->first);
      out_.append(style_.key_separator);
      write(entry->second, level + 1);
    }
    new_line(level);
    out_.append("}");
  }

  void write_key(const Value& key) {
    if (key.is_text()) return quote(key.as_text());
    MNEME_CHECK(key.is_none() || key.is_number(), "JSON keys cannot be of type ", type_name(key));
    out_.append("\"");
    write(key, 0);
    out_.append("\"");
  }

  void new_line(int level) {
    if (!style_.indent) return;
    out_.append("\n");
    out_.append(repeat(*style_.indent, level));
  }

  void quote(const Text& text) {
    out_.append("\"");
    for (size_t i = 0; i < text.bytes().size();) {
      const Character c = character_at(text.bytes(), i);
      std::string escaped;
      switch (c.code) {
        case '"':
          escaped = "\\\"";
          break;
        case '\\':
          escaped = "\\\\";
          break;
        case '\n':
          escaped = "\\n";
          break;
        case '\r':
          escaped = "\\r";
          break;
        case '\t':
          escaped = "\\t";
          break;
        case '\f':
          escaped = "\\f";
          break;
        case '\b':
          escaped = "\\b";
          break;
        default:
          if (c.code >= 0 && (c.code < 0x20 || (style_.ascii && c.code > 0x7e))) {
            if (c.code >= 0x10000) {
              append_unit(0xD800 + ((c.code - 0x10000) >> 10), &escaped);
              append_unit(0xDC00 + ((c.code - 0x10000) & 0x3FF), &escaped);
            } else {
              append_unit(c.code, &escaped);
            }
          }
      }
      if (escaped.empty()) {
        out_.append(text, i, static_cast<size_t>(c.bytes));
      } else {
        out_.append(escaped, text.source_at(i));
      }
      i += static_cast<size_t>(c.bytes);
    }
    out_.append("\"");
  }

  const JsonStyle& style_;
  Text out_;
};

}  // namespace

Value parse_json(std::string_view json, std::string_view what) {
  MNEME_CHECK(static_cast<int64_t>(json.size()) <= kMaxTextBytes, what, ": ", json.size(),
              " bytes of JSON, at most ", kMaxTextBytes, " are read");
  Reader reader(what);
  nlohmann::json::sax_parse(json, &reader);
  return reader.result();
}

Text to_json(const Value& value, const JsonStyle& style) { return Writer(style).write(value); }

}  // namespace mneme::jinja
