#include "engine/text/json_node.h"

#include "engine/storage/mismatch.h"

namespace mea {

void JsonErrors::Add(const std::string& what) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(file_ + ": " + what);
}

std::string JsonNode::PathOf(const std::string& key) const {
  return path_.empty() ? key : path_ + "." + key;
}

JsonNode JsonNode::Find(const std::string& key) const {
  if (value_ == nullptr) return JsonNode(nullptr, PathOf(key), errors_);
  if (!Expect(value_->is_object(), "an object")) return JsonNode(nullptr, PathOf(key), errors_);
  const auto it = value_->find(key);
  return JsonNode(it == value_->end() ? nullptr : &*it, PathOf(key), errors_);
}

JsonNode JsonNode::Get(const std::string& key) const {
  JsonNode member = Find(key);
  if (is_object() && member.value_ == nullptr) member.Fail("is missing");
  return member;
}

bool JsonNode::Expect(bool holds, const char* type) const {
  if (!holds && value_ != nullptr) FailValue(std::string("is not ") + type);
  return holds;
}

std::string JsonNode::String() const {
  if (!Expect(value_ != nullptr && value_->is_string(), "a string")) return {};
  return value_->get_ref<const std::string&>();
}

bool JsonNode::Bool() const {
  if (!Expect(value_ != nullptr && value_->is_boolean(), "true or false")) return false;
  return value_->get<bool>();
}

int64_t JsonNode::Int(int64_t low, int64_t high) const {
  if (!Expect(value_ != nullptr && value_->is_number_integer(), "an integer")) return low;
  const bool too_big =
      value_->is_number_unsigned() && value_->get<uint64_t>() > uint64_t(INT64_MAX);
  const int64_t number = too_big ? INT64_MAX : value_->get<int64_t>();
  if (number >= low && number <= high && !too_big) return number;
  FailValue("is outside " + std::to_string(low) + ".." + std::to_string(high));
  return low;
}

std::vector<JsonNode> JsonNode::Array() const {
  std::vector<JsonNode> nodes;
  if (!Expect(is_array(), "an array")) return nodes;
  nodes.reserve(value_->size());
  for (const Json& item : *value_) {
    nodes.push_back(JsonNode(&item, path_ + "[" + std::to_string(nodes.size()) + "]", errors_));
  }
  return nodes;
}

std::vector<std::pair<std::string, JsonNode>> JsonNode::Members() const {
  std::vector<std::pair<std::string, JsonNode>> nodes;
  if (!Expect(is_object(), "an object")) return nodes;
  nodes.reserve(value_->size());
  for (const auto& item : value_->items()) {
    nodes.emplace_back(item.key(),
                       JsonNode(&item.value(), path_ + "[" + ShownName(item.key()) + "]", errors_));
  }
  return nodes;
}

void JsonNode::Fail(const std::string& what) const {
  errors_->Add((path_.empty() ? "the document" : path_) + " " + what);
}

void JsonNode::FailValue(const std::string& what) const {
  if (value_ == nullptr) return Fail(what);
  if (is_string()) return Fail(ShownName(value_->get_ref<const std::string&>()) + " " + what);
  if (value_->is_structured()) return Fail(std::string("(an ") + value_->type_name() + ") " + what);
  Fail(value_->dump() + " " + what);
}

}  // namespace mea
