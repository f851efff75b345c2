#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/token_stream.h"

namespace mea::jinja {
namespace {

bool IsConstantName(std::string_view name) {
  return name == "true" || name == "True" || name == "false" || name == "False" || name == "none" ||
         name == "None";
}

// Restores the depth of the parser when it is destroyed.
class Nesting {
 public:
  explicit Nesting(TokenStream* tokens) : tokens_(*tokens), entered_(tokens->Enter()) {}
  ~Nesting() { tokens_.Leave(); }
  bool entered() const { return entered_; }

 private:
  TokenStream& tokens_;
  const bool entered_;
};

}  // namespace

void ExpressionParser::Measure(Expr* expr) {
  const auto deepen = [&](const ExprPtr& kid) {
    if (kid != nullptr) expr->depth = std::max(expr->depth, kid->depth + 1);
  };
  for (const ExprPtr& kid : expr->kids) deepen(kid);
  for (const auto& [name, kid] : expr->named) deepen(kid);
  deepen(expr->star);
  deepen(expr->star_star);
  if (expr->depth > kMaxParseDepth) {
    t_.Fail(absl::StrCat("an expression is nested more than ", kMaxParseDepth, " deep"));
  }
}

ExprPtr ExpressionParser::Make(ExprKind kind, int line, std::vector<ExprPtr> kids) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  expr->kids = std::move(kids);
  Measure(expr.get());
  return expr;
}

template <typename... Kids>
ExprPtr ExpressionParser::MakeOf(ExprKind kind, int line, Kids... kids) {
  std::vector<ExprPtr> all;
  (all.push_back(std::move(kids)), ...);
  return Make(kind, line, std::move(all));
}

ExprPtr ExpressionParser::Binary(int line, ExprPtr left, Operation operation, ExprPtr right) {
  ExprPtr expr = MakeOf(ExprKind::kBinary, line, std::move(left), std::move(right));
  expr->operations.push_back(operation);
  return expr;
}

ExprPtr ExpressionParser::Expression(bool with_condition) {
  const Nesting nesting(&t_);
  if (!nesting.entered()) return nullptr;
  ExprPtr expr = with_condition ? Condition() : Or();
  return t_.failed() ? nullptr : std::move(expr);
}

ExprPtr ExpressionParser::Condition() {
  const int line = t_.current().line;
  ExprPtr expr = Or();
  while (t_.SkipName("if")) {
    ExprPtr test = Or();
    ExprPtr otherwise;
    if (t_.SkipName("else")) otherwise = Expression();
    expr =
        MakeOf(ExprKind::kCondition, line, std::move(test), std::move(expr), std::move(otherwise));
  }
  return expr;
}

ExprPtr ExpressionParser::Or() {
  const int line = t_.current().line;
  ExprPtr left = And();
  while (t_.SkipName("or")) left = MakeOf(ExprKind::kOr, line, std::move(left), And());
  return left;
}

ExprPtr ExpressionParser::And() {
  const int line = t_.current().line;
  ExprPtr left = Not();
  while (t_.SkipName("and")) left = MakeOf(ExprKind::kAnd, line, std::move(left), Not());
  return left;
}

ExprPtr ExpressionParser::Not() {
  const Nesting nesting(&t_);
  if (!nesting.entered()) return nullptr;
  const int line = t_.current().line;
  if (t_.SkipName("not")) return MakeOf(ExprKind::kNot, line, Not());
  return Compare();
}

ExprPtr ExpressionParser::Compare() {
  static constexpr std::pair<std::string_view, Operation> kOperators[] = {
      {"==", Operation::kEqual},     {"!=", Operation::kNotEqual}, {"<", Operation::kLess},
      {"<=", Operation::kLessEqual}, {">", Operation::kGreater},   {">=", Operation::kGreaterEqual},
  };
  const int line = t_.current().line;
  std::vector<ExprPtr> kids;
  std::vector<Operation> operations;
  kids.push_back(Sum());
  while (!t_.failed()) {
    const auto found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                    [&](const auto& entry) { return t_.IsOperator(entry.first); });
    if (found != std::end(kOperators)) {
      t_.Next();
      operations.push_back(found->second);
    } else if (t_.SkipName("in")) {
      operations.push_back(Operation::kIn);
    } else if (t_.IsName("not") && t_.ahead().kind == TokenKind::kName && t_.ahead().text == "in") {
      t_.Next();
      t_.Next();
      operations.push_back(Operation::kNotIn);
    } else {
      break;
    }
    kids.push_back(Sum());
  }
  if (operations.empty()) return std::move(kids[0]);
  ExprPtr expr = Make(ExprKind::kCompare, line, std::move(kids));
  expr->operations = std::move(operations);
  return expr;
}

