#include "tests/fuzz/fake_serving.h"

#include <memory>
#include <utility>

#include "engine/text/reply/reply_format.h"
#include "tests/server/fake_engine.h"
#include "tests/server/test_tokenizer.h"

namespace mea::fuzz {
namespace {

constexpr char kTemplate[] =
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}<|assistant|>";

struct World {
  testing::FakeEngine engine{{}};
  std::unique_ptr<Tokenizer> tokenizer = testing::MakeTestTokenizer();
  Metrics metrics{{.model_name = "fake"}};
  Log log{{.level = LogLevel::kOff}, [](std::string_view) {}};
  TextWorkers workers{1, 1, 0};
  TextWorkers compilers{1, 1};
  std::unique_ptr<const ChatTemplate> chat = ChatTemplate::Parse(kTemplate, {}, "template").value();
  std::unique_ptr<GrammarCompiler> grammars =
      GrammarCompiler::Create(*tokenizer, testing::kVocabSize).value();
  Serving serving{"fake",    engine,        *tokenizer,
                  metrics,   log,           workers,
                  compilers, chat.get(),    {ToolFormat::kHermes, ReasoningFormat::kThinkTags},
                  {},        grammars.get()};
};

}  // namespace

const Serving& FakeServing() {
  static const World& world = *new World;
  return world.serving;
}

}  // namespace mea::fuzz
