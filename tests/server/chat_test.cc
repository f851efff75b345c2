// `mea chat` before a person, keys going to a terminal, and in a pipe: what the model then reads is
// looked at.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "kernels/check.h"
#include "tests/server/run_mea.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

constexpr int kPatienceMs = 20'000;

ServerOptions WithTemplate() {
  auto chat = ChatTemplate::Parse(
      "{% for message in messages %}<{{ message.role }}:{{ message.content }}>{% endfor %}", {},
      "the test's template");
  MEA_CHECK(chat.ok());
  ServerOptions options;
  options.chat = *std::move(chat);
  return options;
}

// `mea chat` in a terminal of its own, in a locale that knows ASCII alone.
class ChatTerminal {
 public:
  explicit ChatTerminal(const std::string& server) {
    pid_ = forkpty(&fd_, nullptr, nullptr, nullptr);
    if (pid_ != 0) return;
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C", 1);
    setenv("HOME", "/nonexistent", 1);
    execl(MEA_BINARY, MEA_BINARY, "chat", "--server", server.c_str(), nullptr);
    _exit(127);
  }
  ~ChatTerminal() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
    close(fd_);
  }

  void Type(const std::string& keys) {
    ASSERT_EQ(write(fd_, keys.data(), keys.size()), std::ssize(keys));
  }
  // Reads up to the first `text` that has not been read yet.
  void Await(const std::string& text) {
    size_t at;
    while ((at = shown_.find(text)) == shown_.npos) {
      char buffer[4096];
      pollfd readable{.fd = fd_, .events = POLLIN};
      const ssize_t n =
          poll(&readable, 1, kPatienceMs) == 1 ? read(fd_, buffer, sizeof(buffer)) : 0;
      ASSERT_GT(n, 0) << "no '" << text << "' after '" << shown_ << "'";
      shown_.append(buffer, n);
    }
    shown_.erase(0, at + text.size());
  }
  // Types once the prompt is there, and waits for the end of the answer "hello".
  void Ask(const std::string& keys) {
    Await("> ");
    Type(keys);
    Await("hello\r\n");
  }
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  int fd_ = -1;
  std::string shown_;
};

std::string LastPrompt(const FakeEngine& engine) {
  std::string text;
  for (const int32_t id : engine.last_request().prompt) text += static_cast<char>(id);
  return text;
}

TEST(ChatTest, ALineIsEditedBeforeItIsSent) {
  ServerFixture f({}, false, WithTemplate());
  ChatTerminal chat(f.server->listen_address());
  chat.Ask("wold\x1b[D\x1b[Dr\x01my \x05x\x7f!\r");
  EXPECT_EQ(LastPrompt(f.engine), "<user:my world!>");
  chat.Await("> ");
  chat.Type("\x04");
  EXPECT_EQ(chat.Wait(), 0);
}

TEST(ChatTest, TheLinesBeforeComeBackAndAreSearched) {
  ServerFixture f({}, false, WithTemplate());
  ChatTerminal chat(f.server->listen_address());
  chat.Ask("first one\r");
  chat.Ask("second\r");
  chat.Ask("\x1b[A\x1b[A, again\r");
  EXPECT_THAT(LastPrompt(f.engine), ::testing::EndsWith("<user:first one, again>"));
  chat.Ask("\x12sec\r");
  EXPECT_THAT(LastPrompt(f.engine), ::testing::EndsWith("<user:second>"));
}

TEST(ChatTest, KeysEraseWholeCodePoints) {
  ServerFixture f({}, false, WithTemplate());
  ChatTerminal chat(f.server->listen_address());
  chat.Ask("gr\u00fc\u00dfe \u4f60\u597d\x7f\x1b[D\x7f!\r");
  EXPECT_EQ(LastPrompt(f.engine), "<user:gr\u00fc\u00dfe!\u4f60>");
}

