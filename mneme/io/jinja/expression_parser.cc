#include "mneme/io/jinja/expression_parser.h"

#include <algorithm>
#include <array>
#include <optional>

#include "mneme/io/jinja/builtins.h"

namespace mneme::jinja {
namespace {

using Kind = Expression::Kind;

struct OperatorName {
  std::string_view text;
  Operator op;
};
constexpr std::array<OperatorName, 6> kComparisons = {{{"==", Operator::kEqual},
                                                       {"!=", Operator::kNotEqual},
                                                       {"<", Operator::kLess},
                                                       {"<=", Operator::kLessEqual},
                                                       {">", Operator::kGreater},
                                                       {">=", Operator::kGreaterEqual}}};
constexpr std::array<OperatorName, 2> kSums = {{{"+", Operator::kAdd}, {"-", Operator::kSubtract}}};
constexpr std::array<OperatorName, 4> kProducts = {{{"*", Operator::kMultiply},
                                                    {"/", Operator::kDivide},
                                                    {"//", Operator::kFloorDivide},
                                                    {"%", Operator::kModulo}}};
constexpr std::array<OperatorName, 1> kPowers = {{{"**", Operator::kPower}}};

template <typename Table>
std::optional<Operator> skip_any(TokenStream* tokens, const Table& table) {
  for (const OperatorName& entry : table)
    if (tokens->skip_operator(entry.text)) return entry.op;
  return std::nullopt;
}

}  // namespace

ExpressionPtr ExpressionParser::make(Kind kind, int32_t line, std::vector<ExpressionPtr> items,
                                     std::string name) {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  node->name = std::move(name);
  node->items = std::move(items);
  finish(node.get());
  return node;
}

void ExpressionParser::finish(Expression* node) const {
  int32_t tallest = 0;
  const auto see = [&tallest](const ExpressionPtr& child) {
    if (child) tallest = std::max(tallest, child->height);
  };
  for (const ExpressionPtr& item : node->items) see(item);
  for (const ExpressionPtr& item : node->arguments.positional) see(item);
  for (const auto& named : node->arguments.named) see(named.second);
  see(node->arguments.star);
  see(node->arguments.double_star);
  node->height = tallest + 1;
  if (node->height > kMaxSyntaxDepth) tokens_.fault("nested deeper than ", kMaxSyntaxDepth);
}

ExpressionPtr ExpressionParser::parse_expression() {
  const TokenStream::Nested nested(&tokens_);
  ExpressionPtr node = parse_or();
  while (tokens_.is_name("if")) {
    const int32_t line = tokens_.take().line;
    ++soft;
    ExpressionPtr condition = parse_or();
    ExpressionPtr otherwise;
    if (tokens_.skip_name("else")) otherwise = parse_expression();
    --soft;
    node = make(Kind::kConditional, line,
                expressions(std::move(node), std::move(condition), std::move(otherwise)));
  }
  return node;
}

bool ExpressionParser::at_tuple_end() const {
  return tokens_.is(Token::Kind::kVariableEnd) || tokens_.is(Token::Kind::kBlockEnd) ||
         tokens_.is_operator(")");
}

ExpressionPtr ExpressionParser::parse_tuple(bool conditional, bool parenthesised) {
  const int32_t line = tokens_.line();
  std::vector<ExpressionPtr> items;
  bool comma = false;
  while (!at_tuple_end()) {
    items.push_back(conditional ? parse_expression() : parse_or());
    if (!tokens_.skip_operator(",")) break;
    comma = true;
  }
  if (!comma && items.size() == 1) return std::move(items[0]);
  if (items.empty() && !parenthesised)
    tokens_.fault("expected an expression, found ", tokens_.describe());
  return make(Kind::kTuple, line, std::move(items));
}

ExpressionPtr ExpressionParser::parse_or() {
  const int32_t line = tokens_.line();
  std::vector<ExpressionPtr> operands = expressions(parse_and());
  while (tokens_.skip_name("or")) operands.push_back(parse_and());
  return operands.size() == 1 ? std::move(operands[0]) : make(Kind::kOr, line, std::move(operands));
}

ExpressionPtr ExpressionParser::parse_and() {
  const int32_t line = tokens_.line();
  std::vector<ExpressionPtr> operands = expressions(parse_not());
  while (tokens_.skip_name("and")) operands.push_back(parse_not());
  return operands.size() == 1 ? std::move(operands[0])
                              : make(Kind::kAnd, line, std::move(operands));
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!tokens_.is_name("not")) return parse_compare();
  const TokenStream::Nested nested(&tokens_);
  const int32_t line = tokens_.take().line;
  return make(Kind::kNot, line, expressions(parse_not()));
}

