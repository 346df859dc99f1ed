#include "mneme/io/jinja/parser.h"

#include <algorithm>
#include <initializer_list>

#include "mneme/io/jinja/expression_parser.h"
#include "mneme/io/jinja/token_stream.h"

namespace mneme::jinja {
namespace {

using StatementPtr = std::unique_ptr<Statement>;
using EndTags = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), expressions_(&tokens_) {}

  Block run() { return parse_block({}, "", 1); }

 private:
  StatementPtr make(Statement::Kind kind, int32_t line) {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = line;
    return statement;
  }

  bool at_end_tag(EndTags ends) const {
    if (tokens_.next().kind != Token::Kind::kName) return false;
    return std::find(ends.begin(), ends.end(), tokens_.next().text) != ends.end();
  }

  // Statements up to one of the tags `ends`; the cursor is left on that tag's name. `opener` and
  // `opened` name the tag around, for the message when the template ends first.
  Block parse_block(EndTags ends, std::string_view opener, int32_t opened) {
    const TokenStream::Nested nested(&tokens_);
    Block block;
    while (true) {
      switch (tokens_.current().kind) {
        case Token::Kind::kEnd:
          if (ends.size() == 0) return block;
          tokens_.fault("the '", opener, "' of line ", opened, " is not closed");
        case Token::Kind::kData: {
          Token token = tokens_.take();
          block.push_back(make(Statement::Kind::kData, token.line));
          block.back()->text = std::move(token.text);
          break;
        }
        case Token::Kind::kVariableBegin: {
          block.push_back(make(Statement::Kind::kOutput, tokens_.take().line));
          block.back()->expressions.push_back(expressions_.parse_tuple());
          tokens_.expect(Token::Kind::kVariableEnd, "'}}'");
          break;
        }
        default:
          if (at_end_tag(ends)) {
            tokens_.take();
            return block;
          }
          tokens_.expect(Token::Kind::kBlockBegin, "a tag");
          parse_tag(&block);
      }
    }
  }
  // The rest of an opening tag, then its block.
  Block parse_body(EndTags ends, std::string_view opener, int32_t opened) {
    end_tag();
    return parse_block(ends, opener, opened);
  }
  void end_tag() { tokens_.expect(Token::Kind::kBlockEnd, "'%}'"); }
  void closing_tag() {
    tokens_.take();
    end_tag();
  }

  void parse_tag(Block* block) {
    const int32_t line = tokens_.line();
    const std::string tag = tokens_.expect_name();
    if (tag == "if") {
      block->push_back(parse_if(line));
    } else if (tag == "for") {
      block->push_back(parse_for(line));
    } else if (tag == "set") {
      block->push_back(parse_set(line));
    } else if (tag == "macro") {
      block->push_back(parse_macro(line));
    } else if (tag == "call") {
      block->push_back(parse_call(line));
    } else if (tag == "filter") {
      StatementPtr statement = make(Statement::Kind::kFilterBlock, line);
      statement->expressions.push_back(expressions_.parse_filter_chain());
      statement->blocks.push_back(parse_body({"endfilter"}, tag, line));
      closing_tag();
      block->push_back(std::move(statement));
    } else if (tag == "with") {
      block->push_back(parse_with(line));
    } else if (tag == "generation") {
      StatementPtr statement = make(Statement::Kind::kScope, line);
      const int loops = std::exchange(loops_, 0);
      statement->blocks.push_back(parse_body({"endgeneration"}, tag, line));
      loops_ = loops;
      closing_tag();
      block->push_back(std::move(statement));
    } else if (tag == "print") {
      StatementPtr statement = make(Statement::Kind::kOutput, line);
      while (!tokens_.is(Token::Kind::kBlockEnd)) {
        statement->expressions.push_back(expressions_.parse_expression());
        if (!tokens_.skip_operator(",")) break;
      }
      end_tag();
      block->push_back(std::move(statement));
    } else if (tag == "break" || tag == "continue") {
      if (!loops_) fail("line ", line, ": '", tag, "' stands outside every loop");
      const bool breaks = tag == "break";
      block->push_back(make(breaks ? Statement::Kind::kBreak : Statement::Kind::kContinue, line));
      end_tag();
    } else if (tag.substr(0, 3) == "end" || tag == "else" || tag == "elif") {
      fail("line ", line, ": '", tag, "' closes nothing that is open here");
    } else {
      fail("line ", line, ": the tag '", tag, "' is not supported");
    }
  }

  StatementPtr parse_if(int32_t line) {
    StatementPtr statement = make(Statement::Kind::kIf, line);
    ++expressions_.soft;
    std::string tag = "if";
    while (tag != "endif") {
      if (tag != "else") statement->expressions.push_back(expressions_.parse_tuple(false));
      statement->blocks.push_back(tag == "else"
                                      ? parse_body({"endif"}, "if", line)
                                      : parse_body({"elif", "else", "endif"}, "if", line));
      tag = tokens_.take().text;
    }
    --expressions_.soft;
    end_tag();
    return statement;
  }