TEST(ChatTest, ALineMayBeLongerThanATerminalKeeps) {
  ServerFixture f({}, false, WithTemplate());
  ChatTerminal chat(f.server->listen_address());
  std::string line;
  chat.Await("> ");
  for (int i = 0; i < 20; ++i) {  // piece by piece: the terminal itself holds 4095 bytes
    const std::string piece = "part " + std::to_string(1000 + i) + std::string(290, '.') + "#";
    chat.Type(piece);
    chat.Await("#");
    line += piece;
  }
  chat.Type("\r");
  chat.Await("hello\r\n");
  EXPECT_EQ(LastPrompt(f.engine), "<user:" + line + ">");
}

TEST(ChatTest, CtrlCDropsTheLineAtAPrompt) {
  ServerFixture f({}, false, WithTemplate());
  ChatTerminal chat(f.server->listen_address());
  chat.Await("> ");
  chat.Type("not this\x03");
  chat.Await("^C\r\n");
  chat.Ask("but this\r");
  EXPECT_EQ(LastPrompt(f.engine), "<user:but this>");
  EXPECT_EQ(f.engine.num_submitted(), 1);
}

TEST(ChatTest, CtrlCEndsAnAnswerAndTheChatGoesOn) {
  ServerFixture f({.automatic = false}, false, WithTemplate());
  ChatTerminal chat(f.server->listen_address());
  chat.Await("> ");
  chat.Type("tell\r");
  ASSERT_TRUE(f.engine.AwaitInFlight(1));
  f.engine.Step(2);
  chat.Await("\r\nhe");
  chat.Type("\x03");
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  f.engine.Step();
  chat.Await("[interrupted]\r\n");
  chat.Await("> ");
  chat.Type("go on\r");
  ASSERT_TRUE(f.engine.AwaitInFlight(1));
  EXPECT_EQ(LastPrompt(f.engine), "<user:tell><assistant:he><user:go on>");
}

TEST(ChatTest, APipeIsOneQuestionWithoutPromptsOrKeys) {
  ServerFixture f({}, false, WithTemplate());
  const Outcome outcome =
      RunMea("chat --server " + f.server->listen_address(), "/help\tone\x01\n\"\"\"\ntwo\n");
  EXPECT_EQ(outcome.out, "hello\n");
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(LastPrompt(f.engine), "<user:/help\tone\x01\n\"\"\"\ntwo>");
}

TEST(ChatTest, ACutAnswerSaysWhichLimitItMet) {
  ServerFixture f({.max_context = 20}, false, WithTemplate());
  f.engine.SetAnswer("a long answer");
  const std::string chat = "chat --server " + f.server->listen_address();
  EXPECT_EQ(RunMea(chat, "hi").err, "[cut: the context of 20 tokens is full]\n");
  EXPECT_EQ(RunMea(chat + " --max-tokens 3", "hi").err,
            "[cut after 3 tokens, the --max-tokens given]\n");
  ServerFixture limited({.defaults = {.max_new_tokens = 4, .eos_token_ids = {kEos}}}, false,
                        WithTemplate());
  limited.engine.SetAnswer("a long answer");
  EXPECT_EQ(RunMea("chat --server " + limited.server->listen_address(), "hi").err,
            "[cut after 4 tokens, the default of this model; see --max-tokens]\n");
}

TEST(ChatTest, TextOfSeveralLinesIsOneQuestion) {
  ServerFixture f({}, false, WithTemplate());
  ChatTerminal chat(f.server->listen_address());
  chat.Await("> ");
  chat.Type("\"\"\"\r");
  chat.Await("... ");
  chat.Type("dropped\r");
  chat.Await("... ");
  chat.Type("as well\x03");
  chat.Await("^C\r\n");
  chat.Await("> ");
  chat.Type("\"\"\"\r");
  chat.Await("... ");
  chat.Type("one\r");
  chat.Await("... ");
  chat.Type("two\r");
  chat.Await("... ");
  chat.Type("\"\"\"\r");
  chat.Await("hello\r\n");
  EXPECT_EQ(LastPrompt(f.engine), "<user:one\ntwo\n>");
}

}  // namespace
}  // namespace mea::testing