ExprPtr ExpressionParser::Sum() {
  const int line = t_.current().line;
  ExprPtr left = Concat();
  while (t_.IsOperator("+") || t_.IsOperator("-")) {
    const Operation operation = t_.IsOperator("+") ? Operation::kAdd : Operation::kSubtract;
    t_.Next();
    left = Binary(line, std::move(left), operation, Concat());
  }
  return left;
}

ExprPtr ExpressionParser::Concat() {
  const int line = t_.current().line;
  std::vector<ExprPtr> kids;
  kids.push_back(Product());
  while (t_.SkipOperator("~")) kids.push_back(Product());
  if (kids.size() == 1) return std::move(kids[0]);
  return Make(ExprKind::kConcat, line, std::move(kids));
}

ExprPtr ExpressionParser::Product() {
  static constexpr std::pair<std::string_view, Operation> kOperators[] = {
      {"*", Operation::kMultiply},
      {"/", Operation::kDivide},
      {"//", Operation::kFloorDivide},
      {"%", Operation::kModulo},
  };
  const int line = t_.current().line;
  ExprPtr left = Power();
  while (!t_.failed()) {
    const auto found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                    [&](const auto& entry) { return t_.IsOperator(entry.first); });
    if (found == std::end(kOperators)) break;
    t_.Next();
    left = Binary(line, std::move(left), found->second, Power());
  }
  return left;
}

ExprPtr ExpressionParser::Power() {
  const int line = t_.current().line;
  ExprPtr left = Unary(true);
  while (t_.SkipOperator("**"))
    left = Binary(line, std::move(left), Operation::kPower, Unary(true));
  return left;
}

ExprPtr ExpressionParser::Unary(bool with_filters) {
  const Nesting nesting(&t_);
  if (!nesting.entered()) return nullptr;
  const int line = t_.current().line;
  ExprPtr expr;
  if (t_.SkipOperator("-")) {
    expr = MakeOf(ExprKind::kNegative, line, Unary(false));
  } else if (t_.SkipOperator("+")) {
    expr = MakeOf(ExprKind::kPositive, line, Unary(false));
  } else {
    expr = Primary();
  }
  expr = Postfix(std::move(expr));
  while (with_filters && !t_.failed()) {
    if (t_.IsOperator("|")) {
      expr = Filters(std::move(expr), false);
    } else if (t_.IsName("is")) {
      expr = Test(std::move(expr));
    } else if (t_.IsOperator("(")) {
      expr = Postfix(std::move(expr));
    } else {
      break;
    }
  }
  return t_.failed() ? nullptr : std::move(expr);
}

ExprPtr ExpressionParser::Number() {
  const Token token = t_.current();
  ExprPtr expr = Make(ExprKind::kConstant, token.line);
  errno = 0;
  if (token.kind == TokenKind::kFloat) {
    expr->value = Value::Float(std::strtod(token.text.c_str(), nullptr));
  } else {
    const bool prefixed = token.text.size() > 2 && token.text[0] == '0' && token.text[1] > '9';
    const int base = !prefixed                                      ? 10
                     : token.text[1] == 'x' || token.text[1] == 'X' ? 16
                     : token.text[1] == 'o' || token.text[1] == 'O' ? 8
                                                                    : 2;
    expr->value = Value::Int(std::strtoll(token.text.c_str() + (prefixed ? 2 : 0), nullptr, base));
    if (errno == ERANGE) t_.Fail(absl::StrCat("the integer ", token.text, " exceeds 64 bits"));
  }
  t_.Next();
  return expr;
}