  StatementPtr parse_for(int32_t line) {
    StatementPtr statement = make(Statement::Kind::kFor, line);
    statement->target = parse_target(false);
    if (!tokens_.skip_name("in")) tokens_.fault("expected 'in', found ", tokens_.describe());
    statement->expressions.push_back(expressions_.parse_tuple(false));
    statement->expressions.push_back(tokens_.skip_name("if") ? expressions_.parse_expression()
                                                             : nullptr);
    if (tokens_.is_name("recursive")) tokens_.fault("recursive loops are not supported");
    ++loops_;
    statement->blocks.push_back(parse_body({"else", "endfor"}, "for", line));
    --loops_;
    if (tokens_.skip_name("else")) statement->blocks.push_back(parse_body({"endfor"}, "for", line));
    closing_tag();
    return statement;
  }

  StatementPtr parse_set(int32_t line) {
    StatementPtr statement = make(Statement::Kind::kSet, line);
    statement->target = parse_target(true);
    if (tokens_.skip_operator("=")) {
      statement->expressions.push_back(expressions_.parse_tuple());
      end_tag();
      return statement;
    }
    statement->kind = Statement::Kind::kSetBlock;
    statement->expressions.push_back(tokens_.skip_operator("|") ? expressions_.parse_filter_chain()
                                                                : nullptr);
    statement->blocks.push_back(parse_body({"endset"}, "set", line));
    closing_tag();
    return statement;
  }

  StatementPtr parse_with(int32_t line) {
    StatementPtr statement = make(Statement::Kind::kWith, line);
    while (!tokens_.is(Token::Kind::kBlockEnd)) {
      if (!statement->targets.empty()) tokens_.expect_operator(",");
      statement->targets.push_back(parse_single_target(false));
      tokens_.expect_operator("=");
      statement->expressions.push_back(expressions_.parse_expression());
    }
    statement->blocks.push_back(parse_body({"endwith"}, "with", line));
    closing_tag();
    return statement;
  }

  StatementPtr parse_macro(int32_t line) {
    StatementPtr statement = make(Statement::Kind::kMacro, line);
    statement->macro = std::make_unique<MacroDefinition>();
    statement->macro->name = tokens_.expect_name();
    parse_macro_body(statement->macro.get(), true, "macro", {"endmacro"}, line);
    return statement;
  }

  StatementPtr parse_call(int32_t line) {
    StatementPtr statement = make(Statement::Kind::kCallBlock, line);
    statement->macro = std::make_unique<MacroDefinition>();
    statement->macro->name = "caller";
    if (tokens_.is_operator("(")) parse_signature(statement->macro.get());
    statement->expressions.push_back(expressions_.parse_expression());
    if (statement->expressions[0]->kind != Expression::Kind::kCall)
      fail("line ", line, ": '{% call %}' needs the call of a macro");
    parse_macro_body(statement->macro.get(), false, "call", {"endcall"}, line);
    return statement;
  }

  void parse_macro_body(MacroDefinition* macro, bool signature, std::string_view tag, EndTags ends,
                        int32_t line) {
    expressions_.macros.push_back(macro);
    const int loops = std::exchange(loops_, 0);
    if (signature) parse_signature(macro);
    macro->body = parse_body(ends, tag, line);
    loops_ = loops;
    expressions_.macros.pop_back();
    closing_tag();
  }

  void parse_signature(MacroDefinition* macro) {
    tokens_.expect_operator("(");
    while (!tokens_.is_operator(")")) {
      if (!macro->parameters.empty()) tokens_.expect_operator(",");
      const std::string name = tokens_.expect_name();
      if (std::count(macro->parameters.begin(), macro->parameters.end(), name))
        tokens_.fault("the parameter '", name, "' is named twice");
      macro->parameters.push_back(name);
      if (tokens_.skip_operator("=")) {
        macro->defaults.push_back(expressions_.parse_expression());
      } else if (!macro->defaults.empty()) {
        tokens_.fault("a parameter without default follows one with");
      }
    }
    tokens_.expect_operator(")");
  }

  Target parse_target(bool attributes) {
    const TokenStream::Nested nested(&tokens_);
    Target target = parse_single_target(attributes);
    if (!tokens_.is_operator(",")) return target;
    Target tuple;
    tuple.is_tuple = true;
    tuple.targets.push_back(std::move(target));
    while (tokens_.skip_operator(",")) {
      if (tokens_.is_operator(")") || tokens_.is_operator("=") || tokens_.is_name("in")) break;
      tuple.targets.push_back(parse_single_target(attributes));
    }
    return tuple;
  }

  Target parse_single_target(bool attributes) {
    if (tokens_.skip_operator("(")) {
      Target target = parse_target(false);
      tokens_.expect_operator(")");
      return target;
    }
    Target target;
    target.name = tokens_.expect_name();
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"})
      if (target.name == constant) tokens_.fault("'", target.name, "' cannot be assigned");
    if (attributes && tokens_.skip_operator(".")) target.attribute = tokens_.expect_name();
    return target;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int loops_ = 0;
};

}  // namespace

Block parse(std::string_view source) { return Parser(source).run(); }

}  // namespace mneme::jinja
