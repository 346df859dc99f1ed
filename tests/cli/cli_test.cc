// The command line as a user meets it: the built binary, real processes, exit codes, what it
// prints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <vector>

#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_gguf.h"

namespace mneme {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Outcome {
  int code = -1;
  std::string out;
};

// Runs `mneme <arguments>` through the shell; `out` is stdout, or both streams with "2>&1".
Outcome run(const std::string& arguments) {
  const std::string command = "MNEME_MODEL= " MNEME_BINARY " " + arguments;
  std::FILE* pipe = popen(command.c_str(), "r");
  Outcome outcome;
  std::array<char, 4096> buffer;
  while (const size_t bytes = std::fread(buffer.data(), 1, buffer.size(), pipe))
    outcome.out.append(buffer.data(), bytes);
  const int status = pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

class Cli : public ::testing::Test {
 protected:
  Cli() { testing::write_file(model_, testing::tiny_llama_gguf().build()); }
  // A command on the tiny model.
  Outcome with_model(const std::string& command, const std::string& arguments) {
    return run(command + " --threads 1 --model '" + model_ + "' " + arguments);
  }
  // One line on stderr and exit code 2.
  void expect_refusal(const Outcome& outcome, const std::string& text) {
    EXPECT_EQ(outcome.code, 2) << outcome.out;
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("mneme: "), HasSubstr(text)));
  }

  testing::TemporaryFolder folder_;
  std::string model_ = folder_ / "tiny.gguf";
};