ExprPtr ExpressionParser::Primary() {
  const Token token = t_.current();
  switch (token.kind) {
    case TokenKind::kName: {
      t_.Next();
      ExprPtr expr =
          Make(IsConstantName(token.text) ? ExprKind::kConstant : ExprKind::kName, token.line);
      if (expr->kind == ExprKind::kName) {
        expr->name = t_.NumberOf(token.text);
        expr->text = token.text;
      } else if (token.text == "none" || token.text == "None") {
        expr->value = Value::None();
      } else {
        expr->value = Value::Bool(token.text == "true" || token.text == "True");
      }
      return expr;
    }
    case TokenKind::kString: {
      std::string text;
      for (; t_.Is(TokenKind::kString); t_.Next()) text += t_.current().text;
      ExprPtr expr = Make(ExprKind::kConstant, token.line);
      expr->value = Value::Constant(std::move(text));
      return expr;
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return Number();
    case TokenKind::kOperator:
      if (t_.SkipOperator("(")) {
        ExprPtr expr = Tuple(true, "", true);
        t_.ExpectOperator(")");
        return expr;
      }
      if (token.text == "[" || token.text == "{") return ListOrDict();
      [[fallthrough]];
    default:
      t_.FailUnexpected("an expression");
      return nullptr;
  }
}

ExprPtr ExpressionParser::ListOrDict() {
  const bool dict = t_.IsOperator("{");
  const std::string_view close = dict ? "}" : "]";
  const int line = t_.current().line;
  t_.Next();
  std::vector<ExprPtr> kids;
  while (!t_.failed() && !t_.IsOperator(close)) {
    if (!kids.empty()) t_.ExpectOperator(",");
    if (t_.IsOperator(close)) break;
    kids.push_back(Expression());
    if (!dict) continue;
    t_.ExpectOperator(":");
    kids.push_back(Expression());
  }
  t_.ExpectOperator(close);
  return Make(dict ? ExprKind::kDict : ExprKind::kList, line, std::move(kids));
}

bool ExpressionParser::TupleEnds(std::string_view until) const {
  return t_.Is(TokenKind::kVariableEnd) || t_.Is(TokenKind::kBlockEnd) || t_.IsOperator(")") ||
         (!until.empty() && t_.IsName(until));
}

ExprPtr ExpressionParser::Tuple(bool with_condition, std::string_view until, bool in_parentheses) {
  const int line = t_.current().line;
  std::vector<ExprPtr> kids;
  bool is_tuple = false;
  while (!t_.failed()) {
    if (!kids.empty()) t_.ExpectOperator(",");
    if (TupleEnds(until)) break;
    kids.push_back(Expression(with_condition));
    if (!t_.IsOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !kids.empty()) return std::move(kids[0]);
  if (!is_tuple && !in_parentheses) t_.FailUnexpected("an expression");
  return Make(ExprKind::kTuple, line, std::move(kids));
}

ExprPtr ExpressionParser::Postfix(ExprPtr expr) {
  while (!t_.failed()) {
    if (t_.IsOperator(".") || t_.IsOperator("[")) {
      expr = Subscript(std::move(expr));
    } else if (t_.IsOperator("(")) {
      const int line = t_.current().line;
      ExprPtr call = MakeOf(ExprKind::kCall, line, std::move(expr));
      Arguments(call.get());
      expr = std::move(call);
    } else {
      break;
    }
  }
  return expr;
}

ExprPtr ExpressionParser::Subscript(ExprPtr expr) {
  const int line = t_.current().line;
  if (t_.SkipOperator(".")) {
    if (t_.Is(TokenKind::kInteger)) return MakeOf(ExprKind::kItem, line, std::move(expr), Number());
    ExprPtr attribute = MakeOf(ExprKind::kAttribute, line, std::move(expr));
    attribute->text = t_.ExpectName();
    return attribute;
  }
  t_.Next();
  std::vector<ExprPtr> parts;  // start, stop, step
  parts.push_back(t_.IsOperator(":") ? nullptr : Expression());
  bool slice = false;
  while (parts.size() < 3 && t_.SkipOperator(":")) {
    slice = true;
    const bool given = !t_.IsOperator(":") && !t_.IsOperator("]") && !t_.IsOperator(",");
    parts.push_back(given ? Expression() : nullptr);
  }
  if (!slice && t_.IsOperator(",")) {  // a key that is a tuple
    while (t_.SkipOperator(",")) parts.push_back(Expression());
    ExprPtr key = Make(ExprKind::kTuple, line, std::move(parts));
    t_.ExpectOperator("]");
    return MakeOf(ExprKind::kItem, line, std::move(expr), std::move(key));
  }
  t_.ExpectOperator("]");
  if (!slice) return MakeOf(ExprKind::kItem, line, std::move(expr), std::move(parts[0]));
  parts.resize(3);
  return MakeOf(ExprKind::kSlice, line, std::move(expr), std::move(parts[0]), std::move(parts[1]),
                std::move(parts[2]));
}

void ExpressionParser::Arguments(Expr* call) {
  t_.ExpectOperator("(");
  bool first = true;
  while (!t_.failed() && !t_.IsOperator(")")) {
    if (!first) t_.ExpectOperator(",");
    if (t_.IsOperator(")")) break;
    first = false;
    if (t_.IsOperator("*") && !call->star && !call->star_star) {
      t_.Next();
      call->star = Expression();
    } else if (t_.IsOperator("**") && !call->star_star) {
      t_.Next();
      call->star_star = Expression();
    } else if (t_.Is(TokenKind::kName) && t_.ahead().kind == TokenKind::kOperator &&
               t_.ahead().text == "=" && !call->star_star) {
      std::string name = t_.ExpectName();
      t_.Next();
      call->named.emplace_back(std::move(name), Expression());
    } else if (!call->star && !call->star_star && call->named.empty()) {
      call->kids.push_back(Expression());
    } else {
      t_.Fail("a positional argument comes after a named one");
    }
  }
  t_.ExpectOperator(")");
  Measure(call);
}

ExprPtr ExpressionParser::Filters(ExprPtr input, bool start) {
  while (!t_.failed() && (start || t_.SkipOperator("|"))) {
    start = false;
    ExprPtr filter = MakeOf(ExprKind::kFilter, t_.current().line, std::move(input));
    filter->text = t_.ExpectName();
    while (t_.SkipOperator(".")) absl::StrAppend(&filter->text, ".", t_.ExpectName());
    filter->filter = FindFilter(filter->text);
    if (t_.IsOperator("(")) Arguments(filter.get());
    input = std::move(filter);
  }
  return input;
}

ExprPtr ExpressionParser::Test(ExprPtr expr) {
  const int line = t_.current().line;
  t_.Next();
  const bool negated = t_.SkipName("not");
  ExprPtr test = MakeOf(ExprKind::kTest, line, std::move(expr));
  test->text = t_.ExpectName();
  while (t_.SkipOperator(".")) absl::StrAppend(&test->text, ".", t_.ExpectName());
  test->test = FindTest(test->text);
  const bool argument_follows =
      t_.Is(TokenKind::kString) || t_.Is(TokenKind::kInteger) || t_.Is(TokenKind::kFloat) ||
      t_.IsOperator("[") || t_.IsOperator("{") ||
      (t_.Is(TokenKind::kName) && !t_.IsName("else") && !t_.IsName("or") && !t_.IsName("and"));
  if (t_.IsOperator("(")) {
    Arguments(test.get());
  } else if (t_.IsName("is")) {
    t_.Fail("tests cannot be chained with is");
  } else if (argument_follows) {
    test->kids.push_back(Postfix(Primary()));
    Measure(test.get());
  }
  if (negated) return MakeOf(ExprKind::kNot, line, std::move(test));
  return test;
}

Target ExpressionParser::OneTarget(bool with_namespace) {
  const Nesting nesting(&t_);
  Target target;
  if (!nesting.entered()) return target;
  if (t_.SkipOperator("(")) {
    target = AssignTarget(with_namespace);
    t_.ExpectOperator(")");
    return target;
  }
  const std::string name = t_.ExpectName();
  if (IsConstantName(name)) t_.Fail(absl::StrCat(name, " cannot be assigned to"));
  target.name = t_.NumberOf(name);
  if (with_namespace && t_.SkipOperator(".")) {
    target.kind = TargetKind::kAttribute;
    target.attribute = t_.ExpectName();
  }
  return target;
}

Target ExpressionParser::AssignTarget(bool with_namespace, std::string_view until) {
  Target tuple{.kind = TargetKind::kTuple};
  bool is_tuple = false;
  while (!t_.failed()) {
    if (!tuple.items.empty()) t_.ExpectOperator(",");
    if (TupleEnds(until)) break;
    tuple.items.push_back(OneTarget(with_namespace));
    if (!t_.IsOperator(",")) break;
    is_tuple = true;
  }
  if (tuple.items.empty()) t_.FailUnexpected("a name to assign to");
  if (is_tuple || tuple.items.empty()) return tuple;
  return std::move(tuple.items[0]);
}

std::vector<Parameter> ExpressionParser::Parameters() {
  std::vector<Parameter> parameters;
  t_.ExpectOperator("(");
  while (!t_.failed() && !t_.IsOperator(")")) {
    if (!parameters.empty()) t_.ExpectOperator(",");
    Parameter parameter;
    parameter.text = t_.ExpectName();
    parameter.name = t_.NumberOf(parameter.text);
    if (t_.SkipOperator("=")) {
      parameter.otherwise = Expression();
    } else if (!parameters.empty() && parameters.back().otherwise != nullptr) {
      t_.Fail("a parameter without a default follows one that has a default");
    }
    parameters.push_back(std::move(parameter));
  }
  t_.ExpectOperator(")");
  return parameters;
}

}  // namespace mea::jinja
