#include <absl/container/flat_hash_map.h>
#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"

// Filters of lists and dicts.
namespace mea::jinja {
namespace {

constexpr int kMaxAttributeParts = 20;

// Looks up a path like "a.b.0" in a value, for the argument `attribute` of filters.
class Path {
 public:
  Path(Interpreter* in, const Value& attribute) : in_(*in) {
    if (attribute.missing() || attribute.none()) return;
    if (!attribute.is_string()) {
      parts_.push_back(attribute);
      return;
    }
    for (const absl::string_view part :
         absl::StrSplit(absl::string_view(attribute.text().data(), attribute.text().size()), '.')) {
      int64_t index;
      const bool digits = !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
        return absl::ascii_isdigit(c);
      });
      if (digits && absl::SimpleAtoi(part, &index)) {
        parts_.push_back(Value::Int(index));
      } else {
        parts_.push_back(Value::Constant(std::string(part)));
      }
    }
    if (parts_.size() > kMaxAttributeParts) in_.Fail("an attribute has more than 20 parts");
  }

  Value Of(Value value, const Value& otherwise = Value::Missing()) const {
    for (const Value& part : parts_) {
      value = in_.Item(value, part);
      if (value.undefined() && !otherwise.missing() && !otherwise.none()) value = otherwise;
    }
    return value;
  }

 private:
  Interpreter& in_;
  std::vector<Value> parts_;
};

Value LowerCased(Interpreter& in, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string() || in.failed()) return value;
  return FindStringMethod("lower")(in, value, {});
}

// Indices of `keys` in their order; equal ones stay as they are, reversed or not.
std::vector<size_t> SortedOrder(Interpreter& in, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (in.failed()) return order;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return reverse ? in.Less(keys[b], keys[a]) : in.Less(keys[a], keys[b]);
  });
  return order;
}

Value LengthFilter(Interpreter& in, const Value& input, const CallArgs&) {
  return Value::Int(in.Length(input));
}

Value ListFilter(Interpreter& in, const Value& input, const CallArgs&) {
  return in.NewList(in.Items(input));
}

Value FirstFilter(Interpreter& in, const Value& input, const CallArgs&) {
  if (input.Is(Kind::kIterator)) {
    auto& list = const_cast<ListObject&>(input.list());
    if (list.next < list.items.size()) return list.items[list.next++];
    return Value::Undefined("No first item, sequence was empty.");
  }
  const std::vector<Value> items = in.Items(input);
  return items.empty() ? Value::Undefined("No first item, sequence was empty.") : items.front();
}

Value LastFilter(Interpreter& in, const Value& input, const CallArgs&) {
  if (input.Is(Kind::kIterator)) return in.Fail("last cannot be taken of a generator");
  const std::vector<Value> items = in.Items(input);
  return items.empty() ? Value::Undefined("No last item, sequence was empty.") : items.back();
}

Value ReverseFilter(Interpreter& in, const Value& input, const CallArgs&) {
  std::vector<Value> items = in.Items(input);
  std::reverse(items.begin(), items.end());
  if (!input.is_string()) {
    return in.NewList(std::move(items), input.Is(Kind::kIterator) ? Kind::kList : Kind::kIterator);
  }
  TextBuilder text;
  for (const Value& item : items) text.Add(item.marked());
  return in.NewString(std::move(text), input.safe());
}

Value JoinFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "join", args, {"d", "attribute"});
  if (!bound.ok()) return Value();
  const Value separator = bound[0].missing() ? Value::Constant("") : in.Str(bound[0]);
  const Path path(&in, bound[1]);
  TextBuilder out;
  bool first = true;
  for (const Value& item : in.Items(input)) {
    if (in.failed() || out.overflown()) break;
    if (!std::exchange(first, false)) out.Add(separator.marked());
    in.AddStr(path.Of(item), &out);
  }
  return in.failed() ? Value() : in.NewString(std::move(out));
}

Value DefaultFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "default", args, {"default_value", "boolean"});
  if (!bound.ok()) return Value();
  if (!input.undefined() && !(bound.Truth(1, false) && !Truthy(input))) return input;
  return bound[0].missing() ? Value::Constant("") : bound[0];
}

Value ItemsFilter(Interpreter& in, const Value& input, const CallArgs&) {
  if (input.undefined()) return in.NewList({}, Kind::kIterator);
  if (!input.is_dict()) {
    return in.Fail(absl::StrCat("items takes a dict, not a ", TypeName(input).data()));
  }
  const Value view = FindDictMethod("items")(in, input, {});
  return in.failed() ? Value() : in.NewList(view.items(), Kind::kIterator);
}