TEST_F(Cli, RunPrintsOneJsonObject) {
  const Outcome outcome =
      with_model("run", "-p 'Once upon a time' -n 12 --ignore-end --memory 'q8(group=32)' --json");
  ASSERT_EQ(outcome.code, 0) << outcome.out;
  const auto json = nlohmann::json::parse(outcome.out);
  for (const char* key : {"text", "tokens", "prompt_tokens", "reused_tokens",
                          "prefill_tokens_per_s", "decode_tokens_per_s", "memory"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["prompt_tokens"], 16);
  EXPECT_EQ(json["tokens"].size(), 12u);
  EXPECT_EQ(json["memory"]["spec"], "q8(group=32,rotate=none,fit=edges)");
  EXPECT_GT(json["memory"]["resident_bytes"], 0);
  EXPECT_EQ(json["memory"]["logical_bytes"], (16 + 12) * 2 * 2 * 64 * 2);
  EXPECT_GE(json["memory"]["peak_bytes"], json["memory"]["resident_bytes"]);
}

TEST_F(Cli, RunReadsFilesAndStandardInputAndRepeatsItself) {
  testing::write_file(folder_ / "prompt.txt", "The same text");
  const std::string file = with_model("run", "-n 20 -q -f '" + (folder_ / "prompt.txt") + "'").out;
  const std::string text = with_model("run", "-n 20 -q -p 'The same text'").out;
  const Outcome piped = run("run --threads 2 -n 20 -q --model '" + model_ + "' -f - < '" +
                            (folder_ / "prompt.txt") + "'");
  EXPECT_FALSE(file.empty());
  EXPECT_EQ(file, text);
  EXPECT_EQ(file, piped.out);
  const std::string sampled =
      with_model("run", "-n 20 -q -p x --temperature 1 --top-k 0 --seed 5").out;
  EXPECT_EQ(sampled, with_model("run", "-n 20 -q -p x --temperature 1 --top-k 0 --seed 5").out);
  EXPECT_NE(sampled, with_model("run", "-n 20 -q -p x --temperature 1 --top-k 0 --seed 6").out);
}

TEST_F(Cli, PlanAgreesWithRun) {
  for (const char* spec : {"full", "q8(group=32)", "q4(group=32)", "sliding(window=100,sink=4)"}) {
    const std::string memory = std::string(" --memory '") + spec + "' --json";
    std::ofstream(folder_ / "long.txt") << std::string(400, 'x');
    const auto plan = nlohmann::json::parse(with_model("plan", "--tokens 400" + memory).out);
    const auto ran = nlohmann::json::parse(
        with_model("run", "-n 0 -f '" + (folder_ / "long.txt") + "'" + memory).out);
    int64_t total = 0;
    int64_t memory_bytes = 0;
    for (const auto& part : plan["parts"]) {
      total += part["bytes"].get<int64_t>();
      if (part["name"] == "memory") memory_bytes = part["bytes"];
    }
    EXPECT_EQ(plan["total_bytes"], total);
    EXPECT_EQ(memory_bytes, ran["memory"]["resident_bytes"]) << spec;
  }
}

TEST_F(Cli, WeightsAsInt8) {
  const std::string prompt = "-p 'The same text' -n 8 --ignore-end --json ";
  const auto stored = nlohmann::json::parse(with_model("run", prompt).out);
  const auto int8 = nlohmann::json::parse(with_model("run", prompt + "--weights int8").out);
  EXPECT_EQ(stored["weights"]["form"], "file");
  EXPECT_EQ(int8["weights"]["form"], "int8(threshold=6,activations=auto,keep_original=false)");
  EXPECT_LT(int8["weights"]["linear_bytes"].get<double>(),
            0.3 * stored["weights"]["linear_bytes"].get<double>());
  EXPECT_EQ(int8["tokens"].size(), 8u);

  const auto plan = nlohmann::json::parse(with_model("plan", "--json --weights int8").out);
  EXPECT_EQ(plan["weights"], int8["weights"]);
  EXPECT_EQ(plan["parts"][0]["bytes"], int8["weights"]["bytes"]);
  EXPECT_LT(plan["parts"][0]["bytes"],
            nlohmann::json::parse(with_model("plan", "--json").out)["parts"][0]["bytes"]);

  EXPECT_THAT(run("explain int8").out,
              AllOf(HasSubstr("2208.07339"), HasSubstr("Why decoding is weight-only")));
  const std::string text = "-p '" + std::string(50, 'x') + "' ";
  const auto study = nlohmann::json::parse(
      with_model("weights", text + "--json --weights 'int8(threshold=1)' --weights zeropoint").out);
  EXPECT_EQ(study["forms"].size(), 2u);
  EXPECT_THAT(with_model("weights", text + "-q --weights 'int8(threshold=1)'").out,
              AllOf(HasSubstr("ratio"), HasSubstr("Share of outlier columns in each layer")));
  expect_refusal(with_model("run", "-p x --weights int4 2>&1"),
                 "unknown form of weights 'int4', expected file, float or int8");
}

TEST_F(Cli, AlisasTiersArePredictedAndMeasured) {
  std::string text(200, ' ');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  const std::string page = folder_ / "tiers.html", arguments = "-p '" + text + "' --tokens 180 ";
  const auto study = nlohmann::json::parse(
      with_model("profile alisa", arguments +
                                      "--steps 20 --ratio 0.3 --block 4 --capacity 88 "
                                      "--slow same --json --html '" +
                                      page + "'")
          .out);
  EXPECT_EQ(study["prompt"], 160);
  EXPECT_EQ(study["runs"].size(), 3u);
  for (const auto& run : study["runs"]) {
    EXPECT_EQ(run["steps"].size(), 20u);
    EXPECT_TRUE(run["same_answers"]);
    EXPECT_LE(run["fast_tokens"], 88);
  }
  EXPECT_TRUE(std::filesystem::exists(page));
  // What it recommends is a memory.
  const std::string best = study["best"];
  EXPECT_EQ(run("explain '" + best + "'").code, 0);
  expect_refusal(with_model("profile alisa", arguments + "--capacity 0 -q 2>&1"),
                 "nothing to schedule");
  expect_refusal(with_model("profile alisa", "-p short 2>&1"), "--tokens asks for 1088");
}

TEST_F(Cli, HeadsOfAModelThatKnowsNothingAreRefused) {
  const std::string map = folder_ / "map.jsonl";
  expect_refusal(
      with_model("heads retrieval",
                 "--needles 1 --depths 50 --lengths 450 -n 4 -q --out '" + map + "' 2>&1"),
      "the model answered none of 2 prompts: no head can be scored");
  expect_refusal(with_model("heads conflict", "-q 2>&1"), "the model knows 0 of 100 capitals");
  expect_refusal(with_model("heads retrieval", "-q --depths 101 2>&1"),
                 "0 to 100 percent, got 101");
  EXPECT_FALSE(std::filesystem::exists(map));
}

TEST_F(Cli, HeadsOfARealModelAreSavedAndUsed) {
  const char* path = std::getenv("MNEME_MODEL");
  if (path == nullptr || *path == '\0') GTEST_SKIP() << "MNEME_MODEL is not set";
  const std::string map = folder_ / "map.jsonl", page = folder_ / "map.html";
  const Outcome outcome =
      run(std::string("heads retrieval --json --mask none --needles 2 --depths 30 --model '") +
          path + "' --out '" + map + "' --html '" + page + "'");
  ASSERT_EQ(outcome.code, 0) << outcome.out;
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["prompts"], 4);
  EXPECT_GE(json["accepted"], 2);
  EXPECT_LT(json["share"], 0.15);
  std::vector<std::pair<int, int>> best;
  for (size_t i = 0; i < 4; ++i)
    best.emplace_back(json["heads"][i]["layer"], json["heads"][i]["head"]);
  EXPECT_THAT(best, ::testing::IsSupersetOf({std::pair(18, 6), std::pair(23, 2)}));
  EXPECT_THAT(testing::read_file(page), HasSubstr("layer 18, head 6"));
  const Outcome plan =
      run(std::string("plan --json --tokens 4000 --model '") + path +
          "' --memory full --memory 'retrieval-heads(share=0.05,window=64,file=" + map + ")'");
  ASSERT_EQ(plan.code, 0) << plan.out;
  EXPECT_THAT(plan.out, HasSubstr("retrieval-heads(file=" + map));
}

