#include "engine/storage/json.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/storage/mismatch.h"

namespace mea {
namespace {

using nlohmann::json;

// Builds a document from the parser's events. nlohmann's own builder would drop repeated names.
class DocumentBuilder final : public nlohmann::json_sax<json> {
 public:
  explicit DocumentBuilder(std::string_view text) : text_(text) {}

  bool null() override { return Add(nullptr) != nullptr; }
  bool boolean(bool value) override { return Add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return Add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return Add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value) != nullptr;
  }
  bool string(string_t& value) override { return Add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return Refuse("binary data"); }

  bool start_object(size_t) override { return Open(json::object()); }
  bool start_array(size_t) override { return Open(json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    const auto [member, is_new] =
        open_.back()->get_ref<json::object_t&>().try_emplace(std::move(name));
    if (!is_new) return Refuse(absl::StrCat("name ", ShownName(member->first), " twice"));
    member_ = &member->second;
    return true;
  }

  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception&) override {
    // Python writes them, although they are not JSON.
    for (const std::string_view number : {"NaN", "Infinity"}) {
      if (position == 0 || !text_.substr(position - 1).starts_with(number)) continue;
      return Refuse(absl::StrCat(std::string(number), ", which is no JSON, at byte ", position));
    }
    return Refuse(absl::StrCat("an error at byte ", position, " near ", ShownName(last_token)));
  }

  const std::string& error() const { return error_; }
  json TakeDocument() { return std::move(document_); }

 private:
  json* Add(json value) {
    if (open_.empty()) {
      document_ = std::move(value);
      return &document_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    *member_ = std::move(value);
    return member_;
  }

  bool Open(json container) {
    if (open_.size() == kMaxJsonDepth) {
      return Refuse(absl::StrCat("nesting deeper than ", kMaxJsonDepth));
    }
    open_.push_back(Add(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  bool Refuse(std::string error) {
    error_ = std::move(error);
    return false;
  }

  const std::string_view text_;
  json document_;
  // Containers being filled, outermost first. An array's elements move when it grows, but it only
  // grows while its elements are closed.
  std::vector<json*> open_;
  json* member_ = nullptr;  // where the value to come goes, in an object
  std::string error_;
};

}  // namespace

absl::StatusOr<json> ParseJson(std::string_view text, const std::string& file) {
  DocumentBuilder builder(text);
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": expected JSON, found ", builder.error()));
  }
  return builder.TakeDocument();
}

std::string ShownValue(const json& value) {
  return Shortened(value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace));
}

}  // namespace mea
