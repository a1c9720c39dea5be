// Progress of one stage, as a live line, as plain lines, or as JSON lines. The rate forgets with a time constant of ten seconds: it follows
// a change of speed.
#include "base/progress.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/terminal.h"
#include "base/units.h"

namespace fettle {
namespace {

constexpr double kLiveSeconds = 0.1, kPlainSeconds = 5, kMemorySeconds = 10;
constexpr size_t kValuesKept = 64;
constexpr int kBarWidth = 20;

enum class Manner { silent, live, plain, json };

Manner manner() {
  const Talk& t = talk();
  if (t.progress_json) return Manner::json;
  if (t.quiet) return Manner::silent;
  return t.live ? Manner::live : Manner::plain;
}

std::string bar(double share) {
  // eighths of a cell where the terminal has them
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  int eighths = int(share * kBarWidth * 8), full = eighths / 8, part = eighths % 8;
  std::string text;
  if (!shows_unicode()) return "[" + std::string(size_t(full), '#') + std::string(size_t(kBarWidth - full), '.') + "]";
  for (int i = 0; i < full; i++) text += "█";
  text += kEighths[part];
  return text + std::string(size_t(kBarWidth - full - (part > 0)), ' ') + "▏";
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}

}  // namespace

struct Progress::State {
  std::mutex mutex;
  std::string label, unit, note;
  int64_t total, done = 0, counted = 0;  // counted: as of the last rate sample
  double start = now_seconds(), sampled = start, shown = start;
  double units = 0, seconds = 0;  // decayed sums behind the rate
  std::vector<double> values;
  bool over = false;

  double rate() const { return seconds > 0 ? units / seconds : 0; }

  void sample(double now) {
    double dt = now - sampled;
    if (dt <= 0) return;
    double keep = std::exp(-dt / kMemorySeconds);
    units = units * keep + double(done - counted);
    seconds = seconds * keep + dt;
    sampled = now;
    counted = done;
  }

  std::string amount(int64_t n) const { return unit == "B" ? format_bytes(double(n)) : std::to_string(n); }

  std::string rate_text() const {
    if (rate() <= 0) return {};
    return unit == "B" ? "  " + format_bytes(rate()) + "/s" : "  " + format_count(rate()) + " " + unit + "/s";
  }

  std::string count_text() const {
    std::string text = amount(done);
    if (total > 0) text += " of " + amount(total);
    return unit == "B" ? text : text + " " + unit;
  }

  // what follows the bar or the counts
  std::string tail() const {
    std::string text = rate_text();
    if (!values.empty()) {
      text += "  ";
      if (shows_unicode()) text += sparkline(values, 12) + " ";
      text += number(values.back());
    }
    if (total > 0 && done < total && rate() > 0) text += "  " + format_seconds(double(total - done) / rate()) + " left";
    return note.empty() ? text : text + "  " + note;
  }

  void show_live() const {
    std::string line = label + "  ";
    if (total > 0) {
      double share = std::clamp(double(done) / double(total), 0.0, 1.0);
      line += bar(share) + " " + std::to_string(int(share * 100)) + "%";
    } else {
      line += count_text();
    }
    print_live(line + tail());
  }

  void show_json(double now) const {
    nlohmann::ordered_json row{{"stage", label}, {"done", done}, {"total", nullptr}, {"rate", rate()}, {"value", nullptr}};
    if (total > 0) row["total"] = total;
    if (!values.empty() && std::isfinite(values.back())) row["value"] = values.back();
    row["note"] = note;
    row["seconds"] = now - start;
    print_line(row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  }

  void show(double now) {
    shown = now;
    switch (manner()) {
      case Manner::silent:
        return;
      case Manner::live:
        return show_live();
      case Manner::json:
        return show_json(now);
      case Manner::plain:
        return print_line(label + ": " + count_text() + tail());
    }
  }

  void end(double now, bool whole) {
    sample(now);
    over = true;
    Manner m = manner();
    if (m == Manner::silent) return;
    if (m == Manner::json) {
      if (!whole && note.empty()) note = "stopped";
      return show_json(now);
    }
    std::string mark = !whole ? label + ": stopped at " : m == Manner::plain ? label + ": done, " : shows_unicode() ? "✓ " : "ok ";
    if (m == Manner::live && whole) mark = (talk().colour ? "\033[32m" + mark + "\033[0m" : mark) + label + "  ";
    std::string line = mark + count_text() + "  " + format_seconds(now - start);
    print_line(note.empty() ? line : line + "  " + note);
  }
};

Progress::Progress(std::string label, int64_t total, std::string unit, int64_t begun) : state_(std::make_unique<State>()) {
  state_->label = std::move(label);
  state_->unit = std::move(unit);
  state_->total = total;
  state_->done = state_->counted = begun;
  state_->show(state_->start);
}

Progress::~Progress() {
  std::lock_guard lock(state_->mutex);
  if (!state_->over) state_->end(now_seconds(), false);
}

void Progress::update(int64_t done, std::string_view note) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  s.done = std::max(s.done, done);
  if (!note.empty()) s.note = note;
  double now = now_seconds();
  if (s.over || now - s.sampled < kLiveSeconds) return;
  s.sample(now);
  if (now - s.shown >= (manner() == Manner::plain ? kPlainSeconds : kLiveSeconds)) s.show(now);
}

void Progress::value(double v) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  if (s.values.size() == kValuesKept) s.values.erase(s.values.begin());
  s.values.push_back(v);
}

void Progress::finish(std::string_view note) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  if (s.over) return;
  s.note = note;
  s.end(now_seconds(), true);
}

std::string sparkline(const std::vector<double>& values, int width) {
  static constexpr const char* kLevels[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  size_t first = values.size() - std::min(values.size(), size_t(std::max(width, 0)));
  double low = INFINITY, high = -INFINITY;
  for (size_t i = first; i < values.size(); i++)
    if (std::isfinite(values[i])) low = std::min(low, values[i]), high = std::max(high, values[i]);
  std::string text;
  for (size_t i = first; i < values.size(); i++) {
    if (!std::isfinite(values[i]))
      text += " ";
    else
      text += kLevels[high > low ? std::min(7, int((values[i] - low) / (high - low) * 8)) : 3];
  }
  return text;
}

}  // namespace fettle