TEST_F(Cli, ListExplainInspectTokenizeAndCheck) {
  const auto list = nlohmann::json::parse(run("list --json").out);
  ASSERT_TRUE(list.is_array());
  for (const auto& entry : list) {
    for (const char* key : {"spec", "paper", "kind", "state", "capabilities"})
      EXPECT_TRUE(entry.contains(key)) << key;
  }
  EXPECT_THAT(
      run("explain 'sliding+q4'").out,
      AllOf(HasSubstr("sliding(window=512,sink=4)+q4(group=64,rotate=hadamard,fit=squares)"),
            HasSubstr("2309.17453")));
  const auto header = nlohmann::json::parse(run("inspect --json '" + model_ + "'").out);
  EXPECT_EQ(header["format"], "GGUF");
  EXPECT_EQ(header["tensors"].size(), 20u);
  const auto tokens =
      nlohmann::json::parse(with_model("tokenize", "--json --special '<|im_start|>hi'").out);
  EXPECT_EQ(tokens["ids"], nlohmann::json({258, 'h', 'i'}));
  EXPECT_EQ(tokens["count"], 3);
  EXPECT_EQ(tokens["pieces"][0], "<|im_start|>");
  EXPECT_EQ(nlohmann::json::parse(with_model("tokenize", "--json '<|im_start|>hi'").out)["count"],
            14);
  EXPECT_EQ(run("check -q '" + model_ + "'").code, 0);
  testing::TinyGguf bad = testing::tiny_llama_gguf();
  bad.tensors["output_norm.weight"].values[3] = std::numeric_limits<float>::quiet_NaN();
  testing::write_file(folder_ / "nan.gguf", bad.build());
  const Outcome checked = run("check '" + (folder_ / "nan.gguf") + "'");
  EXPECT_EQ(checked.code, 2);
  EXPECT_THAT(checked.out, HasSubstr("output_norm.weight: 1 NaN, 0 infinite"));
}

