#include "server/access/access.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/access/key_file.h"
#include "server/access/small_file.h"

namespace mea {
namespace {

constexpr size_t kMaxTokenBytes = 512;

// The token of "Bearer TOKEN"; empty for anything else.
std::string_view TokenOf(std::string_view authorization) {
  constexpr absl::string_view kBearer = "bearer ";
  absl::string_view rest(authorization.data(), authorization.size());
  if (!absl::StartsWithIgnoreCase(rest, kBearer)) return {};
  rest = absl::StripAsciiWhitespace(rest.substr(kBearer.size()));
  return {rest.data(), rest.size()};
}

}  // namespace

absl::StatusOr<std::shared_ptr<Access>> Access::Load(std::string key_file, Clock clock) {
  std::shared_ptr<Access> access(new Access(std::move(key_file), std::move(clock)));
  MEA_RETURN_IF_ERROR(access->Refresh().status());
  return access;
}

absl::StatusOr<Access::Entry> Access::Find(std::string_view authorization,
                                           std::optional<Right> right) const {
  const std::string_view token = TokenOf(authorization);
  if (token.empty()) {
    ++num_unauthenticated_;
    return absl::UnauthenticatedError("no API key: send it as 'Authorization: Bearer KEY'");
  }
  const std::shared_ptr<const Keys> all = keys();
  const Sha256 hash = HashOf(token.substr(0, kMaxTokenBytes));
  const Entry* found = nullptr;
  // Compares all keys, so that the time does not reveal which one matched.
  for (const Entry& entry : *all) {
    if (IsSameHash(entry.key.hash, hash)) found = &entry;
  }
  if (found == nullptr || token.size() > kMaxTokenBytes) {
    ++num_unauthenticated_;
    return absl::UnauthenticatedError("the API key is not known to this server");
  }
  if (right && !found->key.has(*right)) {
    return absl::PermissionDeniedError(absl::StrCat("key '", found->key.name, "' has no right '",
                                                    std::string(RightName(*right)), "'"));
  }
  return *found;
}

absl::Status Access::Check(std::string_view authorization, std::optional<Right> right) const {
  return has_keys() ? Find(authorization, right).status() : absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<KeyCall>> Access::Admit(std::string_view authorization) const {
  if (!has_keys()) return nullptr;
  MEA_ASSIGN_OR_RETURN(Entry entry, Find(authorization, Right::kInference));
  return KeyCall::Begin(std::move(entry.use));
}

absl::StatusOr<bool> Access::Refresh() {
  absl::StatusOr<std::string> text = ReadSmallFile(key_file_, kMaxKeyFileBytes);
  absl::Status status = text.status();
  absl::StatusOr<std::vector<ApiKey>> parsed;
  if (status.ok()) {
    if (*text == last_text_) {
      last_failure_.clear();
      return false;
    }
    parsed = ParseKeyFile(*text);
    if (!parsed.ok()) {
      status = absl::InvalidArgumentError(absl::StrCat(key_file_, ": ", parsed.status().message()));
    }
  }
  if (!status.ok()) {
    std::string failure(status.message());
    if (failure == last_failure_) return false;
    last_failure_ = std::move(failure);
    return status;
  }
  const std::shared_ptr<const Keys> before = keys();
  auto next = std::make_shared<Keys>();
  for (ApiKey& key : *parsed) {
    std::shared_ptr<KeyUse> use;
    for (const Entry& entry : *before) {
      if (entry.key.name == key.name) use = entry.use;
    }
    if (!use) use = std::make_shared<KeyUse>(key.name, clock_);
    use->SetLimits(key.limits);
    next->push_back({std::move(key), std::move(use)});
  }
  last_text_ = *std::move(text);
  last_failure_.clear();
  absl::MutexLock lock(&mu_);
  keys_ = std::move(next);
  return true;
}

std::vector<KeyUsage> Access::usage() const {
  std::vector<KeyUsage> usage;
  for (const Entry& entry : *keys()) usage.push_back(entry.use->usage());
  return usage;
}

}  // namespace mea
