#include "engine/text/jinja/parser.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/token_stream.h"
#include "engine/text/utf8.h"
#include "kernels/status_macros.h"

namespace mea::jinja {

TokenStream::TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  end_.line = tokens_.back().line;
  for (const char* name : {"loop", "caller", "kwargs", "varargs"}) NumberOf(name);
}

const Token& TokenStream::ahead() const {
  return failed() || at_ + 1 >= tokens_.size() ? end_ : tokens_[at_ + 1];
}

void TokenStream::Next() {
  if (at_ + 1 < tokens_.size()) ++at_;
}

bool TokenStream::SkipName(std::string_view name) {
  if (!IsName(name)) return false;
  Next();
  return true;
}

bool TokenStream::SkipOperator(std::string_view text) {
  if (!IsOperator(text)) return false;
  Next();
  return true;
}

void TokenStream::ExpectOperator(std::string_view text) {
  if (!SkipOperator(text)) FailUnexpected(absl::StrCat("\"", std::string(text), "\""));
}

void TokenStream::ExpectKind(TokenKind kind) {
  if (!Is(kind)) return FailUnexpected("the end of the tag");
  Next();
}

std::string TokenStream::ExpectName() {
  if (!Is(TokenKind::kName)) {
    FailUnexpected("a name");
    return "";
  }
  std::string name = current().text;
  Next();
  return name;
}

void TokenStream::Fail(std::string_view what) {
  if (!failed()) status_ = ErrorAt(current().line, what);
}

void TokenStream::FailUnexpected(std::string_view expected) {
  constexpr size_t kShown = 40;
  const Token& token = current();
  std::string found = token.kind == TokenKind::kEnd           ? "the end of the template"
                      : token.kind == TokenKind::kText        ? "text"
                      : token.kind == TokenKind::kBlockEnd    ? "\"%}\""
                      : token.kind == TokenKind::kVariableEnd ? "\"}}\""
                      : token.kind == TokenKind::kString
                          ? "a string"
                          : absl::StrCat("\"", token.text.substr(0, kShown), "\"");
  Fail(absl::StrCat(std::string(expected), " is expected where ", found, " is"));
}

int TokenStream::NumberOf(const std::string& name) {
  const auto [it, added] = numbers_.try_emplace(name, static_cast<int>(names_.size()));
  if (added) names_.push_back(name);
  return it->second;
}

bool TokenStream::Enter() {
  if (++depth_ > 2 * kMaxParseDepth) {  // an expression enters twice for "not" or "("
    Fail(absl::StrCat("the template is nested more than ", kMaxParseDepth, " deep"));
  }
  return !failed();
}

namespace {

using StmtPtr = std::unique_ptr<Stmt>;

// A macro accepts varargs, kwargs and caller only if its body uses these names.
void FindSpecialNames(const Body& body, Stmt* macro);

void FindSpecialNames(const Expr* expr, Stmt* macro) {
  if (expr == nullptr) return;
  if (expr->kind == ExprKind::kName) {
    macro->takes_caller |= expr->name == kNameCaller;
    macro->takes_kwargs |= expr->name == kNameKwargs;
    macro->takes_varargs |= expr->name == kNameVarargs;
  }
  for (const ExprPtr& kid : expr->kids) FindSpecialNames(kid.get(), macro);
  for (const auto& [name, kid] : expr->named) FindSpecialNames(kid.get(), macro);
  FindSpecialNames(expr->star.get(), macro);
  FindSpecialNames(expr->star_star.get(), macro);
}

void FindSpecialNames(const Body& body, Stmt* macro) {
  for (const StmtPtr& stmt : body) {
    for (const ExprPtr& expr : stmt->exprs) FindSpecialNames(expr.get(), macro);
    for (const auto& [test, branch] : stmt->branches) {
      FindSpecialNames(test.get(), macro);
      FindSpecialNames(branch, macro);
    }
    for (const Parameter& parameter : stmt->parameters) {
      FindSpecialNames(parameter.otherwise.get(), macro);
    }
    // An inner macro has already found its own.
    macro->takes_caller |= stmt->takes_caller;
    macro->takes_kwargs |= stmt->takes_kwargs;
    macro->takes_varargs |= stmt->takes_varargs;
    if (stmt->kind == StmtKind::kMacro || stmt->kind == StmtKind::kCallBlock) continue;
    FindSpecialNames(stmt->body, macro);
    FindSpecialNames(stmt->otherwise, macro);
  }
}

bool AssignsLoop(const Target& target) {
  return (target.kind == TargetKind::kName && target.name == kNameLoop) ||
         std::any_of(target.items.begin(), target.items.end(), AssignsLoop);
}

// Statements: the contents of {% %}, and the text around them.
class StatementParser {
 public:
  explicit StatementParser(TokenStream* tokens) : t_(*tokens), e_(tokens) {}