TEST_F(Cli, ChatAnswersEachLineAndReusesWhatItHolds) {
  testing::write_file(folder_ / "lines.txt",
                      "hello\n/memory\n\nagain\n/history\n/reset\n/help\n/quit\nnever read\n");
  const Outcome plain = run("chat --threads 1 -n 8 --ignore-end -q --model '" + model_ + "' < '" +
                            (folder_ / "lines.txt") + "'");
  EXPECT_EQ(plain.code, 0);
  EXPECT_THAT(plain.out,
              AllOf(HasSubstr("full(dtype=f16): "), HasSubstr("user: hello"),
                    HasSubstr("user: again"), HasSubstr("/reset"), Not(HasSubstr("never read"))));
  testing::write_file(folder_ / "two.txt", "hello\nagain\n");
  const Outcome json = run("chat --threads 1 -n 8 --json --model '" + model_ + "' < '" +
                           (folder_ / "two.txt") + "'");
  std::istringstream lines(json.out);
  std::string line;
  std::vector<nlohmann::json> turns;
  while (std::getline(lines, line)) turns.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns[0]["reused_tokens"], 0);
  EXPECT_GE(turns[1]["reused_tokens"].get<int64_t>(), turns[0]["prompt_tokens"].get<int64_t>() - 1);
}

TEST_F(Cli, CompareSweepsAParameter) {
  const std::string prompt = "-p '" + std::string(80, 'x') + "' -n 2 --tail 8 --json ";
  const Outcome outcome = with_model(
      "compare", prompt + "--memory full --memory 'streaming(budget=$b)' --sweep b=0.2,0.4");
  ASSERT_EQ(outcome.code, 0) << outcome.out;
  const auto rows = nlohmann::json::parse(outcome.out);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1]["memory"]["spec"], "streaming(budget=0.2,rows=0,sink=4)");
  EXPECT_EQ(rows[2]["memory"]["spec"], "streaming(budget=0.4,rows=0,sink=4)");
  expect_refusal(with_model("compare", prompt + "--memory full --sweep b=0.1 2>&1"),
                 "sweep b: no --memory uses $b");
  expect_refusal(with_model("compare", prompt + "--memory 'streaming(budget=$c)' 2>&1"),
                 "uses $c, expected the name of a --sweep");
  expect_refusal(
      with_model("compare", prompt + "--memory 'streaming(budget=$b)' --sweep b=0.1,0.1 2>&1"),
      "the value '0.1' is given twice");
}

// Lines of a journal by their keys; empty where there is none.
std::vector<std::string> journal_keys(const std::string& path) {
  std::vector<std::string> keys;
  if (!std::filesystem::exists(path)) return keys;
  std::istringstream lines(testing::read_file(path));
  std::string line;
  while (std::getline(lines, line)) keys.push_back(nlohmann::json::parse(line).at("key"));
  return keys;
}

// The rows without what is measured by a clock.
nlohmann::json without_times(const std::string& json) {
  auto rows = nlohmann::json::parse(json);
  for (auto& row : rows) {
    for (const char* key : {"prefill_tokens_per_s", "decode_tokens_per_s", "seconds", "speed"})
      row.erase(key);
  }
  return rows;
}

