#include "server/wire_message.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/proto_buffer_writer.h>

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/field_error.h"
#include "server/library_log.h"

namespace mea {
namespace {

constexpr int kBlockBytes = 64 << 10;  // for a message that is written

// protobuf says: String field 'mea.v1.GenerateRequest.model' contains invalid UTF-8 data ...
std::string_view QuotedPart(std::string_view text) {
  const size_t begin = text.find('\'');
  const size_t end = text.find('\'', begin + 1);
  return end == text.npos ? "" : text.substr(begin + 1, end - begin - 1);
}

}  // namespace

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::MessageLite& message) {
  const ProtobufComplaint complaint;
  grpc::ByteBuffer shared = bytes;  // the reader needs a buffer that it may change
  grpc::ProtoBufferReader reader(&shared);
  if (message.ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  const std::string type = message.GetTypeName();
  const std::string field(QuotedPart(complaint.text()));
  if (field.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the message is not a ", type));
  }
  return FieldError(std::string(absl::StripPrefix(field, absl::StrCat(type, "."))),
                    "is not valid UTF-8");
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message) {
  grpc::ByteBuffer bytes;
  const int size = static_cast<int>(message.ByteSizeLong());
  grpc::ProtoBufferWriter writer(&bytes, std::min(size, kBlockBytes), size);
  message.SerializeToZeroCopyStream(&writer);
  return bytes;
}

}  // namespace mea
