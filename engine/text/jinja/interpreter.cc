#include "engine/text/jinja/interpreter.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "engine/text/jinja/limits.h"

namespace mea::jinja {

Interpreter::Depth::Depth(Interpreter* interpreter) : depth_(interpreter->eval_depth_) {
  if (++depth_ > kMaxEvalDepth) {
    interpreter->Fail(absl::StrCat("evaluation is nested more than ", kMaxEvalDepth, " deep"));
  }
}

Interpreter::Interpreter(const Program& program, const RunOptions& options)
    : program_(program), options_(options), next_check_(kStepsBetweenChecks) {}

Interpreter::~Interpreter() {
  // Values first: their destructors use the meter.
  for (Namespace& space : namespaces_) space.attributes.clear();
  for (Scope& scope : scopes_) scope.variables.clear();
}

absl::StatusOr<MarkedText> Interpreter::Run(
    const std::vector<std::pair<std::string, Value>>& variables) {
  Scope* context = NewScope(nullptr);
  for (const auto& [name, value] : variables) {
    const auto it = program_.numbers.find(name);
    if (it != program_.numbers.end()) SetVariable(context, it->second, value);
  }
  outermost_ = NewScope(context);
  Execute(program_.body, outermost_);
  if (output_.overflown()) {
    Fail(absl::StrCat("the rendered text exceeds ", kMaxStringBytes, " bytes"));
  }
  if (failed()) return status_;
  return output_.Take();
}

Value Interpreter::Fail(std::string_view what) {
  if (!failed()) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat("chat template, line ", line_, ": ", std::string(what)));
  }
  return Value();
}

void Interpreter::Raise(absl::Status status) {
  if (!failed()) status_ = std::move(status);
}

Value Interpreter::FailUndefined(const Value& value) {
  return Fail(value.object() == nullptr ? std::string_view("an undefined value is used")
                                        : value.text());
}

bool Interpreter::Charge(int64_t steps) {
  if (failed()) return false;
  steps_ += steps;
  if (steps_ > kMaxSteps) {
    Fail(absl::StrCat("rendering takes more than ", kMaxSteps, " steps"));
  } else if (meter_.live_bytes > kMaxLiveBytes) {
    Fail(absl::StrCat("the template's values take more than ", kMaxLiveBytes, " bytes"));
  } else if (steps_ >= next_check_) {
    next_check_ = steps_ + kStepsBetweenChecks;
    if (absl::Status status = options_.interrupted(); !status.ok()) Raise(std::move(status));
  }
  return !failed();
}

Value Interpreter::NewString(MarkedText text, bool safe) {
  if (text.size() > kMaxStringBytes) {
    return Fail(absl::StrCat("a string exceeds ", kMaxStringBytes, " bytes"));
  }
  if (!Charge(static_cast<int64_t>(text.size()) / kBytesPerStep)) return Value();
  return Value::String(std::move(text), &meter_, safe);
}

Value Interpreter::NewString(TextBuilder builder, bool safe) {
  if (builder.overflown()) {
    return Fail(absl::StrCat("a string exceeds ", kMaxStringBytes, " bytes"));
  }
  return NewString(builder.Take(), safe);
}

Value Interpreter::Slice(const Value& string, size_t begin, size_t end) {
  if (begin == 0 && end == string.text().size()) return string;
  TextBuilder part;
  part.Add(string.marked(), begin, end);
  return NewString(std::move(part), string.safe());
}

Value Interpreter::NewList(std::vector<Value> items, Kind kind, std::string_view name) {
  if (!Charge(static_cast<int64_t>(items.size()) / 4)) return Value();
  Value list = Value::List(std::move(items), &meter_, kind, name);
  if (list.depth() > kMaxValueDepth) {
    return Fail(absl::StrCat("values are nested more than ", kMaxValueDepth, " deep"));
  }
  return list;
}

Value Interpreter::NewDict(std::shared_ptr<DictObject> dict) {
  if (!Charge(static_cast<int64_t>(dict->entries.size()) / 4)) return Value();
  Value value = Value::Dict(std::move(dict), &meter_);
  if (value.depth() > kMaxValueDepth) {
    return Fail(absl::StrCat("values are nested more than ", kMaxValueDepth, " deep"));
  }
  return value;
}

