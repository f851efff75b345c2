#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/text/jinja/value.h"

namespace mea::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<std::unique_ptr<Stmt>>;

using FilterBody = Value (*)(Interpreter&, const Value& input, const CallArgs&);
using TestBody = bool (*)(Interpreter&, const Value& input, const CallArgs&);

enum class Operation : uint8_t {
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

enum class ExprKind : uint8_t {
  kConstant,
  kName,
  kList,       // kids: items
  kTuple,      // kids: items
  kDict,       // kids: key, value, key, value, ...
  kNot,        // kids[0]
  kNegative,   // kids[0]
  kPositive,   // kids[0]
  kBinary,     // kids[0] operations[0] kids[1]
  kAnd,        // kids[0], kids[1]
  kOr,         // kids[0], kids[1]
  kCompare,    // kids[0] operations[0] kids[1] operations[1] kids[2] ...
  kConcat,     // kids ~ kids ~ ...
  kCondition,  // kids: test, value if true, value if false (or null)
  kAttribute,  // kids[0].text
  kItem,       // kids[0][kids[1]]
  kSlice,      // kids[0][kids[1]:kids[2]:kids[3]], each but the first may be null
  kCall,       // kids[0](kids[1], ...)
  kFilter,     // kids[0] (null: the text of a block) | text(kids[1], ...)
  kTest,       // kids[0] is text(kids[1], ...)
};

struct Expr {
  ExprKind kind;
  int line = 1;
  int depth = 1;
  int name = -1;     // of kName
  std::string text;  // of kName, kAttribute, kFilter, kTest
  Value value;       // of kConstant
  std::vector<ExprPtr> kids;
  std::vector<Operation> operations;
  // Of kCall, kFilter and kTest: name=value, *star, **star_star.
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, star_star;
  FilterBody filter = nullptr;  // null: no such filter
  TestBody test = nullptr;
};

enum class TargetKind : uint8_t { kName, kAttribute, kTuple };

// What may be assigned to.
struct Target {
  TargetKind kind = TargetKind::kName;
  int name = -1;          // of the variable
  std::string attribute;  // of the namespace in it
  std::vector<Target> items;
};

struct Parameter {
  std::string text;
  int name = -1;
  ExprPtr otherwise;  // null: none
};

struct Macro {
  const Stmt* stmt = nullptr;
  struct Scope* scope = nullptr;  // in which it was defined
};

enum class StmtKind : uint8_t {
  kOutput,       // exprs
  kSet,          // target = exprs[0]
  kSetBlock,     // target = body, through exprs[0] if not null
  kFor,          // target in exprs[0] if exprs[1] (or null); body, otherwise
  kIf,           // branches, otherwise
  kMacro,        // text(parameters): body
  kCallBlock,    // exprs[0], with caller(parameters): body
  kFilterBlock,  // exprs[0] of body
  kWith,         // targets[i] = exprs[i]: body
  kScope,        // body in a scope of its own; from the outermost variables if `outermost`
  kBreak,
  kContinue,
  kRefused,  // `text` says why
};

struct Stmt {
  StmtKind kind;
  int line = 1;
  std::vector<ExprPtr> exprs;
  std::vector<Target> targets;
  Body body, otherwise;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::string text;
  int name = -1;  // of a macro
  std::vector<Parameter> parameters;
  bool takes_caller = false, takes_kwargs = false, takes_varargs = false;  // uses those names
  bool recursive = false;
  bool outermost = false;
};

// Names that the interpreter itself knows.
enum KnownName : int { kNameLoop, kNameCaller, kNameKwargs, kNameVarargs, kNumKnownNames };

struct Program {
  Body body;
  std::vector<std::string> names;  // by their numbers
  absl::flat_hash_map<std::string, int> numbers;
  std::vector<const Function*> functions;  // what a name means that no variable has; null: nothing
};

}  // namespace mea::jinja
