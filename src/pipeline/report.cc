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
         html(text(at(d, "recipe"), "started")) + "</p>";
}

std::string tile(const std::string& big, const std::string& small) {
  return "<div class=\"tile\"><b>" + html(big) + "</b><small>" + html(small) + "</small></div>";
}

std::string tiles(const Json& d) {
  const Json &base = row_of(d, "base"), &small = row_of(d, "compressed");
  if (small.is_null()) return "";
  const bool free = text(d, "task") == "exact";
  std::string out = tile(percent(number(small, "score")),
                         (free ? "answered word for word; the base " : "right answers; the base ") + percent(number(base, "score")));
  out += tile(format_bytes(number(small, "bytes")), "on disk; the base " + format_bytes(number(base, "bytes")));
  out += tile(fixed(number(small, "ms_per_token"), 2) + " ms",
              "a token, one user; the base " + fixed(number(base, "ms_per_token"), 2) + " ms");
  double seconds = 0;
  for (const Json& s : at(d, "stages")) seconds += number(s, "seconds");
  return "<div class=\"tiles\">" + out + tile(format_seconds(seconds), "from examples to here") + "</div>";
}

std::string score_table(const Json& d) {
  if (at(d, "table").empty()) return "";
  const bool perplexity = std::any_of(d["table"].begin(), d["table"].end(), [](const Json& r) { return at(r, "perplexity").is_number(); });
  std::string out =
      "<div class=\"scroll\"><table><thead><tr><th>model</th><th class=\"n\">size</th><th class=\"n\">right</th><th class=\"n\">95 % "
      "interval</th>";
  out += std::string(perplexity ? "<th class=\"n\">perplexity</th>" : "") + "<th class=\"n\">ms a token</th></tr></thead><tbody>";
  for (const Json& row : d["table"]) {
    out += std::string("<tr") + (text(row, "model") == "compressed" ? " class=\"chosen\"" : "") + "><td>" + html(text(row, "model")) +
           "</td><td class=\"n\">" + html(format_bytes(number(row, "bytes"))) + "</td><td class=\"n\">" + percent(number(row, "score")) +
           "</td><td class=\"n\">" + fixed(number(row, "low") * 100, 1) + " to " + percent(number(row, "high")) + "</td>";
    if (perplexity) out += "<td class=\"n\">" + fixed(number(row, "perplexity"), 3) + "</td>";
    out += "<td class=\"n\">" + fixed(number(row, "ms_per_token"), 2) + "</td></tr>";
  }
  return out + "</tbody></table></div><p class=\"legend\">" + fixed(number(d, "rows"), 0) +
         " held-out rows that training never saw, the same for all three; task: " + html(text(d, "task")) + ".</p>";
}

std::string gate_table(const Json& d) {
  if (at(d, "gates").empty()) return "";
  std::string out = "<div class=\"scroll\"><table class=\"stack\"><thead><tr><th>rule</th><th>verdict</th><th>why</th></tr></thead><tbody>";
  for (const Json& g : d["gates"])
    out += "<tr><td><code class=\"rule\">" + html(text(g, "rule")) + "</code></td><td class=\"" + (truth(g, "passed") ? "pass" : "miss") +
           "\">" + html(text(g, "verdict")) + "</td><td>" + html(text(g, "explanation")) + "</td></tr>";
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
      "class=\"stack\"><thead><tr><th>question</th><th>expected</th><th>tuned</th><th>compressed</th></tr></thead><tbody>";
  for (const Json& f : list) {
    const bool mended = truth(f, "mended");
    out += "<tr><td class=\"question\">" + html(text(f, "text")) + "</td><td data-l=\"expected\">" + html(text(f, "expected")) +
           "</td><td data-l=\"tuned\" class=\"" + (mended ? "miss" : "pass") + "\">" + html(text(f, "before")) +
           "</td><td data-l=\"compressed\" class=\"" + (mended ? "pass" : "miss") + "\">" + html(text(f, "after")) + "</td></tr>";
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

std::string lineage(const Json& d) {
  const Json& r = at(d, "recipe");
  if (!r.is_object()) return "";
  const Json &base = at(r, "base"), &data = at(r, "data"), &held_out = at(r, "held_out"), &digests = at(r, "digests");
  std::string out = line("base", text(base, "model"), text(base, "digest")) + line("examples", text(data, "source"), text(data, "digest"));
  out +=
      line("held out", text(held_out, "source").empty() ? "split from the examples" : text(held_out, "source"), text(held_out, "digest"));
  out += line("adapter", "", text(digests, "adapter")) + line("tuned", "", text(digests, "tuned")) +
         line("compressed", "", text(digests, "compressed"));
  std::string options;
  for (const auto& [key, value] : at(r, "options").items())
    if (!value.is_null() && value != "" && value != Json::array())
      options += (options.empty() ? "" : ", ") + key + " " + (value.is_string() ? value.get<std::string>() : value.dump());
  out += line("training", options);
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
  page += "<div class=\"pair\">" + section("Classes that are mixed up most", confusion_table(at(d, "confusion"))) +
          section("Stages", stages(d)) + "</div>";
  page += section("Again, and onwards", replay(d)) + section("Lineage", lineage(d));
  page += "<footer>Made by fettle " + html(text(at(d, "recipe"), "fettle")) +
          ". This page loads nothing from elsewhere.</footer></main></body></html>\n";
  return page;
}

}  // namespace fettle
