#include "server/access/api_key.h"

#include <openssl/rand.h>
#include <openssl/sha.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace mea {

std::string_view RightName(Right right) { return kRightNames[static_cast<size_t>(right)].second; }

Sha256 HashOf(std::string_view token) {
  Sha256 hash;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), hash.data());
  return hash;
}

bool IsSameHash(const Sha256& a, const Sha256& b) {
  uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
  return difference == 0;
}

absl::StatusOr<std::string> NewToken() {
  std::array<unsigned char, 32> bits;
  if (RAND_bytes(bits.data(), bits.size()) != 1) {
    return absl::InternalError("OpenSSL has no random bits");
  }
  return absl::StrCat("mea-", absl::WebSafeBase64Escape(absl::string_view(
                                  reinterpret_cast<const char*>(bits.data()), bits.size())));
}

}  // namespace mea
