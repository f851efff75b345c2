#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <array>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/marked_text.h"
#include "engine/text/jinja/value.h"

namespace mea::jinja {

// The variables of a block. Assignments within a loop, macro or block stay there.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<int, Value>> variables;  // by the number of their name
  bool captured = false;                         // a macro defined here may be called later
};

struct RunOptions {
  absl::Time now;                                 // what strftime_now prints
  absl::FunctionRef<absl::Status()> interrupted;  // called every few thousand steps
};

// One rendering of a template, as jinja2's ImmutableSandboxedEnvironment renders it. Lives for that
// rendering, on one thread, and owns what its values point to. The first error ends it: from then
// on every value is undefined and nothing has an effect, so code here checks failed() only when it
// loops or acts on a result.
class Interpreter {
 public:
  Interpreter(const Program& program, const RunOptions& options);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // The rendered text. Errors are INVALID_ARGUMENT: the line with what went wrong, or exactly what
  // the template gave to raise_exception; or whatever `interrupted` returned.
  absl::StatusOr<MarkedText> Run(const std::vector<std::pair<std::string, Value>>& variables);

  // For filters, tests, functions and methods.
  bool failed() const { return !status_.ok(); }
  Value Fail(std::string_view what);  // always undefined
  void Raise(absl::Status status);
  Value FailUndefined(const Value& value);
  bool Charge(int64_t steps);  // false once the run has failed
  Meter* meter() { return &meter_; }
  absl::Time now() const { return options_.now; }

  Value NewString(MarkedText text, bool safe = false);
  Value NewString(TextBuilder builder, bool safe = false);
  Value NewString(std::string_view text) { return NewString(MarkedText{std::string(text), {}}); }
  Value Slice(const Value& string, size_t begin, size_t end);  // bytes
  Value NewList(std::vector<Value> items, Kind kind = Kind::kList, std::string_view name = "");
  Value NewDict(std::shared_ptr<DictObject> dict);
  Namespace* NewNamespace();

  // Python's str() and repr() of a value.
  void AddStr(const Value& value, TextBuilder* out);
  void AddRepr(const Value& value, TextBuilder* out);
  Value Str(const Value& value);  // the value itself where it is a string

  bool Equal(const Value& a, const Value& b);
  bool Less(const Value& a, const Value& b);  // fails where Python cannot order them
  bool Contains(const Value& container, const Value& item);
  Value Binary(Operation operation, const Value& a, const Value& b);
  // What iterating over it gives; empty, with an error, if Python cannot.
  std::vector<Value> Items(const Value& value);
  bool Iterable(const Value& value) const;
  int64_t Length(const Value& value);  // fails for what has none

  Value Attribute(const Value& object, std::string_view name);
  Value Item(const Value& object, const Value& key);
  Value Call(const Value& callee, CallArgs args);
  Value ApplyFilter(std::string_view name, FilterBody filter, const Value& input,
                    const CallArgs& args);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // Counts nested evaluations while it lives.
  class Depth {
   public:
    explicit Depth(Interpreter* interpreter);
    ~Depth() { --depth_; }

   private:
    int& depth_;
  };

  Scope* NewScope(Scope* parent);
  void EndScope(Scope* scope);
  void Capture(Scope* scope);
  void Assign(const Target& target, const Value& value, Scope* scope);
  void SetVariable(Scope* scope, int name, const Value& value);
  Value Variable(const Expr& expr, const Scope* scope);

  Flow Execute(const Body& body, Scope* scope);
  Flow Execute(const Stmt& stmt, Scope* scope);
  void Output(const Stmt& stmt, Scope* scope);
  void Print(const Value& value);
  void Set(const Stmt& stmt, Scope* scope);
  Flow For(const Stmt& stmt, Scope* scope);
  Flow RunLoop(const Stmt& stmt, std::vector<Value> items, int depth0, Scope* scope);
  Flow If(const Stmt& stmt, Scope* scope);
  Flow FilterBlock(const Stmt& stmt, Scope* scope);
  void With(const Stmt& stmt, Scope* scope);
  Value DefineMacro(const Stmt& stmt, Scope* scope);
  template <typename Writer>
  Value Captured(Writer write);

  Value Evaluate(const Expr& expr, Scope* scope);
  Value EvaluateDeep(const Expr& expr, Scope* scope);
  Value Logic(const Expr& expr, Scope* scope);
  Value Compare(const Expr& expr, Scope* scope);
  Value Concat(const Expr& expr, Scope* scope);
  Value Literal(const Expr& expr, Scope* scope);
  Value SliceOf(const Expr& expr, Scope* scope);
  Value EvaluateCall(const Expr& expr, Scope* scope, const Value* caller);
  Value Filter(const Expr& expr, Scope* scope, const Value* input);
  Value Test(const Expr& expr, Scope* scope);
  Value Sign(const Expr& expr, Scope* scope);
  CallArgs Arguments(const Expr& expr, Scope* scope);
  bool CompareOne(Operation operation, const Value& a, const Value& b);

  Value CallMacro(const Macro& macro, CallArgs args);
  Value CallLoop(Loop& loop, const CallArgs& args);
  static Value LoopChanged(Interpreter& in, const Value& self, const CallArgs& args);
  Value LoopAttribute(const Value& loop, std::string_view name);
  Value Arithmetic(Operation operation, const Value& a, const Value& b);
  Value FailOperands(std::string_view operation, const Value& a, const Value& b);
  Value NoAttribute(const Value& object, const Value& name);

  const Program& program_;
  const RunOptions options_;
  Meter meter_;
  absl::Status status_;
  int line_ = 1;
  int64_t steps_ = 0;
  int64_t next_check_;
  int eval_depth_ = 0;
  int call_depth_ = 0;
  TextBuilder output_;
  TextBuilder* out_ = &output_;
  std::deque<Scope> scopes_;
  std::vector<Scope*> free_scopes_;
  std::deque<Namespace> namespaces_;
  std::deque<Macro> macros_;
  std::deque<std::vector<Value>> changed_;  // what loop.changed() saw last, by Loop::changed
  Scope* outermost_ = nullptr;
};

// The arguments of a call, bound to parameters as Python binds them. If they do not fit, the
// interpreter fails and this is not ok().
class Bound {
 public:
  Bound(Interpreter& interpreter, std::string_view callee, const CallArgs& args,
        std::initializer_list<std::string_view> names, size_t required = 0);
  bool ok() const { return !interpreter_.failed(); }
  const Value& operator[](size_t i) const { return values_[i]; }
  bool Given(size_t i) const { return !values_[i].missing() && !values_[i].none(); }
  bool Truth(size_t i, bool otherwise) const;
  int64_t Int(size_t i, int64_t otherwise);
  MarkedText Text(size_t i, std::string_view otherwise);  // fails for what is no string

 private:
  Interpreter& interpreter_;
  const std::string_view callee_;
  std::array<Value, 6> values_;
};

// Appends what json.dumps(value, ...) gives.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool has_indent = false;
  MarkedText indent, item_separator, key_separator;
};
void AddJson(Interpreter& interpreter, const Value& value, const JsonStyle& style,
             TextBuilder* out);

// Python's repr of a float; "%" formatting; str.format.
std::string FloatRepr(double value);
Value FormatPercent(Interpreter& interpreter, const Value& format, const Value& args);
Value FormatBraces(Interpreter& interpreter, const Value& format, const CallArgs& args);
// HTML-escaped, as markupsafe does.
Value Escaped(Interpreter& interpreter, const Value& value);

}  // namespace mea::jinja