Namespace* Interpreter::NewNamespace() {
  meter_.live_bytes += sizeof(Namespace);
  return &namespaces_.emplace_back();
}

Scope* Interpreter::NewScope(Scope* parent) {
  Scope* scope;
  if (free_scopes_.empty()) {
    scope = &scopes_.emplace_back();
    meter_.live_bytes += sizeof(Scope);
  } else {
    scope = free_scopes_.back();
    free_scopes_.pop_back();
  }
  scope->parent = parent;
  scope->captured = false;
  return scope;
}

void Interpreter::EndScope(Scope* scope) {
  if (scope->captured) return;
  scope->variables.clear();
  free_scopes_.push_back(scope);
}

void Interpreter::Capture(Scope* scope) {
  for (; scope != nullptr && !scope->captured; scope = scope->parent) scope->captured = true;
}

void Interpreter::SetVariable(Scope* scope, int name, const Value& value) {
  for (auto& [key, old] : scope->variables) {
    if (key != name) continue;
    old = value;
    return;
  }
  scope->variables.emplace_back(name, value);
}

void Interpreter::Assign(const Target& target, const Value& value, Scope* scope) {
  if (failed()) return;
  if (target.kind == TargetKind::kName) return SetVariable(scope, target.name, value);
  if (target.kind == TargetKind::kTuple) {
    const std::vector<Value> items = Items(value);
    if (failed()) return;
    if (items.size() != target.items.size()) {
      Fail(absl::StrCat(items.size(), " values cannot be unpacked into ", target.items.size(),
                        " names"));
      return;
    }
    for (size_t i = 0; i < items.size(); ++i) Assign(target.items[i], items[i], scope);
    return;
  }
  Expr name{.kind = ExprKind::kName, .name = target.name};
  const Value space = Variable(name, scope);
  if (!space.Is(Kind::kNamespace)) {
    Fail("attributes can be assigned to namespaces alone");
  } else if (target.attribute.starts_with('_')) {
    Fail(absl::StrCat("the attribute \"", target.attribute, "\" of a namespace begins with _"));
  } else if (Value* old = space.name_space().Find(target.attribute); old != nullptr) {
    *old = value;
  } else {
    space.name_space().attributes.emplace_back(target.attribute, value);
    meter_.live_bytes += sizeof(space.name_space().attributes[0]);
  }
}

// Runs `write` and returns what it printed.
template <typename Writer>
Value Interpreter::Captured(Writer write) {
  TextBuilder buffer;
  TextBuilder* before = std::exchange(out_, &buffer);
  write();
  out_ = before;
  meter_.live_bytes -= static_cast<int64_t>(buffer.size());
  return NewString(std::move(buffer));
}