  Body Template() {
    Body body = Statements({});
    if (!t_.failed() && !t_.Is(TokenKind::kEnd)) t_.FailUnexpected("the end of the template");
    return body;
  }

 private:
  using Ends = std::initializer_list<std::string_view>;

  StmtPtr Make(StmtKind kind) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = t_.current().line;
    return stmt;
  }

  // Text and tags up to the tag that is named in `ends`, whose name is then the current token.
  Body Statements(Ends ends) {
    Body body;
    if (!t_.Enter()) return body;
    while (!t_.failed() && !t_.Is(TokenKind::kEnd)) {
      if (t_.Is(TokenKind::kText)) {
        StmtPtr stmt = Make(StmtKind::kOutput);
        auto text = std::make_unique<Expr>();
        text->kind = ExprKind::kConstant;
        text->line = t_.current().line;
        text->value = Value::Constant(t_.current().text);
        stmt->exprs.push_back(std::move(text));
        body.push_back(std::move(stmt));
        t_.Next();
      } else if (t_.Is(TokenKind::kVariableBegin)) {
        StmtPtr stmt = Make(StmtKind::kOutput);
        t_.Next();
        stmt->exprs.push_back(e_.Tuple());
        t_.ExpectKind(TokenKind::kVariableEnd);
        body.push_back(std::move(stmt));
      } else {
        t_.Next();  // the beginning of a tag
        if (std::any_of(ends.begin(), ends.end(),
                        [&](std::string_view end) { return t_.IsName(end); })) {
          t_.Leave();
          return body;
        }
        if (StmtPtr stmt = Statement(); stmt != nullptr) body.push_back(std::move(stmt));
        t_.ExpectKind(TokenKind::kBlockEnd);
      }
    }
    t_.Leave();
    if (ends.size() > 0) {
      t_.FailUnexpected(absl::StrCat("{% ", std::string(*(ends.end() - 1)), " %}"));
    }
    return body;
  }

  // The body of a tag, up to one of `ends`.
  Body BodyUntil(Ends ends) {
    t_.SkipOperator(":");
    t_.ExpectKind(TokenKind::kBlockEnd);
    return Statements(ends);
  }
  Body WholeBody(std::string_view end) {
    Body body = BodyUntil({end});
    t_.SkipName(end);
    return body;
  }
  // The same for bodies that a `break` cannot leave.
  Body ClosedBody(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body body = WholeBody(end);
    loops_ = loops;
    return body;
  }

  StmtPtr Statement() {
    if (!t_.Is(TokenKind::kName)) {
      t_.FailUnexpected("the name of a tag");
      return nullptr;
    }
    const std::string name = t_.current().text;
    if (name == "set") return Set();
    if (name == "for") return For();
    if (name == "if") return If();
    if (name == "macro") return MacroOrCall(StmtKind::kMacro);
    if (name == "call") return MacroOrCall(StmtKind::kCallBlock);
    if (name == "break" || name == "continue") return LoopControl();
    if (name == "filter") return FilterBlock();
    if (name == "with") return With();
    if (name == "generation" || name == "block" || name == "autoescape") return Scope();
    if (name == "print") return Print();
    if (name == "include" || name == "import" || name == "from" || name == "extends") {
      return Refused();
    }
    t_.Fail(absl::StrCat("the tag \"", name, "\" is not known here"));
    return nullptr;
  }

