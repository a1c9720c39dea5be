// Charts as inline SVG, drawn here: two small plots need no library, and a page that loads nothing can be mailed and kept.
#include "pipeline/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace fettle {
namespace {

constexpr double kWidth = 560, kHeight = 310, kLeft = 52, kRight = 16, kTop = 34, kBottom = 50;

struct Axis {
  double low = 0, high = 1, step = 1;
  std::vector<double> ticks() const {
    std::vector<double> all(size_t(std::lround((high - low) / step)) + 1);
    for (size_t i = 0; i < all.size(); i++) all[i] = low + double(i) * step;
    return all;
  }
};

// Round steps: 1, 2 or 5 times a power of ten, about `wanted` of them.
Axis axis(double low, double high, int wanted) {
  if (!(high > low)) high = low + std::max(1e-3, std::abs(low) * 0.1);
  const double raw = (high - low) / wanted, power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (double m : {1.0, 2.0, 5.0})
    if (m * power >= raw * 0.999) {
      step = m * power;
      break;
    }
  return {std::floor(low / step) * step, std::ceil(high / step - 1e-9) * step, step};
}

std::string tick_text(double v, double step) { return fixed(v, step >= 1 ? 0 : int(std::ceil(-std::log10(step) - 1e-9))); }

struct Plot {
  Axis x, y;
  std::string body;
  double px(double v) const { return kLeft + (v - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight); }
  double py(double v) const { return kHeight - kBottom - (v - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom); }

  void text(double at_x, double at_y, const std::string& s, const char* anchor, const char* style = "label") {
    body += "<text class=\"" + std::string(style) + "\" x=\"" + fixed(at_x, 1) + "\" y=\"" + fixed(at_y, 1) + "\" text-anchor=\"" + anchor +
            "\">" + html(s) + "</text>";
  }
  void line(double x1, double y1, double x2, double y2, const char* style) {
    body += "<line class=\"" + std::string(style) + "\" x1=\"" + fixed(x1, 1) + "\" y1=\"" + fixed(y1, 1) + "\" x2=\"" + fixed(x2, 1) +
            "\" y2=\"" + fixed(y2, 1) + "\"/>";
  }
  void dot(double at_x, double at_y, double radius, const char* style, const std::string& title) {
    body += "<circle class=\"" + std::string(style) + "\" cx=\"" + fixed(at_x, 1) + "\" cy=\"" + fixed(at_y, 1) + "\" r=\"" +
            fixed(radius, 1) + "\"><title>" + html(title) + "</title></circle>";
  }
  void path(const std::vector<std::pair<double, double>>& points, const char* style) {
    if (points.size() < 2) return;
    body += "<polyline class=\"" + std::string(style) + "\" points=\"";
    for (const auto& [vx, vy] : points) body += fixed(px(vx), 1) + "," + fixed(py(vy), 1) + " ";
    body += "\"/>";
  }
  void axes(const std::string& x_name, const std::string& y_name) {
    for (const double v : y.ticks()) {
      line(kLeft, py(v), kWidth - kRight, py(v), "grid");
      text(kLeft - 8, py(v) + 4, tick_text(v, y.step), "end");
    }
    for (const double v : x.ticks()) text(px(v), kHeight - kBottom + 18, tick_text(v, x.step), "middle");
    line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "axis");
    text((kLeft + kWidth - kRight) / 2, kHeight - 6, x_name, "middle", "label strong");
    text(kLeft - 44, 14, y_name, "start", "label strong");
  }
  std::string svg(const std::string& description) const {
    return "<svg role=\"img\" aria-label=\"" + html(description) + "\" viewBox=\"0 0 " + fixed(kWidth, 0) + " " + fixed(kHeight, 0) +
           "\">" + body + "</svg>";
  }
};

double number(const Json& row, const char* key, double otherwise) {
  return row.is_object() && row.contains(key) && row[key].is_number() && std::isfinite(row[key].get<double>()) ? row[key].get<double>()
                                                                                                               : otherwise;
}

using Points = std::vector<std::pair<double, double>>;

// The single steps are noisy: a running mean (of a twentieth of the steps) is what one reads.
Points smooth(const Points& points) {
  const size_t window = std::max<size_t>(1, points.size() / 20);
  Points out;
  double sum = 0;
  for (size_t i = 0; i < points.size(); i++) {
    sum += points[i].second;
    if (i >= window) sum -= points[i - window].second;
    out.emplace_back(points[i].first, sum / double(std::min(window, i + 1)));
  }
  return out;
}

}  // namespace

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text[0] == '-' && std::string_view(text).find_first_not_of("-0.") == std::string_view::npos ? text + 1 : text;
}

std::string html(std::string_view text) {
  std::string clean;
  if (!valid_utf8(text)) {
    for (char c : text) clean += static_cast<unsigned char>(c) < 0x80 ? std::string(1, c) : std::string("\xEF\xBF\xBD");
    text = clean;
  }
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return out;
}

