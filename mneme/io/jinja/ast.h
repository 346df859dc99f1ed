// The syntax tree of a template: what the parser makes and the interpreter walks. Its height is
// bounded by kMaxSyntaxDepth, so walking and destroying it needs bounded stack.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mneme/io/jinja/value.h"

namespace mneme::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class Operator {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

// f(a, b, key=c, *d, **e)
struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr star, double_star;  // may be null
};

struct Expression {
  enum class Kind {
    kLiteral,      // literal
    kName,         // name
    kList,         // items
    kTuple,        // items
    kDict,         // items: key, value, key, value ...
    kAttribute,    // items[0].name
    kSubscript,    // items[0][items[1]]
    kSlice,        // items[0][items[1]:items[2]:items[3]], the bounds may be null
    kCall,         // items[0](arguments)
    kFilter,       // items[0] | name(arguments); no items in {% filter %} and {% set x | f %}
    kTest,         // items[0] is name(arguments)
    kNot,          // items[0]
    kAnd,          // items: all operands
    kOr,           // items: all operands
    kConditional,  // items[0] if items[1] else items[2] (may be null)
    kConcat,       // items joined by ~
    kArithmetic,   // items[0] op items[1]
    kNegate,       // items[0]
    kPlus,         // items[0]
    kCompare,      // items[0] operators[0] items[1] operators[1] items[2] ...
  };
  Kind kind;
  int32_t line;
  int32_t height = 1;
  std::string name;
  Value literal;
  Operator op = Operator::kAdd;
  std::vector<Operator> operators;
  std::vector<ExpressionPtr> items;
  CallArguments arguments;
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

// The left side of an assignment: a name, a namespace attribute, or a tuple of targets.
struct Target {
  std::string name;
  std::string attribute;        // of the namespace `name`, or empty
  std::vector<Target> targets;  // a tuple, when not empty
  bool is_tuple = false;
};

// Parameters and body of a macro, or of the block that {% call %} hands to one.
struct MacroDefinition {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
  Block body;
};

struct Statement {
  enum class Kind {
    kData,         // text
    kOutput,       // expressions
    kIf,           // expressions[i] guards blocks[i]; one block more is the else
    kFor,          // for target in expressions[0] if expressions[1]: blocks[0], else blocks[1]
    kSet,          // target = expressions[0]
    kSetBlock,     // target = blocks[0] through the filter expressions[0] (may be null)
    kMacro,        // macro
    kCallBlock,    // expressions[0] is the call, macro the caller
    kFilterBlock,  // blocks[0] through the filter expressions[0]
    kWith,         // targets[i] = expressions[i] around blocks[0]
    kScope,        // blocks[0] in a scope of its own ({% generation %})
    kBreak,
    kContinue,
  };
  Kind kind;
  int32_t line;
  std::string text;
  std::vector<ExpressionPtr> expressions;
  std::vector<Block> blocks;
  Target target;
  std::vector<Target> targets;
  std::unique_ptr<MacroDefinition> macro;
};

}  // namespace mneme::jinja