  StmtPtr Set() {
    StmtPtr stmt = Make(StmtKind::kSet);
    t_.Next();
    stmt->targets.push_back(e_.AssignTarget(true));
    if (for_depth_ > 0 && AssignsLoop(stmt->targets[0])) {
      t_.Fail("the loop variable cannot be assigned to");
    }
    if (t_.SkipOperator("=")) {
      stmt->exprs.push_back(e_.Tuple());
      return stmt;
    }
    stmt->kind = StmtKind::kSetBlock;
    stmt->exprs.push_back(e_.Filters(nullptr, false));
    stmt->body = WholeBody("endset");
    return stmt;
  }

  StmtPtr For() {
    StmtPtr stmt = Make(StmtKind::kFor);
    t_.Next();
    stmt->targets.push_back(e_.AssignTarget(false, "in"));
    if (AssignsLoop(stmt->targets[0])) t_.Fail("the loop variable cannot be assigned to");
    if (!t_.SkipName("in")) t_.FailUnexpected("\"in\"");
    stmt->exprs.push_back(e_.Tuple(false, "recursive"));
    stmt->exprs.push_back(t_.SkipName("if") ? e_.Expression() : nullptr);
    stmt->recursive = t_.SkipName("recursive");
    const int loops = loops_;
    loops_ = stmt->recursive ? 1 : loops + 1;
    ++for_depth_;
    stmt->body = BodyUntil({"else", "endfor"});
    loops_ = stmt->recursive ? 0 : loops;
    if (t_.SkipName("else")) stmt->otherwise = BodyUntil({"endfor"});
    t_.SkipName("endfor");
    --for_depth_;
    loops_ = loops;
    return stmt;
  }

  StmtPtr If() {
    StmtPtr stmt = Make(StmtKind::kIf);
    do {
      t_.Next();
      ExprPtr test = e_.Tuple(false);
      Body body = BodyUntil({"elif", "else", "endif"});
      stmt->branches.emplace_back(std::move(test), std::move(body));
    } while (t_.IsName("elif"));
    if (t_.SkipName("else")) stmt->otherwise = BodyUntil({"endif"});
    t_.SkipName("endif");
    return stmt;
  }

  StmtPtr MacroOrCall(StmtKind kind) {
    StmtPtr stmt = Make(kind);
    t_.Next();
    if (kind == StmtKind::kMacro) {
      stmt->text = t_.ExpectName();
      stmt->name = t_.NumberOf(stmt->text);
      stmt->parameters = e_.Parameters();
      stmt->body = ClosedBody("endmacro");
    } else {
      stmt->text = "caller";
      if (t_.IsOperator("(")) stmt->parameters = e_.Parameters();
      stmt->exprs.push_back(e_.Expression());
      if (!t_.failed() && stmt->exprs[0]->kind != ExprKind::kCall) t_.Fail("call needs a call");
      stmt->body = ClosedBody("endcall");
    }
    FindSpecialNames(stmt->body, stmt.get());
    return stmt;
  }

  StmtPtr LoopControl() {
    StmtPtr stmt = Make(t_.IsName("break") ? StmtKind::kBreak : StmtKind::kContinue);
    if (loops_ == 0) t_.Fail(absl::StrCat(t_.current().text, " is outside of a loop"));
    t_.Next();
    return stmt;
  }

  StmtPtr FilterBlock() {
    StmtPtr stmt = Make(StmtKind::kFilterBlock);
    t_.Next();
    stmt->exprs.push_back(e_.Filters(nullptr, true));
    stmt->body = WholeBody("endfilter");
    return stmt;
  }

  StmtPtr With() {
    StmtPtr stmt = Make(StmtKind::kWith);
    t_.Next();
    while (!t_.failed() && !t_.Is(TokenKind::kBlockEnd)) {
      if (!stmt->targets.empty()) t_.ExpectOperator(",");
      // A tuple of names needs its parentheses: a comma ends a target here.
      stmt->targets.push_back(e_.AssignTarget(false));
      t_.ExpectOperator("=");
      stmt->exprs.push_back(e_.Expression());
    }
    stmt->body = WholeBody("endwith");
    return stmt;
  }

