// The reader against good files at the edges of the format, and against corrupt ones: one story per
// row, each with the message that must come back.
#include "mneme/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "mneme/io/quote.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string with_length(uint64_t header_bytes, const std::string& rest) {
  std::string bytes(sizeof(header_bytes), '\0');
  std::memcpy(bytes.data(), &header_bytes, sizeof(header_bytes));
  return bytes + rest;
}

// A file with this header and so many bytes of data.
std::string file_of(const std::string& header, size_t data_bytes = 0) {
  return with_length(header.size(), header + std::string(data_bytes, '\1'));
}

// A tensor's entry; every argument is JSON.
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":" + dtype + ",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

// A file whose only tensor, w, is F32 or else as told.
std::string one(const std::string& shape, const std::string& offsets, size_t data_bytes,
                const std::string& dtype = "\"F32\"") {
  return file_of("{" + entry("w", dtype, shape, offsets) + "}", data_bytes);
}

// Two I8 tensors, a of 4 bytes and b of 4, in 8 bytes of data or as told.
std::string two(const std::string& a, const std::string& b, size_t data_bytes = 8) {
  return file_of("{" + entry("a", "\"I8\"", "[4]", a) + "," + entry("b", "\"I8\"", "[4]", b) + "}",
                 data_bytes);
}

std::unique_ptr<SafetensorsFile> parse(const std::string& bytes) {
  return SafetensorsFile::parse(reinterpret_cast<const std::byte*>(bytes.data()),
                                static_cast<int64_t>(bytes.size()), "m.safetensors");
}

struct Corrupt {
  const char* story;
  std::string bytes;
  const char* message;
};

void PrintTo(const Corrupt& row, std::ostream* out) { *out << row.story; }

class SafetensorsCorrupt : public ::testing::TestWithParam<Corrupt> {};

TEST_P(SafetensorsCorrupt, IsRefused) {
  // An exact allocation, so that a sanitizer sees one byte too far.
  const std::vector<char> bytes(GetParam().bytes.begin(), GetParam().bytes.end());
  const std::string message = error_of([&] {
    SafetensorsFile::parse(reinterpret_cast<const std::byte*>(bytes.data()),
                           static_cast<int64_t>(bytes.size()), "m.safetensors");
  });
  EXPECT_THAT(message, StartsWith("m.safetensors: "));
  EXPECT_THAT(message, HasSubstr(GetParam().message)) << GetParam().story;
}

