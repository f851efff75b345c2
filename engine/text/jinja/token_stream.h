#pragma once

#include <absl/container/flat_hash_map.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/lexer.h"

namespace mea::jinja {

// The tokens of a template and the first error found in them, shared by both halves of the parser
// (expressions, statements). After an error every token is kEnd, so all loops end.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens);

  const Token& current() const { return failed() ? end_ : tokens_[at_]; }
  const Token& ahead() const;
  void Next();

  bool Is(TokenKind kind) const { return current().kind == kind; }
  bool IsName(std::string_view name) const {
    return Is(TokenKind::kName) && current().text == name;
  }
  bool IsOperator(std::string_view text) const {
    return Is(TokenKind::kOperator) && current().text == text;
  }
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view text);
  void ExpectOperator(std::string_view text);
  void ExpectKind(TokenKind kind);
  std::string ExpectName();

  void Fail(std::string_view what);
  void FailUnexpected(std::string_view expected);
  bool failed() const { return !status_.ok(); }
  const absl::Status& status() const { return status_; }

  int NumberOf(const std::string& name);  // of a variable
  std::vector<std::string> TakeNames() { return std::move(names_); }

  // Counts the parser's depth; false, with an error, beyond kMaxParseDepth.
  bool Enter();
  void Leave() { --depth_; }

 private:
  std::vector<Token> tokens_;
  Token end_;
  size_t at_ = 0;
  int depth_ = 0;
  absl::Status status_;
  std::vector<std::string> names_;
  absl::flat_hash_map<std::string, int> numbers_;
};

// Expressions, from the loosest binding to the tightest; see the grammar in README.md. Each returns
// null after an error.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream* tokens) : t_(*tokens) {}

  ExprPtr Expression(bool with_condition = true);
  // One expression, or a tuple without parentheses; ends before the name `until`.
  ExprPtr Tuple(bool with_condition = true, std::string_view until = "",
                bool in_parentheses = false);
  // Filters after a "|"; `start` begins with the name of one. `input` may be null.
  ExprPtr Filters(ExprPtr input, bool start);
  Target AssignTarget(bool with_namespace, std::string_view until = "");
  std::vector<Parameter> Parameters();

 private:
  ExprPtr Make(ExprKind kind, int line, std::vector<ExprPtr> kids = {});
  template <typename... Kids>
  ExprPtr MakeOf(ExprKind kind, int line, Kids... kids);
  ExprPtr Binary(int line, ExprPtr left, Operation operation, ExprPtr right);
  void Measure(Expr* expr);

  ExprPtr Condition();
  ExprPtr Or();
  ExprPtr And();
  ExprPtr Not();
  ExprPtr Compare();
  ExprPtr Sum();
  ExprPtr Concat();
  ExprPtr Product();
  ExprPtr Power();
  ExprPtr Unary(bool with_filters);
  ExprPtr Primary();
  ExprPtr Number();
  ExprPtr ListOrDict();
  ExprPtr Postfix(ExprPtr expr);
  ExprPtr Subscript(ExprPtr expr);
  ExprPtr Test(ExprPtr expr);
  void Arguments(Expr* call);
  Target OneTarget(bool with_namespace);
  bool TupleEnds(std::string_view until) const;

  TokenStream& t_;
};

}  // namespace mea::jinja