std::string breakable(std::string_view text) {
  std::string out;
  for (char c : html(text)) out += c == '_' ? std::string("_<wbr>") : std::string(1, c);
  return out;
}

std::string loss_chart(const Json& curve) {
  Points train, watched;
  double high = 0, last = 1;
  if (curve.is_array())
    for (const Json& row : curve) {
      const double step = number(row, "step", -1), loss = number(row, "loss", -1), eval = number(row, "eval_loss", -1);
      if (step < 0) continue;
      last = std::max(last, step);
      if (loss >= 0) train.emplace_back(step, loss);
      if (eval >= 0) watched.emplace_back(step, eval);
    }
  if (train.empty()) return "";
  const Points mean = smooth(train);
  for (const auto& [x, y] : mean) high = std::max(high, y);
  for (const auto& [x, y] : watched) high = std::max(high, y);
  Plot plot{axis(0, last, 6), axis(0, high, 5), {}};
  plot.x.high = last;
  plot.axes("step", "loss (nats per trained token)");
  Points clipped = train;
  for (auto& p : clipped) p.second = std::min(p.second, plot.y.high);
  plot.path(clipped, "faint");
  plot.path(mean, "train");
  plot.path(watched, "watched");
  for (const auto& [x, y] : watched)
    plot.dot(plot.px(x), plot.py(y), 4, "watched-dot", "held-out loss " + fixed(y, 4) + " at step " + fixed(x, 0));
  return plot.svg("training loss over " + fixed(last, 0) + " steps") +
         "<p class=\"legend\"><span class=\"key k-train\"></span>training rows, running mean" +
         (watched.empty() ? "" : " <span class=\"key k-watched\"></span>rows kept apart to watch") + "</p>";
}

std::string size_chart(const Json& table, double size_limit) {
  if (!table.is_array() || table.empty()) return "";
  double low = 1, high = 0, widest = size_limit / 1e6;
  for (const Json& row : table) {
    low = std::min(low, number(row, "low", 0));
    high = std::max(high, number(row, "high", 0));
    widest = std::max(widest, number(row, "bytes", 0) / 1e6);
  }
  Plot plot{axis(0, widest * 1.08, 6), axis(std::max(0.0, low * 100 - 2), std::min(100.0, high * 100 + 2), 5), {}};
  plot.y.high = std::min(plot.y.high, 100.0);
  plot.axes("size, MB", "right answers, % (95 % interval)");
  if (size_limit > 0) {
    const double x = plot.px(size_limit / 1e6);
    plot.line(x, kTop, x, kHeight - kBottom, "limit");
    plot.text(x - 5, kTop + 10, "size limit", "end", "label limit-text");
  }
  for (const Json& row : table) {
    const std::string name = row.value("model", "");
    const double x = plot.px(number(row, "bytes", 0) / 1e6), y = plot.py(number(row, "score", 0) * 100);
    plot.line(x, plot.py(number(row, "low", 0) * 100), x, plot.py(number(row, "high", 0) * 100), "whisker");
    const bool chosen = name == "compressed";
    plot.dot(x, y, chosen ? 7 : 5, chosen ? "chosen" : "point",
             name + ": " + fixed(number(row, "score", 0) * 100, 1) + " %, " + fixed(number(row, "bytes", 0) / 1e6, 1) + " MB");
    const bool right = x < kWidth * 0.78;
    plot.text(right ? x + 11 : x - 11, y - 8, name, right ? "start" : "end", chosen ? "label strong" : "label");
  }
  return plot.svg("size against share of right answers for base, tuned and compressed model");
}

std::string confusion_table(const Json& confusion) {
  if (!confusion.is_object() || !confusion.contains("classes") || confusion["classes"].empty()) return "";
  const Json &classes = confusion["classes"], &counts = confusion["counts"];
  int most = 1;
  for (size_t i = 0; i < classes.size(); i++)
    for (size_t j = 0; j < classes.size(); j++)
      if (i != j) most = std::max(most, counts[i][j].get<int>());
  std::string text = "<div class=\"scroll\"><table class=\"heat\"><thead><tr><th class=\"corner\">expected \\ answered</th>";
  for (const Json& c : classes)
    text += "<th><span title=\"" + html(c.get<std::string>()) + "\">" + html(c.get<std::string>()) + "</span></th>";
  text += "</tr></thead><tbody>";
  for (size_t i = 0; i < classes.size(); i++) {
    text += "<tr><th>" + breakable(classes[i].get<std::string>()) + "</th>";
    for (size_t j = 0; j < classes.size(); j++) {
      const int n = counts[i][j].get<int>();
      const int strength = n == 0 ? 0 : i == j ? 18 : 25 + 60 * n / most;
      text += "<td class=\"" + std::string(i == j ? "good" : "bad") + "\" style=\"--s:" + std::to_string(strength) + "%\">" +
              (n ? std::to_string(n) : "&middot;") + "</td>";
    }
    text += "</tr>";
  }
  return text + "</tbody></table></div>";
}

}  // namespace fettle
