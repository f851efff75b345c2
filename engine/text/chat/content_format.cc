#include "engine/text/chat/content_format.h"

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <vector>

namespace mea {
namespace {

using jinja::Body;
using jinja::Expr;
using jinja::ExprKind;
using jinja::ExprPtr;
using jinja::Stmt;
using jinja::StmtKind;

constexpr int kMaxRounds = 8;  // variables set to variables set to ...

class ContentLoops {
 public:
  bool In(const Body& body) {
    for (int round = 0; round < kMaxRounds && !found_; ++round) {
      const size_t before = names_.size();
      Visit(body);
      if (names_.size() == before && round > 0) break;  // the first round does not know all macros
    }
    return found_;
  }

 private:
  bool IsContent(const Expr* expr) const {
    if (expr == nullptr) return false;
    switch (expr->kind) {
      case ExprKind::kName:
        return names_.contains(expr->name);
      case ExprKind::kAttribute:
        return expr->text == "content";
      case ExprKind::kItem:
        return expr->kids[1]->kind == ExprKind::kConstant && expr->kids[1]->value.is_string() &&
               expr->kids[1]->value.text() == "content";
      case ExprKind::kCall: {  // message.get("content")
        const Expr& callee = *expr->kids[0];
        return callee.kind == ExprKind::kAttribute && callee.text == "get" &&
               expr->kids.size() > 1 && expr->kids[1]->kind == ExprKind::kConstant &&
               expr->kids[1]->value.is_string() && expr->kids[1]->value.text() == "content";
      }
      case ExprKind::kFilter:
      case ExprKind::kSlice:
        // The result of `length`, `trim` and the like is not a list of parts.
        return expr->text != "length" && expr->text != "trim" && expr->text != "string" &&
               IsContent(expr->kids[0].get());
      case ExprKind::kCondition:
        return IsContent(expr->kids[1].get()) || IsContent(expr->kids[2].get());
      case ExprKind::kOr:
        return IsContent(expr->kids[0].get()) || IsContent(expr->kids[1].get());
      default:
        return false;
    }
  }

  void Visit(const Expr* expr) {
    if (expr == nullptr) return;
    if (expr->kind == ExprKind::kCall && expr->kids[0]->kind == ExprKind::kName) {
      const auto macro = macros_.find(expr->kids[0]->name);
      if (macro != macros_.end()) Pass(*expr, *macro->second);
    }
    for (const ExprPtr& kid : expr->kids) Visit(kid.get());
    for (const auto& [name, kid] : expr->named) Visit(kid.get());
  }

  void Pass(const Expr& call, const Stmt& macro) {
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      bool content = i + 1 < call.kids.size() && IsContent(call.kids[i + 1].get());
      for (const auto& [name, value] : call.named) {
        content |= name == macro.parameters[i].text && IsContent(value.get());
      }
      if (content) names_.insert(macro.parameters[i].name);
    }
  }

  void Visit(const Body& body) {
    for (const auto& stmt : body) {
      for (const ExprPtr& expr : stmt->exprs) Visit(expr.get());
      if (stmt->kind == StmtKind::kMacro) macros_[stmt->name] = stmt.get();
      if (stmt->kind == StmtKind::kSet && stmt->targets[0].kind == jinja::TargetKind::kName &&
          IsContent(stmt->exprs[0].get())) {
        names_.insert(stmt->targets[0].name);
      }
      found_ |= stmt->kind == StmtKind::kFor && IsContent(stmt->exprs[0].get());
      for (const auto& [test, branch] : stmt->branches) {
        Visit(test.get());
        Visit(branch);
      }
      Visit(stmt->body);
      Visit(stmt->otherwise);
    }
  }

  absl::flat_hash_set<int> names_;  // of variables that hold a content
  absl::flat_hash_map<int, const Stmt*> macros_;
  bool found_ = false;
};

}  // namespace

bool TakesContentParts(const jinja::Program& program) { return ContentLoops().In(program.body); }

}  // namespace mea
