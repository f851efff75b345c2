// Messages of mea.v1 as they come off the wire, checked and made what the engine takes.
#include "absl/status/status.h"
#include "server/prepare_prompt.h"
#include "server/proto_convert.h"
#include "tests/fuzz/fake_serving.h"
#include "tests/fuzz/fuzz.h"

namespace mea {
namespace {

void TryGenerate(std::string_view bytes) {
  v1::GenerateRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  const Serving& serving = fuzz::FakeServing();
  auto spec = FromProto(request, {.request_id = "fuzz"}, serving);
  if (!spec.ok()) {
    fuzz::Require(!spec.status().message().empty(), "a refusal says why");
    return;
  }
  PreparePrompt(
      serving, [] { return absl::OkStatus(); }, *spec)
      .IgnoreError();
  if (!spec->chat) return;
  for (int i = 0; i < std::min(spec->n, 2); ++i) {
    ReplyOptions(*spec, serving, i).status().IgnoreError();
  }
}

}  // namespace
}  // namespace mea

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mea;
  fuzz::Input input(data, size);
  const size_t kind = input.Choose(4);
  const std::string_view bytes = input.Rest();
  const int length = static_cast<int>(bytes.size());
  if (kind == 0) {
    TryGenerate(bytes);
  } else if (kind == 1) {
    v1::RenderChatRequest request;
    if (!request.ParseFromArray(bytes.data(), length)) return 0;
    const auto chat = FromProto(request, fuzz::FakeServing());
    if (chat.ok()) {
      RenderPrompt(*chat, fuzz::FakeServing(), [] { return absl::OkStatus(); })
          .status()
          .IgnoreError();
    }
  } else if (kind == 2) {
    v1::TokenizeRequest request;
    if (request.ParseFromArray(bytes.data(), length)) {
      CheckTokenize(request, fuzz::FakeServing()).IgnoreError();
    }
  } else {
    v1::DetokenizeRequest request;
    if (request.ParseFromArray(bytes.data(), length)) {
      CheckDetokenize(request, fuzz::FakeServing()).IgnoreError();
    }
  }
  return 0;
}
