// Statements: output, control flow, scopes and macros.
#include "mneme/io/jinja/interpreter.h"

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/limits.h"
#include "mneme/io/jinja/nesting.h"

namespace mneme::jinja {
namespace {

// Restores a member when the block that changed it ends.
template <typename T>
class Restored {
 public:
  Restored(T* member, T value)
      : member_(member), saved_(std::exchange(*member, std::move(value))) {}
  ~Restored() { *member_ = std::move(saved_); }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;

 private:
  T* member_;
  T saved_;
};

}  // namespace

Value* Scope::find(std::string_view name) {
  for (auto& [key, value] : variables)
    if (key == name) return &value;
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  if (Value* existing = find(name)) {
    *existing = std::move(value);
  } else {
    variables.emplace_back(name, std::move(value));
  }
}

Interpreter::Interpreter(std::optional<int64_t> now_seconds)
    : now_seconds_(now_seconds), scope_(std::make_shared<Scope>(nullptr)) {}

Interpreter::~Interpreter() {
  for (const auto& space : namespaces_) space->attributes.clear();
  for (const auto& scope : captured_) scope->variables.clear();
}

void Interpreter::define(const std::string& name, Value value) {
  scope_->set(name, std::move(value));
}

Text Interpreter::render(const Block& block) {
  Text text;
  out_ = &text;
  try {
    run(block);
  } catch (const Error& error) {
    throw Error(concat("line ", line_, ": ", error.what()));
  }
  return text;
}

void Interpreter::charge(int64_t steps) {
  steps_ += steps;
  MNEME_CHECK(steps_ <= kMaxSteps, "the template takes more than ", kMaxSteps, " steps");
}

void Interpreter::charge_for(const Value& value) {
  if (value.is_text()) {
    charge(value.as_text().size() / 16);
  } else if (value.is_sequence() || value.is_dict()) {
    charge(1 + value.weight() / 16);
  }
}

std::shared_ptr<Namespace> Interpreter::make_namespace() {
  charge(10);
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

void Interpreter::emit(const Text& text) {
  charge(text.size() / 16);
  out_->append(text);
}

Interpreter::Flow Interpreter::run(const Block& block) {
  const Nesting deeper(&depth_);
  for (const auto& statement : block) {
    const Flow flow = run(*statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Statement& statement) {
  line_ = statement.line;
  charge(1);
  switch (statement.kind) {
    case Statement::Kind::kData:
      charge(static_cast<int64_t>(statement.text.size()) / 16);
      out_->append(statement.text);
      break;
    case Statement::Kind::kOutput:
      for (const ExpressionPtr& expression : statement.expressions)
        emit(to_text(evaluate(*expression)));
      break;
    case Statement::Kind::kIf:
      return run_if(statement);
    case Statement::Kind::kFor:
      return run_for(statement);
    case Statement::Kind::kSet:
      assign(statement.target, evaluate(*statement.expressions[0]));
      break;
    case Statement::Kind::kSetBlock: {
      Text text = capture(statement.blocks[0]);
      if (!statement.expressions[0]) {
        assign(statement.target, Value(std::move(text)));
        break;
      }
      const Restored<const Text*> input(&block_text_, &text);
      assign(statement.target, evaluate(*statement.expressions[0]));
      break;
    }
    case Statement::Kind::kMacro:
      scope_->set(statement.macro->name, make_macro(*statement.macro));
      break;
    case Statement::Kind::kCallBlock:
      run_call_block(statement);
      break;
    case Statement::Kind::kFilterBlock: {
      const Text text = capture(statement.blocks[0]);
      const Restored<const Text*> input(&block_text_, &text);
      emit(to_text(evaluate(*statement.expressions[0])));
      break;
    }
    case Statement::Kind::kWith:
      run_with(statement);
      break;
    case Statement::Kind::kScope:
      return run_scoped(statement.blocks[0]);
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_if(const Statement& statement) {
  for (size_t i = 0; i < statement.blocks.size(); ++i) {
    const bool otherwise = i == statement.expressions.size();
    if (otherwise || truthy(evaluate(*statement.expressions[i]))) return run(statement.blocks[i]);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_scoped(const Block& block) {
  const Restored<std::shared_ptr<Scope>> inner(&scope_, std::make_shared<Scope>(scope_));
  return run(block);
}

Interpreter::Flow Interpreter::run_for(const Statement& statement) {
  const Value iterated = evaluate(*statement.expressions[0]);
  charge_for(iterated);
  auto items = iterate(iterated);
  const std::shared_ptr<Scope> outer = scope_;
  const Restored<std::shared_ptr<Scope>> inner(&scope_, outer);
  if (statement.expressions[1]) {
    Values kept;
    for (const Value& item : *items) {
      scope_ = std::make_shared<Scope>(outer);
      assign(statement.target, item);
      if (truthy(evaluate(*statement.expressions[1]))) kept.push_back(item);
    }
    items = std::make_shared<const Values>(std::move(kept));
  }
  auto loop = std::make_shared<Loop>();
  loop->items = items;
  bool completed = false;
  for (; loop->index < items->size(); ++loop->index) {
    charge(1);
    scope_ = std::make_shared<Scope>(outer);
    scope_->set("loop", Value(loop));
    assign(statement.target, (*items)[loop->index]);
    const Flow flow = run(statement.blocks[0]);
    completed |= flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  // As in jinja2, an iteration that ends by break or continue does not count against the else
  // block.
  if (completed || statement.blocks.size() < 2) return Flow::kNext;
  scope_ = std::make_shared<Scope>(outer);
  return run(statement.blocks[1]);
}

void Interpreter::run_with(const Statement& statement) {
  Values values;
  for (const ExpressionPtr& expression : statement.expressions)
    values.push_back(evaluate(*expression));
  const Restored<std::shared_ptr<Scope>> inner(&scope_, std::make_shared<Scope>(scope_));
  for (size_t i = 0; i < values.size(); ++i) assign(statement.targets[i], values[i]);
  run(statement.blocks[0]);
}

void Interpreter::run_call_block(const Statement& statement) {
  const Expression& call_node = *statement.expressions[0];
  const Value callee = evaluate(*call_node.items[0]);
  Arguments arguments = evaluate_arguments(call_node.arguments);
  arguments.named.emplace_back("caller", make_macro(*statement.macro));
  line_ = statement.line;
  emit(to_text(call(callee, arguments)));
}

Text Interpreter::capture(const Block& block) {
  Text text;
  const Restored<Text*> redirected(&out_, &text);
  run_scoped(block);
  return text;
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (!target.attribute.empty()) {
    const Value* space = find(target.name);
    MNEME_CHECK(space && space->kind() == Value::Kind::kNamespace, "'", target.name, ".",
                target.attribute, "' can be set on a namespace only");
    MNEME_CHECK(target.attribute[0] != '_', "a namespace cannot hold '", target.attribute,
                "': names that begin with '_' are refused");
    space->as_namespace()->set(target.attribute, value);
    return;
  }
  if (!target.is_tuple) return scope_->set(target.name, value);
  const auto items = iterate(value);
  MNEME_CHECK(items->size() == target.targets.size(), "expected ", target.targets.size(),
              " values to unpack, got ", items->size());
  for (size_t i = 0; i < items->size(); ++i) assign(target.targets[i], (*items)[i]);
}

const Value* Interpreter::find(std::string_view name) const {
  for (Scope* scope = scope_.get(); scope; scope = scope->parent.get())
    if (const Value* value = scope->find(name)) return value;
  return find_global(name);
}

Value Interpreter::make_macro(const MacroDefinition& macro) {
  if (captured_.empty() || captured_.back() != scope_) captured_.push_back(scope_);
  charge(10);
  auto function = std::make_shared<Function>();
  function->name = macro.name;
  function->call = [&macro, scope = scope_](Interpreter& interpreter, Arguments& arguments) {
    return interpreter.call_macro(macro, scope, arguments);
  };
  return Value(std::shared_ptr<const Function>(std::move(function)));
}

Value Interpreter::call_macro(const MacroDefinition& macro, const std::shared_ptr<Scope>& scope,
                              Arguments& arguments) {
  Text text;
  const Restored<Text*> redirected(&out_, &text);
  const Restored<std::shared_ptr<Scope>> inner(&scope_, std::make_shared<Scope>(scope));
  bind_parameters(macro, arguments);
  run(macro.body);
  return Value(std::move(text));
}

void Interpreter::bind_parameters(const MacroDefinition& macro, Arguments& arguments) {
  const auto take_named = [&](const std::string& name) -> std::optional<Value> {
    auto& named = arguments.named;
    const auto found = std::find_if(named.begin(), named.end(),
                                    [&](const auto& argument) { return argument.first == name; });
    if (found == named.end()) return std::nullopt;
    Value value = std::move(found->second);
    named.erase(found);
    return value;
  };
  const size_t count = macro.parameters.size();
  const size_t given = std::min(arguments.positional.size(), count);
  for (size_t i = 0; i < count; ++i) {
    const std::string& name = macro.parameters[i];
    std::optional<Value> value = take_named(name);
    MNEME_CHECK(!value || i >= given, "macro '", macro.name, "' got two values for '", name, "'");
    if (i < given) value = arguments.positional[i];
    const size_t plain = count - macro.defaults.size();
    if (!value && i >= plain) value = evaluate(*macro.defaults[i - plain]);
    if (!value) value = Value::undefined("parameter '" + name + "' was not provided");
    scope_->set(name, *value);
  }
  if (macro.uses_caller) {
    std::optional<Value> caller = take_named("caller");
    scope_->set("caller", caller ? *caller : Value::undefined("No caller defined"));
  }
  Values rest(arguments.positional.begin() + static_cast<std::ptrdiff_t>(given),
              arguments.positional.end());
  MNEME_CHECK(rest.empty() || macro.uses_varargs, "macro '", macro.name, "' takes not more than ",
              count, " arguments, got ", arguments.positional.size());
  if (macro.uses_varargs) scope_->set("varargs", Value::tuple(std::move(rest)));
  MNEME_CHECK(arguments.named.empty() || macro.uses_kwargs, "macro '", macro.name,
              "' takes no argument named '",
              arguments.named.empty() ? "" : arguments.named[0].first, "'");
  if (macro.uses_kwargs) {
    auto named = std::make_shared<Dict>();
    for (auto& [name, value] : arguments.named) named->set(Value::text(name), std::move(value));
    scope_->set("kwargs", Value(std::shared_ptr<const Dict>(std::move(named))));
  }
}

}  // namespace mneme::jinja