Value DictSort(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.Text(1, "key").text;
  if (!bound.ok()) return Value();
  if (input.undefined()) return in.FailUndefined(input);
  if (by != "key" && by != "value") return in.Fail("dictsort sorts by key or by value");
  if (!input.is_dict()) {
    return in.Fail(absl::StrCat("dictsort takes a dict, not a ", TypeName(input).data()));
  }
  const auto& entries = input.dict().entries;
  std::vector<Value> keys;
  for (const auto& [key, value] : entries) {
    keys.push_back(LowerCased(in, by == "key" ? key : value, bound.Truth(0, false)));
  }
  std::vector<Value> pairs;
  for (const size_t i : SortedOrder(in, keys, bound.Truth(2, false))) {
    pairs.push_back(in.NewList({entries[i].key, entries[i].value}, Kind::kTuple));
  }
  return in.NewList(std::move(pairs));
}

Value SortFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "sort", args, {"reverse", "case_sensitive", "attribute"});
  if (!bound.ok()) return Value();
  std::vector<Path> paths;  // "a,b" sorts by both
  if (bound[2].is_string()) {
    const std::string attributes(bound[2].text());
    for (const absl::string_view part : absl::StrSplit(attributes, ',')) {
      paths.emplace_back(&in, Value::Constant(std::string(part)));
    }
    if (paths.size() > kMaxAttributeParts) return in.Fail("sort has more than 20 attributes");
  } else {
    paths.emplace_back(&in, bound[2]);
  }
  const std::vector<Value> items = in.Items(input);
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const Path& path : paths) {
      key.push_back(LowerCased(in, path.Of(item), bound.Truth(1, false)));
    }
    keys.push_back(in.NewList(std::move(key)));
    if (in.failed()) return Value();
  }
  std::vector<Value> sorted;
  for (const size_t i : SortedOrder(in, keys, bound.Truth(0, false))) sorted.push_back(items[i]);
  return in.NewList(std::move(sorted));
}

Value UniqueFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "unique", args, {"case_sensitive", "attribute"});
  if (!bound.ok()) return Value();
  const Path path(&in, bound[1]);
  DictObject seen;
  std::vector<Value> unique;
  for (const Value& item : in.Items(input)) {
    const Value key = LowerCased(in, path.Of(item), bound.Truth(0, false));
    if (in.failed()) return Value();
    if (!Hashable(key)) {
      return in.Fail(absl::StrCat("unique cannot compare a ", TypeName(key).data()));
    }
    if (seen.Find(key) != nullptr) continue;
    seen.Set(key, Value::None());
    unique.push_back(item);
  }
  return in.NewList(std::move(unique), Kind::kIterator);
}

template <bool kMax>
Value Extreme(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, kMax ? "max" : "min", args, {"case_sensitive", "attribute"});
  if (!bound.ok()) return Value();
  const Path path(&in, bound[1]);
  Value best = Value::Undefined("No aggregated item, sequence was empty."), best_key;
  bool first = true;
  for (const Value& item : in.Items(input)) {
    const Value key = LowerCased(in, path.Of(item), bound.Truth(0, false));
    if (in.failed()) return Value();
    if (std::exchange(first, false) || (kMax ? in.Less(best_key, key) : in.Less(key, best_key))) {
      best = item;
      best_key = key;
    }
  }
  return best;
}

Value SumFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "sum", args, {"attribute", "start"});
  if (!bound.ok()) return Value();
  const Path path(&in, bound[0]);
  Value sum = bound[1].missing() ? Value::Int(0) : bound[1];
  if (sum.is_string()) return in.Fail("sum cannot add strings");
  for (const Value& item : in.Items(input)) {
    sum = in.Binary(Operation::kAdd, sum, path.Of(item));
    if (in.failed()) return Value();
  }
  return sum;
}

Value GroupBy(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  if (!bound.ok()) return Value();
  const Path path(&in, bound[0]);
  const std::vector<Value> items = in.Items(input);
  std::vector<Value> keys;
  for (const Value& item : items) {
    keys.push_back(LowerCased(in, path.Of(item, bound[1]), bound.Truth(2, false)));
  }
  std::vector<Value> groups;
  const std::vector<size_t> order = SortedOrder(in, keys, false);
  for (size_t begin = 0, end = 0; begin < order.size() && !in.failed(); begin = end) {
    std::vector<Value> members;
    for (end = begin; end < order.size() && in.Equal(keys[order[begin]], keys[order[end]]); ++end) {
      members.push_back(items[order[end]]);
    }
    if (in.failed()) return Value();
    Value key = path.Of(members[0], bound[1]);
    Value group = in.NewList({key, in.NewList(std::move(members))}, Kind::kTuple);
    if (in.failed()) return Value();
    const_cast<ListObject&>(group.list()).grouped = true;
    groups.push_back(std::move(group));
  }
  return in.NewList(std::move(groups));
}

Value BatchFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "batch", args, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.Int(0, 1);
  if (!bound.ok()) return Value();
  if (size < 1 || size > kMaxRange) return in.Fail("the size of a batch is out of range");
  std::vector<Value> batches, batch;
  for (const Value& item : in.Items(input)) {
    if (static_cast<int64_t>(batch.size()) == size) {
      batches.push_back(in.NewList(std::exchange(batch, {})));
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    if (bound.Given(1)) batch.resize(static_cast<size_t>(size), bound[1]);
    batches.push_back(in.NewList(std::move(batch)));
  }
  return in.NewList(std::move(batches), Kind::kIterator);
}

