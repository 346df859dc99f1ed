// Runs a syntax tree: scopes, loops, macros and output, under the limits of limits.h. One object
// renders once. Tests: chat_template_oracle_test.cc, tests/templates/snippets.json.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mneme/io/jinja/ast.h"
#include "mneme/io/jinja/value.h"

namespace mneme::jinja {

// Names of one block; lookups go on in the block around.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}
  Value* find(std::string_view name);  // here only
  void set(const std::string& name, Value value);

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> variables;
};

class Interpreter {
 public:
  // strftime_now() shows `now_seconds` since the epoch in UTC, or else the clock in local time.
  explicit Interpreter(std::optional<int64_t> now_seconds = std::nullopt);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // A variable that the template finds from its first line on.
  void define(const std::string& name, Value value);
  // Throws Error("line N: ...").
  Text render(const Block& block);

  // For built-ins.
  void charge(int64_t steps);
  void charge_for(const Value& value);
  Value call(const Value& callee, Arguments& arguments);
  Value apply_filter(const std::string& name, const Value& input, Arguments& arguments);
  bool apply_test(const std::string& name, const Value& input, Arguments& arguments);
  std::shared_ptr<Namespace> make_namespace();
  std::optional<int64_t> now_seconds() const { return now_seconds_; }

 private:
  enum class Flow { kNext, kBreak, kContinue };

  Flow run(const Block& block);
  Flow run(const Statement& statement);
  Flow run_if(const Statement& statement);
  Flow run_for(const Statement& statement);
  Flow run_scoped(const Block& block);
  void run_with(const Statement& statement);
  void run_call_block(const Statement& statement);
  Text capture(const Block& block);
  void emit(const Text& text);

  void assign(const Target& target, const Value& value);
  const Value* find(std::string_view name) const;
  Value make_macro(const MacroDefinition& macro);
  Value call_macro(const MacroDefinition& macro, const std::shared_ptr<Scope>& scope,
                   Arguments& arguments);
  void bind_parameters(const MacroDefinition& macro, Arguments& arguments);

  Value evaluate(const Expression& expression);
  Value evaluate_node(const Expression& expression);
  Value evaluate_name(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_filter(const Expression& expression);
  bool evaluate_compare(const Expression& expression);
  // The value of a child that may be missing: None.
  Value evaluate_optional(const ExpressionPtr& expression);
  Arguments evaluate_arguments(const CallArguments& arguments);

  std::optional<int64_t> now_seconds_;
  std::shared_ptr<Scope> scope_;
  Text* out_ = nullptr;
  const Text* block_text_ = nullptr;  // what a filter without input applies to
  int32_t line_ = 1;
  int depth_ = 0;
  int64_t steps_ = 0;
  // Namespaces and the scopes of macros can refer to each other in circles: the destructor empties
  // them.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  std::vector<std::shared_ptr<Scope>> captured_;
};

}  // namespace mneme::jinja