TEST_F(Cli, CompareGoesOnWhereItWasKilled) {
  std::string depths = "0";
  for (int i = 1; i <= 40; ++i) depths += "," + std::to_string(i / 40.0);
  const std::string arguments =
      "--task needle,multikey,vartrack --lengths 490 --depths " + depths +
      " --memory full --memory 'snapkv(budget=$b)' --sweep b=0.2,0.5 --json ";
  const std::string page = folder_ / "page.html", journal = page + ".journal";
  const std::string command = "compare --threads 1 --model '" + model_ + "' " + arguments;
  // Killed without warning once a few parts are there.
  const Outcome killed = run(command + "-q --out '" + page + "' > /dev/null & child=$!; " +
                             "while [ \"$(cat '" + journal +
                             "' 2>/dev/null | wc -l)\" -lt 5 ]; do sleep 0.01; done; "
                             "kill -KILL $child; wait $child; echo code $?");
  EXPECT_THAT(killed.out, HasSubstr("code 137"));
  const auto before = journal_keys(journal);
  ASSERT_GE(before.size(), 5u);
  ASSERT_LT(before.size(), 3u * 3 * 41);
  EXPECT_EQ(folder_.names(),
            (std::vector<std::string>{"page.html.journal", "tiny.gguf"}));  // nothing left lying
  std::ofstream(journal, std::ios::app) << "{\"key\":\"cut o";

  const Outcome resumed = run(command + "--out '" + page + "' 2> '" + (folder_ / "log") + "'");
  ASSERT_EQ(resumed.code, 0) << resumed.out;
  EXPECT_THAT(testing::read_file(folder_ / "log"),
              AllOf(HasSubstr("page.html.journal: its last line is cut off (13 bytes)"),
                    HasSubstr(std::to_string(before.size()) + " of 369 parts are there from "
                                                              "earlier, ")));
  const auto after = journal_keys(journal);
  EXPECT_EQ(after.size(), 3u * 3 * 41);
  EXPECT_EQ(std::set(after.begin(), after.end()).size(), after.size());  // none was run twice
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
  EXPECT_THAT(testing::read_file(page),
              AllOf(HasSubstr("Needle among needles"), HasSubstr("What was kept, head by head")));

  const Outcome alone = run(command + "-q");
  EXPECT_EQ(without_times(resumed.out), without_times(alone.out));
  // Once more: everything is there.
  const Outcome again = run(command + "--out '" + page + "' 2>&1 >/dev/null");
  EXPECT_THAT(again.out, HasSubstr("369 of 369 parts are there from earlier, 0 to do"));
  EXPECT_EQ(journal_keys(journal).size(), after.size());
  // Other options are other parts.
  run("compare --threads 1 -q --task needle --lengths 480 --depths 0 --memory full --model '" +
      model_ + "' --out '" + page + "' > /dev/null");
  EXPECT_EQ(journal_keys(journal).size(), after.size() + 1);
  run("compare --threads 1 -q --task needle --lengths 480 --depths 0 --memory full --model '" +
      model_ + "' --fresh --out '" + page + "' > /dev/null");
  EXPECT_EQ(journal_keys(journal).size(), 1u);
}

TEST_F(Cli, CompareDoesEveryTask) {
  testing::write_file(folder_ / "text.txt", std::string(100, 'x') + std::string(100, 'y'));
  const std::string memories = "--memory full --memory 'tova(budget=0.3)' ";
  const Outcome json =
      with_model("compare", memories + "--task perplexity,kl --score 30 --json -f '" +
                                (folder_ / "text.txt") + "'");
  ASSERT_EQ(json.code, 0) << json.out;
  const auto rows = nlohmann::json::parse(json.out);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1]["quality"]["task"], "perplexity");
  EXPECT_EQ(rows[1]["quality"]["tokens"], 30);
  EXPECT_EQ(rows[1]["prompt_tokens"], 170);
  EXPECT_GT(rows[1]["quality"]["perplexity"], 1);
  EXPECT_EQ(rows[2]["quality"]["kl"]["mean"], 0);
  EXPECT_GT(rows[3]["quality"]["kl"]["mean"], 0);
  const Outcome table =
      with_model("compare", memories +
                                "--task needle,multikey,vartrack,aggregate --lengths 480,490 "
                                "--depths 0.5 2>&1");
  ASSERT_EQ(table.code, 0) << table.out;
  EXPECT_THAT(table.out, AllOf(HasSubstr("vartrack"), HasSubstr("aggregate"), HasSubstr("at 490"),
                               HasSubstr("tova(budget=0.3)"), HasSubstr("parts done")));
  // Without a text the task is needle.
  EXPECT_THAT(with_model("compare", memories + "--lengths 400 --depths 0.5 --json").out,
              HasSubstr("\"needle\""));
}

