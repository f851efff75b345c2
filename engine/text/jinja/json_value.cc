#include "engine/text/jinja/json_value.h"

#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "engine/text/jinja/limits.h"

namespace mea::jinja {
namespace {

// Builds values as nlohmann's parser meets them. An object or array is open while it is on stack_.
class ValueBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(bool input) : input_(input) {}

  bool null() override { return Add(Value::None()); }
  bool boolean(bool value) override { return Add(Value::Bool(value)); }
  bool number_integer(number_integer_t value) override { return Add(Value::Int(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    return Add(value <= uint64_t(INT64_MAX) ? Value::Int(int64_t(value))
                                            : Value::BigInt(absl::StrCat(value)));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    const bool integer = text.find_first_of(".eE") == text.npos;
    return Add(integer ? Value::BigInt(text) : Value::Float(value));
  }
  bool string(string_t& value) override { return Add(String(std::move(value))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return Open(std::make_shared<DictObject>()); }
  bool start_array(std::size_t) override { return Open(nullptr); }
  bool key(string_t& value) override {
    stack_.back().key = String(std::move(value));
    return true;
  }
  bool end_object() override {
    Value value = Value::Dict(std::move(stack_.back().dict), nullptr);
    stack_.pop_back();
    return Add(std::move(value));
  }
  bool end_array() override {
    Value value = Value::List(std::move(stack_.back().items), nullptr);
    stack_.pop_back();
    return Add(std::move(value));
  }
  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // Out of range numbers have an id of their own.
    error_ = absl::StrCat(
        error.id == 406 ? "a number is out of range at byte " : "is no JSON at byte ", byte);
    return false;
  }

  Value root;
  const std::string& error() const { return error_; }

 private:
  struct Open_ {
    std::shared_ptr<DictObject> dict;  // null: an array
    std::vector<Value> items;
    Value key;
  };

  Value String(std::string text) const {
    MarkedText marked{std::move(text), {}};
    if (input_ && !marked.text.empty()) marked.inputs.emplace_back(0, marked.text.size());
    return Value::String(std::move(marked), nullptr);
  }

  bool Open(std::shared_ptr<DictObject> dict) {
    if (static_cast<int>(stack_.size()) >= kMaxValueDepth / 2) {
      error_ = absl::StrCat("is nested more than ", kMaxValueDepth / 2, " deep");
      return false;
    }
    stack_.push_back({std::move(dict), {}, {}});
    return true;
  }

  bool Add(Value value) {
    if (stack_.empty()) {
      root = std::move(value);
    } else if (stack_.back().dict != nullptr) {
      stack_.back().dict->Set(stack_.back().key, value);
    } else {
      stack_.back().items.push_back(std::move(value));
    }
    return true;
  }

  const bool input_;
  std::vector<Open_> stack_;
  std::string error_;
};

}  // namespace

absl::StatusOr<Value> ParseJsonValue(std::string_view json, bool input) {
  ValueBuilder builder(input);
  if (!nlohmann::json::sax_parse(json, &builder)) {
    return absl::InvalidArgumentError(builder.error());
  }
  return std::move(builder.root);
}

}  // namespace mea::jinja
