#include "server/traces/trace_settings.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/text/utf8.h"
#include "kernels/status_macros.h"
#include "server/access/small_file.h"
#include "server/build_info.h"

namespace mea {
namespace {

constexpr char kFlag[] = "--otlp-traces";
constexpr char kSystemRoots[] = "/etc/ssl/certs/ca-certificates.crt";
constexpr int64_t kMaxRootsBytes = 4 << 20;
constexpr int kOtlpPort = 4317;

// A setting and where it comes from.
struct Setting {
  std::string name;
  std::string value;
};

// Of a variable for traces alone, or else of the one for all signals.
Setting OfTraces(const Environment& environment, std::string_view what) {
  std::string name = absl::StrCat("OTEL_EXPORTER_OTLP_TRACES_", std::string(what));
  std::string value = environment(name.c_str());
  if (!value.empty()) return {std::move(name), std::move(value)};
  name = absl::StrCat("OTEL_EXPORTER_OTLP_", std::string(what));
  value = environment(name.c_str());
  return {std::move(name), std::move(value)};
}

absl::Status Invalid(const Setting& setting, std::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat(setting.name, " '", setting.value, "' ", std::string(problem)));
}

// http://HOST:PORT, https://HOST:PORT; the port may be missing.
absl::StatusOr<Address> ParseCollector(const Setting& url, bool& tls) {
  std::string_view rest = url.value;
  tls = rest.starts_with("https://");
  if (!tls && !rest.starts_with("http://")) {
    return Invalid(url, "is not http://HOST:PORT or https://HOST:PORT");
  }
  rest.remove_prefix(rest.find("//") + 2);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.find_first_of("/?#@") != rest.npos) {
    // With a user it may hold a password, so it is not repeated.
    if (rest.find('@') != rest.npos) {
      return absl::InvalidArgumentError(absl::StrCat(url.name, " has more than a host and a port"));
    }
    return Invalid(url, "has more than a host and a port: OTLP over gRPC has no path");
  }
  std::string address(rest);
  const size_t colon = rest.rfind(':');
  if (colon == rest.npos || rest.ends_with(']')) absl::StrAppend(&address, ":", kOtlpPort);
  absl::StatusOr<Address> parsed = ParseAddress(address);
  if (!parsed.ok()) return Invalid(url, "is not http://HOST:PORT or https://HOST:PORT");
  return parsed;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::string PercentDecoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escaped = text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 &&
                         HexDigit(text[i + 2]) >= 0;
    if (escaped) {
      decoded += static_cast<char>(HexDigit(text[i + 1]) << 4 | HexDigit(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

// "name=value,name=value", percent-encoded.
absl::StatusOr<NamedTexts> ParseList(const Setting& list) {
  NamedTexts texts;
  for (const absl::string_view entry : absl::StrSplit(list.value, ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(entry, absl::MaxSplits('=', 1));
    const absl::string_view name = absl::StripAsciiWhitespace(parts.first);
    if (name.empty() || !absl::StrContains(entry, "=")) {
      return Invalid({list.name, std::string(entry)}, "is not NAME=VALUE");
    }
    const absl::string_view value = absl::StripAsciiWhitespace(parts.second);
    texts.emplace_back(std::string(name), PercentDecoded({value.data(), value.size()}));
  }
  return texts;
}

// gRPC ends the program at a header that HTTP/2 cannot carry. Values may be keys: no status repeats
// them.
absl::StatusOr<NamedTexts> ParseHeaders(const Setting& list) {
  absl::StatusOr<NamedTexts> parsed = ParseList(list);
  if (!parsed.ok()) return absl::InvalidArgumentError(list.name + " is no list of NAME=VALUE");
  NamedTexts headers = *std::move(parsed);
  for (auto& [name, value] : headers) {
    absl::AsciiStrToLower(&name);
    const bool is_name = std::all_of(name.begin(), name.end(), [](char c) {
      return absl::ascii_islower(static_cast<unsigned char>(c)) ||
             absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
    });
    const bool is_text =
        std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
    if (!is_name || !is_text || name.starts_with("grpc-") || name.ends_with("-bin")) {
      return absl::InvalidArgumentError(
          absl::StrCat(list.name, ": ", name, " is no header of printable ASCII"));
    }
  }
  return headers;
}

absl::StatusOr<NamedTexts> ReadResource(const Environment& environment) {
  const Setting list{"OTEL_RESOURCE_ATTRIBUTES", environment("OTEL_RESOURCE_ATTRIBUTES")};
  MEA_ASSIGN_OR_RETURN(NamedTexts resource, ParseList(list));
  const std::string service = environment("OTEL_SERVICE_NAME");
  const auto is_service = [](const auto& entry) { return entry.first == "service.name"; };
  if (!service.empty()) std::erase_if(resource, is_service);
  if (std::none_of(resource.begin(), resource.end(), is_service)) {
    resource.emplace_back("service.name", service.empty() ? "mea" : service);
  }
  resource.emplace_back("service.version", Version());
  for (auto& [name, value] : resource) {
    name = ReplaceInvalidUtf8(name);
    value = ReplaceInvalidUtf8(value);
  }
  return resource;
}

absl::StatusOr<TraceSettings> ReadSettings(const Setting& url, const Environment& environment) {
  TraceSettings settings;
  bool tls = false;
  MEA_ASSIGN_OR_RETURN(settings.exporter.collector, ParseCollector(url, tls));
  if (tls) {
    const std::string file = OfTraces(environment, "CERTIFICATE").value;
    MEA_ASSIGN_OR_RETURN(settings.exporter.tls_roots,
                         ReadSmallFile(file.empty() ? kSystemRoots : file, kMaxRootsBytes));
  }
  MEA_ASSIGN_OR_RETURN(settings.exporter.headers, ParseHeaders(OfTraces(environment, "HEADERS")));
  MEA_ASSIGN_OR_RETURN(settings.exporter.resource, ReadResource(environment));
  MEA_ASSIGN_OR_RETURN(settings.sampler, ParseTraceSampler(environment("OTEL_TRACES_SAMPLER"),
                                                           environment("OTEL_TRACES_SAMPLER_ARG")));
  return settings;
}

}  // namespace

absl::StatusOr<std::optional<TraceSettings>> ReadTraceSettings(const std::string& flag,
                                                               const Environment& environment) {
  Setting url{kFlag, flag};
  if (flag == "off") return std::nullopt;
  if (flag.empty()) {
    const std::string exporter = environment("OTEL_TRACES_EXPORTER");
    if (absl::EqualsIgnoreCase(environment("OTEL_SDK_DISABLED"), "true")) return std::nullopt;
    if (!exporter.empty() && exporter != "otlp") return std::nullopt;
    url = OfTraces(environment, "ENDPOINT");
    if (url.value.empty()) return std::nullopt;
    const Setting protocol = OfTraces(environment, "PROTOCOL");
    if (!protocol.value.empty() && protocol.value != "grpc") {
      return Invalid(protocol, "is not grpc, the one that is spoken");
    }
  }
  MEA_ASSIGN_OR_RETURN(TraceSettings settings, ReadSettings(url, environment));
  return settings;
}

}  // namespace mea