TEST_F(Cli, CompareRefusesTasksThatCannotBe) {
  expect_refusal(with_model("compare", "--task needle,kll 2>&1"), "unknown task 'kll'");
  expect_refusal(with_model("compare", "--task needle,needle 2>&1"),
                 "the task needle is given twice");
  expect_refusal(with_model("compare", "--task needle,prompt -p x 2>&1"), "prompt alone");
  expect_refusal(with_model("compare", "--task kl 2>&1"), "give either --prompt TEXT or --file");
  expect_refusal(with_model("compare", "--task kl -p xxx 2>&1"),
                 "a text of more than 256 tokens is needed");
  expect_refusal(with_model("compare", "-p x --out '" + (folder_ / "p.html") + "' 2>&1"),
                 "for a prompt give --html");
  expect_refusal(with_model("compare", "--fresh 2>&1"), "give --out");
  expect_refusal(with_model("compare", "--out '" + folder_.path() + "/none/p.html' 2>&1"),
                 "No such file or directory");
  expect_refusal(with_model("compare", "--lengths 20 2>&1"), "needle: a prompt has at least");
  testing::write_file(folder_ / "b.html.journal", "a diary\n");
  expect_refusal(with_model("compare", "--out '" + (folder_ / "b.html") + "' 2>&1"),
                 "is no journal of this program");
}

TEST_F(Cli, EveryCommandHasHelpWithAnExample) {
  EXPECT_EQ(run("--version").code, 0);
  for (const char* command :
       {"run", "chat", "compare", "plan", "weights", "list", "explain", "inspect", "tokenize",
        "check", "heads retrieval", "heads conflict", "profile hylra", "profile alisa"}) {
    const Outcome help = run(std::string(command) + " --help");
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_THAT(help.out, AllOf(HasSubstr("Example:\n  mneme "), HasSubstr("--json"))) << command;
  }
}

TEST_F(Cli, BadInputIsOneLineAndExitCodeTwo) {
  EXPECT_EQ(run("2>&1").code, 2);
  EXPECT_EQ(run("fly 2>&1").code, 2);
  expect_refusal(with_model("run", "-p x --memory slidng 2>&1"),
                 "character 1: no memory is called 'slidng'; did you mean 'sliding'? Known: full, "
                 "q8, q4, sliding");
  expect_refusal(with_model("run", "2>&1"), "give either --prompt TEXT or --file FILE");
  expect_refusal(with_model("run", "-p x -f y 2>&1"), "give either --prompt TEXT or --file FILE");
  expect_refusal(with_model("run", "-f '" + folder_.path() + "' 2>&1"), folder_.path());
  expect_refusal(with_model("run", "-p x --budget 3furlongs 2>&1"),
                 "expected a number of bytes such as 500000, 64MiB or 1.5GiB, got '3furlongs'");
  expect_refusal(with_model("run", "-p x --temperature -1 2>&1"),
                 "temperature must be 0 to 100, got -1");
  expect_refusal(with_model("run", "-p x --stop '' 2>&1"), "stop strings must not be empty");
  expect_refusal(run("run --model /no/such/model.gguf -p x 2>&1"), "/no/such/model.gguf");
  expect_refusal(run("inspect /no/such/file 2>&1"), "/no/such/file");
  expect_refusal(run("explain 'q4(group=7)' 2>&1"), "'group' must be one of 32, 64, 128; got '7'");
  expect_refusal(run("list > /dev/null; cd / && MNEME_MODEL= " MNEME_BINARY " run -p x 2>&1"),
                 "no model: give --model FILE.gguf");
}

TEST_F(Cli, TrainingSaysWhereItNeedsTorch) {
  const std::string alone = folder_ / "mneme";
  expect_refusal(run("--version > /dev/null; cp " MNEME_BINARY " " + alone + "; " + alone +
                     " train router --steps 1 2>&1"),
                 "training needs torch, which this build was made without (" + folder_.path() +
                     "/mneme-train is not there): run tools/install_torch.sh and build again");
}