std::string story_name(const ::testing::TestParamInfo<Corrupt>& info) {
  std::string name;
  for (const char* c = info.param.story; *c != '\0'; ++c) {
    name += std::isalnum(static_cast<unsigned char>(*c)) != 0 ? *c : '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Length, SafetensorsCorrupt,
    ::testing::Values(
        Corrupt{"T1 empty file", "", "header too small: the file has 0 bytes"},
        Corrupt{"T1 seven bytes", std::string(7, '\0'), "header too small: the file has 7 bytes"},
        Corrupt{"T1 exactly eight bytes", with_length(2, ""), "header too small: the file has 8"},
        Corrupt{"T2 length zero", with_length(0, "{}"), "header too small: its length is 0"},
        Corrupt{"T2 length 2 to the 63", with_length(uint64_t{1} << 63, "{}"),
                "header too large: its length is 9223372036854775808"},
        Corrupt{"T2 length 2 to the 64 less 1", with_length(UINT64_MAX, "{}"),
                "header too large: its length is 18446744073709551615"},
        Corrupt{"T2 length beyond the file", with_length(3, "{}"),
                "header too large: its length is 3, the file has 2 bytes after it"},
        Corrupt{"T2 length over 100 MB", with_length(100'000'001, "{}"),
                "its length is 100000001, at most 100000000"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Json, SafetensorsCorrupt,
    ::testing::Values(
        Corrupt{"T3 bad UTF-8 in a name", file_of("{\"\xff\":1}"), "header is not UTF-8"},
        Corrupt{"T3 overlong UTF-8", file_of("{\"\xc0\x80\":1}"), "header is not UTF-8"},
        Corrupt{"T3 a surrogate in UTF-8", file_of("{\"\xed\xa0\x80\":1}"), "header is not UTF-8"},
        Corrupt{"T3 a lone surrogate escaped", file_of("{\"\\ud800\":1}"), "header is not JSON"},
        Corrupt{"T3 not JSON", file_of("{nonsense}"),
                "header is not JSON: unexpected '{no' at byte 3"},
        Corrupt{"T3 JSON that ends early", file_of("{\"a\":{"), "header is not JSON"},
        Corrupt{"T3 an array", file_of("[1, 2]"), "header begins with '[1, 2]', expected '{'"},
        Corrupt{"T3 nested arrays 10000 deep", file_of("{\"a\":" + std::string(10'000, '[')),
                "tensor 'a': expected an object, got an array"},
        Corrupt{"T3 nested objects 10000 deep",
                [] {
                  std::string deep;
                  for (int i = 0; i < 10'000; ++i) deep += "{\"a\":";
                  return file_of(deep);
                }(),
                "tensor 'a': unknown field 'a'"},
        Corrupt{"T3 nested arrays 10000 deep in a shape",
                file_of("{\"a\":{\"shape\":" + std::string(10'000, '[')),
                "tensor 'a': shape has an array, expected a whole number"},
        Corrupt{"T3 duplicate names",
                file_of("{" + entry("w", "\"I8\"", "[1]", "[0,1]") + "," +
                            entry("w", "\"I8\"", "[1]", "[1,2]") + "}",
                        2),
                "duplicate name 'w'"},
        Corrupt{"T3 duplicate names by an escape",
                file_of("{" + entry("w", "\"I8\"", "[1]", "[0,1]") + "," +
                            entry("\\u0077", "\"I8\"", "[1]", "[1,2]") + "}",
                        2),
                "duplicate name 'w'"},
        Corrupt{"T4 a blank before the header", file_of(" {}"), "header begins with ' {}'"},
        Corrupt{"T4 a byte order mark", file_of("\xef\xbb\xbf{}"), "expected '{'"},
        Corrupt{"T4 text behind the object", file_of("{}x"), "header is not JSON: unexpected"},
        Corrupt{"T4 a second object", file_of("{} {}"), "header is not JSON"},
        // The JSON parser stops at a NUL as if the text ended there.
        Corrupt{"T4 hidden bytes behind a NUL", file_of(std::string("{}\0secret", 9)),
                "header has a NUL byte at 2"},
        Corrupt{"a comment", file_of("{/* */}"), "header is not JSON"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Metadata, SafetensorsCorrupt,
    ::testing::Values(Corrupt{"metadata that is a text", file_of("{\"__metadata__\":\"x\"}"),
                              "__metadata__ must be an object, got the text 'x'"},
                      Corrupt{"metadata with a number", file_of("{\"__metadata__\":{\"k\":1}}"),
                              "metadata 'k' must be text, got the number 1"},
                      Corrupt{"metadata with null", file_of("{\"__metadata__\":{\"k\":null}}"),
                              "metadata 'k' must be text, got null"},
                      Corrupt{"metadata with an object", file_of("{\"__metadata__\":{\"k\":{}}}"),
                              "metadata 'k' must be text, got an object"},
                      Corrupt{"duplicate metadata key",
                              file_of("{\"__metadata__\":{\"k\":\"a\",\"k\":\"b\"}}"),
                              "duplicate metadata key 'k'"},
                      Corrupt{"metadata twice",
                              file_of("{\"__metadata__\":{},\"__metadata__\":{}}"),
                              "duplicate name '__metadata__'"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Fields, SafetensorsCorrupt,
    ::testing::Values(
        Corrupt{"a tensor that is a number", file_of("{\"w\":3}"),
                "tensor 'w': expected an object, got the number 3"},
        Corrupt{"no dtype", file_of("{\"w\":{\"shape\":[],\"data_offsets\":[0,0]}}"),
                "tensor 'w': no dtype"},
        Corrupt{"no shape", file_of("{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,0]}}"),
                "tensor 'w': no shape"},
        Corrupt{"no offsets", file_of("{\"w\":{\"dtype\":\"F32\",\"shape\":[]}}"),
                "tensor 'w': no data_offsets"},
        Corrupt{"an unknown field", file_of("{\"w\":{\"stride\":[1]}}"),
                "tensor 'w': unknown field 'stride'"},
        Corrupt{"a field twice", file_of("{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F16\"}}"),
                "tensor 'w': duplicate field 'dtype'"},
        Corrupt{"T5 unknown dtype", one("[1]", "[0,4]", 4, "\"F31\""),
                "tensor 'w': unknown dtype 'F31'"},
        Corrupt{"T5 lower case dtype", one("[1]", "[0,4]", 4, "\"f32\""),
                "tensor 'w': unknown dtype 'f32'"},
        Corrupt{"T5 dtype of another format", one("[32]", "[0,18]", 18, "\"Q4_0\""),
                "tensor 'w': unknown dtype 'Q4_0'"},
        Corrupt{"T5 number as dtype", one("[1]", "[0,4]", 4, "32"),
                "tensor 'w': dtype must be text, got the number 32"},
        Corrupt{"T5 null as dtype", one("[1]", "[0,4]", 4, "null"),
                "tensor 'w': dtype must be text, got null"},
        Corrupt{"T6 negative extent", one("[-1]", "[0,4]", 4),
                "tensor 'w': shape has -1, expected a whole number"},
        Corrupt{"T6 fractional extent", one("[1.5]", "[0,4]", 4),
                "tensor 'w': shape has 1.5, expected a whole number"},
        Corrupt{"T6 extent with an exponent", one("[1e0]", "[0,4]", 4),
                "tensor 'w': shape has 1e0, expected a whole number"},
        Corrupt{"T6 extent 2 to the 64 less 2", one("[18446744073709551614]", "[0,4]", 4),
                "tensor 'w': size overflow: shape has 18446744073709551614"},
        Corrupt{"T6 extent beyond 64 bits", one("[36893488147419103232]", "[0,4]", 4),
                "tensor 'w': shape has 36893488147419103232, expected a whole number"},
        Corrupt{"T6 product overflow", one("[4294967296,4294967296]", "[0,4]", 4),
                "tensor 'w': shape: size overflow in 4294967296 * 4294967296"},
        Corrupt{"T6 product overflow before a zero", one("[4294967296,4294967296,0]", "[0,0]", 0),
                "size overflow"},
        Corrupt{"T6 product times dtype overflow", one("[4611686018427387904]", "[0,4]", 4),
                "tensor 'w': shape times dtype: size overflow in 4611686018427387904 * 4"},
        Corrupt{"65 dimensions",
                [] {
                  std::string shape = "[1";
                  for (int i = 1; i < 65; ++i) shape += ",1";
                  return one(shape + "]", "[0,4]", 4);
                }(),
                "tensor 'w': shape has more than 64 dimensions"},
        Corrupt{"text as extent", one("[\"4\"]", "[0,4]", 4), "shape has the text '4'"},
        Corrupt{"true as extent", one("[true]", "[0,4]", 4), "shape has true"},
        Corrupt{"shape that is a number", one("4", "[0,16]", 16),
                "tensor 'w': shape must be an array, got the number 4"},
        Corrupt{"a name that would colour a terminal", file_of("{\"\\u001b[31m\":3}"),
                "tensor '\\x1b[31m': expected an object"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Offsets, SafetensorsCorrupt,
    ::testing::Values(
        Corrupt{"T7 one offset", one("[1]", "[4]", 4),
                "tensor 'w': data_offsets must be two numbers, got 1"},
        Corrupt{"T7 three offsets", one("[1]", "[0,4,8]", 8),
                "tensor 'w': data_offsets must be two numbers, got 3"},
        Corrupt{"T7 negative offset", one("[1]", "[-4,0]", 4), "data_offsets has -4"},
        Corrupt{"T7 huge offset", one("[1]", "[0,18446744073709551612]", 4),
                "size overflow: data_offsets has 18446744073709551612"},
        Corrupt{"T7 reversed", one("[1]", "[4,0]", 4),
                "tensor 'w': data_offsets are reversed: [4, 0]"},
        Corrupt{"T7 overlapping", two("[0,4]", "[2,6]"),
                "tensor 'b': data_offsets begin at 2, out "
                "of order or overlapping"},
        Corrupt{"T7 both the same", two("[0,4]", "[0,4]", 4),
                "tensor 'b': data_offsets begin at 0"},
        Corrupt{"T7 a hole", two("[0,4]", "[5,9]", 9),
                "tensor 'b': data_offsets begin at 5 and leave a hole after 4"},
        Corrupt{"T7 a hole at the start", one("[1]", "[4,8]", 8), "leave a hole after 0"},
        Corrupt{"T7 out of order", two("[4,8]", "[0,4]"), "tensor 'a': data_offsets begin at 4"},
        Corrupt{"T7 beyond the end", one("[2]", "[0,8]", 4),
                "tensor 'w': data_offsets [0, 8] end beyond the 4 bytes of data"},
        Corrupt{"T7 shape larger than offsets", one("[2]", "[0,4]", 4),
                "tensor 'w': F32 [2] takes 8 bytes, data_offsets give 4"},
        Corrupt{"T7 shape smaller than offsets", one("[1]", "[0,8]", 8),
                "tensor 'w': F32 [1] takes 4 bytes, data_offsets give 8"},
        Corrupt{"T7 zero size tensor beyond the end",
                one("[0]", "[9223372036854775807,9223372036854775807]", 4), "end beyond the 4"},
        Corrupt{"T8 bytes after the last tensor", one("[1]", "[0,4]", 7),
                "3 bytes after the last tensor belong to none"},
        Corrupt{"T8 bytes and no tensor", file_of("{}", 1), "1 bytes after the last tensor"},
        Corrupt{"T8 two bytes short", one("[1]", "[0,4]", 2),
                "tensor 'w': data_offsets [0, 4] end beyond the 2 bytes of data"}),
    story_name);

TEST(Safetensors, ReadsNamesShapesAndBytes) {
  const std::string bytes = file_of("{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\\u00e4\"}," +
                                        entry("b", "\"F32\"", "[2,3]", "[0,24]") + "," +
                                        entry("a", "\"BOOL\"", "[2]", "[24,26]") + "}",
                                    26);
  const auto file = parse(bytes);
  EXPECT_EQ(file->origin(), "m.safetensors");
  EXPECT_EQ(file->metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"note", "ä"}}));
  ASSERT_EQ(file->tensors().size(), 2u);
  const TensorView& b = file->tensors()[0];
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.dtype, DType::kF32);
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b.bytes, 24);
  EXPECT_EQ(reinterpret_cast<const char*>(b.data), bytes.data() + bytes.size() - 26);
  EXPECT_EQ(file->find("a"), &file->tensors()[1]);
  EXPECT_EQ(file->find("a")->data, b.data + 24);
  EXPECT_EQ(file->find("c"), nullptr);
}

TEST(Safetensors, EveryDtype) {
  const std::pair<const char*, int> kSizes[] = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I16", 2},
      {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}};
  for (const auto& [name, size] : kSizes) {
    const std::string bytes =
        one("[3]", concat("[0,", 3 * size, "]"), 3 * size, concat('"', name, '"'));
    EXPECT_EQ(dtype_name(parse(bytes)->find("w")->dtype), name);
  }
}

TEST(Safetensors, T4TrailingBlanksInTheHeader) {
  EXPECT_EQ(parse(file_of("{}      "))->tensors().size(), 0u);
  EXPECT_EQ(
      parse(file_of("{" + entry("w", "\"I8\"", "[1]", "[0,1]") + "}   ", 1))->tensors().size(), 1u);
}

TEST(Safetensors, T9ZeroSizeTensorsAndScalars) {
  const std::string header = "{" + entry("none", "\"F32\"", "[0]", "[0,0]") + "," +
                             entry("scalar", "\"F32\"", "[]", "[0,4]") + "," +
                             entry("row", "\"I64\"", "[5,0,3]", "[4,4]") + "}";
  const std::string bytes = file_of(header, 4);
  const auto file = parse(bytes);
  EXPECT_EQ(file->find("none")->bytes, 0);
  EXPECT_EQ(file->find("scalar")->elements(), 1);
  EXPECT_EQ(file->find("row")->elements(), 0);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string whole =
      file_of("{\"__metadata__\":{\"k\":\"v\"}," + entry("a", "\"I8\"", "[4]", "[0,4]") + "," +
                  entry("b", "\"F16\"", "[1,2]", "[4,8]") + "}",
              8);
  ASSERT_EQ(parse(whole)->tensors().size(), 2u);
  for (size_t length = 0; length < whole.size(); ++length) {
    const std::vector<char> bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_THAT(error_of([&] {
                  SafetensorsFile::parse(reinterpret_cast<const std::byte*>(bytes.data()),
                                         static_cast<int64_t>(bytes.size()), "m.safetensors");
                }),
                StartsWith("m.safetensors: "))
        << length;
  }
}

// Flipped bits may give another valid file, never one that reaches outside its bytes.
TEST(Safetensors, EveryFlippedByteIsReadInsideTheFileOrRefused) {
  const std::string whole = two("[0,4]", "[4,8]");
  int64_t refused = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<char> bytes(whole.begin(), whole.end());
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
      try {
        const auto file = SafetensorsFile::parse(begin, static_cast<int64_t>(bytes.size()), "m");
        for (const TensorView& tensor : file->tensors()) {
          ASSERT_GE(tensor.data, begin);
          ASSERT_LE(tensor.data + tensor.bytes, begin + bytes.size());
        }
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int64_t>(whole.size()));
}

TEST(Safetensors, OpenNamesTheFile) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "bad.safetensors", "short");
  EXPECT_EQ(error_of([&] { SafetensorsFile::open(folder / "bad.safetensors"); }),
            (folder / "bad.safetensors") +
                ": header too small: the file has 5 bytes, a safetensors file more than 8");
}

}  // namespace
}  // namespace mneme
