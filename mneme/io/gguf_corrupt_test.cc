// Corrupt GGUF files: one story per row, each with the message that must come back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <functional>

#include "mneme/io/gguf.h"
#include "tests/support/error_of.h"
#include "tests/support/gguf_builder.h"

namespace mneme {
namespace {

using testing::bytes_of;
using testing::error_of;
using testing::gguf_text;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// From an exact allocation, so that a sanitizer sees one byte too far.
std::unique_ptr<GgufFile> parse(const std::string& bytes, std::vector<char>& memory) {
  memory.assign(bytes.begin(), bytes.end());
  memory.shrink_to_fit();
  return GgufFile::parse(reinterpret_cast<const std::byte*>(memory.data()),
                         static_cast<int64_t>(memory.size()), "m.gguf");
}

std::string refusal(const std::string& bytes) {
  std::vector<char> memory;
  return error_of([&] { parse(bytes, memory); });
}

struct Corrupt {
  const char* story;
  std::string bytes;
  const char* message;
};

void PrintTo(const Corrupt& row, std::ostream* out) { *out << row.story; }

// The default file of a row, spoiled by `change`.
std::string spoiled(const std::function<void(GgufBuilder&)>& change) {
  GgufBuilder builder;
  change(builder);
  return builder.build();
}

std::string one_tensor(uint32_t type, std::vector<uint64_t> extents, size_t data_bytes,
                       std::optional<uint64_t> offset = std::nullopt) {
  return GgufBuilder()
      .tensor("w", type, std::move(extents), std::string(data_bytes, 'x'), offset)
      .build();
}

class GgufCorrupt : public ::testing::TestWithParam<Corrupt> {};

TEST_P(GgufCorrupt, IsRefused) {
  const std::string message = refusal(GetParam().bytes);
  EXPECT_THAT(message, StartsWith("m.gguf: "));
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
    Header, GgufCorrupt,
    ::testing::Values(
        Corrupt{"empty file", "",
                "the file ends inside the magic at byte 0: 4 bytes wanted, 0 left"},
        Corrupt{"three bytes", "GGU", "the file ends inside the magic"},
        Corrupt{"bad magic", spoiled([](auto& b) { b.magic = "GGML"; }),
                "not a GGUF file: it begins with 'GGML', expected 'GGUF'"},
        Corrupt{"a magic of control bytes", std::string("\x1b[2J") + std::string(20, '\0'),
                "it begins with '\\x1b[2J'"},
        Corrupt{"version 0", spoiled([](auto& b) { b.version = 0; }),
                "GGUF version 0, expected 2 or 3"},
        Corrupt{"version 1", spoiled([](auto& b) { b.version = 1; }),
                "GGUF version 1, expected 2 or 3"},
        Corrupt{"version from the future", spoiled([](auto& b) { b.version = 4; }),
                "GGUF version 4, expected 2 or 3"},
        Corrupt{"big endian", spoiled([](auto& b) { b.version = 0x03000000; }),
                "big-endian GGUF files are not supported"},
        Corrupt{"huge tensor count", spoiled([](auto& b) { b.claimed_tensors = UINT64_MAX; }),
                "the tensor count is 18446744073709551615, the 0 bytes left hold at most 0"},
        Corrupt{"tensor count 2 to the 63",
                spoiled([](auto& b) { b.claimed_tensors = uint64_t{1} << 63; }),
                "the tensor count is 9223372036854775808"},
        Corrupt{"one tensor too many", spoiled([](auto& b) {
                  b.tensor("w", 0, {1}, "1234");
                  b.claimed_tensors = 2;
                }),
                "the tensor count is 2, the 44 bytes left hold at most 1"},
        Corrupt{"two tensors too many, data in the place of their entries", spoiled([](auto& b) {
                  b.tensor("w", 0, {64}, std::string(256, '\1'));
                  b.claimed_tensors = 3;
                }),
                "a tensor name at byte"},
        Corrupt{"huge metadata count", spoiled([](auto& b) { b.claimed_pairs = UINT64_MAX; }),
                "the metadata count is 18446744073709551615"},
        Corrupt{"one pair too many", spoiled([](auto& b) {
                  b.text("k", "a long enough value to hide in");
                  b.claimed_pairs = 2;
                }),
                "the file ends inside a metadata key"},
        Corrupt{"tensors where the metadata already took the bytes", spoiled([](auto& b) {
                  b.text("k", std::string(1000, 'x'));
                  b.claimed_tensors = 40;
                }),
                "the tensor count is 40, the 0 bytes left hold at most 0"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Keys, GgufCorrupt,
    ::testing::Values(
        Corrupt{"empty key", spoiled([](auto& b) { b.integer("", 1); }), "empty metadata key"},
        Corrupt{"duplicate key", spoiled([](auto& b) { b.integer("k", 1).text("k", "x"); }),
                "duplicate metadata key 'k'"},
        Corrupt{"key longer than the file", spoiled([](auto& b) {
                  b.raw_pair(gguf_text("key", 1000), GgufBuilder::kU32, bytes_of(1u));
                }),
                "a metadata key at byte 32 has length 1000, the file has 11 bytes left"},
        Corrupt{"key of 2 to the 63 bytes", spoiled([](auto& b) {
                  b.raw_pair(gguf_text("key", uint64_t{1} << 63), GgufBuilder::kU32, bytes_of(1u));
                }),
                "a metadata key at byte 32 has length 9223372036854775808, at most 65535"},
        Corrupt{"key of 65536 bytes",
                spoiled([](auto& b) { b.integer(std::string(65'536, 'k'), 1); }),
                "has length 65536, at most 65535"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Values, GgufCorrupt,
    ::testing::Values(
        Corrupt{"unknown type", spoiled([](auto& b) { b.pair("k", 13, std::string(8, '\0')); }),
                "metadata 'k': unknown value type 13, expected 0 to 12"},
        Corrupt{"type minus 1",
                spoiled([](auto& b) { b.pair("k", UINT32_MAX, std::string(8, '\0')); }),
                "metadata 'k': unknown value type 4294967295"},
        Corrupt{"value cut short", spoiled([](auto& b) { b.pair("k", GgufBuilder::kU64, "1234"); }),
                "the file ends inside a metadata value"},
        Corrupt{"u64 beyond i64", spoiled([](auto& b) {
                  b.pair("k", GgufBuilder::kU64, bytes_of(uint64_t{1} << 63));
                }),
                "metadata 'k': 9223372036854775808 is beyond 2^63 - 1"},
        Corrupt{"bool of 2", spoiled([](auto& b) { b.pair("k", GgufBuilder::kBool, "\2"); }),
                "metadata 'k': a bool is 2, expected 0 or 1"},
        Corrupt{"text longer than the file",
                spoiled([](auto& b) { b.pair("k", GgufBuilder::kText, gguf_text("x", 2)); }),
                "a metadata text at byte 45 has length 2, the file has 1 bytes left"},
        Corrupt{"text of 2 to the 63 bytes", spoiled([](auto& b) {
                  b.pair("k", GgufBuilder::kText, gguf_text("x", uint64_t{1} << 63));
                }),
                "has length 9223372036854775808, the file has 1 bytes left"},
        Corrupt{"text of 2 to the 64 less 1 bytes", spoiled([](auto& b) {
                  b.pair("k", GgufBuilder::kText, gguf_text("x", UINT64_MAX));
                }),
                "has length 18446744073709551615"},
        Corrupt{"array of arrays", spoiled([](auto& b) {
                  b.array("k", GgufBuilder::kArray, 1, std::string(12, '\0'));
                }),
                "metadata 'k': arrays of arrays are not supported"},
        Corrupt{"arrays nested 10000 deep", spoiled([](auto& b) {
                  std::string deep;
                  for (int i = 0; i < 10'000; ++i) {
                    deep += bytes_of<uint32_t>(GgufBuilder::kArray) + bytes_of<uint64_t>(1);
                  }
                  b.pair("k", GgufBuilder::kArray, deep);
                }),
                "arrays of arrays are not supported"},
        Corrupt{"array of an unknown type",
                spoiled([](auto& b) { b.array("k", 77, 1, std::string(8, '\0')); }),
                "metadata 'k': unknown value type 77"},
        Corrupt{"array longer than the file",
                spoiled([](auto& b) { b.array("k", GgufBuilder::kI32, 3, std::string(8, '\0')); }),
                "an array's length is 3, the 8 bytes left hold at most 2"},
        Corrupt{"array of 2 to the 62 elements",
                spoiled([](auto& b) { b.array("k", GgufBuilder::kU8, uint64_t{1} << 62, ""); }),
                "an array's length is 4611686018427387904, the 0 bytes left"},
        Corrupt{"array whose bytes overflow", spoiled([](auto& b) {
                  b.array("k", GgufBuilder::kF64, (uint64_t{1} << 61) + 1, std::string(8, '\0'));
                }),
                "an array's length is 2305843009213693953"},
        Corrupt{"array of texts that are not there", spoiled([](auto& b) {
                  b.array("k", GgufBuilder::kText, 2, gguf_text("a long one, but one"));
                }),
                "the file ends inside an array's text"},
        Corrupt{"array with a text longer than the file",
                spoiled([](auto& b) { b.array("k", GgufBuilder::kText, 1, gguf_text("x", 100)); }),
                "an array's text at byte 57 has length 100, the file has 1 bytes left"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Alignment, GgufCorrupt,
    ::testing::Values(
        Corrupt{"alignment of another type", spoiled([](auto& b) {
                  b.pair("general.alignment", GgufBuilder::kU64, bytes_of<uint64_t>(32));
                }),
                "general.alignment has type 10, expected 4 (u32)"},
        Corrupt{"alignment as text", spoiled([](auto& b) { b.text("general.alignment", "32"); }),
                "general.alignment has type 8, expected 4 (u32)"},
        Corrupt{"alignment 0", spoiled([](auto& b) { b.integer("general.alignment", 0); }),
                "general.alignment is 0, expected a power of two"},
        Corrupt{"alignment 4", spoiled([](auto& b) { b.integer("general.alignment", 4); }),
                "general.alignment is 4, expected a power of two from 8"},
        Corrupt{"alignment not a power of two",
                spoiled([](auto& b) { b.integer("general.alignment", 48); }),
                "general.alignment is 48, expected a power of two"},
        Corrupt{"huge alignment",
                spoiled([](auto& b) { b.integer("general.alignment", 1u << 31); }),
                "general.alignment is 2147483648, expected a power of two from 8 to 1048576"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Tensors, GgufCorrupt,
    ::testing::Values(
        Corrupt{"empty name", spoiled([](auto& b) { b.tensor("", 0, {1}, "1234"); }),
                "empty tensor name"},
        Corrupt{"name too long",
                spoiled([](auto& b) { b.tensor(std::string(1025, 'n'), 0, {1}, "1234"); }),
                "a tensor name at byte 32 has length 1025, at most 1024"},
        Corrupt{"duplicate name",
                spoiled([](auto& b) { b.tensor("w", 0, {1}, "1234").tensor("w", 0, {1}, "1234"); }),
                "tensor 'w': duplicate name"},
        Corrupt{"five dimensions", one_tensor(0, {1, 1, 1, 1, 1}, 4),
                "tensor 'w': 5 dimensions, at most 4"},
        Corrupt{"2 to the 32 less 1 dimensions", spoiled([](auto& b) {
                  b.claimed_dimensions = UINT32_MAX;
                  b.tensor("w", 0, {1}, "1234");
                }),
                "tensor 'w': 4294967295 dimensions, at most 4"},
        Corrupt{"extent 0", one_tensor(0, {4, 0}, 0), "tensor 'w': extent 1 is 0"},
        Corrupt{"negative extent", one_tensor(0, {UINT64_MAX}, 4),
                "tensor 'w': size overflow: extent 0 is 18446744073709551615"},
        Corrupt{"product of extents overflows", one_tensor(0, {1ull << 32, 1ull << 32}, 4),
                "size overflow in 4294967296 * 4294967296"},
        Corrupt{"bytes overflow", one_tensor(0, {1ull << 62}, 4),
                "tensor 'w': [4611686018427387904]: dtype_row_bytes: size overflow"},
        Corrupt{"bytes overflow in rows", one_tensor(28, {1ull << 30, 1ull << 31}, 4),
                "tensor 'w': [2147483648, 1073741824]: bytes: size overflow"},
        Corrupt{"row does not fill blocks", one_tensor(8, {33}, 68),
                "tensor 'w': [33]: Q8_0: 33 elements do not fill blocks of 32"},
        Corrupt{"blocks across rows", one_tensor(2, {16, 2}, 18),
                "tensor 'w': [2, 16]: Q4_0: 16 elements do not fill blocks of 32"},
        Corrupt{"a type ggml removed", one_tensor(4, {32}, 18),
                "tensor 'w': unsupported ggml type 4"},
        Corrupt{"a type not supported", one_tensor(10, {256}, 84),
                "tensor 'w': unsupported ggml type 10"},
        Corrupt{"a type from the future", one_tensor(UINT32_MAX, {1}, 4),
                "tensor 'w': unsupported ggml type 4294967295"}),
    story_name);

INSTANTIATE_TEST_SUITE_P(
    Offsets, GgufCorrupt,
    ::testing::Values(
        Corrupt{"offset not aligned", one_tensor(0, {1}, 64, 4),
                "tensor 'w': offset 4 is not a multiple of the alignment 32"},
        Corrupt{"offset of 2 to the 63", one_tensor(0, {1}, 4, 1ull << 63),
                "tensor 'w': size overflow: offset 9223372036854775808"},
        Corrupt{"offset that overflows with the start", one_tensor(0, {1}, 4, INT64_MAX - 31),
                "tensor 'w': its 4 bytes at offset 9223372036854775776 of the data"},
        Corrupt{
            "offset beyond the end", one_tensor(0, {1}, 4, 32),
            "tensor 'w': its 4 bytes at offset 32 of the data, which starts at byte 64, lie beyond "
            "the end of the file at 68"},
        Corrupt{"size beyond the end", one_tensor(0, {1ull << 40}, 4),
                "tensor 'w': its 4398046511104 bytes at offset 0 of the data"},
        Corrupt{"data one byte short", one_tensor(0, {4}, 15),
                "its 16 bytes at offset 0 of the data, which starts at byte 64, lie beyond "
                "the end of the file at 79"},
        Corrupt{"two on the same bytes", spoiled([](auto& b) {
                  b.tensor("a", 0, {1}, "1234").tensor("b", 0, {1}, "1234", 0);
                }),
                " overlaps '"},
        Corrupt{"the first reaches into the second", spoiled([](auto& b) {
                  b.tensor("a", 0, {9}, std::string(64, 'x')).tensor("b", 0, {1}, "1234", 32);
                }),
                "tensor 'b' overlaps 'a'"}),
    story_name);

GgufBuilder small_file() {
  GgufBuilder builder;
  builder.integer("general.alignment", 32)
      .text("general.name", "small")
      .texts("tokens", {"a", "bc"})
      .reals("scores", {1, 2})
      .tensor("w", 8, {32, 2}, std::string(68, 'q'))
      .tensor("b", 0, {2}, std::string(8, 'f'));
  return builder;
}

TEST(GgufDamage, EveryTruncationIsRefused) {
  const std::string whole = small_file().build();
  std::vector<char> memory;
  ASSERT_EQ(parse(whole, memory)->tensors().size(), 2u);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THAT(refusal(whole.substr(0, length)), StartsWith("m.gguf: ")) << length;
  }
}

// Flipped bits may give another valid file, never one that reaches outside its bytes.
TEST(GgufDamage, EveryFlippedBitIsReadInsideTheFileOrRefused) {
  const std::string whole = small_file().build();
  int64_t refused = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      std::vector<char> memory;
      try {
        const auto file = parse(bytes, memory);
        const auto* begin = reinterpret_cast<const std::byte*>(memory.data());
        for (const TensorView& tensor : file->tensors()) {
          ASSERT_GE(tensor.data, begin);
          ASSERT_LE(tensor.data + tensor.bytes, begin + memory.size());
        }
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int64_t>(whole.size()));
}

}  // namespace
}  // namespace mneme
