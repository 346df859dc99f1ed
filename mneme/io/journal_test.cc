#include "mneme/io/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "mneme/core/error.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

std::string message(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Journal, RemembersWhatWasAppended) {
  const TemporaryFolder folder;
  const std::string path = folder / "j.jsonl";
  {
    Journal journal(path, false);
    EXPECT_EQ(journal.size(), 0);
    journal.append("a", R"({"x": 1})");
    journal.append("b", R"({"text": "two\nlines", "n": [1, 2]})");
    journal.append("a", R"({"x": 2})");
    ASSERT_NE(journal.find("a"), nullptr);
    EXPECT_EQ(*journal.find("a"), R"({"x":2})");
  }
  Journal again(path, false);
  EXPECT_EQ(again.size(), 2);
  EXPECT_EQ(again.damage(), "");
  EXPECT_EQ(*again.find("a"), R"({"x":2})");
  EXPECT_EQ(*again.find("b"), R"({"text":"two\nlines","n":[1,2]})");
  EXPECT_EQ(again.find("c"), nullptr);
}

TEST(Journal, FreshForgets) {
  const TemporaryFolder folder;
  const std::string path = folder / "j.jsonl";
  Journal(path, false).append("a", "1");
  Journal fresh(path, true);
  EXPECT_EQ(fresh.size(), 0);
  fresh.append("b", "2");
  EXPECT_EQ(read_file(path), "{\"key\":\"b\",\"value\":2}\n");
}

TEST(Journal, EveryPlaceWhereALineCanBeCutOffLeavesTheLinesBefore) {
  const TemporaryFolder folder;
  const std::string path = folder / "j.jsonl";
  const std::string first = "{\"key\":\"a\",\"value\":1}\n",
                    second = "{\"key\":\"b\",\"value\":2}\n";
  for (size_t cut = 1; cut < second.size(); ++cut) {
    write_file(path, first + second.substr(0, cut));
    Journal journal(path, false);
    EXPECT_EQ(journal.size(), 1);
    EXPECT_THAT(journal.damage(), HasSubstr("its last line is cut off"));
    journal.append("c", "3");
    EXPECT_EQ(read_file(path), first + "{\"key\":\"c\",\"value\":3}\n");
  }
}

TEST(Journal, DamagedLinesArePassedOver) {
  const JournalParts parts = parse_journal(
      "{\"key\":\"a\",\"value\":1}\nnonsense\n[1]\n{\"key\":7,\"value\":1}\n{\"key\":\"b\"}\n"
      "{\"key\":\"c\",\"value\":{}}\n{\"ke");
  EXPECT_EQ(parts.values.size(), 2u);
  EXPECT_EQ(parts.damage,
            "4 lines are damaged, the first is line 2; its last line is cut off (4 bytes)");
  EXPECT_EQ(parse_journal("").values.size(), 0u);
  const std::string deep =
      "{\"key\":\"a\",\"value\":" + std::string(100000, '[') + std::string(100000, ']') + "}\n";
  EXPECT_EQ(parse_journal(deep).damage, "1 line is damaged, the first is line 1");
}

TEST(Journal, RefusesWhatItMustNotWrite) {
  const TemporaryFolder folder;
  write_file(folder / "book.txt", "Once upon a time\n");
  EXPECT_THAT(message([&] { Journal(folder / "book.txt", true); }), HasSubstr("is no journal"));
  EXPECT_EQ(read_file(folder / "book.txt"), "Once upon a time\n");
  EXPECT_THAT(message([&] { Journal(folder / "no/such", false); }),
              HasSubstr("No such file or directory"));
  const Journal held(folder / "j.jsonl", false);
  EXPECT_THAT(message([&] { Journal(folder / "j.jsonl", false); }),
              HasSubstr("another run is writing it"));
}

}  // namespace
}  // namespace mneme