ExpressionPtr ExpressionParser::parse_compare() {
  const int32_t line = tokens_.line();
  std::vector<ExpressionPtr> items = expressions(parse_sum());
  std::vector<Operator> operators;
  while (true) {
    if (const auto op = skip_any(&tokens_, kComparisons)) {
      operators.push_back(*op);
    } else if (tokens_.skip_name("in")) {
      operators.push_back(Operator::kIn);
    } else if (tokens_.is_name("not") &&
               TokenStream::matches(tokens_.next(), Token::Kind::kName, "in")) {
      tokens_.take();
      tokens_.take();
      operators.push_back(Operator::kNotIn);
    } else {
      break;
    }
    items.push_back(parse_sum());
  }
  if (operators.empty()) return std::move(items[0]);
  ExpressionPtr node = make(Kind::kCompare, line, std::move(items));
  node->operators = std::move(operators);
  return node;
}

ExpressionPtr ExpressionParser::parse_sum() {
  const int32_t line = tokens_.line();
  ExpressionPtr left = parse_concat();
  while (const auto op = skip_any(&tokens_, kSums)) {
    left = make(Kind::kArithmetic, line, expressions(std::move(left), parse_concat()));
    left->op = *op;
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  const int32_t line = tokens_.line();
  std::vector<ExpressionPtr> parts = expressions(parse_product());
  while (tokens_.skip_operator("~")) parts.push_back(parse_product());
  return parts.size() == 1 ? std::move(parts[0]) : make(Kind::kConcat, line, std::move(parts));
}

ExpressionPtr ExpressionParser::parse_product() {
  const int32_t line = tokens_.line();
  ExpressionPtr left = parse_power();
  while (const auto op = skip_any(&tokens_, kProducts)) {
    left = make(Kind::kArithmetic, line, expressions(std::move(left), parse_power()));
    left->op = *op;
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  const int32_t line = tokens_.line();
  ExpressionPtr left = parse_unary();
  while (const auto op = skip_any(&tokens_, kPowers)) {
    left = make(Kind::kArithmetic, line, expressions(std::move(left), parse_unary()));
    left->op = *op;
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filter) {
  const TokenStream::Nested nested(&tokens_);
  const int32_t line = tokens_.line();
  ExpressionPtr node;
  if (tokens_.skip_operator("-")) {
    node = make(Kind::kNegate, line, expressions(parse_unary(false)));
  } else if (tokens_.skip_operator("+")) {
    node = make(Kind::kPlus, line, expressions(parse_unary(false)));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const int32_t line = tokens_.line();
  const auto literal = [&](Value value) {
    ExpressionPtr node = make(Kind::kLiteral, line);
    node->literal = std::move(value);
    return node;
  };
  switch (tokens_.current().kind) {
    case Token::Kind::kName: {
      const std::string name = tokens_.take().text;
      if (name == "true" || name == "True") return literal(Value(true));
      if (name == "false" || name == "False") return literal(Value(false));
      if (name == "none" || name == "None") return literal(Value());
      for (MacroDefinition* macro : macros) {
        if (name == "varargs") macro->uses_varargs = true;
        if (name == "kwargs") macro->uses_kwargs = true;
        if (name == "caller") macro->uses_caller = true;
      }
      return make(Kind::kName, line, {}, name);
    }
    case Token::Kind::kString: {
      std::string text = tokens_.take().text;
      while (tokens_.is(Token::Kind::kString)) text += tokens_.take().text;
      return literal(Value(Text(std::move(text))));
    }
    case Token::Kind::kInteger:
      return literal(Value(tokens_.take().integer));
    case Token::Kind::kFloat:
      return literal(Value(tokens_.take().real));
    default:
      break;
  }
  if (tokens_.skip_operator("(")) {
    const TokenStream::Nested nested(&tokens_);
    ExpressionPtr node = parse_tuple(true, true);
    tokens_.expect_operator(")");
    return node;
  }
  if (tokens_.skip_operator("[")) return parse_list();
  if (tokens_.skip_operator("{")) return parse_dict();
  tokens_.fault("expected an expression, found ", tokens_.describe());
}

ExpressionPtr ExpressionParser::parse_list() {
  const int32_t line = tokens_.line();
  std::vector<ExpressionPtr> items;
  while (!tokens_.is_operator("]")) {
    items.push_back(parse_expression());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("]");
  return make(Kind::kList, line, std::move(items));
}

ExpressionPtr ExpressionParser::parse_dict() {
  const int32_t line = tokens_.line();
  std::vector<ExpressionPtr> items;
  while (!tokens_.is_operator("}")) {
    items.push_back(parse_expression());
    tokens_.expect_operator(":");
    items.push_back(parse_expression());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("}");
  return make(Kind::kDict, line, std::move(items));
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr node) {
  while (true) {
    if (tokens_.is_operator(".") || tokens_.is_operator("[")) {
      node = parse_subscript(std::move(node));
    } else if (tokens_.is_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr node) {
  while (true) {
    if (tokens_.skip_operator("|")) {
      node = parse_filter(std::move(node));
    } else if (tokens_.is_name("is")) {
      node = parse_test(std::move(node));
    } else if (tokens_.is_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filter_chain() {
  ExpressionPtr node = parse_filter(nullptr);
  while (tokens_.skip_operator("|")) node = parse_filter(std::move(node));
  return node;
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr node) {
  const int32_t line = tokens_.line();
  std::string name = tokens_.expect_name();
  while (tokens_.skip_operator(".")) name += "." + tokens_.expect_name();
  if (!soft && !find_filter(name)) tokens_.fault("there is no filter '", name, "'");
  ExpressionPtr filter = make(Kind::kFilter, line, {}, name);
  if (node) filter->items.push_back(std::move(node));
  if (tokens_.is_operator("(")) parse_arguments(&filter->arguments);
  finish(filter.get());
  return filter;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr node) {
  const int32_t line = tokens_.take().line;
  const bool negated = tokens_.skip_name("not");
  std::string name = tokens_.expect_name();
  while (tokens_.skip_operator(".")) name += "." + tokens_.expect_name();
  if (!soft && !find_test(name)) tokens_.fault("there is no test '", name, "'");
  ExpressionPtr test = make(Kind::kTest, line, expressions(std::move(node)), name);
  const bool argument_follows =
      tokens_.is(Token::Kind::kName) || tokens_.is(Token::Kind::kString) ||
      tokens_.is(Token::Kind::kInteger) || tokens_.is(Token::Kind::kFloat) ||
      tokens_.is_operator("[") || tokens_.is_operator("{");
  if (tokens_.is_operator("(")) {
    parse_arguments(&test->arguments);
  } else if (argument_follows && !tokens_.is_name("else") && !tokens_.is_name("or") &&
             !tokens_.is_name("and")) {
    if (tokens_.is_name("is")) tokens_.fault("tests cannot be chained with 'is'");
    const TokenStream::Nested nested(&tokens_);
    test->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  finish(test.get());
  return negated ? make(Kind::kNot, line, expressions(std::move(test))) : std::move(test);
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr node) {
  const int32_t line = tokens_.line();
  if (tokens_.skip_operator(".")) {
    if (tokens_.is(Token::Kind::kInteger)) {
      ExpressionPtr index = make(Kind::kLiteral, line);
      index->literal = Value(tokens_.take().integer);
      return make(Kind::kSubscript, line, expressions(std::move(node), std::move(index)));
    }
    return make(Kind::kAttribute, line, expressions(std::move(node)), tokens_.expect_name());
  }
  tokens_.expect_operator("[");
  ExpressionPtr bounds[3];
  int colons = 0;
  bool slice = false;
  std::vector<ExpressionPtr> indices;
  while (!tokens_.is_operator("]") && !tokens_.is_operator(",")) {
    if (colons < 2 && tokens_.skip_operator(":")) {
      ++colons;
      slice = true;
      continue;
    }
    if (bounds[colons]) break;
    bounds[colons] = parse_expression();
  }
  if (!slice && bounds[0] && tokens_.is_operator(",")) {
    indices.push_back(std::move(bounds[0]));
    while (tokens_.skip_operator(","))
      if (!tokens_.is_operator("]")) indices.push_back(parse_expression());
    bounds[0] = make(Kind::kTuple, line, std::move(indices));
  }
  tokens_.expect_operator("]");
  if (slice)
    return make(Kind::kSlice, line,
                expressions(std::move(node), std::move(bounds[0]), std::move(bounds[1]),
                            std::move(bounds[2])));
  if (!bounds[0]) bounds[0] = make(Kind::kTuple, line);
  return make(Kind::kSubscript, line, expressions(std::move(node), std::move(bounds[0])));
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr node) {
  ExpressionPtr call = make(Kind::kCall, tokens_.line(), expressions(std::move(node)));
  parse_arguments(&call->arguments);
  finish(call.get());
  return call;
}

void ExpressionParser::parse_arguments(CallArguments* arguments) {
  tokens_.expect_operator("(");
  while (!tokens_.is_operator(")")) {
    const bool named = tokens_.is(Token::Kind::kName) &&
                       TokenStream::matches(tokens_.next(), Token::Kind::kOperator, "=");
    const bool closed = arguments->star || arguments->double_star;
    if (tokens_.is_operator("*") && !closed) {
      tokens_.take();
      arguments->star = parse_expression();
    } else if (tokens_.is_operator("**") && !arguments->double_star) {
      tokens_.take();
      arguments->double_star = parse_expression();
    } else if (named && !arguments->double_star) {
      std::string name = tokens_.take().text;
      tokens_.take();
      for (const auto& other : arguments->named)
        if (other.first == name) tokens_.fault("the argument '", name, "' is given twice");
      arguments->named.emplace_back(std::move(name), parse_expression());
    } else if (!closed && arguments->named.empty()) {
      arguments->positional.push_back(parse_expression());
    } else {
      tokens_.fault("a positional argument follows a named one");
    }
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator(")");
}

}  // namespace mneme::jinja
