#include "server/access/key_file.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxKeys = 1000;  // each has metrics of its own
constexpr size_t kMaxKeyNameBytes = 64;

constexpr std::array<std::pair<const char*, int64_t KeyLimits::*>, 4> kLimitFields = {{
    {"requests_per_minute", &KeyLimits::requests_per_minute},
    {"tokens_per_minute", &KeyLimits::tokens_per_minute},
    {"concurrent_requests", &KeyLimits::concurrent_requests},
    {"kv_cache_bytes", &KeyLimits::kv_cache_bytes},
}};

template <typename... Parts>
absl::Status KeyError(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status ReadRights(const Json& from, ApiKey& to) {
  if (!from.is_array() || from.empty()) return KeyError("rights is not a list of rights");
  for (const Json& entry : from) {
    if (!entry.is_string()) return KeyError("rights holds what is no string");
    MEA_ASSIGN_OR_RETURN(const Right right, ParseRight(entry.get_ref<const std::string&>()));
    to.rights[static_cast<size_t>(right)] = true;
  }
  return absl::OkStatus();
}

absl::Status ReadHash(const Json& from, Sha256& to) {
  const std::string hex = from.is_string() ? from.get<std::string>() : "";
  const auto is_digit = [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); };
  if (hex.size() != 2 * to.size() || !std::all_of(hex.begin(), hex.end(), is_digit)) {
    return KeyError("sha256 is not ", 2 * to.size(), " hexadecimal digits");
  }
  const std::string bytes = absl::HexStringToBytes(hex);
  std::copy(bytes.begin(), bytes.end(), to.begin());
  return absl::OkStatus();
}

absl::Status ReadLimit(const std::string& field, const Json& from, KeyLimits& to) {
  for (const auto& [name, limit] : kLimitFields) {
    if (field != name) continue;
    if (!from.is_number_integer() || from < 1 || from > kMaxKeyLimit) {
      return KeyError(field, " is not an integer of 1..", kMaxKeyLimit);
    }
    to.*limit = from.get<int64_t>();
    return absl::OkStatus();
  }
  return KeyError(field.substr(0, kMaxKeyNameBytes), " is not a field of a key");
}

absl::Status ReadField(const std::string& field, const Json& from, ApiKey& to) {
  if (field == "name") {
    if (!from.is_string()) return KeyError("name is not a string");
    to.name = from.get<std::string>();
    return CheckKeyName(to.name);
  }
  if (field == "rights") return ReadRights(from, to);
  if (field == "sha256") return ReadHash(from, to.hash);
  return ReadLimit(field, from, to.limits);
}

absl::StatusOr<ApiKey> ParseLine(absl::string_view line) {
  const Json object = Json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return KeyError("is not a JSON object");
  for (const char* field : {"name", "rights", "sha256"}) {
    if (!object.contains(field)) return KeyError(field, " is not set");
  }
  ApiKey key;
  for (const auto& [field, value] : object.items()) {
    MEA_RETURN_IF_ERROR(ReadField(field, value, key));
  }
  return key;
}

}  // namespace

absl::Status CheckKeyName(std::string_view name) {
  const auto fits = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  };
  if (name.empty() || name.size() > kMaxKeyNameBytes ||
      !std::all_of(name.begin(), name.end(), fits)) {
    return KeyError("name '", absl::CHexEscape(View(name.substr(0, kMaxKeyNameBytes))),
                    "' is not 1..", kMaxKeyNameBytes, " letters, digits, '.', '_' or '-'");
  }
  return absl::OkStatus();
}

absl::StatusOr<Right> ParseRight(std::string_view name) {
  std::string all;
  for (const auto& [right, right_name] : kRightNames) {
    if (name == right_name) return right;
    absl::StrAppend(&all, all.empty() ? "" : ", ", View(right_name));
  }
  return KeyError("rights has '", absl::CHexEscape(View(name.substr(0, kMaxKeyNameBytes))),
                  "', there are ", all);
}

absl::StatusOr<std::vector<ApiKey>> ParseKeyFile(std::string_view text) {
  std::vector<ApiKey> keys;
  std::set<std::string> names;
  std::set<Sha256> hashes;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(View(text), '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    absl::StatusOr<ApiKey> key = ParseLine(line);
    absl::Status status = key.status();
    if (status.ok() && !names.insert(key->name).second) {
      status = KeyError("name '", key->name, "' was there before");
    }
    if (status.ok() && !hashes.insert(key->hash).second) {
      status = KeyError("sha256 was there before");
    }
    if (status.ok() && keys.size() == kMaxKeys) status = KeyError("more than ", kMaxKeys, " keys");
    if (!status.ok()) return KeyError("line ", number, ": ", status.message());
    keys.push_back(*std::move(key));
  }
  if (keys.empty()) return KeyError("holds no key; mea key new NAME makes one");
  return keys;
}

std::string KeyFileLine(const ApiKey& key) {
  Json line = {{"name", key.name}, {"rights", Json::array()}};
  for (const auto& [right, name] : kRightNames) {
    if (key.has(right)) line["rights"].push_back(std::string(name));
  }
  line["sha256"] =
      absl::BytesToHexString({reinterpret_cast<const char*>(key.hash.data()), key.hash.size()});
  for (const auto& [name, limit] : kLimitFields) {
    if (key.limits.*limit != 0) line[name] = key.limits.*limit;
  }
  return line.dump();
}

}  // namespace mea