Value SliceFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "slice", args, {"slices", "fill_with"}, 1);
  const int64_t count = bound.Int(0, 1);
  if (!bound.ok()) return Value();
  if (count < 1 || count > kMaxRange) return in.Fail("the number of slices is out of range");
  const std::vector<Value> items = in.Items(input);
  const auto length = static_cast<int64_t>(items.size());
  std::vector<Value> slices;
  int64_t begin = 0;
  for (int64_t i = 0; i < count && in.Charge(1); ++i) {
    const int64_t end = begin + length / count + (i < length % count);
    std::vector<Value> slice(items.begin() + begin, items.begin() + end);
    if (bound.Given(1) && i >= length % count) slice.push_back(bound[1]);
    slices.push_back(in.NewList(std::move(slice)));
    begin = end;
  }
  return in.NewList(std::move(slices), Kind::kIterator);
}

Value MapFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  std::vector<Value> result;
  const bool by_attribute = args.positional.empty();
  if (!Truthy(input)) return in.NewList({}, Kind::kIterator);
  if (by_attribute) {
    Bound bound(in, "map", args, {"attribute", "default"});
    if (!bound.ok()) return Value();
    if (bound[0].missing()) return in.Fail("map needs the name of a filter or an attribute");
    const Path path(&in, bound[0]);
    for (const Value& item : in.Items(input)) {
      result.push_back(path.Of(item, bound[1]));
      if (in.failed()) return Value();
    }
    return in.NewList(std::move(result), Kind::kIterator);
  }
  if (!args.positional[0].is_string()) return in.Fail("map needs the name of a filter");
  const std::string name(args.positional[0].text());
  const FilterBody filter = FindFilter(name);
  CallArgs rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
  for (const Value& item : in.Items(input)) {
    result.push_back(in.ApplyFilter(name, filter, item, rest));
    if (in.failed()) return Value();
  }
  return in.NewList(std::move(result), Kind::kIterator);
}

// select, reject, selectattr, rejectattr.
template <bool kWanted, bool kByAttribute>
Value SelectFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  if (!Truthy(input)) return in.NewList({}, Kind::kIterator);
  size_t used = 0;
  if (kByAttribute && args.positional.empty())
    return in.Fail("the name of an attribute is missing");
  const Path path(&in, kByAttribute ? args.positional[used++] : Value::None());
  TestBody test = nullptr;
  CallArgs rest;
  if (used < args.positional.size()) {
    const Value& name = args.positional[used++];
    test = name.is_string() ? FindTest(name.text()) : nullptr;
    if (test == nullptr) return in.Fail("select names a test that there is not");
    rest = {{args.positional.begin() + static_cast<std::ptrdiff_t>(used), args.positional.end()},
            args.named};
  }
  std::vector<Value> chosen;
  for (const Value& item : in.Items(input)) {
    const Value value = path.Of(item);
    if (in.failed()) return Value();
    const bool holds = test == nullptr ? Truthy(value) : test(in, value, rest);
    if (holds == kWanted) chosen.push_back(item);
  }
  return in.NewList(std::move(chosen), Kind::kIterator);
}

Value AttrFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "attr", args, {"name"}, 1);
  const std::string name = bound.Text(0, "").text;
  if (!bound.ok()) return Value();
  if (input.is_dict() && FindDictMethod(name) == nullptr) {
    return Value::Undefined(absl::StrCat("'dict object' has no attribute '", name, "'"));
  }
  return in.Attribute(input, name);
}

}  // namespace

FilterBody FindSequenceFilter(std::string_view name) {
  static const absl::flat_hash_map<std::string_view, FilterBody> filters = {
      {"attr", AttrFilter},
      {"batch", BatchFilter},
      {"count", LengthFilter},
      {"d", DefaultFilter},
      {"default", DefaultFilter},
      {"dictsort", DictSort},
      {"first", FirstFilter},
      {"groupby", GroupBy},
      {"items", ItemsFilter},
      {"join", JoinFilter},
      {"last", LastFilter},
      {"length", LengthFilter},
      {"list", ListFilter},
      {"map", MapFilter},
      {"max", Extreme<true>},
      {"min", Extreme<false>},
      {"reject", SelectFilter<false, false>},
      {"rejectattr", SelectFilter<false, true>},
      {"reverse", ReverseFilter},
      {"select", SelectFilter<true, false>},
      {"selectattr", SelectFilter<true, true>},
      {"slice", SliceFilter},
      {"sort", SortFilter},
      {"sum", SumFilter},
      {"unique", UniqueFilter},
  };
  const auto it = filters.find(name);
  return it == filters.end() ? nullptr : it->second;
}

}  // namespace mea::jinja
