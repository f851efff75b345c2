#include "engine/checkpoint/packed_reader.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace mea {
namespace {

// The format of the tensors, which has to be one of those.
std::string ReadVariant(FieldReader& in, const char* field, const std::string& usual,
                        const std::string& other) {
  const std::string variant = absl::AsciiStrToLower(in.String(field, usual));
  if (variant == usual || (!other.empty() && variant == other)) return variant;
  in.Refuse(field,
            other.empty() ? absl::StrCat("\"", usual, "\"")
                          : absl::StrCat("\"", usual, "\" or \"", other, "\""),
            ShownName(variant));
  return usual;
}

void ReadGptq(FieldReader& in, PackedFormat& format) {
  format.method = PackedMethod::kGptq;
  // The first version stores zeros less 1.
  const std::string version = ReadVariant(in, "checkpoint_format", "gptq", "gptq_v2");
  format.zero_offset = version == "gptq" ? 1 : 0;
  if (in.Bool("is_marlin_format", false)) in.Refuse("is_marlin_format", "false", "true");
  const nlohmann::json* const dynamic = in.Get("dynamic");
  if (dynamic != nullptr && !dynamic->empty()) {
    in.RefuseValue("dynamic", "one format for all modules", *dynamic);
  }
}

void ReadAwq(FieldReader& in, PackedFormat& format) {
  format.method = PackedMethod::kAwq;
  ReadVariant(in, "version", "gemm", "");
  if (!in.Bool("zero_point", true)) in.Refuse("zero_point", "true", "false");
}

}  // namespace

std::optional<PackedFormat> ReadPackedFormat(FieldReader& outer) {
  if (!outer.Has("quantization_config")) return std::nullopt;
  FieldReader in = outer.Object("quantization_config");
  PackedFormat format;
  const std::string method = in.String("quant_method");
  if (method == "gptq") {
    ReadGptq(in, format);
  } else if (method == "awq") {
    ReadAwq(in, format);
  } else {
    in.Refuse("quant_method", "gptq or awq", ShownName(method));
  }
  const int bits = in.Int(in.Has("w_bit") ? "w_bit" : "bits", {1, 64});
  if (in.status().ok() && bits != 4) in.Refuse("bits", "4", absl::StrCat(bits));
  const char* const field = in.Has("q_group_size") ? "q_group_size" : "group_size";
  const int group_size = in.Int(field, {-1, 1 << 20}, 128);
  const bool is_served = group_size == -1 || group_size == 32 || group_size == 64 ||
                         (group_size > 0 && group_size % 128 == 0);
  if (!is_served) {
    in.Refuse(field, "-1, 32, 64 or a multiple of 128", absl::StrCat(group_size));
  }
  format.group_size = group_size == -1 ? 0 : group_size;
  outer.Fail(in.status());
  return format;
}

}  // namespace mea