  StmtPtr Scope() {
    StmtPtr stmt = Make(StmtKind::kScope);
    const std::string name = t_.ExpectName();
    if (name == "autoescape") {
      ExprPtr on = e_.Expression();
      const bool off = on != nullptr && on->kind == ExprKind::kConstant && !Truthy(on->value);
      if (!off) t_.Fail("autoescape is not supported");
    } else if (name == "block") {
      stmt->text = t_.ExpectName();
      stmt->outermost = !t_.SkipName("scoped");
      t_.SkipName("required");
    }
    if (name == "autoescape") {
      stmt->body = WholeBody("endautoescape");
    } else {
      stmt->body = ClosedBody(absl::StrCat("end", name));
    }
    if (name == "block") t_.SkipName(stmt->text);
    return stmt;
  }

  StmtPtr Print() {
    StmtPtr stmt = Make(StmtKind::kOutput);
    t_.Next();
    while (!t_.failed() && !t_.Is(TokenKind::kBlockEnd)) {
      if (!stmt->exprs.empty()) t_.ExpectOperator(",");
      stmt->exprs.push_back(e_.Expression());
    }
    return stmt;
  }

  // Other files are not available; a template that never reaches this is still served.
  StmtPtr Refused() {
    StmtPtr stmt = Make(StmtKind::kRefused);
    stmt->text = t_.ExpectName();
    while (!t_.failed() && !t_.Is(TokenKind::kBlockEnd)) t_.Next();
    return stmt;
  }

  TokenStream& t_;
  ExpressionParser e_;
  int loops_ = 0;  // that a break here could leave
  int for_depth_ = 0;
};

// jinja2 refuses unknown filters and tests when it reads a template, except within a condition,
// where the template may ask first whether they exist.
class NameCheck {
 public:
  absl::Status Check(const Body& body, bool soft) {
    for (const StmtPtr& stmt : body) {
      for (const ExprPtr& expr : stmt->exprs) Check(expr.get(), soft);
      for (const Parameter& parameter : stmt->parameters) Check(parameter.otherwise.get(), false);
      for (const auto& [test, branch] : stmt->branches) {
        Check(test.get(), true);
        Check(branch, true).IgnoreError();
      }
      Check(stmt->body, false).IgnoreError();
      Check(stmt->otherwise, stmt->kind == StmtKind::kIf).IgnoreError();
    }
    return status_;
  }

 private:
  void Check(const Expr* expr, bool soft) {
    if (expr == nullptr || !status_.ok()) return;
    soft |= expr->kind == ExprKind::kCondition;
    if (!soft && expr->kind == ExprKind::kFilter && expr->filter == nullptr) {
      status_ = ErrorAt(expr->line, absl::StrCat("there is no filter \"", expr->text, "\""));
    }
    if (!soft && expr->kind == ExprKind::kTest && expr->test == nullptr) {
      status_ = ErrorAt(expr->line, absl::StrCat("there is no test \"", expr->text, "\""));
    }
    for (const ExprPtr& kid : expr->kids) Check(kid.get(), soft);
    for (const auto& [name, kid] : expr->named) Check(kid.get(), soft);
    Check(expr->star.get(), soft);
    Check(expr->star_star.get(), soft);
  }

  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Program>> ParseTemplate(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the template has ", source.size(), " bytes, at most ", kMaxSourceBytes, " are read"));
  }
  if (!IsValidUtf8(source)) return absl::InvalidArgumentError("the template is not valid UTF-8");
  MEA_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  TokenStream stream(std::move(tokens));
  auto program = std::make_unique<Program>();
  program->body = StatementParser(&stream).Template();
  if (stream.failed()) return stream.status();
  program->names = stream.TakeNames();
  for (const std::string& name : program->names) {
    program->numbers.emplace(name, static_cast<int>(program->numbers.size()));
    program->functions.push_back(FindFunction(name));
  }
  MEA_RETURN_IF_ERROR(NameCheck().Check(program->body, false));
  return program;
}

}  // namespace mea::jinja
