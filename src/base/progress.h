// How long work talks: one live line on a terminal, a plain line every few seconds into a pipe, JSON lines with --progress json.
// Also the one place that knows about Ctrl-C.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fettle {

struct Talk {
  bool quiet = false;          // -q: errors only
  int verbose = 0;             // -v
  bool json = false;           // --json: stdout carries one document only
  bool progress_json = false;  // --progress json: JSON lines on stderr
  bool colour = false;         // stderr is a terminal, NO_COLOR unset, TERM not dumb
  bool live = false;           // stderr is a terminal that can redraw a line
};
// The process's manner of talking, set once by main before any thread starts.
Talk& talk();

// Text from files and requests as a terminal may get it: bytes that are no UTF-8, control characters (but line ends and tabs) and marks
// that turn the direction of text as \xNN, cut behind `most` bytes.
std::string harmless(std::string_view text, size_t most = 4000);
// Whether nobody reads stdout any more.
bool reader_left();

// One sentence on stderr (unless quiet). warn() and hint() add their coloured word.
void say(std::string_view line);
void warn(std::string_view line);
void hint(std::string_view line);

// A stage's progress. update() may be called as often as one likes: drawing is rate-limited. `value` (a loss, say) feeds a sparkline.
class Progress {
 public:
  // total <= 0: unknown. unit: "tokens", "steps", "B" (bytes are printed in MB).
  // begun: what an earlier part of the work has done; it counts as done, not as this part's speed.
  Progress(std::string label, int64_t total, std::string unit, int64_t begun = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(int64_t done, std::string_view note = {});
  void value(double v);
  // Ends the line with a check mark, the time it took and the note.
  void finish(std::string_view note = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Ctrl-C / SIGTERM: the first asks long work to stop at the next safe point, a second ends the process at once.
void install_interrupt_handler();
bool interrupted() noexcept;
// The work that Ctrl-C ended has ended, and the program goes on: the next Ctrl-C asks anew.
void forget_interrupt() noexcept;
// Throws Error{interrupted} when asked to stop.
void stop_if_interrupted();

// Eight-level bars of the last `width` values.
std::string sparkline(const std::vector<double>& values, int width = 24);

}  // namespace fettle
