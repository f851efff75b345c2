#pragma once

#include <memory>
#include <string>

struct editline;
struct history;

namespace mea {

// Lines that a person types at a terminal, edited with the keys of Emacs or those that ~/.editrc
// names, with a history of the lines before. Between two lines the terminal is as it was, so that
// Ctrl-C is SIGINT there. One thread.
class LineEditor {
 public:
  enum class Outcome {
    kLine,
    kDropped,  // Ctrl-C
    kEnd,      // Ctrl-D in an empty line, or the terminal has gone
  };

  LineEditor();

  // `line` receives what was typed, without its newline, in UTF-8.
  Outcome Read(const std::string& prompt, std::string& line);

 private:
  static char* Prompt(editline* editor);
  static unsigned char DropLine(editline* editor, int key);
  static unsigned char Suspend(editline* editor, int key);
  static LineEditor& Of(editline* editor);

  const std::unique_ptr<history, void (*)(history*)> history_;
  const std::unique_ptr<editline, void (*)(editline*)> editor_;
  std::string prompt_;
  bool dropped_ = false;
};

}  // namespace mea
