// Compares with the ids that tools/oracle/tokenizer_oracle.py wrote for a model; skipped without
// it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "mneme/io/tokenizer.h"

namespace mneme {
namespace {

TEST(TokenizerOracle, GivesTheIdsOfLlamaCppOnEveryLine) {
  const char* model = std::getenv("MNEME_MODEL");
  const char* oracle = std::getenv("MNEME_TOKENIZER_ORACLE");
  if (model == nullptr || oracle == nullptr)
    GTEST_SKIP() << "MNEME_MODEL and MNEME_TOKENIZER_ORACLE are not set";
  const auto file = GgufFile::open(model);
  const auto tokenizer = Tokenizer::from_gguf(*file);
  std::ifstream in(oracle);
  ASSERT_TRUE(in) << oracle;
  int records = 0, different = 0, round_trips = 0;
  for (std::string line; std::getline(in, line); ++records) {
    const auto record = nlohmann::json::parse(line);
    const auto text = record["text"].get<std::string>();
    const bool special = record["special"].get<bool>();
    const auto ids =
        tokenizer->encode(text, special ? SpecialTokens::kParse : SpecialTokens::kAsText);
    if (ids != record["ids"].get<std::vector<int32_t>>() && ++different <= 5)
      ADD_FAILURE() << "record " << records << " special " << special << "\ntext "
                    << nlohmann::json(text) << "\nours " << nlohmann::json(ids) << "\noracle "
                    << record["ids"];
    if (!record["round_trip"].get<bool>()) continue;
    ++round_trips;
    ASSERT_EQ(tokenizer->decode(ids, true), text) << "record " << records;
  }
  EXPECT_EQ(different, 0);
  EXPECT_GT(records, 0);
  std::cout << records << " records, " << different << " differ, " << round_trips
            << " round trips\n";
}

// Prints only: megabytes of a text file encoded in a second of this thread's processor time.
TEST(TokenizerOracle, PrintsTheSpeedOnATextFile) {
  const char* model = std::getenv("MNEME_MODEL");
  const char* path = std::getenv("MNEME_TEXT");
  if (model == nullptr || path == nullptr) GTEST_SKIP() << "MNEME_MODEL and MNEME_TEXT are not set";
  const auto file = GgufFile::open(model);
  const auto tokenizer = Tokenizer::from_gguf(*file);
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const std::clock_t start = std::clock();
  const auto ids = tokenizer->encode(text);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_FALSE(ids.empty());
  std::cout << text.size() << " bytes, " << ids.size() << " tokens, "
            << static_cast<double>(text.size()) / 1e6 / seconds << " MB/s\n";
}

}  // namespace
}  // namespace mneme
