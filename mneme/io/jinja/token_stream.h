// The parser's view of the tokens: look, skip, expect, and depth.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/io/jinja/lexer.h"
#include "mneme/io/jinja/limits.h"

namespace mneme::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[position_]; }
  const Token& next() const {
    return position_ + 1 < tokens_.size() ? tokens_[position_ + 1] : tokens_.back();
  }
  Token take() {
    Token token = tokens_[position_];
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  int32_t line() const { return current().line; }

  bool is(Token::Kind kind) const { return current().kind == kind; }
  bool is_operator(std::string_view text) const {
    return matches(current(), Token::Kind::kOperator, text);
  }
  bool is_name(std::string_view text) const { return matches(current(), Token::Kind::kName, text); }
  static bool matches(const Token& token, Token::Kind kind, std::string_view text) {
    return token.kind == kind && token.text == text;
  }
  bool skip_operator(std::string_view text) { return is_operator(text) && (take(), true); }
  bool skip_name(std::string_view text) { return is_name(text) && (take(), true); }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fault("expected '", text, "', found ", describe());
  }
  std::string expect_name() {
    if (!is(Token::Kind::kName)) fault("expected a name, found ", describe());
    return take().text;
  }
  void expect(Token::Kind kind, std::string_view what) {
    if (!is(kind)) fault("expected ", what, ", found ", describe());
    take();
  }

  std::string describe() const {
    switch (current().kind) {
      case Token::Kind::kName:
      case Token::Kind::kOperator:
        return "'" + current().text + "'";
      case Token::Kind::kString:
        return "a text";
      case Token::Kind::kInteger:
      case Token::Kind::kFloat:
        return "a number";
      case Token::Kind::kEnd:
        return "the end of the template";
      case Token::Kind::kData:
        return "template text";
      default:
        return "the end of the tag";
    }
  }

  template <typename... Args>
  [[noreturn]] void fault(const Args&... message) const {
    fail("line ", line(), ": ", message...);
  }

  // Counts the nesting of the functions that recurse.
  class Nested {
   public:
    explicit Nested(TokenStream* stream) : stream_(stream) {
      if (++stream_->depth_ > kMaxSyntaxDepth) {
        --stream_->depth_;
        stream_->fault("nested deeper than ", kMaxSyntaxDepth);
      }
    }
    ~Nested() { --stream_->depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    TokenStream* stream_;
  };

 private:
  std::vector<Token> tokens_;
  size_t position_ = 0;
  int depth_ = 0;
};

}  // namespace mneme::jinja
