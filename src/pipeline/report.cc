// The report: one HTML page that can be mailed, kept and read years later. It loads nothing (its policy forbids it), runs nothing, and
// escapes every text that came from data or from a command line.
#include <algorithm>

#include "pipeline/chart.h"
#include "pipeline/report_style.h"

namespace fettle {
namespace {

const Json kNothing;

const Json& at(const Json& j, const char* key) { return j.is_object() && j.contains(key) ? j[key] : kNothing; }
std::string text(const Json& j, const char* key) {
  const Json& v = at(j, key);
  return v.is_string() ? v.get<std::string>() : v.is_null() ? std::string() : v.dump(-1, ' ', false, Json::error_handler_t::replace);
}
double number(const Json& j, const char* key) { return at(j, key).is_number() ? at(j, key).get<double>() : 0; }
bool truth(const Json& j, const char* key) { return at(j, key).is_boolean() && at(j, key).get<bool>(); }
std::string percent(double share) { return fixed(share * 100, 1) + " %"; }
// A number and its unit stay together.
std::string together(std::string text) {
  for (size_t at; (at = text.find(' ')) != text.npos;) text.replace(at, 1, "\u00a0");
  return text;
}
// As short as tells it from its neighbours for people: options are floats, and 2e-4 as a double has seventeen digits.
std::string plainly(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_float()) return value.dump();
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", value.get<double>());
  return text;
}
// 2026-11-24T15:04:05Z
std::string moment(std::string utc) {
  if (utc.size() == 20 && utc[10] == 'T' && utc[19] == 'Z') utc = utc.substr(0, 10) + " " + utc.substr(11, 5) + " UTC";
  return utc;
}

const Json& row_of(const Json& document, const char* model) {
  for (const Json& row : at(document, "table"))
    if (text(row, "model") == model) return row;
  return kNothing;
}

std::string section(const std::string& title, const std::string& body) {
  return body.empty() ? std::string() : "<section><h2>" + html(title) + "</h2>" + body + "</section>";
}

std::string heading(const Json& d) {
  const bool passed = truth(d, "passed");
  const std::string model = text(d, "model").empty() ? text(d, "name") : text(d, "model");
  return "<header><h1>" + html(model) + "</h1><span class=\"badge" + (passed ? " ok\">ready" : "\">gate not passed") +
         "</span></header><p class=\"sub\">from " + html(text(d, "base")) + ", target <code>" + html(text(d, "target")) + "</code>, " +
         "<span class=\"nowrap\">" + html(moment(text(at(d, "recipe"), "started"))) + "</span></p>";
}

std::string tile(const std::string& big, const std::string& small) {
  return "<div class=\"tile\"><b>" + html(big) + "</b><small>" + html(small) + "</small></div>";
}

std::string tiles(const Json& d) {
  const Json &base = row_of(d, "base"), &small = row_of(d, "compressed");
  if (small.is_null()) return "";
  const bool free = text(d, "task") == "exact";
  std::string out = tile(percent(number(small, "score")), (free ? "answered word for word; the base " : "right answers; the base ") +
                                                              together(percent(number(base, "score"))));
  out += tile(format_bytes(number(small, "bytes")), "on disk; the base " + together(format_bytes(number(base, "bytes"))));
  out += tile(fixed(number(small, "ms_per_token"), 2) + " ms",
              "a token, one user; the base " + together(fixed(number(base, "ms_per_token"), 2) + " ms"));
  double seconds = 0;
  for (const Json& s : at(d, "stages")) seconds += number(s, "seconds");
  return "<div class=\"tiles\">" + out + tile(format_seconds(seconds), "from examples to here") + "</div>";
}

std::string cell(const char* label, const std::string& content) {
  return std::string("<td class=\"n\" data-l=\"") + label + "\">" + html(content) + "</td>";
}

std::string score_table(const Json& d) {
  if (at(d, "table").empty()) return "";
  const bool perplexity = std::any_of(d["table"].begin(), d["table"].end(), [](const Json& r) { return at(r, "perplexity").is_number(); });
  // five columns are too many for a telephone
  std::string out = std::string("<div class=\"scroll\"><table") + (perplexity ? " class=\"stack\"" : "") +
                    "><thead><tr><th>model</th><th class=\"n\">size</th><th class=\"n\">right</th><th class=\"n\">95 % interval</th>";
  out += std::string(perplexity ? "<th class=\"n\">perplexity</th>" : "") + "<th class=\"n\">ms a token</th></tr></thead><tbody>";
  for (const Json& row : d["table"]) {
    out += std::string("<tr") + (text(row, "model") == "compressed" ? " class=\"chosen\"" : "") + "><td>" + html(text(row, "model")) +
           "</td>" + cell("size", together(format_bytes(number(row, "bytes")))) + cell("right", together(percent(number(row, "score")))) +
           cell("95 % interval", together(fixed(number(row, "low") * 100, 1) + " to") + " " + together(percent(number(row, "high"))));
    if (perplexity) out += cell("perplexity", fixed(number(row, "perplexity"), 3));
    out += cell("ms a token", fixed(number(row, "ms_per_token"), 2)) + "</tr>";
  }
  return out + "</tbody></table></div><p class=\"legend\">" + fixed(number(d, "rows"), 0) +
         " held-out rows that training never saw, the same for all three; task: " + html(text(d, "task")) + ".</p>";
}

std::string gate_table(const Json& d) {
  if (at(d, "gates").empty()) return "";
  std::string out = "<div class=\"scroll\"><table class=\"stack\"><thead><tr><th>rule</th><th>verdict</th><th>why</th></tr></thead><tbody>";
  for (const Json& g : d["gates"])
    out += "<tr><td><code class=\"rule\">" + html(text(g, "rule")) + "</code></td><td class=\"nowrap " +
           (truth(g, "passed") ? "pass" : "miss") + "\">" + html(text(g, "verdict")) + "</td><td>" + html(text(g, "explanation")) +
           "</td></tr>";
  return out + "</tbody></table></div><p class=\"legend\">A rule passes when the whole 95 % interval lies on its right side.</p>";
}

double size_limit(const Json& d) {
  double limit = 0;
  for (const Json& g : at(d, "gates"))
    if (text(g, "rule").starts_with("size")) limit = number(g, "limit");
  return limit;
}

std::string flips(const Json& d) {
  const Json& list = at(d, "flipped");
  if (!list.is_array()) return "";
  if (list.empty()) return "<p>No answer changed when the tuned model was compressed.</p>";
  std::string out =
      "<div class=\"scroll\"><table "
      "class=\"stack flips\"><thead><tr><th>question</th><th>expected</th><th>tuned</th><th>compressed</th></tr></thead><tbody>";
  for (const Json& f : list) {
    const bool mended = truth(f, "mended");
    out += "<tr><td>" + html(text(f, "text")) + "</td><td data-l=\"expected\">" + breakable(text(f, "expected")) +
           "</td><td data-l=\"tuned\" class=\"" + (mended ? "miss" : "pass") + "\">" + breakable(text(f, "before")) +
           "</td><td data-l=\"compressed\" class=\"" + (mended ? "pass" : "miss") + "\">" + breakable(text(f, "after")) + "</td></tr>";
  }
  const double total = number(d, "flipped_total");
  out += "</tbody></table></div>";
  return total > double(list.size())
             ? out + "<p class=\"legend\">the first " + std::to_string(list.size()) + " of " + fixed(total, 0) + "</p>"
             : out;
}

std::string stages(const Json& d) {
  std::string out;
  for (const Json& s : at(d, "stages"))
    out += "<tr><td>" + html(text(s, "name")) + "</td><td class=\"n\">" +
           (truth(s, "skipped") ? "kept from before" : html(format_seconds(number(s, "seconds")))) + "</td></tr>";
  return out.empty() ? "" : "<table><tbody>" + out + "</tbody></table>";
}

std::string line(const std::string& name, const std::string& value, const std::string& digest = {}) {
  if (value.empty() && digest.empty()) return "";
  return "<tr><th>" + html(name) + "</th><td>" + html(value) +
         (digest.empty() ? "" : std::string(value.empty() ? "" : "<br>") + "<code class=\"digest\">" + html(digest) + "</code>") +
         "</td></tr>";
}

// As trained: a learning rate of 0 asks for what suits the model, and what that was stands in the stage's result.
std::string training_options(const Json& d) {
  Json rate;
  for (const Json& s : at(d, "stages"))
    if (text(s, "name") == "tune") rate = at(at(s, "result"), "lr");
  std::string out;
  for (const auto& [key, value] : at(at(d, "recipe"), "options").items()) {
    const bool unset = value.is_null() || value == "" || value == Json::array() || (key == "pack" && value == Json::array({0, 0}));
    if (!unset) out += (out.empty() ? "" : ", ") + key + " " + plainly(key == "lr" && rate.is_number() ? rate : value);
  }
  return out;
}

std::string lineage(const Json& d) {
  const Json& r = at(d, "recipe");
  if (!r.is_object()) return "";
  const Json &base = at(r, "base"), &data = at(r, "data"), &held_out = at(r, "held_out"), &digests = at(r, "digests");
  std::string out = line("base", text(base, "model"), text(base, "digest")) + line("examples", text(data, "source"), text(data, "digest"));
  out +=
      line("held out", text(held_out, "source").empty() ? "split from the examples" : text(held_out, "source"), text(held_out, "digest"));
  out += line("adapter", "", text(digests, "adapter")) + line("tuned", "", text(digests, "tuned")) +
         line("compressed", "", text(digests, "compressed"));
  out += line("training", training_options(d));
  out += line("made by",
              "fettle " + text(r, "fettle") + ", " + text(r, "isa") + ", " + text(r, "threads") + " threads, seed " + text(r, "seed"));
  return "<div class=\"scroll\"><table class=\"stack\"><tbody>" + out + "</tbody></table></div>";
}

std::string replay(const Json& d) {
  std::string out;
  if (!text(d, "replay").empty())
    out += "<p class=\"soft\">The command that makes this model again:</p><pre>" + html(text(d, "replay")) + "</pre>";
  const Json& next = at(d, "next");
  if (next.is_array() && !next.empty()) {
    out += "<p class=\"soft\">To use it:</p>";
    for (const Json& command : next)
      if (command.is_string()) out += "<pre>" + html(command.get<std::string>()) + "</pre>";
  }
  return out;
}

}  // namespace

std::string render_report(const Json& d) {
  std::string page =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">";
  page += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">";
  page += "<title>" + html(text(d, "name")) + " - fettle</title><style>" + std::string(kReportStyle) + "</style></head><body><main>\n";
  page += heading(d) + tiles(d) + section("Gate", gate_table(d)) + section("Base, tuned, compressed", score_table(d));
  page += "<div class=\"pair\">" + section("Learning", loss_chart(at(d, "curve"))) +
          section("Size against accuracy", size_chart(at(d, "table"), size_limit(d))) + "</div>";
  page += section("Answers that compressing changed", flips(d));
  const std::string confusion = section("Classes that are mixed up most", confusion_table(at(d, "confusion")));
  page += std::string("<div class=\"pair") + (confusion.empty() ? "" : " wide-first") + "\">" + confusion + section("Stages", stages(d)) +
          "</div>";
  page += section("Again, and onwards", replay(d)) + section("Lineage", lineage(d));
  page += "<footer>Made by fettle " + html(text(at(d, "recipe"), "fettle")) +
          ". This page loads nothing from elsewhere.</footer></main></body></html>\n";
  return page;
}

}  // namespace fettle