TEST_F(Cli, TrainedRoutersRun) {
  if (!std::ifstream(MNEME_BINARY "-train").good()) GTEST_SKIP() << "built without torch";
  std::string text;
  for (int line = 0; line < 400; ++line) text += "Line " + std::to_string(line) + " of the text.\n";
  testing::write_file(folder_ / "text", text);
  const std::string routers = folder_ / "routers.safetensors", plot = folder_ / "plot.html";
  const Outcome trained = with_model(
      "train router", "--file " + (folder_ / "text") + " --out " + routers + " --plot " + plot +
                          " --steps 2 --batch 2 --length 500 --answer 20 --held-out 2 2>&1");
  ASSERT_EQ(trained.code, 0) << trained.out;
  EXPECT_THAT(trained.out, AllOf(HasSubstr("held out, before: needle: 0.0 % stream"),
                                 HasSubstr("held out, after: "), HasSubstr("2 steps in ")));
  EXPECT_THAT(testing::read_file(plot), AllOf(HasSubstr("<svg"), HasSubstr("sparsity loss")));
  const std::string spec = trained.out.substr(trained.out.rfind("flux("));
  const Outcome answer = with_model(
      "run", "-p 'Line 7' -n 4 --json --memory '" + spec.substr(0, spec.find('\n')) + "'");
  EXPECT_EQ(answer.code, 0) << answer.out;
  EXPECT_EQ(nlohmann::json::parse(answer.out)["prompt_tokens"], 6);
  EXPECT_EQ(with_model("train router",
                       "--file " + (folder_ / "text") + " --out " + routers + " --length 5000 2>&1")
                .code,
            2);
  EXPECT_EQ(run("train --help").code, 0);
  EXPECT_THAT(run("train router --help").out, HasSubstr("Example:\n  mneme train router"));
}

TEST_F(Cli, APromptOverTheContextSaysByHowMuchAndWhatWouldHoldIt) {
  testing::write_file(folder_ / "long.txt", std::string(700, 'x'));
  const std::string file = "-n 4 -q -f '" + (folder_ / "long.txt") + "'";
  expect_refusal(
      with_model("run", file + " 2>&1"),
      "the prompt has 700 tokens: the text is 188 tokens longer than the model's context of "
      "512; "
      "'sliding(window=256,sink=0)' would hold it");
  EXPECT_EQ(with_model("run", file + " --memory 'sliding(window=256,sink=0)'").code, 0);
}

TEST_F(Cli, APromptOverTheBudgetNamesMemoriesThatFit) {
  testing::write_file(folder_ / "long.txt", std::string(500, 'x'));
  const std::string file = "-n 4 -q -f '" + (folder_ / "long.txt") + "'";
  const Outcome refused = with_model("run", file + " --budget 200KiB 2>&1");
  expect_refusal(refused, "more than the budget of 200.0 KiB");
  EXPECT_EQ(with_model("run", file + " --budget 1MiB").code, 0);
}

TEST_F(Cli, AFullDiskIsOneLineToo) {
  const Outcome full = run("run --threads 1 -n 4 -q --model '" + model_ + "' -p x 2>&1 >/dev/full");
  expect_refusal(full, "standard output");
  expect_refusal(run("list --json 2>&1 >/dev/full"), "standard output: No space left on device");
}

TEST_F(Cli, CtrlCEndsTheTextCleanly) {
  const Outcome outcome =
      run("run --threads 1 -n 100000000 --ignore-end --memory 'sliding(window=64,sink=0)' -q "
          "--model '" +
          model_ + "' -p x > '" + (folder_ / "out.txt") +
          "' & child=$!; sleep 1; kill -INT $child; wait $child; echo code $?");
  EXPECT_THAT(outcome.out, HasSubstr("code 130"));
  EXPECT_FALSE(testing::read_file(folder_ / "out.txt").empty());
}

}  // namespace
}  // namespace mneme
