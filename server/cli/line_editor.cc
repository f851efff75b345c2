#include "server/cli/line_editor.h"

#include <histedit.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <utility>

namespace mea {
namespace {

constexpr int kMaxHistory = 1000;  // lines

// Key sequences of current terminals that libedit binds to another function or to none.
constexpr const char* kKeys[][2] = {
    {"^R", "em-inc-search-prev"},      {"\\e[1;5D", "ed-prev-word"}, {"\\e[1;5C", "em-next-word"},
    {"\\e[3~", "ed-delete-next-char"}, {"\\e[1~", "ed-move-to-beg"}, {"\\e[4~", "ed-move-to-end"},
};

// libedit reads the terminal in the encoding of the locale; without a usable locale, in UTF-8.
void UseUtf8() {
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
}

}  // namespace

LineEditor::LineEditor()
    : history_(history_init(), history_end),
      editor_((UseUtf8(), el_init("mea", stdin, stdout, stderr)), el_end) {
  EditLine* editor = editor_.get();
  HistEvent ignored;
  history(history_.get(), &ignored, H_SETSIZE, kMaxHistory);
  history(history_.get(), &ignored, H_SETUNIQUE, 1);
  el_set(editor, EL_CLIENTDATA, this);
  el_set(editor, EL_PROMPT, Prompt);
  el_set(editor, EL_HIST, history, history_.get());
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_SIGNAL, 1);  // the terminal is restored when it is resized, stopped or closed
  for (const auto& [key, function] : kKeys) el_set(editor, EL_BIND, key, function, nullptr);
  el_source(editor, nullptr);
  // While a line is typed, Ctrl-C and Ctrl-Z are keys, so that no signal interrupts the reader.
  // Bound last, and in the command map of vi mode too, because vi mode may have replaced them.
  el_set(editor, EL_SETTY, "-d", "-isig", nullptr);
  el_set(editor, EL_ADDFN, "mea-drop-line", "Drop the line", DropLine);
  el_set(editor, EL_ADDFN, "mea-suspend", "Stop the program until the shell goes on with it",
         Suspend);
  for (const auto& [key, function] : {std::pair("^C", "mea-drop-line"), {"^Z", "mea-suspend"}}) {
    el_set(editor, EL_BIND, key, function, nullptr);
    el_set(editor, EL_BIND, "-a", key, function, nullptr);
  }
}

LineEditor::Outcome LineEditor::Read(const std::string& prompt, std::string& line) {
  prompt_ = prompt;
  dropped_ = false;
  int length = 0;
  el_set(editor_.get(), EL_PREP_TERM, 1);  // before the prompt appears
  const char* typed = el_gets(editor_.get(), &length);
  if (dropped_) {
    std::puts("^C");
    return Outcome::kDropped;
  }
  if (typed == nullptr || length <= 0) {
    std::puts("");
    return Outcome::kEnd;
  }
  line.assign(typed, length);
  if (line.back() == '\n') line.pop_back();
  HistEvent ignored;
  if (!line.empty()) history(history_.get(), &ignored, H_ENTER, line.c_str());
  return Outcome::kLine;
}

char* LineEditor::Prompt(EditLine* editor) { return Of(editor).prompt_.data(); }

unsigned char LineEditor::DropLine(EditLine* editor, int /*key*/) {
  const LineInfoW* line = el_wline(editor);
  el_cursor(editor, static_cast<int>(line->lastchar - line->cursor));  // later output goes below it
  el_set(editor, EL_REFRESH);
  Of(editor).dropped_ = true;
  return CC_EOF;
}

unsigned char LineEditor::Suspend(EditLine* /*editor*/, int /*key*/) {
  kill(0, SIGTSTP);  // to the whole pipeline, as the terminal does
  return CC_NORM;
}

LineEditor& LineEditor::Of(EditLine* editor) {
  void* self = nullptr;
  el_get(editor, EL_CLIENTDATA, &self);
  return *static_cast<LineEditor*>(self);
}

}  // namespace mea
