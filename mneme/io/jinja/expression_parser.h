// The expression half of the parser: precedence from `if` down to literals, as jinja2 has it (`~`
// binds tighter than `+`, filters and tests tighter than every binary operator).
#pragma once

#include <string>
#include <vector>

#include "mneme/io/jinja/ast.h"
#include "mneme/io/jinja/token_stream.h"

namespace mneme::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream* tokens) : tokens_(*tokens) {}

  ExpressionPtr parse_expression();
  // One expression, or a tuple when a comma follows. Without `conditional` a top-level `if` is left
  // for the caller ({% for x in xs if ... %}).
  ExpressionPtr parse_tuple(bool conditional = true, bool parenthesised = false);
  // A chain "f(a) | g" that is applied to a block's text.
  ExpressionPtr parse_filter_chain();

  // Filters and tests unknown inside `if` are refused when they run, all others at once.
  int soft = 0;
  // The macros around the cursor: they note the special names their bodies use.
  std::vector<MacroDefinition*> macros;

 private:
  ExpressionPtr make(Expression::Kind kind, int32_t line, std::vector<ExpressionPtr> items = {},
                     std::string name = "");
  void finish(Expression* node) const;  // sets the height
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter = true);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_filters(ExpressionPtr node);
  ExpressionPtr parse_filter(ExpressionPtr node);
  ExpressionPtr parse_test(ExpressionPtr node);
  ExpressionPtr parse_subscript(ExpressionPtr node);
  ExpressionPtr parse_call(ExpressionPtr node);
  void parse_arguments(CallArguments* arguments);
  bool at_tuple_end() const;

  TokenStream& tokens_;
};

template <typename... Ptrs>
std::vector<ExpressionPtr> expressions(Ptrs&&... items) {
  std::vector<ExpressionPtr> list;
  (list.push_back(std::move(items)), ...);
  return list;
}

}  // namespace mneme::jinja