Interpreter::Flow Interpreter::Execute(const Body& body, Scope* scope) {
  for (const auto& stmt : body) {
    const Flow flow = Execute(*stmt, scope);
    if (failed()) return Flow::kBreak;
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const Stmt& stmt, Scope* scope) {
  const Depth depth(this);
  if (!Charge(1)) return Flow::kBreak;
  line_ = stmt.line;
  switch (stmt.kind) {
    case StmtKind::kOutput:
      Output(stmt, scope);
      return Flow::kNext;
    case StmtKind::kSet:
    case StmtKind::kSetBlock:
      Set(stmt, scope);
      return Flow::kNext;
    case StmtKind::kFor:
      return For(stmt, scope);
    case StmtKind::kIf:
      return If(stmt, scope);
    case StmtKind::kMacro:
      SetVariable(scope, stmt.name, DefineMacro(stmt, scope));
      return Flow::kNext;
    case StmtKind::kCallBlock: {
      const Value caller = DefineMacro(stmt, scope);
      Print(EvaluateCall(*stmt.exprs[0], scope, &caller));
      return Flow::kNext;
    }
    case StmtKind::kFilterBlock:
      return FilterBlock(stmt, scope);
    case StmtKind::kWith:
      With(stmt, scope);
      return Flow::kNext;
    case StmtKind::kScope: {
      Scope* inner = NewScope(stmt.outermost ? outermost_ : scope);
      const Flow flow = Execute(stmt.body, inner);
      EndScope(inner);
      return flow;
    }
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
    case StmtKind::kRefused:
      Fail(absl::StrCat(stmt.text, " is not supported: a chat template has no other files"));
      return Flow::kBreak;
  }
  return Flow::kNext;
}

void Interpreter::Print(const Value& value) {
  const size_t before = out_->size();
  AddStr(value, out_);
  const auto added = static_cast<int64_t>(out_->size() - before);
  meter_.live_bytes += added;
  Charge(added / kBytesPerStep);
  if (out_->overflown()) Fail(absl::StrCat("the text exceeds ", kMaxStringBytes, " bytes"));
}

void Interpreter::Output(const Stmt& stmt, Scope* scope) {
  for (const ExprPtr& expr : stmt.exprs) {
    const Value value = Evaluate(*expr, scope);
    if (failed()) return;
    Print(value);
  }
}

void Interpreter::Set(const Stmt& stmt, Scope* scope) {
  Value value;
  if (stmt.kind == StmtKind::kSet) {
    value = Evaluate(*stmt.exprs[0], scope);
  } else {
    Scope* inner = NewScope(scope);
    value = Captured([&] { Execute(stmt.body, inner); });
    if (stmt.exprs[0] != nullptr) value = Filter(*stmt.exprs[0], inner, &value);
    EndScope(inner);
  }
  Assign(stmt.targets[0], value, scope);
}

Interpreter::Flow Interpreter::For(const Stmt& stmt, Scope* scope) {
  std::vector<Value> items = Items(Evaluate(*stmt.exprs[0], scope));
  if (failed()) return Flow::kBreak;
  return RunLoop(stmt, std::move(items), 0, scope);
}

Interpreter::Flow Interpreter::RunLoop(const Stmt& stmt, std::vector<Value> items, int depth0,
                                       Scope* scope) {
  if (const Expr* condition = stmt.exprs[1].get(); condition != nullptr) {
    std::vector<Value> chosen;
    for (const Value& item : items) {
      Scope* inner = NewScope(scope);
      Assign(stmt.targets[0], item, inner);
      if (Truthy(Evaluate(*condition, inner))) chosen.push_back(item);
      EndScope(inner);
      if (failed()) return Flow::kBreak;
    }
    items = std::move(chosen);
  }
  if (stmt.recursive) Capture(scope);
  auto loop = std::make_shared<Loop>();
  loop->items = std::move(items);
  for (const Value& item : loop->items) loop->depth = std::max(loop->depth, item.depth() + 1);
  loop->Count(&meter_, static_cast<int64_t>(sizeof(Loop) + loop->items.size() * sizeof(Value)));
  if (loop->depth > kMaxValueDepth) {
    Fail(absl::StrCat("values are nested more than ", kMaxValueDepth, " deep"));
  }
  loop->depth0 = depth0;
  loop->recursive = stmt.recursive ? &stmt : nullptr;
  loop->scope = scope;
  const Value loop_value = Value::Of(loop);
  for (size_t i = 0; i < loop->items.size() && Charge(1); ++i) {
    loop->index0 = static_cast<int64_t>(i);
    Scope* inner = NewScope(scope);
    inner->variables.emplace_back(kNameLoop, loop_value);
    Assign(stmt.targets[0], loop->items[i], inner);
    const Flow flow = failed() ? Flow::kBreak : Execute(stmt.body, inner);
    EndScope(inner);
    if (flow == Flow::kBreak) break;
  }
  const bool empty = loop->items.empty();
  if (empty && !stmt.otherwise.empty()) {
    Scope* inner = NewScope(scope);
    const Flow flow = Execute(stmt.otherwise, inner);
    EndScope(inner);
    return flow;
  }
  return failed() ? Flow::kBreak : Flow::kNext;
}

Interpreter::Flow Interpreter::If(const Stmt& stmt, Scope* scope) {
  for (const auto& [test, body] : stmt.branches) {
    const bool taken = Truthy(Evaluate(*test, scope));
    if (failed()) return Flow::kBreak;
    if (taken) return Execute(body, scope);
  }
  return Execute(stmt.otherwise, scope);
}

Interpreter::Flow Interpreter::FilterBlock(const Stmt& stmt, Scope* scope) {
  Scope* inner = NewScope(scope);
  Flow flow = Flow::kNext;
  const Value text = Captured([&] { flow = Execute(stmt.body, inner); });
  // A break in the body leaves the loop with the block unprinted.
  if (!failed() && flow == Flow::kNext) Print(Filter(*stmt.exprs[0], inner, &text));
  EndScope(inner);
  return flow;
}

void Interpreter::With(const Stmt& stmt, Scope* scope) {
  Scope* inner = NewScope(scope);
  for (size_t i = 0; i < stmt.targets.size(); ++i) {
    Assign(stmt.targets[i], Evaluate(*stmt.exprs[i], scope), inner);
  }
  if (!failed()) Execute(stmt.body, inner);
  EndScope(inner);
}

Value Interpreter::DefineMacro(const Stmt& stmt, Scope* scope) {
  Capture(scope);
  meter_.live_bytes += sizeof(Macro);
  return Value::Of(&macros_.emplace_back(Macro{&stmt, scope}));
}

Value Interpreter::CallMacro(const Macro& macro, CallArgs args) {
  const Stmt& stmt = *macro.stmt;
  if (call_depth_ >= kMaxCallDepth) {
    return Fail(absl::StrCat("macros call each other more than ", kMaxCallDepth, " deep"));
  }
  const auto take = [&](std::string_view name) {
    for (auto it = args.named.begin(); it != args.named.end(); ++it) {
      if (it->first != name) continue;
      Value value = std::move(it->second);
      args.named.erase(it);
      return value;
    }
    return Value::Missing();
  };
  Scope* inner = NewScope(macro.scope);
  const size_t num_parameters = stmt.parameters.size();
  std::vector<Value> values;
  bool explicit_caller = false;
  for (size_t i = 0; i < num_parameters; ++i) {
    explicit_caller |= stmt.parameters[i].name == kNameCaller;
    values.push_back(i < args.positional.size() ? args.positional[i]
                                                : take(stmt.parameters[i].text));
  }
  if (stmt.takes_caller && !explicit_caller) {
    Value caller = take("caller");
    if (caller.missing()) caller = Value::Undefined("No caller defined");
    SetVariable(inner, kNameCaller, caller);
  }
  if (stmt.takes_kwargs) {
    auto kwargs = std::make_shared<DictObject>();
    for (const auto& [name, value] : args.named) kwargs->Set(NewString(name), value);
    SetVariable(inner, kNameKwargs, NewDict(std::move(kwargs)));
  } else if (!args.named.empty()) {
    Fail(absl::StrCat("macro ", stmt.text, " takes no argument \"", args.named[0].first, "\""));
  }
  const size_t num_extra =
      args.positional.size() > num_parameters ? args.positional.size() - num_parameters : 0;
  if (stmt.takes_varargs) {
    std::vector<Value> extra(args.positional.end() - num_extra, args.positional.end());
    SetVariable(inner, kNameVarargs, NewList(std::move(extra), Kind::kTuple));
  } else if (num_extra > 0) {
    Fail(absl::StrCat("macro ", stmt.text, " takes at most ", num_parameters, " arguments, not ",
                      args.positional.size()));
  }
  ++call_depth_;
  for (size_t i = 0; i < num_parameters; ++i) {
    const Parameter& parameter = stmt.parameters[i];
    if (values[i].missing()) {
      values[i] =
          parameter.otherwise != nullptr
              ? Evaluate(*parameter.otherwise, inner)
              : Value::Undefined(absl::StrCat("parameter '", parameter.text, "' was not provided"));
    }
    SetVariable(inner, parameter.name, values[i]);
  }
  Value text;
  if (!failed()) text = Captured([&] { Execute(stmt.body, inner); });
  --call_depth_;
  EndScope(inner);
  return text;
}

Value Interpreter::CallLoop(Loop& loop, const CallArgs& args) {
  if (loop.recursive == nullptr || args.positional.size() != 1) {
    return Fail("a loop is called that is not recursive, or not with one value");
  }
  if (call_depth_ >= kMaxCallDepth) {
    return Fail(absl::StrCat("a loop calls itself more than ", kMaxCallDepth, " deep"));
  }
  std::vector<Value> items = Items(args.positional[0]);
  ++call_depth_;
  Value text;
  if (!failed()) {
    text =
        Captured([&] { RunLoop(*loop.recursive, std::move(items), loop.depth0 + 1, loop.scope); });
  }
  --call_depth_;
  return text;
}

}  // namespace mea::jinja
